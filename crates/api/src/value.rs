//! Values with a notation of their own: durations, quantities, numbers-or-names, selectors, free-form content.

mod duration;
mod quantity;
mod selector;

pub use duration::Duration;
pub use quantity::Quantity;
pub use selector::{LabelSelector, LabelSelectorOperator, LabelSelectorRequirement};

use crate::codes;
use crate::decode::{Decode, Decoder};
use crate::schema::TypeSchema;
use crate::tree::{At, Value};

/// A port or other value that is given by number or by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IntOrText {
    /// A number.
    Int(i64),
    /// A name, or a number in quotes.
    Text(String),
}

impl Default for IntOrText {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl Decode for IntOrText {
    const SCHEMA: TypeSchema = TypeSchema::IntOrText;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        match decoder.tree().value(at) {
            Value::Int(number) => Some(Self::Int(number)),
            Value::Text => Some(Self::Text(decoder.tree().text(at).to_string())),
            _ => {
                decoder.wrong_type(at, "a whole number or a text", None);
                None
            }
        }
    }
}

/// Content that heddle keeps without looking into it, such as the value of an Envoy patch. The tree of the object has
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Free(
    /// Where it is.
    pub At,
);

impl Decode for Free {
    const SCHEMA: TypeSchema = TypeSchema::Free;

    fn decode(_: &mut Decoder<'_>, at: At) -> Option<Self> {
        Some(Self(at))
    }
}

/// Bytes that are written in base64, as in the `data` of a Secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Base64(
    /// The decoded bytes.
    pub Vec<u8>,
);

impl std::fmt::Debug for Base64 {
    /// Prints the length only: the bytes are often a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl Base64 {
    /// Decodes standard base64 with padding; line breaks are skipped, as Go does.
    pub fn parse(text: &str) -> Option<Self> {
        let symbols: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
        let padding = symbols.iter().rev().take_while(|b| **b == b'=').count();
        let (data, _) = symbols.split_at(symbols.len() - padding);
        let complete = match data.len() % 4 {
            0 => padding == 0,
            2 => padding == 2,
            3 => padding == 1,
            _ => false,
        };
        if !complete {
            return None;
        }
        let mut bytes = Vec::with_capacity(data.len() / 4 * 3 + 2);
        for group in data.chunks(4) {
            let mut bits = 0_u32;
            for symbol in group {
                bits = bits << 6 | u32::from(sextet(*symbol)?);
            }
            bits <<= 6 * (4 - group.len());
            let [_, first, second, third] = bits.to_be_bytes();
            bytes.extend_from_slice([first, second, third].get(..group.len() - 1)?);
        }
        Some(Self(bytes))
    }
}

fn sextet(symbol: u8) -> Option<u8> {
    Some(match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

impl Decode for Base64 {
    const SCHEMA: TypeSchema = TypeSchema::Text;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        let text = String::decode(decoder, at)?;
        let bytes = Self::parse(&text);
        if bytes.is_none() {
            let hint = "plain text belongs under `stringData`".to_owned();
            decoder.value_error(codes::BAD_FORMAT, at, "the value is not base64", Some(hint));
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
