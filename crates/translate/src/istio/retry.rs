//! `retries`, and what holds where a route says nothing.

use std::sync::Arc;
use std::time::Duration;

use heddle_api::Object;
use heddle_api::istio::{HttpRetry, VirtualService};
use heddle_diag::Origin;
use heddle_ir::http_route::{RetryOn, RetryPolicy};

use crate::options::Profile;
use crate::report::Report;

/// Base of the exponential back-off where nothing is said (Envoy's default).
const BACKOFF_BASE: Duration = Duration::from_millis(25);
/// gRPC status codes.
const CANCELLED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 4;
const RESOURCE_EXHAUSTED: u8 = 8;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;

/// What a route without `retries` does, as the profile has it, and the conditions of `retries` without `retryOn`: Istio's,
/// to which heddle adds what cannot have reached the application.
pub(crate) fn outbound_default(profile: Profile) -> RetryPolicy {
    let (on, name) = match profile {
        Profile::Heddle => {
            let mut on = istio_default();
            on.push(RetryOn::ResetBeforeRequest);
            (on, "default retries")
        }
        Profile::IstioSidecar => (istio_default(), "default retries (Istio)"),
        // Linkerd retries nothing that nobody asked it to (API.md hazard 14).
        Profile::Linkerd => return RetryPolicy::never(),
    };
    RetryPolicy {
        attempts: 2,
        on,
        per_try_timeout: None,
        backoff_base: BACKOFF_BASE,
        avoid_tried: true,
        origin: Origin::built_in(name),
        backoff_max: None,
        other_localities: false,
    }
}

/// What a rule of another API than Istio's does where it says nothing: those APIs know no retries that nobody asked for, so
/// it is only tries that nobody can notice, since nothing of the request was sent (API.md hazard 14).
pub(crate) fn unnoticed(profile: Profile) -> RetryPolicy {
    if profile != Profile::Heddle {
        return outbound_default(profile);
    }
    RetryPolicy {
        on: vec![RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::ResetBeforeRequest],
        origin: Origin::built_in("default retries (only before the request was sent)"),
        ..outbound_default(profile)
    }
}

fn istio_default() -> Vec<RetryOn> {
    vec![
        RetryOn::ConnectFailure,
        RetryOn::RefusedStream,
        RetryOn::GrpcStatus(UNAVAILABLE),
        RetryOn::GrpcStatus(CANCELLED),
    ]
}

/// Towards the application: twice, only while nothing was sent. Proxies never apply it to gRPC ports.
pub(crate) fn inbound_default() -> RetryPolicy {
    RetryPolicy {
        attempts: 2,
        on: vec![RetryOn::ResetBeforeRequest],
        per_try_timeout: None,
        backoff_base: BACKOFF_BASE,
        avoid_tried: false,
        origin: Origin::built_in("default inbound retries"),
        backoff_max: None,
        other_localities: false,
    }
}

/// The policy of a rule.
pub(super) fn translate(
    object: &Object<VirtualService>,
    written: Option<&HttpRetry>,
    default: &RetryPolicy,
    report: &mut Report,
) -> RetryPolicy {
    match written {
        None => default.clone(),
        Some(written) => {
            let place = Place {
                origin: object.origin_at(written.at),
                broken: object.is_broken(written.at),
                of: &|field| object.origin_of(written.at, field),
            };
            policy(written, default, &place, report)
        }
    }
}

/// Where a policy is written, in a VirtualService or in the mesh configuration.
pub(crate) struct Place<'a> {
    pub(crate) origin: Origin,
    pub(crate) broken: bool,
    pub(crate) of: &'a dyn Fn(&str) -> Origin,
}

/// A written policy; what is not valid is replaced by no retries, which repeats nothing by mistake.
pub(crate) fn policy(
    written: &HttpRetry,
    default: &RetryPolicy,
    place: &Place<'_>,
    report: &mut Report,
) -> RetryPolicy {
    let never = RetryPolicy { origin: place.origin.clone(), ..RetryPolicy::never() };
    if place.broken {
        return never;
    }
    report.precise(written.per_try_timeout, || (place.of)("perTryTimeout"));
    report.precise(written.backoff, || (place.of)("backoff"));
    let attempts = match written.attempts {
        None => default.attempts,
        Some(attempts) => {
            if let Ok(attempts) = u32::try_from(attempts) {
                attempts
            } else {
                report.rejected((place.of)("attempts"), "attempts cannot be negative");
                return never;
            }
        }
    };
    let says_more = written.per_try_timeout.is_some()
        || written.retry_on.as_deref().is_some_and(|on| !on.is_empty())
        || written.retry_remote_localities.is_some();
    if written.attempts == Some(0)
        || (written.attempts.is_none() && !says_more && written.backoff.is_none())
    {
        // Zero and absent are one in Istio's encoding, and mean no retries.
        if says_more {
            report.rejected(place.origin.clone(), "with `attempts: 0` no other field may be set");
        }
        return never;
    }
    let on = match written.retry_on.as_deref().filter(|on| !on.is_empty()) {
        None => default.on.clone(),
        Some(list) => match conditions(list) {
            Ok(on) => {
                for (name, why) in WITHOUT_EFFECT {
                    if list.split(',').any(|text| text.trim() == name) {
                        report.ignored((place.of)("retryOn"), format!("`{name}`: {why}"));
                    }
                }
                on
            }
            Err(unknown) => {
                let message = format!("`{unknown}` is not a retry condition");
                report.rejected((place.of)("retryOn"), message);
                return never;
            }
        },
    };
    RetryPolicy {
        attempts,
        on,
        per_try_timeout: written.per_try_timeout.map(heddle_api::Duration::as_std),
        backoff_base: written.backoff.map_or(BACKOFF_BASE, heddle_api::Duration::as_std),
        avoid_tried: written.retry_ignore_previous_hosts.unwrap_or(true),
        origin: place.origin.clone(),
        backoff_max: None,
        other_localities: written.retry_remote_localities.unwrap_or(false),
    }
}

/// Conditions that are none here, as they are none in a sidecar.
const WITHOUT_EFFECT: [(&str, &str); 2] = [
    ("retriable-headers", "the headers cannot be named in a retry policy"),
    ("http3-post-connect-failure", "HTTP/3 is not spoken between proxies"),
];

/// The conditions of a comma-separated list; the error is the first unknown one.
fn conditions(list: &str) -> Result<Vec<RetryOn>, Arc<str>> {
    let mut on = Vec::new();
    for text in list.split(',').map(str::trim) {
        on.push(match text {
            "5xx" => RetryOn::ServerError,
            "gateway-error" => RetryOn::GatewayError,
            "reset" => RetryOn::Reset,
            "reset-before-request" => RetryOn::ResetBeforeRequest,
            "connect-failure" => RetryOn::ConnectFailure,
            "retriable-4xx" => RetryOn::Retriable4xx,
            "refused-stream" => RetryOn::RefusedStream,
            "envoy-ratelimited" => RetryOn::RateLimited,
            "cancelled" => RetryOn::GrpcStatus(CANCELLED),
            "deadline-exceeded" => RetryOn::GrpcStatus(DEADLINE_EXCEEDED),
            "internal" => RetryOn::GrpcStatus(INTERNAL),
            "resource-exhausted" => RetryOn::GrpcStatus(RESOURCE_EXHAUSTED),
            "unavailable" => RetryOn::GrpcStatus(UNAVAILABLE),
            // Codes stand beside it; by itself it names none.
            "retriable-status-codes" | "retriable-headers" | "http3-post-connect-failure" => {
                continue;
            }
            other => match other.parse::<u16>() {
                Ok(status) if (100..600).contains(&status) => RetryOn::Status(status),
                _ => return Err(other.into()),
            },
        });
    }
    Ok(on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_envoys_names() {
        assert_eq!(
            conditions("5xx, connect-failure,503,retriable-status-codes"),
            Ok(vec![RetryOn::ServerError, RetryOn::ConnectFailure, RetryOn::Status(503)])
        );
        for unknown in ["", "5xx,", "5XX", "99", "600", "reset,nonsense"] {
            assert!(conditions(unknown).is_err(), "{unknown}");
        }
    }
}
