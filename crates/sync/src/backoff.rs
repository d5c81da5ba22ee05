//! Exponential back-off with full jitter.

use std::time::Duration;

/// How long to wait before the next attempt. The waits double up to a bound; each is drawn evenly from between half
/// and the whole of its step, so that many clients of a server that came back do not come all at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    step: Duration,
    first: Duration,
    longest: Duration,
    state: u64,
}

impl Backoff {
    /// Waits from `first` up to `longest`; `seed` makes the jitter.
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { step: first, first, longest, state: seed }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.longest);
        // SplitMix64; the top 16 bits as a share of half the step.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [.., low, high] = (z ^ (z >> 31)).to_le_bytes();
        let share = u32::from(u16::from_le_bytes([low, high]));
        step / 2 + (step / 2) * share / (1 << 16)
    }

    /// An attempt succeeded: the next wait is the first again.
    pub fn reset(&mut self) {
        self.step = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_bounds_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 1);
        for step_ms in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next_wait();
            let step = Duration::from_millis(step_ms);
            assert!(wait >= step / 2 && wait <= step, "{wait:?} for {step:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }

    #[test]
    fn other_seeds_wait_otherwise() {
        let wait =
            |seed| Backoff::new(Duration::from_secs(1), Duration::from_secs(9), seed).next_wait();
        assert_ne!(wait(1), wait(2));
        assert_eq!(wait(1), wait(1));
    }
}
