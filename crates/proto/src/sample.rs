//! Random values of the IR for tests. The field tables of [`crate::model`] make the samples of structs and enums;
//! here are the leaves. Everything follows from a seed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use heddle_ident::{
    Cidr, ClusterName, Host, HostPattern, NetworkName, SpiffeId, TrustDomain, WorkloadId,
};
use heddle_ir::outbound::ScopeId;

/// A source of randomness (SplitMix64).
pub(crate) struct Source(pub(crate) u64);

impl Source {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }
}

/// Types that can be drawn.
pub(crate) trait Sample: Sized {
    fn sample(source: &mut Source) -> Self;
}

macro_rules! sample_numbers {
    ($($type:ty),*) => { $(
        impl Sample for $type {
            fn sample(source: &mut Source) -> Self {
                // Small numbers, powers of two and the ends.
                let bits = source.next() % 65;
                let number = if bits == 0 { 0 } else { u64::MAX >> (64 - bits) };
                #[expect(clippy::cast_possible_truncation, reason = "any value will do")]
                let number = number.wrapping_sub(source.next() % 3) as $type;
                number
            }
        }
    )* };
}

sample_numbers!(u8, u16, u32);

impl Sample for u64 {
    fn sample(source: &mut Source) -> Self {
        source.next() >> (source.next() % 64)
    }
}

impl Sample for usize {
    fn sample(source: &mut Source) -> Self {
        usize::try_from(u64::sample(source)).unwrap()
    }
}

impl Sample for i64 {
    fn sample(source: &mut Source) -> Self {
        u64::sample(source).cast_signed()
    }
}

impl Sample for bool {
    fn sample(source: &mut Source) -> Self {
        source.below(2) == 1
    }
}

impl Sample for Arc<str> {
    fn sample(source: &mut Source) -> Self {
        let texts =
            ["", "a", "/", "%2F", "*", "mesh", "reviews", "Grüße", "a/b%25/c", "\0", "x y\n"];
        let text = format!("{}{}", source.pick(&texts), source.pick(&texts));
        text.into()
    }
}

impl Sample for Arc<[u8]> {
    fn sample(source: &mut Source) -> Self {
        let length = source.below(4) * source.below(100);
        (0..length).map(|_| source.next().to_le_bytes()[0]).collect()
    }
}

impl<T: Sample> Sample for Arc<T> {
    fn sample(source: &mut Source) -> Self {
        Self::new(T::sample(source))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(source: &mut Source) -> Self {
        let length = source.pick(&[0, 0, 1, 1, 2, 3]);
        (0..length).map(|_| T::sample(source)).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source) -> Self {
        bool::sample(source).then(|| T::sample(source))
    }
}

impl<A: Sample, B: Sample> Sample for (A, B) {
    fn sample(source: &mut Source) -> Self {
        (A::sample(source), B::sample(source))
    }
}

impl Sample for BTreeMap<Arc<str>, Arc<str>> {
    fn sample(source: &mut Source) -> Self {
        Vec::sample(source).into_iter().collect()
    }
}

impl Sample for Duration {
    fn sample(source: &mut Source) -> Self {
        let nanos = source.pick(&[0, 1, 999_999_999, 25_000_000]);
        Self::new(u64::sample(source), nanos)
    }
}

impl Sample for IpAddr {
    fn sample(source: &mut Source) -> Self {
        let texts = ["10.0.0.1", "0.0.0.0", "255.255.255.255", "::", "fd00::1", "::ffff:10.0.0.1"];
        source.pick(&texts).parse().unwrap()
    }
}

impl Sample for SocketAddr {
    fn sample(source: &mut Source) -> Self {
        let port = u16::sample(source);
        match IpAddr::sample(source) {
            IpAddr::V4(v4) => (v4, port).into(),
            IpAddr::V6(v6) => {
                SocketAddrV6::new(v6, port, u32::sample(source), u32::sample(source)).into()
            }
        }
    }
}

impl Sample for Cidr {
    fn sample(source: &mut Source) -> Self {
        let texts = ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "::/0", "fd00::/8", "fd00::1/128"];
        Self::parse(source.pick(&texts)).unwrap()
    }
}

impl Sample for Host {
    fn sample(source: &mut Source) -> Self {
        let texts = ["a", "reviews.default.svc.cluster.local", "10.0.0.1", "fd00::1", "a_b-c.d"];
        Self::parse(source.pick(&texts)).unwrap()
    }
}

impl Sample for HostPattern {
    fn sample(source: &mut Source) -> Self {
        match source.below(3) {
            0 => Self::Any,
            1 => Self::Exact(Host::sample(source)),
            _ => Self::Suffix(Host::sample(source)),
        }
    }
}

impl Sample for SpiffeId {
    fn sample(source: &mut Source) -> Self {
        let texts =
            ["spiffe://td", "spiffe://cluster.local/ns/default/sa/reviews", "spiffe://a/b.c"];
        Self::parse(source.pick(&texts)).unwrap()
    }
}

impl Sample for TrustDomain {
    fn sample(source: &mut Source) -> Self {
        Self::parse(source.pick(&["td", "cluster.local"])).unwrap()
    }
}

macro_rules! sample_names {
    ($($type:ident),*) => { $(
        impl Sample for $type {
            fn sample(source: &mut Source) -> Self {
                Self::new(Arc::<str>::sample(source))
            }
        }
    )* };
}

sample_names!(ClusterName, NetworkName, WorkloadId);

impl Sample for ScopeId {
    fn sample(source: &mut Source) -> Self {
        Self(Sample::sample(source))
    }
}
