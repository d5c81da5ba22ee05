//! What is known of an endpoint while the process lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::accrual::Accrual;
use crate::latency::Latency;

/// Stands for "not ejected".
const NEVER: u64 = u64::MAX;

/// What is known of one endpoint of one destination, shared by all workers and kept across updates under its address.
///
/// The numbers are read and written without order between them: each is right by itself, and none guards another.
#[derive(Debug)]
pub struct EndpointState {
    active: AtomicU32,
    pub(crate) consecutive_5xx: AtomicU32,
    pub(crate) consecutive_gateway_errors: AtomicU32,
    pub(crate) consecutive_local_failures: AtomicU32,
    /// By how much the next ejection is longer than the first; grows with ejections, shrinks with healthy intervals.
    pub(crate) ejections: AtomicU32,
    ejected_at_ms: AtomicU64,
    /// When it came, or became healthy again: from then on slow start counts.
    began_at_ms: AtomicU64,
    /// What the proxy's own health check has found; true where there is none.
    checked_healthy: AtomicBool,
    pub(crate) latency: Latency,
    pub(crate) accrual: Accrual,
}

impl EndpointState {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            active: AtomicU32::new(0),
            consecutive_5xx: AtomicU32::new(0),
            consecutive_gateway_errors: AtomicU32::new(0),
            consecutive_local_failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_at_ms: AtomicU64::new(NEVER),
            began_at_ms: AtomicU64::new(now_ms),
            checked_healthy: AtomicBool::new(true),
            latency: Latency::new(now_ms),
            accrual: Accrual::default(),
        }
    }

    /// Requests (or streams) under way.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Counts a request under way until the returned value is dropped.
    pub fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.active.fetch_add(1, Ordering::Relaxed);
        ActiveRequest { state: self.clone() }
    }

    pub(crate) fn began_at_ms(&self) -> u64 {
        self.began_at_ms.load(Ordering::Relaxed)
    }

    /// It is as good as new.
    pub(crate) fn begin_anew(&self, now_ms: u64) {
        self.began_at_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether the proxy's own health check finds it well, or there is none.
    pub fn is_checked_healthy(&self) -> bool {
        self.checked_healthy.load(Ordering::Relaxed)
    }

    /// True when this is a change.
    pub(crate) fn set_checked(&self, is_healthy: bool, now_ms: u64) -> bool {
        let before = self.checked_healthy.swap(is_healthy, Ordering::Relaxed);
        if is_healthy && !before {
            self.begin_anew(now_ms);
        }
        before != is_healthy
    }

    /// Whether outlier detection has taken it out.
    pub fn is_ejected(&self) -> bool {
        self.ejected_at_ms.load(Ordering::Relaxed) != NEVER
    }

    /// When it was ejected; none while it is not.
    pub(crate) fn ejected_at_ms(&self) -> Option<u64> {
        Some(self.ejected_at_ms.load(Ordering::Relaxed)).filter(|at| *at != NEVER)
    }

    pub(crate) fn eject(&self, now_ms: u64) {
        self.ejected_at_ms.store(now_ms.min(NEVER - 1), Ordering::Relaxed);
        let ejections = self.ejections.load(Ordering::Relaxed);
        self.ejections.store(ejections.saturating_add(1), Ordering::Relaxed);
    }

    /// Takes it back; its failures so far are forgotten, so that one more does not eject it at once.
    pub(crate) fn take_back(&self) {
        self.ejected_at_ms.store(NEVER, Ordering::Relaxed);
        self.consecutive_5xx.store(0, Ordering::Relaxed);
        self.consecutive_gateway_errors.store(0, Ordering::Relaxed);
        self.consecutive_local_failures.store(0, Ordering::Relaxed);
    }

    /// Healthy intervals make the next ejection shorter.
    pub(crate) fn forgive(&self, intervals: u64) {
        let ejections = self.ejections.load(Ordering::Relaxed);
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.ejections.store(ejections.saturating_sub(intervals), Ordering::Relaxed);
    }
}

/// A request under way at an endpoint.
#[derive(Debug)]
pub struct ActiveRequest {
    state: Arc<EndpointState>,
}

impl ActiveRequest {
    /// The endpoint's state, to report outcomes under and to avoid it when the request is tried again.
    pub fn state(&self) -> &Arc<EndpointState> {
        &self.state
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.state.active.fetch_sub(1, Ordering::Relaxed);
    }
}
