//! Decoding of what every table is made of: texts, numbers, booleans, lists, maps.

use std::collections::BTreeMap;

use super::{Decode, Decoder, shortened};
use crate::codes;
use crate::schema::TypeSchema;
use crate::tree::{At, Value};

impl<T: Decode> Decode for Option<T> {
    const SCHEMA: TypeSchema = T::SCHEMA;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        T::decode(decoder, at).map(Some)
    }
}

impl<T: Decode> Decode for Box<T> {
    const SCHEMA: TypeSchema = T::SCHEMA;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        T::decode(decoder, at).map(Self::new)
    }
}

impl<T: Decode + Default> Decode for Vec<T> {
    const SCHEMA: TypeSchema = TypeSchema::List(&T::SCHEMA);

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        if decoder.tree.value(at) != Value::List {
            let hint = (decoder.tree.value(at) != Value::Null)
                .then(|| "put `- ` before it to make it the one item of a list".to_owned());
            decoder.wrong_type(at, "a list", hint);
            return None;
        }
        let tree = decoder.tree;
        Some(tree.children(at).map(|child| T::decode(decoder, child).unwrap_or_default()).collect())
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    const SCHEMA: TypeSchema = TypeSchema::Map(&T::SCHEMA);

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        if decoder.tree.value(at) != Value::Map {
            decoder.wrong_type(at, "a mapping", None);
            return None;
        }
        let tree = decoder.tree;
        let mut map = Self::new();
        for child in tree.children(at) {
            if let (Some(key), Some(value)) = (tree.key(child), T::decode(decoder, child)) {
                map.insert(key.to_string(), value);
            }
        }
        Some(map)
    }
}

impl Decode for String {
    const SCHEMA: TypeSchema = TypeSchema::Text;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        let spelled = decoder.tree.text(at);
        let hint = match decoder.tree.value(at) {
            Value::Text => return Some(spelled.to_string()),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                Some(format!("quote it: \"{}\"", shortened(spelled)))
            }
            _ => None,
        };
        decoder.wrong_type(at, "a text", hint);
        None
    }
}

impl Decode for bool {
    const SCHEMA: TypeSchema = TypeSchema::Bool;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        if let Value::Bool(value) = decoder.tree.value(at) {
            return Some(value);
        }
        let quoted = matches!(&**decoder.tree.text(at), "true" | "false");
        let hint = quoted.then(|| "remove the quotes".to_owned());
        decoder.wrong_type(at, "`true` or `false`", hint);
        None
    }
}

impl Decode for f64 {
    const SCHEMA: TypeSchema = TypeSchema::Number;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        match decoder.tree.value(at) {
            #[expect(clippy::cast_precision_loss, reason = "JSON numbers have no more precision")]
            Value::Int(value) => Some(value as Self),
            Value::Float(value) if value.is_finite() => Some(value),
            _ => {
                let hint = unquote_hint(decoder, at);
                decoder.wrong_type(at, "a number", hint);
                None
            }
        }
    }
}

fn unquote_hint(decoder: &Decoder<'_>, at: At) -> Option<String> {
    let number = crate::scalar::number(decoder.tree.text(at));
    (decoder.tree.value(at) == Value::Text && number.is_some())
        .then(|| "remove the quotes".to_owned())
}

/// A whole number at a place, if there is one; a float without fraction is one, as in JSON.
fn whole(decoder: &mut Decoder<'_>, at: At) -> Option<i64> {
    match decoder.tree.value(at) {
        Value::Int(value) => Some(value),
        #[expect(clippy::cast_possible_truncation, reason = "within 2^53 nothing is cut")]
        Value::Float(value) if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 => {
            Some(value as i64)
        }
        _ => {
            let hint = unquote_hint(decoder, at);
            decoder.wrong_type(at, "a whole number", hint);
            None
        }
    }
}

macro_rules! decode_integers {
    ($($type:ty: $min:literal, $max:literal;)+) => {$(
        impl Decode for $type {
            const SCHEMA: TypeSchema = TypeSchema::Integer($min, $max);

            fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
                let number = whole(decoder, at)?;
                let value = Self::try_from(number).ok();
                // The rules of the field have been checked before and have said so already.
                if value.is_none() && !decoder.findings.broken.contains(&at) {
                    let (least, most): (i64, i64) = ($min, $max);
                    let message =
                        format!("{number} is out of range, allowed are {least} to {most}");
                    decoder.value_error(codes::OUT_OF_RANGE, at, message, None);
                }
                value
            }
        }
    )+};
}

decode_integers! {
    u16: 0, 65_535;
    i32: -2_147_483_648, 2_147_483_647;
    u32: 0, 4_294_967_295;
    i64: -9_223_372_036_854_775_808, 9_223_372_036_854_775_807;
}
