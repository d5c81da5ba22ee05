//! Kubernetes quantities: `100m`, `1.5`, `128Mi`, `1e3`.

use crate::codes;
use crate::decode::{Decode, Decoder, shortened};
use crate::schema::TypeSchema;
use crate::tree::{At, Value};

/// An amount of a resource, exact to a billionth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// Parses a decimal number with an optional suffix (`n u m k M G T P E`, `Ki Mi Gi Ti Pi Ei`) or exponent.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at_checked(end)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = whole.len() + fraction.len();
        if digits == 0 || digits > 30 || fraction.contains('.') {
            return None;
        }
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let (multiplier, ten) = suffix_of(suffix)?;
        let places = i32::try_from(fraction.len()).ok()?;
        let nanos = scale(digits.checked_mul(multiplier)?, ten + 9 - places)?;
        Some(Self { nanos: sign * nanos })
    }

    /// The amount in billionths.
    pub const fn as_nanos(self) -> i128 {
        self.nanos
    }

    /// The amount in thousandths, rounded up (CPU is counted so).
    pub fn as_millis(self) -> i128 {
        div_up(self.nanos, 1_000_000)
    }

    /// The amount in whole units, rounded up.
    pub fn as_units(self) -> i128 {
        div_up(self.nanos, 1_000_000_000)
    }
}

fn div_up(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by > 0)
}

/// A multiplier and a power of ten.
fn suffix_of(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (1, (-30..=30).contains(&exponent).then_some(exponent)?)
        }
    })
}

/// A number times a power of ten; what is below the last place is rounded up, as Kubernetes does.
fn scale(value: i128, ten: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(ten.unsigned_abs())?;
    if ten >= 0 { value.checked_mul(power) } else { Some(div_up(value, power)) }
}

impl Decode for Quantity {
    const SCHEMA: TypeSchema = TypeSchema::Quantity;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        if !matches!(decoder.tree().value(at), Value::Text | Value::Int(_) | Value::Float(_)) {
            decoder.wrong_type(at, "a quantity such as `100m` or `1Gi`", None);
            return None;
        }
        let text = decoder.tree().text(at).clone();
        let quantity = Self::parse(&text);
        if quantity.is_none() {
            let message = format!("`{}` is not a quantity", shortened(&text));
            let hint = "write a number with an optional suffix such as `m`, `k`, `Mi` or `Gi`";
            decoder.value_error(codes::BAD_FORMAT, at, message, Some(hint.to_owned()));
        }
        quantity
    }
}
