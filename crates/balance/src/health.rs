//! What health checks of endpoints add up to, and when each is due. Who makes them is elsewhere.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use heddle_ir::endpoint::HealthCheck;

use crate::hash::scale;

/// The checks of one endpoint so far. An endpoint counts as healthy until its checks have failed often enough, so that one
/// that has just come does not wait for its first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckedHealth {
    healthy: bool,
    /// Results in a row that speak against `healthy`.
    against: u32,
}

impl Default for CheckedHealth {
    fn default() -> Self {
        Self { healthy: true, against: 0 }
    }
}

impl CheckedHealth {
    /// Whether it is healthy.
    pub fn is_healthy(self) -> bool {
        self.healthy
    }

    /// Takes the result of a check in. True when the health has changed.
    pub fn record(&mut self, policy: &HealthCheck, success: bool) -> bool {
        if success == self.healthy {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let threshold = if success { policy.healthy_threshold } else { policy.unhealthy_threshold };
        let changes = self.against >= threshold.max(1);
        if changes {
            *self = Self { healthy: success, against: 0 };
        }
        changes
    }
}

/// Endpoints that are checked at a time, at most; further ones are not, and count as healthy.
const CHECKED_MAX: usize = 4096;
/// Checks under way at a time.
const RUNNING_MAX: usize = 64;

/// The checks of all endpoints. Times are those of any clock that does not go back.
#[derive(Debug)]
pub struct Checks<K> {
    entries: HashMap<K, Entry>,
    running: usize,
}

#[derive(Debug)]
struct Entry {
    policy: Arc<HealthCheck>,
    health: CheckedHealth,
    /// None: a check is under way.
    due: Option<Duration>,
}

impl<K> Default for Checks<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), running: 0 }
    }
}

impl<K: Clone + Eq + Hash> Checks<K> {
    /// From now on these are checked and no others. What is known of those that stay stays; a policy that changed goes on
    /// from there. `random` spreads the first checks.
    pub fn set(
        &mut self,
        wanted: impl IntoIterator<Item = (K, Arc<HealthCheck>)>,
        now: Duration,
        mut random: impl FnMut() -> u64,
    ) {
        let mut before = std::mem::take(&mut self.entries);
        for (key, policy) in wanted {
            if self.entries.contains_key(&key) {
                continue;
            }
            let entry = match before.remove(&key) {
                Some(known) => Entry { policy, ..known },
                None if self.entries.len() >= CHECKED_MAX => continue,
                None => Entry {
                    due: Some(now.saturating_add(pause(&policy, true, random()))),
                    health: CheckedHealth::default(),
                    policy,
                },
            };
            self.entries.insert(key, entry);
        }
    }

    /// Whether it is one of those that are checked.
    pub fn knows(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether an endpoint is well; one that is not checked is.
    pub fn is_healthy(&self, key: &K) -> bool {
        self.entries.get(key).is_none_or(|entry| entry.health.is_healthy())
    }

    /// When the next check is due; none while nothing waits, or as many are under way as may be.
    pub fn next_due(&self) -> Option<Duration> {
        let due = || self.entries.values().filter_map(|entry| entry.due).min();
        (self.running < RUNNING_MAX).then(due).flatten()
    }

    /// Begins the checks that are due.
    pub fn begin(&mut self, now: Duration) -> Vec<(K, Arc<HealthCheck>)> {
        let mut begun = Vec::new();
        for (key, entry) in &mut self.entries {
            if self.running < RUNNING_MAX && entry.due.is_some_and(|due| due <= now) {
                entry.due = None;
                self.running += 1;
                begun.push((key.clone(), entry.policy.clone()));
            }
        }
        begun
    }

    /// Takes the result of a check that was begun. The health when it has changed.
    pub fn record(&mut self, key: &K, success: bool, now: Duration) -> Option<bool> {
        self.running = self.running.saturating_sub(1);
        let entry = self.entries.get_mut(key)?;
        entry.due = Some(now.saturating_add(pause(&entry.policy, false, 0)));
        let changes = entry.health.record(&entry.policy, success);
        changes.then(|| entry.health.is_healthy())
    }
}

/// How long to wait before the next check: the interval, of which the first is drawn so that endpoints are not all asked at
/// once.
pub fn pause(policy: &HealthCheck, is_first: bool, random: u64) -> Duration {
    let interval = policy.interval.max(Duration::from_millis(1));
    if is_first {
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        return Duration::from_nanos(scale(random, nanos));
    }
    interval
}

/// Whether an answer to an HTTP check says that all is well.
pub fn is_well(status: u16) -> bool {
    (200..400).contains(&status)
}

#[cfg(test)]
mod tests {
    use heddle_diag::Origin;
    use heddle_ir::endpoint::HealthProbe;

    use super::*;

    fn policy(healthy_threshold: u32, unhealthy_threshold: u32) -> HealthCheck {
        HealthCheck {
            origin: Origin::built_in("check"),
            probe: HealthProbe::Tcp,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            healthy_threshold,
            unhealthy_threshold,
            port: None,
        }
    }

    fn story(policy: &HealthCheck, results: &str) -> String {
        let mut health = CheckedHealth::default();
        let step = |result: char| {
            let before = health.is_healthy();
            let changed = health.record(policy, result == '+');
            assert_eq!(changed, before != health.is_healthy());
            if health.is_healthy() { 'h' } else { 'u' }
        };
        results.chars().map(step).collect()
    }

    #[test]
    fn results_in_a_row_change_the_health() {
        assert_eq!(story(&policy(2, 3), "--+---+-++-"), "hhhhhuuuuhh");
        assert_eq!(story(&policy(1, 1), "-+-+"), "uhuh");
        assert_eq!(story(&policy(0, 0), "-+-+"), "uhuh", "not even one would be nonsense");
    }

    /// When each of some endpoints is checked, and what its health is then.
    #[test]
    fn checks_come_one_interval_after_the_other_and_never_twice_at_a_time() {
        let policy = Arc::new(policy(1, 2));
        let seconds = Duration::from_secs;
        let mut checks = Checks::default();
        // Of 10 seconds the draws are 0 and 5.
        let mut draws = [0, u64::MAX / 2 + 1].into_iter();
        let both = [("a", policy.clone()), ("b", policy.clone())];
        checks.set(both.clone(), seconds(100), || draws.next().unwrap());
        assert_eq!(checks.next_due(), Some(seconds(100)));
        let names = |begun: Vec<(&'static str, Arc<HealthCheck>)>| {
            begun.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(checks.begin(seconds(101))), ["a"]);
        assert!(checks.begin(seconds(103)).is_empty(), "it is under way");
        assert_eq!(checks.next_due(), Some(seconds(105)));
        assert_eq!(checks.record(&"a", false, seconds(103)), None);
        assert_eq!(names(checks.begin(seconds(105))), ["b"]);
        assert_eq!(checks.record(&"b", true, seconds(105)), None);
        assert_eq!(names(checks.begin(seconds(113))), ["a"]);
        assert_eq!(checks.record(&"a", false, seconds(113)), Some(false));
        assert_eq!([checks.is_healthy(&"a"), checks.is_healthy(&"b")], [false, true]);
        // The same again changes nothing; what is gone is well, and comes back as new.
        checks.set(both, seconds(114), || 0);
        assert_eq!([checks.is_healthy(&"a"), checks.is_healthy(&"b")], [false, true]);
        checks.set([], seconds(115), || 0);
        assert_eq!((checks.is_healthy(&"a"), checks.next_due()), (true, None));
        // A result that comes too late counts for nothing.
        assert_eq!(checks.record(&"a", false, seconds(116)), None);
    }

    #[test]
    fn checks_have_bounds() {
        let policy = Arc::new(policy(1, 1));
        let mut checks = Checks::default();
        let many = (0..CHECKED_MAX + 10).map(|number| (number, policy.clone()));
        checks.set(many, Duration::ZERO, || 0);
        assert_eq!(checks.entries.len(), CHECKED_MAX);
        let begun = checks.begin(Duration::ZERO);
        assert_eq!((begun.len(), checks.next_due()), (RUNNING_MAX, None));
        assert_eq!(checks.record(&begun[0].0, false, Duration::ZERO), Some(false));
        assert_eq!(checks.begin(Duration::ZERO).len(), 1);
    }

    #[test]
    fn checks_begin_spread_over_the_interval() {
        let policy = policy(1, 1);
        assert_eq!(pause(&policy, true, 0), Duration::ZERO);
        assert_eq!(pause(&policy, true, u64::MAX / 2).as_secs(), 4);
        assert_eq!(pause(&policy, false, 7), Duration::from_secs(10));
    }

    #[test]
    fn redirections_are_well_and_errors_are_not() {
        let well: Vec<u16> = [101, 199, 200, 204, 302, 399, 400, 404, 503]
            .into_iter()
            .filter(|s| is_well(*s))
            .collect();
        assert_eq!(well, [200, 204, 302, 399]);
    }
}
