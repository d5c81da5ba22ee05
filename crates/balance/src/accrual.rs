//! Failure accrual: an endpoint that fails several times in a row gets nothing for a while, then one request on probation,
//! and is taken back when that succeeds (Linkerd's circuit breaking; API.md 7.10). Unlike outlier detection it has no limit
//! on how many endpoints are out.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use heddle_ir::destination::FailureAccrual;

use crate::hash::scale;

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Accrual {
    /// Failures in a row.
    failures: AtomicU32,
    /// Penalties in a row; 0: it is in.
    penalties: AtomicU32,
    /// While it is out: when it gets a request on probation.
    probe_at_ms: AtomicU64,
    /// A request on probation is under way.
    probing: AtomicU32,
}

impl Accrual {
    /// Whether it may be picked: it is in, or a request on probation is due.
    pub(crate) fn is_open(&self, now_ms: u64) -> bool {
        self.penalties.load(Ordering::Relaxed) == 0
            || now_ms >= self.probe_at_ms.load(Ordering::Relaxed)
    }

    /// Takes the place of a request; false when another one was first with the one on probation.
    ///
    /// A request on probation whose end nobody reports does not keep the endpoint out for ever: after another penalty the
    /// next may try.
    pub(crate) fn take(&self, policy: &FailureAccrual, random: u64, now_ms: u64) -> bool {
        let penalties = self.penalties.load(Ordering::Relaxed);
        if penalties == 0 {
            return true;
        }
        let due = self.probe_at_ms.load(Ordering::Relaxed);
        let next = now_ms.saturating_add(penalty_ms(policy, penalties, random));
        let taken = now_ms >= due
            && self
                .probe_at_ms
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if taken {
            self.probing.store(1, Ordering::Relaxed);
        }
        taken
    }

    /// Takes the outcome of a request in. True when it puts the endpoint out.
    pub(crate) fn record(
        &self,
        policy: &FailureAccrual,
        failed: bool,
        random: u64,
        now_ms: u64,
    ) -> bool {
        let penalties = self.penalties.load(Ordering::Relaxed);
        if penalties > 0 {
            // Requests from before it was put out say nothing new.
            if self.probing.swap(0, Ordering::Relaxed) == 0 {
                return false;
            }
            if !failed {
                self.failures.store(0, Ordering::Relaxed);
                self.penalties.store(0, Ordering::Relaxed);
                return false;
            }
            self.put_out(policy, penalties.saturating_add(1), random, now_ms);
            return true;
        }
        if !failed {
            self.failures.store(0, Ordering::Relaxed);
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if policy.failures_max == 0 || failures != policy.failures_max {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.put_out(policy, 1, random, now_ms);
        true
    }

    fn put_out(&self, policy: &FailureAccrual, penalties: u32, random: u64, now_ms: u64) {
        let until = now_ms.saturating_add(penalty_ms(policy, penalties, random));
        self.probe_at_ms.store(until, Ordering::Relaxed);
        self.penalties.store(penalties, Ordering::Relaxed);
    }
}

/// How long the n-th penalty in a row is: twice as long as the one before, and a random part of it more.
fn penalty_ms(policy: &FailureAccrual, penalties: u32, random: u64) -> u64 {
    let max_ms = millis(policy.pause_max).max(1);
    let growth = 1_u64.checked_shl(penalties.saturating_sub(1)).unwrap_or(u64::MAX);
    let base_ms = millis(policy.pause_min).max(1).saturating_mul(growth).min(max_ms);
    let jitter_ms = scale(random, base_ms.saturating_mul(policy.jitter_percent.into()) / 100);
    base_ms.saturating_add(jitter_ms).min(max_ms)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> FailureAccrual {
        FailureAccrual {
            origin: heddle_diag::Origin::built_in("accrual"),
            failures_max: 3,
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(5),
            jitter_percent: 0,
        }
    }

    fn record(accrual: &Accrual, failed: bool, now_ms: u64) -> bool {
        accrual.record(&policy(), failed, 0, now_ms)
    }

    fn fail(accrual: &Accrual, now_ms: u64) {
        assert_eq!([0; 3].map(|_| record(accrual, true, now_ms)), [false, false, true]);
    }

    #[test]
    fn failures_in_a_row_put_it_out_and_a_success_between_them_does_not() {
        let accrual = Accrual::default();
        for failed in [true, true, false, true, true] {
            assert!(!record(&accrual, failed, 0));
            assert!(accrual.is_open(0));
        }
        assert!(record(&accrual, true, 10));
        assert!(!accrual.is_open(1009));
        assert!(accrual.is_open(1010));
    }

    #[test]
    fn one_request_on_probation_decides() {
        let accrual = Accrual::default();
        fail(&accrual, 0);
        // Those that were under way say nothing.
        assert!(!record(&accrual, false, 500));
        assert!(!accrual.is_open(500));
        assert!(accrual.take(&policy(), 0, 1000));
        assert!(!accrual.is_open(1000), "one at a time");
        assert!(!accrual.take(&policy(), 0, 1000));
        // Failure: out for twice as long, then for four times, then for no longer.
        let mut now = 1000;
        for penalty in [2000, 4000, 5000, 5000] {
            assert!(record(&accrual, true, now));
            assert!(!accrual.is_open(now + penalty - 1), "{penalty}");
            now += penalty;
            assert!(accrual.take(&policy(), 0, now));
        }
        assert!(!record(&accrual, false, now));
        assert!(accrual.is_open(now));
        assert!(accrual.take(&policy(), 0, now));
        // Its failures count from the start again, and so do its penalties.
        fail(&accrual, now);
        assert!(accrual.is_open(now + 1000));
    }

    #[test]
    fn a_request_on_probation_that_nobody_reports_does_not_keep_it_out() {
        let accrual = Accrual::default();
        fail(&accrual, 0);
        assert!(accrual.take(&policy(), 0, 1000));
        assert!(!accrual.take(&policy(), 0, 1999));
        assert!(accrual.take(&policy(), 0, 2000));
    }

    #[test]
    fn of_many_at_once_one_is_on_probation() {
        let accrual = Accrual::default();
        fail(&accrual, 0);
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    if accrual.take(&policy(), 0, 1000) {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.load(Ordering::Relaxed), 1);
    }

    proptest! {
        #[test]
        fn penalties_stay_within_their_bounds(
            min in 0..10_000_u64, more in 0..100_000_u64, jitter in 0..300_u16, n in 1..200_u32, random in any::<u64>(),
        ) {
            let policy = FailureAccrual {
                pause_min: Duration::from_millis(min),
                pause_max: Duration::from_millis(min + more),
                jitter_percent: jitter,
                ..policy()
            };
            let penalty = penalty_ms(&policy, n, random);
            prop_assert!((min.max(1)..=(min + more).max(1)).contains(&penalty));
        }
    }
}
