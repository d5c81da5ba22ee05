//! Generated policies, decided twice: by the product, and by evaluators that read the written objects anew, straight out of
//! what each project documents (API.md sections 3.3, 7 and 8), with no code of the product.
//!
//! `HEDDLE_OPINIONS` says how many sets of policies are tried of each kind, `HEDDLE_OPINIONS_SEED` where to begin.

mod cilium;
mod egress_network;
mod istio;
mod linkerd;
mod transport;

use serde_json::Value;

/// As many sets of policies as are tried by default.
const SETS: u64 = 150;

/// Numbers that are the same for the same seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(count).unwrap()).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// One to so many values, as a list.
    fn some(&mut self, values: &[&str], max: usize) -> Value {
        let count = 1 + self.below(max);
        (0..count).map(|_| Value::from(self.pick(values))).collect()
    }
}

/// Runs a trial for each set of policies; each says what is wrong.
fn try_all(trial: impl Fn(&mut Random) -> Vec<String>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("HEDDLE_OPINIONS_SEED").unwrap_or(1);
    let sets: u64 = number("HEDDLE_OPINIONS").unwrap_or(SETS);
    let mut different = Vec::new();
    for seed in first..first + sets {
        let found = trial(&mut Random(seed.wrapping_mul(0x1000_0000_01b3)));
        different.extend(found.into_iter().map(|line| format!("seed {seed}: {line}")));
        if different.len() > 5 {
            break;
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

/// Objects as a text that the product reads.
fn text_of(objects: &[Value]) -> String {
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    texts.join("\n---\n")
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether an address of IPv4 is in a range.
fn is_within(range: &str, address: &str) -> bool {
    let number = |text: &str| u32::from(text.parse::<std::net::Ipv4Addr>().unwrap());
    let (network, bits) = range.split_once('/').unwrap_or((range, "32"));
    let bits: u32 = bits.parse().unwrap();
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    number(network) & mask == number(address) & mask
}
