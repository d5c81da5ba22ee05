//! Circuit breakers: counts of what is under way towards a destination, with limits.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use heddle_ir::destination::ConnectionPool;

/// What is limited.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resource {
    /// Connections.
    Connections,
    /// Requests that wait for a connection.
    PendingRequests,
    /// Requests under way.
    Requests,
    /// Retries under way.
    Retries,
}

impl Resource {
    const ALL: [Self; 4] =
        [Self::Connections, Self::PendingRequests, Self::Requests, Self::Retries];

    /// The limit that a connection pool sets for it.
    pub fn limit(self, pool: &ConnectionPool) -> u32 {
        match self {
            Self::Connections => pool.connections_max,
            Self::PendingRequests => pool.pending_requests_max,
            Self::Requests => pool.requests_max,
            Self::Retries => pool.retries_max,
        }
    }
}

/// Counts of one destination, for the whole process.
#[derive(Debug, Default)]
pub struct Breakers {
    counts: [AtomicU32; Resource::ALL.len()],
}

/// One unit of a resource. It must be given back to the [`Breakers`] that it came from; dropping it leaks the unit.
#[must_use = "a token that is not released counts for ever"]
#[derive(Debug)]
pub struct Token {
    resource: Resource,
}

/// A limit is reached: the request is answered with 503, flag UO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overflow {
    /// What is limited.
    pub resource: Resource,
    /// The limit.
    pub limit: u32,
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.resource {
            Resource::Connections => "connections",
            Resource::PendingRequests => "pending requests",
            Resource::Requests => "requests",
            Resource::Retries => "retries",
        };
        write!(f, "limit of {} {name} reached", self.limit)
    }
}

impl std::error::Error for Overflow {}

impl Breakers {
    /// Takes one unit, unless `limit` units are taken already. A limit that has shrunk below what is taken refuses
    /// until enough is given back.
    pub fn try_acquire(&self, resource: Resource, limit: u32) -> Result<Token, Overflow> {
        let take = |count: u32| (count < limit).then(|| count + 1);
        match self.count(resource).fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(Token { resource }),
            Err(_) => Err(Overflow { resource, limit }),
        }
    }

    /// Takes a unit whatever the limit is, for what must go on in any case.
    pub fn acquire(&self, resource: Resource) -> Token {
        self.count(resource).fetch_add(1, Ordering::Relaxed);
        Token { resource }
    }

    /// Gives a unit back.
    #[expect(clippy::needless_pass_by_value, reason = "a token can be given back once only")]
    pub fn release(&self, token: Token) {
        let Token { resource } = token;
        let before = self.count(resource).fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a token of other breakers was released");
    }

    /// How many units are taken.
    pub fn taken(&self, resource: Resource) -> u32 {
        self.count(resource).load(Ordering::Relaxed)
    }

    fn count(&self, resource: Resource) -> &AtomicU32 {
        match resource {
            Resource::Connections => &self.counts[0],
            Resource::PendingRequests => &self.counts[1],
            Resource::Requests => &self.counts[2],
            Resource::Retries => &self.counts[3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_given_out_and_resources_do_not_mix() {
        let breakers = Breakers::default();
        for resource in Resource::ALL {
            let first = breakers.try_acquire(resource, 2).unwrap();
            let second = breakers.try_acquire(resource, 2).unwrap();
            let overflow = breakers.try_acquire(resource, 2).unwrap_err();
            assert_eq!(overflow, Overflow { resource, limit: 2 });
            assert!(breakers.try_acquire(resource, 1).is_err(), "the limit shrank");
            breakers.release(first);
            assert_eq!(breakers.taken(resource), 1);
            assert!(breakers.try_acquire(resource, 1).is_err());
            breakers.release(second);
            assert_eq!(breakers.taken(resource), 0);
        }
    }

    #[test]
    fn a_limit_of_zero_gives_nothing_and_the_greatest_is_no_limit() {
        let breakers = Breakers::default();
        assert!(breakers.try_acquire(Resource::Requests, 0).is_err());
        let token = breakers.try_acquire(Resource::Requests, u32::MAX).unwrap();
        breakers.release(token);
    }

    #[test]
    fn threads_together_do_not_exceed_the_limit() {
        let breakers = Breakers::default();
        let peak = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Ok(token) = breakers.try_acquire(Resource::Connections, 3) {
                            peak.fetch_max(
                                breakers.taken(Resource::Connections),
                                Ordering::Relaxed,
                            );
                            breakers.release(token);
                        }
                    }
                });
            }
        });
        assert!(peak.load(Ordering::Relaxed) <= 3);
        assert_eq!(breakers.taken(Resource::Connections), 0);
    }
}
