//! What is tried again, and when. The names are Envoy's `retry_on`, the meaning that of its documentation.

use std::time::Duration;

use heddle_ir::http_route::{RetryOn, RetryPolicy};

use crate::hash::scale;

/// No pause is longer than this many times the first.
const BACKOFF_GROWTH_MAX: u32 = 10;

/// How a try ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryOutcome {
    /// No connection could be made; nothing was sent.
    ConnectFailure,
    /// The upstream refused the stream before processing it (HTTP/2 REFUSED_STREAM, or a GOAWAY that excludes it).
    RefusedStream,
    /// The upstream closed or reset before a response head.
    Reset {
        /// Whether any byte of the request was sent.
        request_sent: bool,
    },
    /// A response head came.
    Response {
        /// Its status.
        status: u16,
        /// `grpc-status` in the head; none where there is none.
        grpc_status: Option<u8>,
        /// Whether it has `x-envoy-ratelimited`.
        rate_limited: bool,
    },
    /// The try took longer than it may.
    Timeout,
}

impl TryOutcome {
    /// Whether the endpoint may have done something for the request.
    pub fn has_reached(self) -> bool {
        match self {
            Self::ConnectFailure | Self::RefusedStream | Self::Reset { request_sent: false } => {
                false
            }
            Self::Reset { request_sent: true } | Self::Response { .. } | Self::Timeout => true,
        }
    }
}

/// Whether a try that ended like this is tried again, as far as the policy's conditions are concerned. Attempts, breakers
/// and whether the body is still there are the caller's to check.
pub fn is_retriable(policy: &RetryPolicy, outcome: TryOutcome) -> bool {
    policy.on.iter().any(|condition| applies(*condition, outcome))
}

fn applies(condition: RetryOn, outcome: TryOutcome) -> bool {
    let no_response = !matches!(outcome, TryOutcome::Response { .. });
    match condition {
        RetryOn::ConnectFailure => outcome == TryOutcome::ConnectFailure,
        RetryOn::GatewayError => status_of(outcome).is_some_and(|s| matches!(s, 502..=504)),
        RetryOn::GrpcStatus(wanted) => {
            matches!(outcome, TryOutcome::Response { grpc_status: Some(own), .. } if own == wanted)
        }
        RetryOn::RateLimited => {
            matches!(outcome, TryOutcome::Response { rate_limited: true, .. })
        }
        RetryOn::RefusedStream => outcome == TryOutcome::RefusedStream,
        RetryOn::Reset => no_response,
        RetryOn::ResetBeforeRequest => {
            matches!(
                outcome,
                TryOutcome::Reset { request_sent: false } | TryOutcome::ConnectFailure
            )
        }
        RetryOn::Retriable4xx => status_of(outcome) == Some(409),
        RetryOn::ServerError => {
            no_response || status_of(outcome).is_some_and(|s| (500..600).contains(&s))
        }
        RetryOn::StatusRange(range) => {
            status_of(outcome).is_some_and(|s| (range.first..=range.last).contains(&s))
        }
        RetryOn::Status(wanted) => status_of(outcome) == Some(wanted),
    }
}

fn status_of(outcome: TryOutcome) -> Option<u16> {
    match outcome {
        TryOutcome::Response { status, .. } => Some(status),
        TryOutcome::ConnectFailure
        | TryOutcome::RefusedStream
        | TryOutcome::Reset { .. }
        | TryOutcome::Timeout => None,
    }
}

/// The pause before a retry: evenly drawn from nothing up to a bound that begins with the policy's base, doubles with each
/// retry and stays at the policy's longest pause, else at ten times the base. `retry` counts from 1.
pub fn backoff(policy: &RetryPolicy, retry: u32, random: u64) -> Duration {
    let growth = 1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX).max(1);
    let longest = policy.backoff_max;
    let longest = longest.unwrap_or_else(|| policy.backoff_base.saturating_mul(BACKOFF_GROWTH_MAX));
    let bound = policy.backoff_base.saturating_mul(growth).min(longest);
    let bound_nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(scale(random, bound_nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(on: &[RetryOn]) -> RetryPolicy {
        RetryPolicy { attempts: 2, on: on.to_vec(), ..RetryPolicy::never() }
    }

    fn response(status: u16) -> TryOutcome {
        TryOutcome::Response { status, grpc_status: None, rate_limited: false }
    }

    #[test]
    fn each_condition_takes_what_envoy_says() {
        use TryOutcome::{ConnectFailure, RefusedStream, Timeout};
        let sent = TryOutcome::Reset { request_sent: true };
        let unsent = TryOutcome::Reset { request_sent: false };
        let outcomes = [
            ConnectFailure,
            RefusedStream,
            sent,
            unsent,
            Timeout,
            response(200),
            response(409),
            response(500),
            response(503),
            response(504),
            TryOutcome::Response { status: 200, grpc_status: Some(14), rate_limited: false },
            TryOutcome::Response { status: 429, grpc_status: None, rate_limited: true },
        ];
        let cases: [(RetryOn, &[usize]); 10] = [
            (RetryOn::ConnectFailure, &[0]),
            (RetryOn::RefusedStream, &[1]),
            (RetryOn::Reset, &[0, 1, 2, 3, 4]),
            (RetryOn::ResetBeforeRequest, &[0, 3]),
            (RetryOn::ServerError, &[0, 1, 2, 3, 4, 7, 8, 9]),
            (RetryOn::GatewayError, &[8, 9]),
            (RetryOn::Retriable4xx, &[6]),
            (RetryOn::Status(500), &[7]),
            (RetryOn::GrpcStatus(14), &[10]),
            (RetryOn::RateLimited, &[11]),
        ];
        for (condition, expected) in cases {
            for (index, outcome) in outcomes.into_iter().enumerate() {
                let retried = is_retriable(&policy(&[condition]), outcome);
                assert_eq!(retried, expected.contains(&index), "{condition:?} {outcome:?}");
            }
        }
        assert!(!is_retriable(&policy(&[]), ConnectFailure));
        assert!(is_retriable(
            &policy(&[RetryOn::RefusedStream, RetryOn::ConnectFailure]),
            ConnectFailure
        ));
    }

    #[test]
    fn pauses_double_up_to_ten_times_the_base() {
        let policy = policy(&[]);
        let longest = |retry| backoff(&policy, retry, u64::MAX).as_micros();
        let bounds: Vec<u128> = (1..8).map(longest).collect();
        assert_eq!(bounds, [24_999, 49_999, 99_999, 199_999, 249_999, 249_999, 249_999]);
        assert_eq!(longest(0), 24_999);
        assert_eq!(longest(u32::MAX), 249_999);
        assert_eq!(backoff(&policy, 1, 0), Duration::ZERO);
        assert_eq!(backoff(&policy, 1, u64::MAX / 2).as_micros(), 12_499);
    }
}
