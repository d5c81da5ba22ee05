//! Outlier detection: endpoints that fail are taken out for a while. As Envoy does it (its documentation, "Outlier
//! detection"), without success-rate ejection, which Istio turns off.
//!
//! Ejected endpoints are looked at once per interval. There is no timer: whoever picks or records next does what the
//! intervals that have passed would have done, with the same result as if each had been on time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use heddle_ir::destination::OutlierDetection;

use crate::balancer::Balancer;
use crate::endpoint::EndpointState;

/// No ejection is longer than this, unless the base time is (Envoy's `max_ejection_time`).
const EJECTION_TIME_MAX: Duration = Duration::from_mins(5);

/// What was seen of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observation {
    /// It could not be connected to, or closed or reset before a response.
    ConnectFailure,
    /// A connection for a request was made; what becomes of the request is still to come.
    Connected,
    /// An opaque stream was opened.
    Opened,
    /// It answered a request with this HTTP status; gRPC: see [`grpc_as_http_status`].
    Response(u16),
    /// It did not answer in time.
    Timeout,
}

/// The HTTP status that a gRPC status counts as (grpc/doc/http-grpc-status-mapping, as Envoy turns it around).
pub fn grpc_as_http_status(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// The policy of a balancer, and what goes on from one balancer to the next.
#[derive(Debug)]
pub(crate) struct Watch {
    policy: OutlierDetection,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// When ejected endpoints are looked at next.
    next_look_ms: AtomicU64,
    /// Held while endpoints are ejected or taken back, never while one is picked.
    changing: Mutex<()>,
}

impl Watch {
    pub(crate) fn new(policy: &OutlierDetection, previous: Option<&Self>, now_ms: u64) -> Self {
        let shared = previous.map_or_else(
            || {
                Arc::new(Shared {
                    next_look_ms: AtomicU64::new(now_ms.saturating_add(interval_ms(policy))),
                    changing: Mutex::new(()),
                })
            },
            |previous| previous.shared.clone(),
        );
        Self { policy: policy.clone(), shared }
    }

    pub(crate) fn policy(&self) -> &OutlierDetection {
        &self.policy
    }
}

/// What an observation says, as far as counters are concerned.
enum Finding {
    /// Nothing.
    Nothing,
    /// The endpoint's own doing: an error or not, and whether a gateway error.
    Answered { error: bool, gateway_error: bool },
    /// Seen locally, and counted apart.
    Local { failure: bool },
}

impl Balancer {
    /// Reports what was seen of an endpoint. True when it was taken out for it, by outlier detection or failure accrual.
    pub fn record(
        &self,
        state: &Arc<EndpointState>,
        observation: Observation,
        now_ms: u64,
    ) -> bool {
        let accrued = match failure_of(observation) {
            Some(failed) => self.accrue(state, failed, now_ms),
            None => false,
        };
        self.watched(state, observation, now_ms) || accrued
    }

    fn watched(&self, state: &Arc<EndpointState>, observation: Observation, now_ms: u64) -> bool {
        let Some(watch) = &self.watch else { return false };
        self.look_at_ejected(now_ms);
        let policy = &watch.policy;
        match judge(policy, observation) {
            Finding::Nothing => false,
            Finding::Answered { error: false, .. } => {
                state.consecutive_5xx.store(0, Ordering::Relaxed);
                state.consecutive_gateway_errors.store(0, Ordering::Relaxed);
                false
            }
            Finding::Answered { error: true, gateway_error } => {
                let gateway_ejects = if gateway_error {
                    let limit = policy.consecutive_gateway_errors;
                    self.count_failure(state, &state.consecutive_gateway_errors, limit, now_ms)
                } else {
                    state.consecutive_gateway_errors.store(0, Ordering::Relaxed);
                    false
                };
                let limit = policy.consecutive_5xx;
                self.count_failure(state, &state.consecutive_5xx, limit, now_ms) || gateway_ejects
            }
            Finding::Local { failure: false } => {
                state.consecutive_local_failures.store(0, Ordering::Relaxed);
                false
            }
            Finding::Local { failure: true } => {
                let limit = policy.consecutive_local_failures;
                self.count_failure(state, &state.consecutive_local_failures, limit, now_ms)
            }
        }
    }

    /// Does what the intervals that have passed since the last look would have done.
    pub(crate) fn look_at_ejected(&self, now_ms: u64) {
        let Some(watch) = &self.watch else { return };
        if now_ms < watch.shared.next_look_ms.load(Ordering::Relaxed) {
            return;
        }
        // Whoever holds it is doing the same, or is about to eject, which can wait for no one.
        let Ok(_changing) = watch.shared.changing.try_lock() else { return };
        let first_ms = watch.shared.next_look_ms.load(Ordering::Relaxed);
        let Some(since_first_ms) = now_ms.checked_sub(first_ms) else { return };
        let interval_ms = interval_ms(&watch.policy);
        let looks = since_first_ms / interval_ms + 1;
        for slot in &self.slots {
            let state = &slot.state;
            let Some(ejected_at_ms) = state.ejected_at_ms() else {
                state.forgive(looks);
                continue;
            };
            let ejections = state.ejections.load(Ordering::Relaxed);
            let until_ms = ejected_at_ms.saturating_add(ejection_ms(&watch.policy, ejections));
            // The first look at or after the end takes it back; later ones find it healthy.
            let look = until_ms.saturating_sub(first_ms).div_ceil(interval_ms);
            if look < looks {
                state.take_back();
                state.forgive(looks - 1 - look);
            }
        }
        let next_ms = first_ms.saturating_add(looks.saturating_mul(interval_ms));
        watch.shared.next_look_ms.store(next_ms, Ordering::Relaxed);
        self.note_change();
    }

    /// Counts a failure; at the limit the endpoint is ejected if it may be, and the count starts anew.
    fn count_failure(
        &self,
        state: &Arc<EndpointState>,
        counter: &AtomicU32,
        limit: u32,
        now_ms: u64,
    ) -> bool {
        let failures = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let Some(watch) = self.watch.as_ref().filter(|_| limit > 0 && failures == limit) else {
            return false;
        };
        let _changing = watch.shared.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_ejected() {
            return false;
        }
        counter.store(0, Ordering::Relaxed);
        let is_here = self.slots.iter().any(|slot| Arc::ptr_eq(&slot.state, state));
        if !is_here || !self.may_eject(watch) {
            return false;
        }
        state.eject(now_ms);
        self.note_change();
        true
    }

    /// One endpoint may always be ejected; more only up to the percentage.
    fn may_eject(&self, watch: &Watch) -> bool {
        let ejected = self.slots.iter().filter(|slot| slot.state.is_ejected()).count() as u64;
        let percent_max = u64::from(watch.policy.ejection_percent_max);
        ejected == 0 || (ejected + 1) * 100 <= self.slots.len() as u64 * percent_max
    }
}

/// Whether an observation is the failure of a request, as failure accrual counts it; none: it does not end one.
fn failure_of(observation: Observation) -> Option<bool> {
    match observation {
        Observation::ConnectFailure | Observation::Timeout => Some(true),
        Observation::Connected => None,
        Observation::Opened => Some(false),
        Observation::Response(status) => Some((500..600).contains(&status)),
    }
}

/// Without the split, failures seen locally count as the answer that the client gets for them.
fn judge(policy: &OutlierDetection, observation: Observation) -> Finding {
    let split = policy.consecutive_local_failures > 0;
    let answered = |status: u16| {
        if policy.error_statuses.is_empty() {
            let gateway_error = matches!(status, 502..=504);
            Finding::Answered { error: (500..600).contains(&status), gateway_error }
        } else {
            // As Envoy, which takes a listed status for a 500 and any other for a 200.
            let error = policy.error_statuses.contains(&status);
            Finding::Answered { error, gateway_error: false }
        }
    };
    let local_answer = |gateway_error| Finding::Answered { error: true, gateway_error };
    match observation {
        Observation::Response(status) => answered(status),
        Observation::ConnectFailure | Observation::Timeout if split => {
            Finding::Local { failure: true }
        }
        Observation::Connected | Observation::Opened if split => Finding::Local { failure: false },
        Observation::ConnectFailure | Observation::Timeout => local_answer(true),
        Observation::Connected => Finding::Nothing,
        Observation::Opened => Finding::Answered { error: false, gateway_error: false },
    }
}

fn ejection_ms(policy: &OutlierDetection, ejections: u32) -> u64 {
    let base = policy.ejection_time_base;
    millis(base.saturating_mul(ejections.max(1)).min(base.max(EJECTION_TIME_MAX)))
}

/// At least a millisecond, so that time goes on.
fn interval_ms(policy: &OutlierDetection) -> u64 {
    millis(policy.interval).max(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
