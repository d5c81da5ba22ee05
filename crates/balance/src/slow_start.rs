//! Slow start: an endpoint that is new gets a share that grows over a window (Envoy's documentation, "Slow start mode").

use std::time::Duration;

/// What a whole share is, in the unit that [`SlowStart::share`] answers in.
pub const WHOLE_SHARE: u32 = 1 << 16;

/// How shares grow.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SlowStart {
    window_ms: u64,
    minimum: f64,
    /// 1 / aggression.
    exponent: f64,
}

impl SlowStart {
    /// Shares grow from `minimum_percent` to the whole within `window`; none when there is no window. `aggression` bends the
    /// curve: 1 is a straight line, more begins steeply; what is not above 0 counts as 1.
    pub fn new(window: Duration, minimum_percent: f64, aggression: f64) -> Option<Self> {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let aggression = if aggression.is_finite() && aggression > 0.0 { aggression } else { 1.0 };
        let minimum = if minimum_percent.is_finite() { minimum_percent.clamp(0.0, 100.0) } else { 0.0 };
        (window_ms > 0).then(|| Self { window_ms, minimum: minimum / 100.0, exponent: 1.0 / aggression })
    }

    /// When an endpoint that began at this time has its whole share.
    pub fn ends_at_ms(&self, began_at_ms: u64) -> u64 {
        began_at_ms.saturating_add(self.window_ms)
    }

    /// The share of an endpoint that began at this time: at least 1, at most [`WHOLE_SHARE`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share within 0 and 1 of a number that fits; a window's precision does not matter"
    )]
    pub fn share(&self, began_at_ms: u64, now_ms: u64) -> u32 {
        let age_ms = now_ms.saturating_sub(began_at_ms);
        if age_ms >= self.window_ms {
            return WHOLE_SHARE;
        }
        // Envoy lets time begin at a millisecond, so that nobody has nothing.
        let grown = age_ms.max(1) as f64 / self.window_ms as f64;
        let share = grown.powf(self.exponent).clamp(self.minimum, 1.0);
        ((share * f64::from(WHOLE_SHARE)) as u32).clamp(1, WHOLE_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percent(slow_start: &SlowStart, age_ms: u64) -> u32 {
        (slow_start.share(1000, 1000 + age_ms) * 100).div_ceil(WHOLE_SHARE)
    }

    #[test]
    fn shares_grow_in_a_straight_line_from_the_minimum() {
        let slow_start = SlowStart::new(Duration::from_secs(10), 10.0, 1.0).unwrap();
        let shares: Vec<u32> =
            [0, 500, 1000, 2000, 5000, 9900, 10_000, 20_000].map(|age| percent(&slow_start, age)).to_vec();
        assert_eq!(shares, [10, 10, 10, 20, 50, 99, 100, 100]);
        assert_eq!(slow_start.share(5, 0), slow_start.share(0, 0), "a clock that seems to go back");
    }

    #[test]
    fn aggression_bends_the_curve() {
        let steep = SlowStart::new(Duration::from_secs(10), 0.0, 2.0).unwrap();
        assert_eq!(percent(&steep, 2500), 50);
        let flat = SlowStart::new(Duration::from_secs(10), 0.0, 0.5).unwrap();
        assert_eq!(percent(&flat, 5000), 25);
    }

    #[test]
    fn strange_settings_do_no_harm() {
        assert_eq!(SlowStart::new(Duration::ZERO, 10.0, 1.0), None);
        for (minimum, aggression) in [(-1.0, 0.0), (f64::NAN, f64::NAN), (500.0, -3.0), (0.0, 1e300)] {
            let slow_start = SlowStart::new(Duration::from_millis(3), minimum, aggression).unwrap();
            assert!((0..5).all(|age| (1..=WHOLE_SHARE).contains(&slow_start.share(0, age))));
        }
    }

    proptest! {
        #[test]
        fn no_share_shrinks_with_age(
            window in 1..100_000_u64, minimum in 0.0..100.0_f64, aggression in 0.01..10.0_f64, age in 0..100_000_u64,
        ) {
            let slow_start = SlowStart::new(Duration::from_millis(window), minimum, aggression).unwrap();
            prop_assert!(slow_start.share(0, age) <= slow_start.share(0, age + 1));
            prop_assert_eq!(slow_start.share(0, window), WHOLE_SHARE);
        }
    }
}
