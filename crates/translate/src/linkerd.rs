//! Linkerd's dialect (API.md section 7): profiles, annotations, servers and their policy.
//!
//! Routes of the shape that the Gateway API has (HTTPRoute, GRPCRoute) are translated with that dialect; what only
//! Linkerd knows of them is here: annotations, and parents of the kind Server and EgressNetwork.

pub(crate) mod annotations;
pub(crate) mod authentication;
pub(crate) mod balancer;
mod condition;
pub(crate) mod egress_network;
pub(crate) mod egress_routes;
mod identity;
pub(crate) mod inbound;
pub(crate) mod inbound_route;
pub(crate) mod opaque_ports;
pub(crate) mod outcomes;
pub(crate) mod policy;
pub(crate) mod policy_report;
pub(crate) mod rate_limit;
pub(crate) mod retry;
pub(crate) mod route;
pub(crate) mod server;
pub(crate) mod service_profile;
mod service_profile_report;
pub(crate) mod settings;

use heddle_api::Resource as AnyObject;
use heddle_diag::Source;

use crate::engine::Reader;
use crate::options::Enrolment;
use crate::report::Report;

/// What there is to say about an object as far as Linkerd is concerned.
pub(crate) fn report(reader: &Reader<'_>, object: &AnyObject, report: &mut Report) {
    match object {
        AnyObject::EgressNetwork(object) => egress_network::report(reader, object, report),
        AnyObject::HttpLocalRateLimitPolicy(object) => rate_limit::report(reader, object, report),
        AnyObject::LinkerdAuthorizationPolicy(object) => {
            policy_report::authorization_policy(reader, object, report);
        }
        AnyObject::MeshTlsAuthentication(object) => {
            policy_report::mesh_tls(reader, object, report);
        }
        AnyObject::Server(object) => policy_report::server(reader, object, report),
        AnyObject::ServerAuthorization(object) => {
            policy_report::server_authorization(reader, object, report);
        }
        AnyObject::Service(object) => balancer::report(reader, object, report),
        AnyObject::ServiceProfile(object) => service_profile_report::report(reader, object, report),
        // A Pod that was made of another object has no places in a text: `workloads::report` tells them of that one.
        AnyObject::Pod(pod)
            if reader.options().enrolment == Enrolment::Standalone
                && matches!(pod.origin().source, Source::Cluster { .. }) => {}
        other => settings::report_of(other, report),
    }
}
