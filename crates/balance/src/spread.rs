//! Spreading by weight: in turn, at random, and by the better of two.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hash::{mix, scale};

/// How many draws are tried before the rest is searched one by one. With half of the endpoints out, one pick in 256 is
/// searched for.
const DRAWS_MAX: u64 = 8;
/// 2⁶⁴ divided by the golden ratio: multiples of it, modulo 2⁶⁴, are spread as evenly as any sequence can be.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Draws one of `count` by weights that are asked for anew; none where nothing has weight. Two passes: for weights that
/// change with time.
pub(crate) fn draw_by(random: u64, count: usize, weight: impl Fn(usize) -> u64) -> Option<usize> {
    let total: u64 = (0..count).map(&weight).fold(0, u64::saturating_add);
    let mut point = scale(random, total);
    let mut last = None;
    for index in 0..count {
        let weight = weight(index);
        if weight == 0 {
            continue;
        }
        if point < weight {
            return Some(index);
        }
        point -= weight;
        last = Some(index);
    }
    last
}

/// Weights of endpoints, by index.
#[derive(Debug)]
pub(crate) struct Weights {
    /// Running sums; empty when all weights are equal.
    sums: Box<[u64]>,
    count: usize,
}

impl Weights {
    /// Weights of 0 count as 1.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let all_equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let mut sum = 0;
        let sums = weights.iter().map(|weight| {
            sum += u64::from((*weight).max(1));
            sum
        });
        let sums = if all_equal { Box::default() } else { sums.collect() };
        Self { sums, count: weights.len() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The index that `random` falls on, by weight.
    fn at(&self, random: u64) -> usize {
        match self.sums.last() {
            None => usize::try_from(scale(random, self.count as u64)).unwrap_or_default(),
            Some(total) => {
                let point = scale(random, *total);
                self.sums.partition_point(|sum| *sum <= point)
            }
        }
    }

    /// Draws by weight until `allowed` takes one; none when it takes none at all.
    pub(crate) fn draw(&self, random: u64, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let draws = (0..DRAWS_MAX).map(|attempt| match attempt {
            0 => self.at(random),
            attempt => self.at(mix(random.wrapping_add(attempt))),
        });
        if self.count == 0 {
            return None;
        }
        draws.into_iter().find(|index| allowed(*index)).or_else(|| self.search(random, allowed))
    }

    /// Draws twice and takes what `is_better` prefers, the first when neither is.
    pub(crate) fn better_of_two(
        &self,
        random: u64,
        allowed: impl Fn(usize) -> bool,
        is_better: impl Fn(usize, usize) -> bool,
    ) -> Option<usize> {
        let first = self.draw(random, &allowed)?;
        let second = self.draw(mix(random ^ GOLDEN), |index| index != first && allowed(index));
        Some(second.filter(|second| is_better(*second, first)).unwrap_or(first))
    }

    /// The next in turn that `allowed` takes. `turn` is shared by everyone who takes turns.
    pub(crate) fn next(&self, turn: &Turn, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        let mut position = 0;
        for _ in 0..DRAWS_MAX {
            position = turn.0.fetch_add(1, Ordering::Relaxed);
            let index = if self.sums.is_empty() {
                usize::try_from(position % self.count as u64).unwrap_or_default()
            } else {
                self.at(position.wrapping_mul(GOLDEN))
            };
            if allowed(index) {
                return Some(index);
            }
        }
        self.search(mix(position), allowed)
    }

    /// The number of the turn, spread evenly over `u64`, for who takes turns by weights of his own.
    pub(crate) fn next_point(turn: &Turn) -> u64 {
        turn.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN)
    }

    /// The first that `allowed` takes, from a random place on.
    fn search(&self, random: u64, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let start = usize::try_from(scale(random, self.count as u64)).unwrap_or_default();
        (start..self.count).chain(0..start).find(|index| allowed(*index))
    }
}

/// Whose turn it is.
#[derive(Clone, Debug)]
pub(crate) struct Turn(Arc<AtomicU64>);

impl Turn {
    /// `seed` makes proxies that start together not begin with the same endpoint.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed >> 1)))
    }
}
