//! Numbers, texts, names, addresses and durations.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use heddle_ident::{
    Cidr, ClusterName, Host, HostPattern, NetworkName, SpiffeId, TrustDomain, WorkloadId,
};
use heddle_ir::outbound::ScopeId;

use super::{
    Field, Item, Malformed, Problem, Raw, TEXT_BYTES_MAX, write_bytes, write_nested, write_number,
};

macro_rules! numbers {
    ($($type:ty),*) => { $(
        impl Item for $type {
            fn write(&self, tag: u32, out: &mut Vec<u8>) {
                // No platform has a `usize` beyond 64 bits.
                write_number(tag, u64::try_from(*self).unwrap_or(u64::MAX), out);
            }

            fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
                Self::try_from(raw.number()?).map_err(|_| Problem::OutOfRange.into())
            }

            fn absent() -> Option<Self> {
                Some(0)
            }

            fn is_absent(&self) -> bool {
                *self == 0
            }
        }
    )* };
}

numbers!(u8, u16, u32, u64, usize);

/// As protobuf's `int64`: two's complement.
impl Item for i64 {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        write_number(tag, self.cast_unsigned(), out);
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        Ok(raw.number()?.cast_signed())
    }

    fn absent() -> Option<Self> {
        Some(0)
    }

    fn is_absent(&self) -> bool {
        *self == 0
    }
}

impl Item for bool {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        write_number(tag, u64::from(*self), out);
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        match raw.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Problem::OutOfRange.into()),
        }
    }

    fn absent() -> Option<Self> {
        Some(false)
    }

    fn is_absent(&self) -> bool {
        !self
    }
}

fn read_text(raw: Raw<'_>) -> Result<&str, Malformed> {
    let bytes = raw.bytes()?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Problem::TooMany(bytes.len()).into());
    }
    std::str::from_utf8(bytes).map_err(|_| Problem::Invalid("text is not UTF-8".into()).into())
}

impl Item for Arc<str> {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        write_bytes(tag, self.as_bytes(), out);
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        read_text(raw).map(Self::from)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Item for Arc<[u8]> {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        write_bytes(tag, self, out);
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        raw.bytes().map(Self::from)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// Sharing is not seen on the wire.
impl<T: Item> Item for Arc<T> {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        (**self).write(tag, out);
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        T::read(raw).map(Self::new)
    }
}

/// A pair is a message with the fields 1 and 2.
impl<A: Field, B: Field> Item for (A, B) {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        write_nested(tag, out, |out| {
            self.0.put(1, out);
            self.1.put(2, out);
        });
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        let mut fields = raw.fields()?;
        let pair = (fields.take(1, "0")?, fields.take(2, "1")?);
        fields.finish()?;
        Ok(pair)
    }
}

macro_rules! names {
    ($($type:ident),*) => { $(
        impl Item for $type {
            fn write(&self, tag: u32, out: &mut Vec<u8>) {
                write_bytes(tag, self.as_str().as_bytes(), out);
            }

            fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
                read_text(raw).map(Self::new)
            }

            fn absent() -> Option<Self> {
                Some(Self::new(""))
            }

            fn is_absent(&self) -> bool {
                self.as_str().is_empty()
            }
        }
    )* };
}

names!(ClusterName, NetworkName, WorkloadId);

impl Item for ScopeId {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        self.0.write(tag, out);
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        Item::read(raw).map(Self)
    }

    fn absent() -> Option<Self> {
        Some(Self(Arc::default()))
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names with a grammar. What is not in its printed form is refused, so that equal names have equal bytes.
macro_rules! grammar_names {
    ($($type:ident),*) => { $(
        impl Item for $type {
            fn write(&self, tag: u32, out: &mut Vec<u8>) {
                write_bytes(tag, self.to_string().as_bytes(), out);
            }

            fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
                let text = read_text(raw)?;
                let name = Self::parse(text).map_err(|e| Problem::Invalid(e.to_string()))?;
                if name.to_string() != text {
                    return Err(Problem::Invalid(format!("{text:?} should be {name}")).into());
                }
                Ok(name)
            }
        }
    )* };
}

grammar_names!(Host, HostPattern, SpiffeId, TrustDomain);

/// 4 or 16 bytes.
impl Item for IpAddr {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        match self {
            Self::V4(address) => write_bytes(tag, &address.octets(), out),
            Self::V6(address) => write_bytes(tag, &address.octets(), out),
        }
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        let bytes = raw.bytes()?;
        let v4 = || <[u8; 4]>::try_from(bytes).map(Self::from);
        let v6 = || <[u8; 16]>::try_from(bytes).map(Self::from);
        let invalid = |_| Problem::Invalid("an address has 4 or 16 bytes".into()).into();
        v4().or_else(|_| v6()).map_err(invalid)
    }
}

/// 1 address, 2 port, 3 flow information, 4 scope id (IPv6 only).
impl Item for SocketAddr {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        write_nested(tag, out, |out| {
            self.ip().put(1, out);
            self.port().put(2, out);
            if let Self::V6(v6) = self {
                v6.flowinfo().put(3, out);
                v6.scope_id().put(4, out);
            }
        });
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        let mut fields = raw.fields()?;
        let address: IpAddr = fields.take(1, "address")?;
        let port = fields.take(2, "port")?;
        let address = match address {
            IpAddr::V4(v4) => Self::from((v4, port)),
            IpAddr::V6(v6) => {
                let flow = fields.take(3, "flow")?;
                SocketAddrV6::new(v6, port, flow, fields.take(4, "scope")?).into()
            }
        };
        fields.finish()?;
        Ok(address)
    }
}

/// 1 network, 2 prefix length.
impl Item for Cidr {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        write_nested(tag, out, |out| {
            self.network().put(1, out);
            self.prefix_bits().put(2, out);
        });
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        let mut fields = raw.fields()?;
        let network = fields.take(1, "network")?;
        let range = Self::new(network, fields.take(2, "prefix")?)
            .filter(|range| range.network() == network)
            .ok_or_else(|| Problem::Invalid("not an address range".into()))?;
        fields.finish()?;
        Ok(range)
    }
}

/// 1 seconds, 2 nanoseconds, as `google.protobuf.Duration`.
impl Item for Duration {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        write_nested(tag, out, |out| {
            self.as_secs().put(1, out);
            self.subsec_nanos().put(2, out);
        });
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        let mut fields = raw.fields()?;
        let seconds = fields.take(1, "seconds")?;
        let nanos = fields.take(2, "nanos")?;
        if nanos >= 1_000_000_000 {
            return Err(Malformed::from(Problem::OutOfRange).in_field("nanos"));
        }
        fields.finish()?;
        Ok(Self::new(seconds, nanos))
    }

    // Zero is written (as an empty message): a duration that was left out must not become "at once".
}
