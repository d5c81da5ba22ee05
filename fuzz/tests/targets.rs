//! Every target with its seeds and mutations of them, drawn from a fixed seed. `HEDDLE_TEST_FULL=1` draws many more.

use std::panic::catch_unwind;

use heddle_fuzz::{TARGETS, Target};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\0\r\n \t:;,/.%\\*?#\"{}[]&-0159afAF\x7f\x80\xff";
        match self.below(3) {
            0 => self.next().to_le_bytes()[0],
            _ => TELLING[self.below(TELLING.len())],
        }
    }
}

/// Changes a few places: a byte, an insertion, a cut, a piece of another seed.
fn mutate(random: &mut Random, target: &Target) -> Vec<u8> {
    let pick = |random: &mut Random| target.seeds[random.below(target.seeds.len())];
    let mut bytes = pick(random).to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(5) {
            0 if at < bytes.len() => bytes[at] = random.byte(),
            1 if at < bytes.len() => {
                let end = at + random.below((bytes.len() - at).min(12)) + 1;
                bytes.drain(at..end.min(bytes.len()));
            }
            2 => {
                let piece = pick(random);
                let from = random.below(piece.len());
                let to = from + random.below(piece.len() - from) + 1;
                bytes.splice(at..at, piece[from..to.min(piece.len())].iter().copied());
            }
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => bytes.insert(at, random.byte()),
        }
    }
    bytes
}

#[test]
fn no_target_breaks_a_promise() {
    let rounds = if std::env::var_os("HEDDLE_TEST_FULL").is_some() { 300_000 } else { 20_000 };
    for target in TARGETS {
        let mut random = Random(7);
        let seeds = target.seeds.iter().map(|seed| seed.to_vec());
        let drawn = (0..rounds).map(|_| mutate(&mut random, target));
        for input in seeds.chain(drawn.collect::<Vec<_>>()) {
            let broken = catch_unwind(|| (target.run)(&input)).is_err();
            assert!(!broken, "{}: {:?}", target.name, input.escape_ascii().to_string());
        }
    }
}
