//! Limits on the rate of requests that a proxy counts itself: which bucket a request takes from, and what is said when it is
//! empty. Which requests a limit counts is for the caller to match.

use std::sync::Arc;
use std::time::Duration;

use heddle_ir::rate_limit::{LocalRateLimit, RateLimitScope};

use crate::bucket::{Bucket, KeyedBuckets};
use crate::hash::{mix, scale};

/// The key of clients without identity.
const NOBODY: &str = "";

/// The buckets of one limit, for the whole process and across changes of configuration that leave the limit as it was.
#[derive(Debug)]
pub struct LocalLimiter {
    limit: LocalRateLimit,
    total: Bucket,
    identities: KeyedBuckets,
    /// In the order of the overrides.
    overrides: Box<[Bucket]>,
}

/// What a limit says about a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limited {
    /// Nothing: it has its token.
    No,
    /// It is over the limit, which is not enforced for it.
    Counted,
    /// It is refused; after this long there would be a token.
    Refused(Duration),
}

impl LocalLimiter {
    /// The buckets of a limit: those of before where the limit was the same.
    pub fn new(limit: &LocalRateLimit, previous: &[Arc<Self>]) -> Arc<Self> {
        let same = previous.iter().find(|known| known.limit == *limit);
        same.cloned().unwrap_or_else(|| {
            Arc::new(Self {
                total: Bucket::default(),
                identities: KeyedBuckets::default(),
                overrides: limit.overrides.iter().map(|_| Bucket::default()).collect(),
                limit: limit.clone(),
            })
        })
    }

    /// The limit.
    pub fn limit(&self) -> &LocalRateLimit {
        &self.limit
    }

    /// Takes a token for a request. `identity` is the peer's without `spiffe://`; `overridden` the index of the first override
    /// that is for it; `connection` the bucket of the client's connection; `random` draws whether the limit is enforced.
    pub fn check(
        &self,
        identity: Option<&str>,
        overridden: Option<usize>,
        connection: &Bucket,
        random: u64,
        now: Duration,
    ) -> Limited {
        let limit = &self.limit;
        let own = overridden
            .and_then(|place| Some((limit.overrides.get(place)?, self.overrides.get(place)?)));
        let taken = match (own, &limit.bucket, limit.scope) {
            (Some((policy, bucket)), _, _) => bucket.try_take(&policy.bucket, now),
            (None, None, _) => Ok(()),
            (None, Some(policy), RateLimitScope::Connection) => connection.try_take(policy, now),
            (None, Some(policy), RateLimitScope::Total) => self.total.try_take(policy, now),
            (None, Some(policy), RateLimitScope::Identity) => {
                self.identities.try_take(identity.unwrap_or(NOBODY), policy, now)
            }
        };
        match taken {
            Ok(()) => Limited::No,
            Err(_) if scale(mix(random), 1_000_000) >= u64::from(limit.enforced_ppm) => {
                Limited::Counted
            }
            Err(wait) => Limited::Refused(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_diag::Origin;
    use heddle_ir::http_route::HeaderEdits;
    use heddle_ir::rate_limit::{RateLimitOverride, TokenBucket};

    use super::*;

    fn bucket(capacity: u32) -> TokenBucket {
        TokenBucket { capacity, refill: capacity, interval: Duration::from_secs(1) }
    }

    fn limit(scope: RateLimitScope, capacity: u32) -> LocalRateLimit {
        LocalRateLimit {
            origin: Origin::built_in("limit"),
            port: None,
            matches: Vec::new(),
            scope,
            bucket: Some(bucket(capacity)),
            overrides: Vec::new(),
            enforced_ppm: 1_000_000,
            status: 429,
            response_headers: HeaderEdits::default(),
        }
    }

    fn passed(limiter: &LocalLimiter, identity: Option<&str>, overridden: Option<usize>) -> usize {
        let connection = Bucket::default();
        let pass = |_: &u64| {
            limiter.check(identity, overridden, &connection, 1, Duration::ZERO) == Limited::No
        };
        (0..1000).filter(pass).count()
    }

    #[test]
    fn all_share_one_bucket_or_each_has_its_own() {
        let total = LocalLimiter::new(&limit(RateLimitScope::Total, 5), &[]);
        assert_eq!(passed(&total, Some("a"), None), 5);
        assert_eq!(passed(&total, Some("b"), None), 0);
        let each = LocalLimiter::new(&limit(RateLimitScope::Identity, 5), &[]);
        assert_eq!([passed(&each, Some("a"), None), passed(&each, Some("b"), None)], [5, 5]);
        assert_eq!([passed(&each, None, None), passed(&each, None, None)], [5, 0], "nobody is one");
        let connection = LocalLimiter::new(&limit(RateLimitScope::Connection, 5), &[]);
        assert_eq!([passed(&connection, None, None), passed(&connection, None, None)], [5, 5]);
    }

    #[test]
    fn an_override_replaces_the_bucket_and_is_shared() {
        let mut policy = limit(RateLimitScope::Identity, 5);
        policy.overrides.push(RateLimitOverride { identities: Vec::new(), bucket: bucket(20) });
        let limiter = LocalLimiter::new(&policy, &[]);
        assert_eq!(passed(&limiter, Some("a"), Some(0)), 20);
        assert_eq!(passed(&limiter, Some("b"), Some(0)), 0);
        assert_eq!(passed(&limiter, Some("c"), None), 5);
        policy.bucket = None;
        let limiter = LocalLimiter::new(&policy, &[]);
        assert_eq!(passed(&limiter, Some("c"), None), 1000);
        assert_eq!(passed(&limiter, Some("a"), Some(0)), 20);
    }

    #[test]
    fn a_share_is_enforced_and_what_is_left_is_counted() {
        let mut policy = limit(RateLimitScope::Total, 0);
        policy.enforced_ppm = 250_000;
        let limiter = LocalLimiter::new(&policy, &[]);
        let connection = Bucket::default();
        let outcome = |random| limiter.check(None, None, &connection, random, Duration::ZERO);
        let refused =
            (0..10_000).filter(|random| matches!(outcome(*random), Limited::Refused(_))).count();
        assert!(refused.abs_diff(2500) < 200, "{refused}");
        assert!((0..10_000).all(|random| outcome(random) != Limited::No));
    }

    #[test]
    fn a_limit_that_stays_as_it_was_keeps_its_buckets() {
        let policy = limit(RateLimitScope::Total, 5);
        let before = LocalLimiter::new(&policy, &[]);
        assert_eq!(passed(&before, None, None), 5);
        let after = LocalLimiter::new(&policy, std::slice::from_ref(&before));
        assert!(Arc::ptr_eq(&before, &after));
        let other = LocalLimiter::new(&limit(RateLimitScope::Total, 6), &[before]);
        assert_eq!(passed(&other, None, None), 6);
    }
}
