//! Linkerd's kinds, with every field of every served version.
//!
//! The rules are those of the CRDs and of Linkerd's admission controllers where they look at one object alone. What a
//! field means is `translate`'s business. GRPCRoute, TLSRoute and TCPRoute are the Gateway API's own kinds.

mod authentication;
mod check;
mod egress_network;
mod external_workload;
mod link;
mod rate_limit;
mod server;
mod service_profile;

pub use authentication::{
    AuthorizationPolicy, IdentityRef, LocalTargetRef, MeshTlsAuthentication, NetworkAuthentication,
    NetworkRange, RequiredAuthenticationRef,
};
pub use egress_network::{EgressNetwork, TrafficPolicy};
pub use external_workload::{
    ExternalMeshTls, ExternalPort, ExternalPortProtocol, ExternalWorkload, WorkloadIp,
};
pub use link::{Link, ProbeSpec};
pub use rate_limit::{ClientRef, HttpLocalRateLimitPolicy, RateLimit, RateLimitOverride};
pub use server::{
    AccessPolicy, AuthorizedAccount, AuthorizedClient, AuthorizedMeshTls, Server,
    ServerAuthorization, ServerProxyProtocol, ServerRef,
};
pub use service_profile::{
    ProfileRetryBudget, ProfileRoute, RequestCondition, RequestConditions, ResponseClass,
    ResponseCondition, ResponseConditions, ServiceProfile, StatusRange, WeightedDestination,
};
