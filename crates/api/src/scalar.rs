//! What an unquoted scalar means: the rules of the YAML library behind kubectl, not those of YAML 1.2.
//!
//! kubectl reads YAML with the second major version of Go's library: `yes`, `on` and `y` are booleans, `0644` is
//! octal, and `1_000` is a number. Texts that look like dates stay texts.

use crate::tree::Value;

/// The meaning of an unquoted, untagged scalar.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => number(text).unwrap_or(Value::Text),
        _ => Value::Text,
    }
}

/// The number that a text spells, if it spells one.
pub(crate) fn number(text: &str) -> Option<Value> {
    let digits = text.replace('_', "");
    if let Some(whole) = whole(&digits) {
        return Some(whole);
    }
    is_float(&digits).then(|| digits.parse().ok().map(Value::Float)).flatten()
}

/// Decimal, `0x`, `0o`, `0b` and the old octal form with a leading zero.
fn whole(text: &str) -> Option<Value> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = magnitude.to_ascii_lowercase();
    let (digits, radix) = if let Some(rest) = lower.strip_prefix("0x") {
        (rest, 16)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (rest, 8)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (rest, 2)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (lower.get(1..).unwrap_or_default(), 8)
    } else {
        (&*lower, 10)
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let Ok(number) = i128::from_str_radix(digits, radix) else {
        return text.parse().ok().map(Value::Float);
    };
    let number = if negative { -number } else { number };
    #[expect(clippy::cast_precision_loss, reason = "what does not fit becomes a float, as in JSON")]
    Some(i64::try_from(number).map_or(Value::Float(number as f64), Value::Int))
}

/// Sign, digits with an optional fraction, optional exponent; `inf` and `nan` are not spelled so.
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(split) => (text.get(..split), text.get(split + 1..)),
        None => (Some(text), None),
    };
    let Some(mantissa) = mantissa else { return false };
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let points = mantissa.bytes().filter(|b| *b == b'.').count();
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    digits > 0 && points <= 1 && digits + points == mantissa.len() && exponent_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_scalars_as_kubectl_does() {
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("y", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("oN", Value::Text),
            ("0644", Value::Int(420)),
            ("0o17", Value::Int(15)),
            ("0x1F", Value::Int(31)),
            ("-0b11", Value::Int(-3)),
            ("1_000", Value::Int(1000)),
            ("089", Value::Float(89.0)),
            ("1.10", Value::Float(1.1)),
            ("1e3", Value::Float(1000.0)),
            (".5", Value::Float(0.5)),
            ("1.", Value::Float(1.0)),
            ("-", Value::Text),
            ("+", Value::Text),
            (".", Value::Text),
            ("1e", Value::Text),
            ("10.0.0.1", Value::Text),
            ("2001-01-01", Value::Text),
            ("12:30:45", Value::Text),
            ("1h", Value::Text),
            ("0x", Value::Text),
            ("-inf", Value::Text),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("9223372036854775808", Value::Float(9_223_372_036_854_775_808.0)),
            ("99999999999999999999999999999999999999999", Value::Float(1e41)),
        ] {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
    }
}
