//! What health checks of an endpoint add up to. Who makes them is elsewhere.

use std::time::Duration;

use heddle_ir::destination::HealthCheck;

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
    use heddle_ir::destination::HealthProbe;

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
