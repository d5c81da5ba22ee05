//! Durations as Go writes them: `1h30m`, `250ms`, `1.5s`.

use crate::codes;
use crate::decode::{Decode, Decoder, shortened};
use crate::schema::TypeSchema;
use crate::tree::{At, Value};

/// A signed duration in nanoseconds, at most about 292 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Duration {
    nanos: i64,
}

impl Duration {
    /// A duration of this many nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// A duration of this many milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self { nanos: millis.saturating_mul(1_000_000) }
    }

    /// The nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.nanos
    }

    /// The whole milliseconds, rounded up so that a short timeout does not become none; 0 for a negative duration.
    pub fn as_millis_ceil(self) -> u64 {
        u64::try_from(self.nanos).unwrap_or(0).div_ceil(1_000_000)
    }

    /// As the standard library's type; zero for a negative duration.
    pub fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }

    /// Parses one or more numbers with units (`ns us µs ms s m h`), with an optional sign; `0` needs no unit.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self::default());
        }
        if rest.is_empty() {
            return None;
        }
        let mut total = 0_i128;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at_checked(end)?;
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at_checked(end)?;
            let unit = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000_i128,
                _ => return None,
            };
            total = total.checked_add(scaled(number, unit)?)?;
            rest = tail;
        }
        i64::try_from(sign * total).ok().map(Self::from_nanos)
    }
}

/// A decimal number times a unit; digits below a nanosecond are cut.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole * unit;
    let mut place = unit;
    for digit in fraction.bytes().take(15) {
        place /= 10;
        nanos += i128::from(digit.wrapping_sub(b'0')) * place;
    }
    Some(nanos)
}

impl std::fmt::Display for Duration {
    /// The largest unit that needs no fraction: `90s`, `250ms`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (unit, name) in [
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
        ] {
            if self.nanos != 0 && self.nanos % unit == 0 {
                return write!(f, "{}{name}", self.nanos / unit);
            }
        }
        if self.nanos == 0 { f.write_str("0s") } else { write!(f, "{}ns", self.nanos) }
    }
}

impl Decode for Duration {
    const SCHEMA: TypeSchema = TypeSchema::Duration;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        let text = decoder.tree().text(at).clone();
        match decoder.tree().value(at) {
            Value::Text => {}
            Value::Int(_) | Value::Float(_) => {
                let hint = format!("add a unit: `{text}s` or `{text}ms`");
                decoder.wrong_type(at, "a duration", Some(hint));
                return None;
            }
            _ => {
                decoder.wrong_type(at, "a duration such as `10s`", None);
                return None;
            }
        }
        let duration = Self::parse(&text);
        if duration.is_none() {
            let spaced: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            let hint = if Self::parse(&spaced).is_some() {
                format!("write `{spaced}`")
            } else {
                "write a number with a unit of `ms`, `s`, `m` or `h`, for example `1m30s`"
                    .to_owned()
            };
            let message = format!("`{}` is not a duration", shortened(&text));
            decoder.value_error(codes::BAD_FORMAT, at, message, Some(hint));
        }
        duration
    }
}
