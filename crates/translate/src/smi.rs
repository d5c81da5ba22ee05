//! The dialect of the Service Mesh Interface (API.md section 9): splits, and who may reach whom.

pub(crate) mod outcomes;
mod route_group;
pub(crate) mod traffic_split;
mod traffic_split_report;
pub(crate) mod traffic_target;

pub(crate) use route_group::report as report_route_group;
pub(crate) use traffic_split_report::report as report_traffic_split;
