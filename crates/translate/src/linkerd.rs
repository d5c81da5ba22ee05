//! Linkerd's dialect (API.md section 7): profiles, annotations, servers and their policy.
//!
//! Routes of the shape that the Gateway API has (HTTPRoute, GRPCRoute) are translated with that dialect; what only
//! Linkerd knows of them is here: annotations, and parents of the kind Server and EgressNetwork.

pub(crate) mod annotations;
mod authentication;
pub(crate) mod balancer;
mod condition;
mod identity;
pub(crate) mod inbound;
pub(crate) mod inbound_route;
pub(crate) mod opaque_ports;
pub(crate) mod outcomes;
pub(crate) mod policy;
pub(crate) mod policy_report;
pub(crate) mod retry;
pub(crate) mod server;
pub(crate) mod service_profile;
mod service_profile_report;
pub(crate) mod settings;

pub(crate) use service_profile_report::report as report_service_profile;
