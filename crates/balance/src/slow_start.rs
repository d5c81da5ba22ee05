//! Slow start: an endpoint that is new gets a share that grows over a window (Envoy's documentation, "Slow start mode").

use heddle_ir::destination::Warmup;

/// What a whole share is, in the unit that [`SlowStart::share`] answers in.
pub(crate) const WHOLE_SHARE: u32 = 1 << 16;

/// How shares grow.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SlowStart {
    window_ms: u64,
    minimum: f64,
    /// 1 / aggression.
    exponent: f64,
}

impl SlowStart {
    /// As the policy says; none when it lasts for no time. An aggression of 0 counts as a straight line.
    pub(crate) fn new(warmup: &Warmup) -> Option<Self> {
        let window_ms = u64::try_from(warmup.duration.as_millis()).unwrap_or(u64::MAX);
        let thousandths = match warmup.aggression_thousandths {
            0 => 1000,
            thousandths => thousandths,
        };
        (window_ms > 0).then(|| Self {
            window_ms,
            minimum: f64::from(warmup.share_percent_min.min(100)) / 100.0,
            exponent: 1000.0 / f64::from(thousandths),
        })
    }

    /// When an endpoint that began at this time has its whole share.
    pub(crate) fn ends_at_ms(&self, began_at_ms: u64) -> u64 {
        began_at_ms.saturating_add(self.window_ms)
    }

    /// The share of an endpoint that began at this time: at least 1, at most [`WHOLE_SHARE`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share within 0 and 1 of a number that fits; a window's precision does not matter"
    )]
    pub(crate) fn share(&self, began_at_ms: u64, now_ms: u64) -> u32 {
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
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn slow_start(millis: u64, share_percent_min: u8, aggression_thousandths: u32) -> SlowStart {
        let duration = Duration::from_millis(millis);
        SlowStart::new(&Warmup { duration, share_percent_min, aggression_thousandths }).unwrap()
    }

    fn percent(slow_start: &SlowStart, age_ms: u64) -> u32 {
        (slow_start.share(1000, 1000 + age_ms) * 100).div_ceil(WHOLE_SHARE)
    }

    #[test]
    fn shares_grow_in_a_straight_line_from_the_minimum() {
        let slow_start = slow_start(10_000, 10, 1000);
        let shares: Vec<u32> = [0, 500, 1000, 2000, 5000, 9900, 10_000, 20_000]
            .map(|age| percent(&slow_start, age))
            .to_vec();
        assert_eq!(shares, [10, 10, 10, 20, 50, 99, 100, 100]);
        assert_eq!(slow_start.share(5, 0), slow_start.share(0, 0), "a clock that seems to go back");
    }

    #[test]
    fn aggression_bends_the_curve() {
        let steep = slow_start(10_000, 0, 2000);
        assert_eq!(percent(&steep, 2500), 50);
        let flat = slow_start(10_000, 0, 500);
        assert_eq!(percent(&flat, 5000), 25);
    }

    #[test]
    fn strange_settings_do_no_harm() {
        let none = Warmup {
            duration: Duration::ZERO,
            share_percent_min: 10,
            aggression_thousandths: 1000,
        };
        assert_eq!(SlowStart::new(&none), None);
        for (minimum, aggression) in [(255, 0), (0, u32::MAX), (0, 1)] {
            let slow_start = slow_start(3, minimum, aggression);
            assert!((0..5).all(|age| (1..=WHOLE_SHARE).contains(&slow_start.share(0, age))));
        }
    }

    proptest! {
        #[test]
        fn no_share_shrinks_with_age(
            window in 1..100_000_u64, minimum in 0..=100_u8, aggression in 1..10_000_u32, age in 0..100_000_u64,
        ) {
            let slow_start = slow_start(window, minimum, aggression);
            prop_assert!(slow_start.share(0, age) <= slow_start.share(0, age + 1));
            prop_assert_eq!(slow_start.share(0, window), WHOLE_SHARE);
        }
    }
}
