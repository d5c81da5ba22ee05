//! Peak EWMA: what an endpoint's latency is taken to be (Linkerd's load balancer; tower's `PeakEwma`). A higher latency
//! counts at once, a lower one as the older estimate fades.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What an endpoint without any observation is taken to need (Linkerd's default).
pub(crate) const INITIAL_LATENCY: Duration = Duration::from_millis(30);
/// How fast an estimate fades: to 1/e of itself within this (Linkerd's default).
pub(crate) const DECAY: Duration = Duration::from_secs(10);

/// The estimate of one endpoint: microseconds as the bits of an `f32`, and since when, in milliseconds modulo 2³². In one
/// word, so that it is read and written without a lock.
#[derive(Debug)]
pub(crate) struct Latency(AtomicU64);

impl Latency {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(pack(micros(INITIAL_LATENCY), now_ms)))
    }

    /// Takes an observation in.
    pub(crate) fn observe(&self, latency: Duration, decay: Duration, now_ms: u64) {
        let observed = micros(latency);
        let update = |word| Some(pack(blend(word, observed, decay, now_ms), now_ms));
        // Always given a word, it cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// The estimate in microseconds, faded to now.
    pub(crate) fn estimate(&self, decay: Duration, now_ms: u64) -> f32 {
        blend(self.0.load(Ordering::Relaxed), 0.0, decay, now_ms)
    }
}

/// The estimate after an observation: the peak, or a mean in which the past weighs less the longer ago it is.
#[expect(clippy::cast_precision_loss, reason = "a few digits of an age suffice")]
fn blend(word: u64, observed: f32, decay: Duration, now_ms: u64) -> f32 {
    let (estimate, since) = unpack(word);
    if observed >= estimate {
        return observed;
    }
    let elapsed_ms = low(now_ms).wrapping_sub(since);
    // Workers read the clock apart from each other; an age from the future is none.
    let elapsed_ms = if elapsed_ms > u32::MAX / 2 { 0 } else { elapsed_ms };
    let decay_ms = decay.as_millis().max(1) as f32;
    let past = (-(elapsed_ms as f32) / decay_ms).exp();
    estimate * past + observed * (1.0 - past)
}

fn pack(estimate: f32, now_ms: u64) -> u64 {
    u64::from(estimate.to_bits()) << 32 | u64::from(low(now_ms))
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits(low(word >> 32)), low(word))
}

fn low(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "six digits of a latency suffice")]
fn micros(latency: Duration) -> f32 {
    latency.as_micros() as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(observations: &[(u64, u64)]) -> Latency {
        let latency = Latency::new(0);
        for (now_ms, millis) in observations {
            latency.observe(Duration::from_millis(*millis), DECAY, *now_ms);
        }
        latency
    }

    fn millis(latency: &Latency, now_ms: u64) -> f32 {
        latency.estimate(DECAY, now_ms) / 1000.0
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let latency = after(&[(0, 200)]);
        assert!((millis(&latency, 0) - 200.0).abs() < 0.1);
        let faded = 200.0 / std::f32::consts::E;
        assert!((millis(&latency, 10_000) - faded).abs() < 0.1);
        // One quick answer right after it changes little; ten seconds later it changes most.
        let soon = after(&[(0, 200), (10, 1)]);
        assert!(millis(&soon, 10) > 199.0);
        let late = after(&[(0, 200), (10_000, 1)]);
        assert!((millis(&late, 10_000) - (faded + 0.63)).abs() < 0.5);
    }

    #[test]
    fn an_endpoint_begins_with_what_nobody_has_seen() {
        assert!((millis(&Latency::new(5), 5) - 30.0).abs() < 0.1);
    }

    #[test]
    fn clocks_that_wrap_or_differ_do_no_harm() {
        let latency = Latency::new(u64::from(u32::MAX));
        latency.observe(Duration::from_millis(100), DECAY, u64::from(u32::MAX) + 10_000);
        assert!((millis(&latency, u64::from(u32::MAX) + 10_000) - 100.0).abs() < 0.1);
        assert!((millis(&latency, u64::from(u32::MAX) + 9_000) - 100.0).abs() < 0.1);
    }

    proptest! {
        #[test]
        fn an_estimate_is_between_nothing_and_the_peak(
            observations in proptest::collection::vec((0..50_000_u64, 0..10_000_u64), 0..20),
        ) {
            let peak = observations.iter().map(|(_, millis)| *millis).max().unwrap_or_default().max(30);
            let mut observations = observations;
            observations.sort_unstable();
            let estimate = millis(&after(&observations), 50_000);
            prop_assert!((0.0..=f32::from(u16::try_from(peak).unwrap()) + 0.1).contains(&estimate));
        }
    }
}
