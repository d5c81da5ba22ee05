//! Draws by weight and by share from random numbers that are passed in.

/// Salts that make the draws of one decision independent of each other.
pub(crate) const DELAY: u64 = 0x9E37_79B9_7F4A_7C15;
pub(crate) const ABORT: u64 = 0xD1B5_4A32_D192_ED03;
const MIRROR: u64 = 0xA076_1D64_78BD_642F;

/// The salt of the copy with this number.
pub(crate) fn mirror(number: u64) -> u64 {
    MIRROR.wrapping_mul(2 * number + 1)
}

/// The backends of a rule that have weight, with the running sum of weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weights {
    /// (index of the backend, sum of the weights up to and with it), growing.
    sums: Box<[(u32, u64)]>,
}

impl Weights {
    pub(crate) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let mut sum = 0_u64;
        let with_index = weights.zip(0_u32..).filter(|(weight, _)| *weight > 0);
        let sums = with_index.map(|(weight, index)| {
            sum += u64::from(weight);
            (index, sum)
        });
        Self { sums: sums.collect() }
    }

    /// The backend that `random`, evenly spread over all of `u64`, falls on; none when nothing has weight.
    ///
    /// Of all random numbers exactly weight / sum fall on a backend, but for a rounding of 2⁻⁶⁴ · sum.
    pub(crate) fn pick(&self, random: u64) -> Option<usize> {
        let (_, total) = *self.sums.last()?;
        let point = scale(random, total);
        let (index, _) = self.sums.iter().find(|(_, sum)| point < *sum)?;
        Some(*index as usize)
    }
}

/// Whether a draw of `share_ppm` parts per million comes out; `salt` keeps draws from one number independent.
pub(crate) fn comes_out(random: u64, salt: u64, share_ppm: u32) -> bool {
    scale(mix(random ^ salt), 1_000_000) < u64::from(share_ppm)
}

/// Maps `random` evenly to `0..range`.
fn scale(random: u64, range: u64) -> u64 {
    let product = u128::from(random) * u128::from(range);
    u64::try_from(product >> 64).unwrap_or(u64::MAX)
}

/// The finaliser of SplitMix64: every bit of the input changes every bit of the output.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` numbers spread evenly over `u64`.
    fn evenly(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |i| (u64::MAX / count) * i)
    }

    #[test]
    fn shares_are_exact_over_a_million_draws() {
        for weights in [vec![90, 10], vec![1, 1, 1], vec![0, 5, 0, 95], vec![1, 999_999], vec![7]] {
            let drawn = Weights::new(weights.iter().copied());
            let mut counts = vec![0_u64; weights.len()];
            for random in evenly(1_000_000) {
                counts[drawn.pick(random).unwrap()] += 1;
            }
            let total: u64 = weights.iter().copied().map(u64::from).sum();
            for (weight, count) in weights.iter().zip(&counts) {
                let exact = u64::from(*weight) * 1_000_000 / total;
                assert!(count.abs_diff(exact) <= 1, "{weights:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn a_weight_of_zero_is_never_picked_not_even_at_the_ends() {
        let drawn = Weights::new([0, 3, 0, 2, 0].into_iter());
        assert_eq!(drawn.pick(0), Some(1));
        assert_eq!(drawn.pick(u64::MAX), Some(3));
        assert_eq!(Weights::new([0, 0].into_iter()).pick(1), None);
        assert_eq!(Weights::new(std::iter::empty()).pick(1), None);
        let largest = Weights::new([u32::MAX; 3].into_iter());
        assert_eq!(largest.pick(u64::MAX), Some(2));
    }

    #[test]
    fn shares_of_faults_hold_and_are_independent_of_each_other_and_of_the_backend() {
        let drawn = Weights::new([1, 1].into_iter());
        let (mut delays, mut aborts, mut both, mut first) = (0_u32, 0_u32, 0_u32, 0_u32);
        for random in evenly(1_000_000) {
            let delay = comes_out(random, DELAY, 200_000);
            let abort = comes_out(random, ABORT, 500_000);
            delays += u32::from(delay);
            aborts += u32::from(abort);
            both += u32::from(delay && abort);
            first += u32::from(delay && drawn.pick(random) == Some(0));
        }
        assert!(delays.abs_diff(200_000) < 2_500, "{delays}");
        assert!(aborts.abs_diff(500_000) < 2_500, "{aborts}");
        assert!(both.abs_diff(100_000) < 2_500, "{both}");
        assert!(first.abs_diff(100_000) < 2_500, "{first}");
    }

    #[test]
    fn a_share_of_nothing_and_of_everything_is_certain() {
        for random in evenly(1000) {
            assert!(!comes_out(random, DELAY, 0));
            assert!(comes_out(random, DELAY, 1_000_000));
        }
    }
}
