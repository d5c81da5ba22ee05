//! The kinds of the Service Mesh Interface, with every field of every version.
//!
//! Older versions have their fields beside `metadata`, later ones under `spec`; both are read. What a field means is
//! `translate`'s business.

mod route_group;
mod traffic_split;
mod traffic_target;

pub use route_group::{
    HeaderPatterns, HttpRouteGroup, HttpRouteGroupMatch, PortsMatch, PortsRoute,
};
pub use traffic_split::{RouteGroupKind, RouteGroupRef, SplitBackend, TrafficSplit};
pub use traffic_target::{TargetAccount, TargetRule, TargetRuleKind, TrafficTarget};
