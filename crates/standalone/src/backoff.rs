//! How long to wait before something that ended is started again.
//!
//! Pure: time is passed in. Kubernetes waits 10 s to 5 min, which is meant for clusters; here somebody sits
//! before the screen, so it is 1 s to 30 s.

use std::time::Duration;

/// The bounds of a back-off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// What ran this long was good: the next pause is the first again.
    pub good_after: Duration,
}

impl Limits {
    /// For the containers of a workload.
    pub const CONTAINER: Self = Self {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(30),
        good_after: Duration::from_mins(1),
    };
    /// For heddle's own processes, whose absence stops traffic.
    pub const OWN: Self = Self {
        first: Duration::from_millis(50),
        longest: Duration::from_secs(5),
        good_after: Duration::from_secs(10),
    };
}

/// The pauses of one thing that is started again and again: each twice as long as the one before.
#[derive(Clone, Debug)]
pub struct Backoff {
    limits: Limits,
    next: Duration,
}

impl Backoff {
    /// Nothing has ended yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, next: limits.first }
    }

    /// It ended after running this long: the pause before the next start.
    pub fn after_run(&mut self, ran_for: Duration) -> Duration {
        if ran_for >= self.limits.good_after {
            self.next = self.limits.first;
        }
        let pause = self.next;
        self.next = (pause * 2).min(self.limits.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_a_good_run_resets_them() {
        let mut backoff = Backoff::new(Limits::CONTAINER);
        let quick = Duration::from_millis(10);
        let pauses: Vec<_> = (0..7).map(|_| backoff.after_run(quick).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.after_run(Duration::from_secs(59)).as_secs(), 30);
        assert_eq!(backoff.after_run(Duration::from_mins(1)).as_secs(), 1);
        assert_eq!(backoff.after_run(quick).as_secs(), 2);
    }
}
