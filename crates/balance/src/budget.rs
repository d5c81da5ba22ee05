//! Retry budgets: how many retries a destination may get beside its first tries, so that proxies in a row do not multiply
//! them when something behind all of them fails.
//!
//! Two shapes. Linkerd's deposits a share of each first try and withdraws one per retry, within a window, with a reserve for
//! destinations that get little (API.md 7.11; tower's `TpsBudget`). Envoy's, which Istio's `retryBudget` sets, lets so many
//! retries be under way as are a share of all requests under way (API.md 2.2).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heddle_ir::destination::RetryBudget;

use crate::retry::TryOutcome;

/// A token, in the unit of accounts.
const TOKEN: i64 = 1000;
/// Parts of the window: what is older than the window is forgotten in steps of this.
const SLOTS: u32 = 10;

/// How many retries there may be within a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetPolicy {
    /// Retries per first try, in parts per million.
    pub share_ppm: u32,
    /// Retries per second that there may be always.
    pub retries_per_second_min: u32,
    /// The window.
    pub window: Duration,
}

/// What holds where nothing is configured: Linkerd's default.
pub const DEFAULT_BUDGET: BudgetPolicy = BudgetPolicy {
    share_ppm: 200_000,
    retries_per_second_min: 10,
    window: Duration::from_secs(10),
};

/// The account of one destination. Each slot packs which step of time it is of, modulo 2³², and what was deposited less what
/// was withdrawn in it.
#[derive(Debug, Default)]
pub struct Budget {
    slots: [AtomicU64; SLOTS as usize],
}

impl Budget {
    /// Notes a first try of a request that may be tried again.
    pub fn begin(&self, budget: Option<&RetryBudget>, now_ms: u64) {
        match budget {
            None => self.deposit(&DEFAULT_BUDGET, now_ms),
            Some(RetryBudget::Concurrency { window, .. }) if window.is_zero() => {}
            Some(RetryBudget::Concurrency { window, .. }) => {
                self.deposit(&count_within(*window), now_ms);
            }
            Some(rate @ RetryBudget::Rate { .. }) => self.deposit(&policy_of(rate), now_ms),
        }
    }

    /// Takes a retry after this outcome out of the budget; false when there is none left. `active` are the requests under way,
    /// those that wait and retries included, and `retrying` the retries among them.
    ///
    /// Where nothing is configured, what has reached nobody is not counted: that retry multiplies no work behind the
    /// endpoint, and endpoints that vanish without a word must not use up what is there for those that fail.
    pub fn admits(
        &self,
        budget: Option<&RetryBudget>,
        outcome: TryOutcome,
        active: u32,
        retrying: u32,
        now_ms: u64,
    ) -> bool {
        match budget {
            None => !outcome.has_reached() || self.try_withdraw(&DEFAULT_BUDGET, now_ms),
            Some(rate @ RetryBudget::Rate { .. }) => self.try_withdraw(&policy_of(rate), now_ms),
            Some(RetryBudget::Concurrency { share_ppm, retries_min, window }) => {
                let active = if window.is_zero() {
                    active
                } else {
                    let policy = count_within(*window);
                    let begun = self.balance(&policy, step(&policy, now_ms)) / TOKEN;
                    active.max(u32::try_from(begun).unwrap_or(u32::MAX))
                };
                retrying < concurrent_retries_max(*share_ppm, *retries_min, active)
            }
        }
    }

    /// Notes a first try.
    pub fn deposit(&self, policy: &BudgetPolicy, now_ms: u64) {
        self.add(step(policy, now_ms), deposit(policy));
    }

    /// Takes a retry out of the account; false when there is none left.
    pub fn try_withdraw(&self, policy: &BudgetPolicy, now_ms: u64) -> bool {
        let step = step(policy, now_ms);
        // Between the look and the taking another thread may take: the account is overdrawn by as many as there are threads
        // at most, which no one notices.
        let affordable = self.balance(policy, step) >= TOKEN;
        if affordable {
            self.add(step, -TOKEN);
        }
        affordable
    }

    fn balance(&self, policy: &BudgetPolicy, step: u32) -> i64 {
        let current = self.slots.iter().filter_map(|slot| {
            let (of, amount) = unpack(slot.load(Ordering::Relaxed));
            (step.wrapping_sub(of) < SLOTS).then_some(i64::from(amount))
        });
        reserve(policy).saturating_add(current.sum())
    }

    fn add(&self, step: u32, change: i64) {
        let slot = &self.slots[(step % SLOTS) as usize];
        let update = |word| {
            let (of, amount) = unpack(word);
            let amount = if of == step { i64::from(amount) } else { 0 };
            let sum = (amount + change).clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            Some(pack(step, i32::try_from(sum).unwrap_or_default()))
        };
        // Always given a word, it cannot fail.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }
}

/// How many retries may be under way while `active` requests are, retries and those that wait included: a share of them,
/// and at least `retries_min`.
pub fn concurrent_retries_max(share_ppm: u32, retries_min: u32, active: u32) -> u32 {
    let share = u64::from(active) * u64::from(share_ppm) / 1_000_000;
    u32::try_from(share).unwrap_or(u32::MAX).max(retries_min)
}

/// Linkerd's shape; Envoy's has no account.
fn policy_of(budget: &RetryBudget) -> BudgetPolicy {
    match *budget {
        RetryBudget::Concurrency { .. } => DEFAULT_BUDGET,
        RetryBudget::Rate { share_ppm, retries_per_second_min, window } => {
            BudgetPolicy { share_ppm, retries_per_second_min, window }
        }
    }
}

/// An account that counts requests.
fn count_within(window: Duration) -> BudgetPolicy {
    BudgetPolicy { share_ppm: 1_000_000, retries_per_second_min: 0, window }
}

fn deposit(policy: &BudgetPolicy) -> i64 {
    i64::from(policy.share_ppm) * TOKEN / 1_000_000
}

fn reserve(policy: &BudgetPolicy) -> i64 {
    let window_ms = i64::try_from(policy.window.as_millis()).unwrap_or(i64::MAX);
    i64::from(policy.retries_per_second_min).saturating_mul(window_ms).saturating_mul(TOKEN) / 1000
}

/// Which part of a window the time is in. Counted from 1, so that a slot that was never used is of long ago.
fn step(policy: &BudgetPolicy, now_ms: u64) -> u32 {
    let slot_ms = u64::try_from(policy.window.as_millis()).unwrap_or(u64::MAX) / u64::from(SLOTS);
    let step = now_ms / slot_ms.max(1) + u64::from(SLOTS);
    u32::try_from(step & u64::from(u32::MAX)).unwrap_or_default()
}

fn pack(step: u32, amount: i32) -> u64 {
    u64::from(step) << 32 | u64::from(amount.cast_unsigned())
}

fn unpack(word: u64) -> (u32, i32) {
    let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default();
    (low(word >> 32), low(word).cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(share_ppm: u32, retries_per_second_min: u32) -> BudgetPolicy {
        BudgetPolicy { share_ppm, retries_per_second_min, window: Duration::from_secs(10) }
    }

    fn withdrawn(budget: &Budget, policy: &BudgetPolicy, now_ms: u64) -> usize {
        (0..10_000).take_while(|_| budget.try_withdraw(policy, now_ms)).count()
    }

    #[test]
    fn the_reserve_is_there_without_any_request_and_comes_back() {
        let budget = Budget::default();
        let policy = policy(200_000, 10);
        assert_eq!(withdrawn(&budget, &policy, 0), 100);
        assert_eq!(withdrawn(&budget, &policy, 9_999), 0);
        assert_eq!(withdrawn(&budget, &policy, 10_000), 100);
    }

    #[test]
    fn first_tries_pay_for_a_share_of_retries_for_as_long_as_the_window() {
        let budget = Budget::default();
        let policy = policy(200_000, 0);
        assert_eq!(withdrawn(&budget, &policy, 0), 0);
        (0..100).for_each(|_| budget.deposit(&policy, 0));
        assert_eq!(withdrawn(&budget, &policy, 5_000), 20);
        (0..100).for_each(|_| budget.deposit(&policy, 20_000));
        assert_eq!(withdrawn(&budget, &policy, 29_999), 20);
        (0..100).for_each(|_| budget.deposit(&policy, 40_000));
        assert_eq!(withdrawn(&budget, &policy, 50_000), 0, "forgotten");
    }

    #[test]
    fn shares_above_one_and_of_nothing() {
        let budget = Budget::default();
        budget.deposit(&policy(2_500_000, 0), 0);
        budget.deposit(&policy(2_500_000, 0), 0);
        assert_eq!(withdrawn(&budget, &policy(2_500_000, 0), 0), 5);
        let budget = Budget::default();
        (0..100).for_each(|_| budget.deposit(&policy(0, 0), 0));
        assert_eq!(withdrawn(&budget, &policy(0, 0), 0), 0);
        let instant = BudgetPolicy { window: Duration::ZERO, ..DEFAULT_BUDGET };
        assert!(!Budget::default().try_withdraw(&instant, 5));
    }

    #[test]
    fn as_many_under_way_as_are_a_share_of_all() {
        assert_eq!(concurrent_retries_max(200_000, 3, 0), 3);
        assert_eq!(concurrent_retries_max(200_000, 3, 15), 3);
        assert_eq!(concurrent_retries_max(200_000, 3, 100), 20);
        assert_eq!(concurrent_retries_max(0, 0, 100), 0);
        assert_eq!(concurrent_retries_max(u32::MAX, 0, u32::MAX), u32::MAX);
    }

    #[test]
    fn by_default_what_has_reached_nobody_is_not_counted() {
        let budget = Budget::default();
        let failed = TryOutcome::Response { status: 503, grpc_status: None, rate_limited: false };
        let admitted =
            |outcome| (0..1000).filter(|_| budget.admits(None, outcome, 0, 0, 0)).count();
        assert_eq!(admitted(TryOutcome::ConnectFailure), 1000);
        assert_eq!(admitted(TryOutcome::Reset { request_sent: false }), 1000);
        assert_eq!(admitted(TryOutcome::RefusedStream), 1000);
        assert_eq!(admitted(failed), 100);
        assert_eq!(admitted(TryOutcome::Timeout), 0);
        let rate = RetryBudget::Rate {
            share_ppm: 0,
            retries_per_second_min: 1,
            window: Duration::from_secs(1),
        };
        let configured = Budget::default();
        assert!(configured.admits(Some(&rate), TryOutcome::ConnectFailure, 0, 0, 0));
        assert!(!configured.admits(Some(&rate), TryOutcome::ConnectFailure, 0, 0, 0));
    }

    #[test]
    fn a_share_of_what_is_or_was_under_way() {
        let budget = Budget::default();
        let policy = |seconds| RetryBudget::Concurrency {
            share_ppm: 200_000,
            retries_min: 3,
            window: Duration::from_secs(seconds),
        };
        let now = policy(0);
        let admits = |policy: &RetryBudget, active, retrying| {
            budget.admits(Some(policy), TryOutcome::Timeout, active, retrying, 0)
        };
        assert!(admits(&now, 1, 2) && !admits(&now, 1, 3));
        assert!(admits(&now, 100, 19) && !admits(&now, 100, 20));
        let lately = policy(10);
        (0..50).for_each(|_| budget.begin(Some(&lately), 0));
        assert!(admits(&lately, 1, 9) && !admits(&lately, 1, 10));
    }

    /// Three proxies in a row, each of which tries three times: 27 tries of what fails always, without a budget.
    #[test]
    fn nested_proxies_do_not_multiply() {
        fn send(layers: &[Budget], policy: &BudgetPolicy, now_ms: u64, reached: &mut u32) {
            let Some((first, rest)) = layers.split_first() else {
                *reached += 1;
                return;
            };
            first.deposit(policy, now_ms);
            send(rest, policy, now_ms, reached);
            for _ in 0..2 {
                if !first.try_withdraw(policy, now_ms) {
                    return;
                }
                send(rest, policy, now_ms, reached);
            }
        }
        let layers = [Budget::default(), Budget::default(), Budget::default()];
        let policy = DEFAULT_BUDGET;
        let mut reached = 0;
        for request in 0..100_000_u64 {
            send(&layers, &policy, request / 10, &mut reached);
        }
        // 1.2³ of each, and the reserves of three layers.
        assert!(reached < 175_000, "{reached}");
    }

    proptest! {
        #[test]
        fn retries_are_never_more_than_was_paid_for(
            share_ppm in 0..3_000_000_u32, min in 0..20_u32, events in proptest::collection::vec((any::<bool>(), 0..300_u64), 0..500),
        ) {
            let policy = policy(share_ppm, min);
            let budget = Budget::default();
            let (mut now, mut deposits, mut retries) = (0, 0_u32, 0_u32);
            for (is_retry, pause) in events {
                now += pause;
                if is_retry {
                    retries += u32::from(budget.try_withdraw(&policy, now));
                } else {
                    budget.deposit(&policy, now);
                    deposits += 1;
                }
            }
            let windows = f64::from(u32::try_from(now / 10_000).unwrap() + 1);
            let bound = f64::from(deposits) * f64::from(share_ppm) / 1e6 + windows * f64::from(min) * 10.0 + 2.0;
            prop_assert!(f64::from(retries) <= bound, "{retries} > {bound}");
        }
    }
}
