//! What there is to say about each object of the Gateway API: its status, and findings where something is not in force.

mod gateways;
mod policies;
mod routes;
pub(crate) mod shadows;

pub(crate) use gateways::{gateway, gateway_class, listener_set};
pub(crate) use policies::{backend_tls_policy, reference_grant};
pub(crate) use routes::{route, translate};

use crate::gateway_api::certificates::Unresolved;
use crate::status::Condition;

fn condition(kind: &'static str, holds: bool, reason: &'static str, message: &str) -> Condition {
    Condition { kind, holds, reason, message: message.to_owned() }
}

/// The condition `ResolvedRefs`.
fn resolved(unresolved: Option<&Unresolved>) -> Condition {
    match unresolved {
        Some(Unresolved { reason, message }) => condition("ResolvedRefs", false, reason, message),
        None => condition("ResolvedRefs", true, "ResolvedRefs", ""),
    }
}
