//! Token buckets, without lock and without timer (the generic cell rate algorithm).
//!
//! Tokens come evenly over the interval, not all at its end: with 100 per second there is one every 10 ms, as in Envoy since
//! its buckets have no timer, and in Linkerd.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use heddle_ir::rate_limit::TokenBucket;

/// Parts of a nanosecond that times are kept in, so that even millions of tokens a second are exact enough.
const PARTS: u64 = 16;
/// Keys that have a bucket of their own; further ones share one.
const KEYS_MAX: usize = 10_000;

/// One bucket. It keeps the time at which it would be full again, in parts of a nanosecond.
#[derive(Debug, Default)]
pub struct Bucket {
    full_at: AtomicU64,
}

impl Bucket {
    /// Takes a token; the error is how long it takes until there is one. `now` is the time on a clock that does not go back.
    pub fn try_take(&self, policy: &TokenBucket, now: Duration) -> Result<(), Duration> {
        let now = parts(now);
        let token = token(policy);
        let depth = token.saturating_mul(policy.capacity.into());
        let mut wait = 0;
        let take = |full_at: u64| {
            let next = full_at.max(now).saturating_add(token);
            wait = next.saturating_sub(now.saturating_add(depth));
            (wait == 0).then_some(next)
        };
        match self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(Duration::from_nanos(wait.div_ceil(PARTS))),
        }
    }

    /// Whether it is as good as new.
    fn is_full(&self, now: Duration) -> bool {
        self.full_at.load(Ordering::Relaxed) <= parts(now)
    }
}

/// The time that one token takes to come.
fn token(policy: &TokenBucket) -> u64 {
    (parts(policy.interval) / u64::from(policy.refill.max(1))).max(1)
}

fn parts(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).saturating_mul(PARTS)
}

/// A bucket per key, of a bounded number of keys.
#[derive(Debug, Default)]
pub struct KeyedBuckets {
    buckets: Mutex<HashMap<Box<str>, Bucket>>,
    /// Of those for whom there was no place.
    others: Bucket,
}

impl KeyedBuckets {
    /// Takes a token of the key's bucket.
    pub fn try_take(&self, key: &str, policy: &TokenBucket, now: Duration) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get(key) {
            return bucket.try_take(policy, now);
        }
        if buckets.len() >= KEYS_MAX {
            // A full bucket says nothing that a new one would not.
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        if buckets.len() >= KEYS_MAX {
            return self.others.try_take(policy, now);
        }
        buckets.entry(key.into()).or_default().try_take(policy, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(capacity: u32, refill: u32, millis: u64) -> TokenBucket {
        TokenBucket { capacity, refill, interval: Duration::from_millis(millis) }
    }

    fn taken(bucket: &Bucket, policy: &TokenBucket, now_ms: u64) -> usize {
        let now = Duration::from_millis(now_ms);
        (0..100_000).take_while(|_| bucket.try_take(policy, now).is_ok()).count()
    }

    #[test]
    fn it_begins_full_and_fills_evenly() {
        let bucket = Bucket::default();
        let policy = policy(100, 100, 1000);
        assert_eq!(taken(&bucket, &policy, 5), 100);
        assert_eq!(
            bucket.try_take(&policy, Duration::from_millis(5)),
            Err(Duration::from_millis(10))
        );
        assert_eq!(taken(&bucket, &policy, 14), 0);
        assert_eq!(taken(&bucket, &policy, 15), 1);
        assert_eq!(taken(&bucket, &policy, 515), 50);
        assert_eq!(taken(&bucket, &policy, 100_000), 100, "never more than it holds");
    }

    #[test]
    fn odd_policies() {
        assert_eq!(taken(&Bucket::default(), &policy(0, 10, 1000), 5), 0);
        assert_eq!(taken(&Bucket::default(), &policy(3, 0, 1000), 5), 3);
        let instant = policy(7, 1, 0);
        assert_eq!(taken(&Bucket::default(), &instant, 5), 7);
        // 3 million per second: each takes a third of a microsecond.
        let many = policy(100, 3_000_000, 1000);
        let bucket = Bucket::default();
        let passed = (0..1_000_000_u64)
            .filter(|step| bucket.try_take(&many, Duration::from_nanos(step * 250)).is_ok())
            .count();
        assert!(passed.abs_diff(750_000) < 1000, "{passed}");
    }

    #[test]
    fn keys_do_not_share_and_are_bounded() {
        let buckets = KeyedBuckets::default();
        let policy = policy(2, 2, 1000);
        let take =
            |key: &str, now_ms| buckets.try_take(key, &policy, Duration::from_millis(now_ms));
        assert!(take("a", 0).is_ok() && take("a", 0).is_ok() && take("a", 0).is_err());
        assert!(take("b", 0).is_ok());
        for number in 0..2 * KEYS_MAX {
            let _ = take(&number.to_string(), 1);
        }
        assert!(buckets.buckets.lock().unwrap().len() <= KEYS_MAX);
        assert!(take("a further one", 1).is_err(), "all of the others share one");
        // Those that are full again make place.
        assert!(take("a further one", 5000).is_ok());
        assert!(buckets.buckets.lock().unwrap().len() < 10);
    }

    proptest! {
        /// No more than the capacity at once and the rate over time.
        #[test]
        fn the_rate_is_kept(
            capacity in 1..50_u32, refill in 1..200_u32, pauses in proptest::collection::vec(0..50_u64, 1..500),
        ) {
            let bucket = Bucket::default();
            let policy = policy(capacity, refill, 1000);
            let (mut now, mut passed) = (0, 0_u32);
            for pause in pauses {
                now += pause;
                passed += u32::from(bucket.try_take(&policy, Duration::from_millis(now)).is_ok());
            }
            let bound = f64::from(capacity) + f64::from(refill) * f64::from(u32::try_from(now).unwrap()) / 1000.0 + 0.01;
            prop_assert!(f64::from(passed) <= bound, "{passed} > {bound}");
        }
    }
}
