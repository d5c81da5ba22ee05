//! A strict protobuf codec, straight between bytes and the types of the IR.
//!
//! It writes and reads protobuf's wire format, so that any protobuf tool can look inside, but reads it more
//! strictly than protobuf asks for, since what is not understood may be a restriction: an unknown field, an unknown
//! variant, a repeated singular field and a value out of range are errors, and the whole resource is refused.
//! Compatibility between versions comes from the other side: what has its default value is not written, so an
//! older reader refuses only resources that really use something new.
//!
//! `message!`, `choice!` and `codes!` turn a table of field numbers into both directions. They take every type
//! apart by name, so that a field added to the IR does not compile until it has a number here.

mod error;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use error::{Malformed, Problem};

/// The largest resource in bytes.
pub const RESOURCE_BYTES_MAX: usize = 16 << 20;
/// The longest list in items.
pub const LIST_ITEMS_MAX: usize = 1 << 17;
/// The longest text in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

const WIRE_VARINT: u64 = 0;
const WIRE_BYTES: u64 = 2;

/// A value that can stand in a field.
pub(crate) trait Item: Sized {
    /// Appends field number and value, the default too.
    fn write(&self, tag: u32, out: &mut Vec<u8>);
    /// Reads one value.
    fn read(raw: Raw<'_>) -> Result<Self, Malformed>;
    /// What a field that is not there means; none: it must be there.
    fn absent() -> Option<Self> {
        None
    }
    /// Whether the value is what [`Item::absent`] means, so that it need not be written.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A field of a message: one value, or an optional one, or many.
pub(crate) trait Field: Sized {
    /// Appends the field to a message.
    fn put(&self, tag: u32, out: &mut Vec<u8>);
    /// Makes the field from the values found under its number, in order.
    fn take(found: &[Raw<'_>]) -> Result<Self, Malformed>;
}

impl<T: Item> Field for T {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if !self.is_absent() {
            self.write(tag, out);
        }
    }

    fn take(found: &[Raw<'_>]) -> Result<Self, Malformed> {
        match found {
            [] => T::absent().ok_or_else(|| Problem::Missing.into()),
            [raw] => T::read(*raw),
            _ => Err(Problem::Repeated.into()),
        }
    }
}

impl<T: Item> Field for Option<T> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.write(tag, out);
        }
    }

    fn take(found: &[Raw<'_>]) -> Result<Self, Malformed> {
        match found {
            [] => Ok(None),
            [raw] => T::read(*raw).map(Some),
            _ => Err(Problem::Repeated.into()),
        }
    }
}

impl<T: Item> Field for Vec<T> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        for value in self {
            value.write(tag, out);
        }
    }

    fn take(found: &[Raw<'_>]) -> Result<Self, Malformed> {
        if found.len() > LIST_ITEMS_MAX {
            return Err(Problem::TooMany(found.len()).into());
        }
        let read = |(index, raw): (usize, &Raw<'_>)| T::read(*raw).map_err(|e| e.at_index(index));
        found.iter().enumerate().map(read).collect()
    }
}

/// A map is a list of pairs with ascending keys.
impl Field for Arc<BTreeMap<Arc<str>, Arc<str>>> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        for (key, value) in self.iter() {
            (key.clone(), value.clone()).write(tag, out);
        }
    }

    fn take(found: &[Raw<'_>]) -> Result<Self, Malformed> {
        let pairs = Vec::<(Arc<str>, Arc<str>)>::take(found)?;
        if pairs.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(Problem::Invalid("keys of a map must ascend".into()).into());
        }
        Ok(Arc::new(pairs.into_iter().collect()))
    }
}

/// A value as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Raw<'a> {
    /// A number.
    Number(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Raw<'a> {
    /// The number.
    pub(crate) fn number(self) -> Result<u64, Malformed> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) => Err(Problem::WireType.into()),
        }
    }

    /// The bytes.
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(Problem::WireType.into()),
        }
    }

    /// The fields of the message.
    pub(crate) fn fields(self) -> Result<Fields<'a>, Malformed> {
        Fields::parse(self.bytes()?)
    }
}

/// The fields of a message that have not been taken yet.
pub(crate) struct Fields<'a> {
    /// By number, stable within a number.
    fields: Vec<(u32, Raw<'a>)>,
    taken: usize,
}

impl<'a> Fields<'a> {
    fn parse(mut input: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Vec::new();
        while !input.is_empty() {
            let key = read_varint(&mut input)?;
            let tag = u32::try_from(key >> 3).map_err(|_| Problem::WireType)?;
            let raw = match key & 7 {
                WIRE_VARINT => Raw::Number(read_varint(&mut input)?),
                WIRE_BYTES => {
                    let length = read_varint(&mut input)?;
                    let length = usize::try_from(length).map_err(|_| Problem::Truncated)?;
                    let (bytes, rest) = input.split_at_checked(length).ok_or(Problem::Truncated)?;
                    input = rest;
                    Raw::Bytes(bytes)
                }
                _ => return Err(Problem::WireType.into()),
            };
            fields.push((tag, raw));
        }
        fields.sort_by_key(|(tag, _)| *tag);
        Ok(Self { fields, taken: 0 })
    }

    /// Reads the field of that number; `name` is for error messages.
    pub(crate) fn take<F: Field>(&mut self, tag: u32, name: &str) -> Result<F, Malformed> {
        let from = self.fields.partition_point(|(other, _)| *other < tag);
        let to = self.fields.partition_point(|(other, _)| *other <= tag);
        self.taken += to - from;
        let found: Vec<Raw<'_>> = self.fields[from..to].iter().map(|(_, raw)| *raw).collect();
        F::take(&found).map_err(|e| e.in_field(name))
    }

    /// Refuses whatever nobody asked for.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.taken == self.fields.len() {
            return Ok(());
        }
        Err(Problem::UnknownField.into())
    }
}

/// Appends a message field whose content `body` writes.
pub(crate) fn write_nested(tag: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    body(&mut inner);
    write_bytes(tag, &inner, out);
}

/// Appends a number field.
pub(crate) fn write_number(tag: u32, number: u64, out: &mut Vec<u8>) {
    write_varint(u64::from(tag) << 3 | WIRE_VARINT, out);
    write_varint(number, out);
}

/// Appends a bytes field.
pub(crate) fn write_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(u64::from(tag) << 3 | WIRE_BYTES, out);
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn read_varint(input: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first().ok_or(Problem::Truncated)?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Problem::OutOfRange.into())
}

/// Field numbers of a struct. With `absent default` its default is not written.
macro_rules! message {
    ($type:ty $(, absent $absent:ident)? { $($tag:literal $field:ident),* $(,)? }) => {
        impl $crate::wire::Item for $type {
            fn write(&self, tag: u32, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $crate::wire::write_nested(tag, out, |out| {
                    $( $crate::wire::Field::put($field, $tag, out); )*
                });
            }

            fn read(raw: $crate::wire::Raw<'_>) -> Result<Self, $crate::wire::Malformed> {
                let mut fields = raw.fields()?;
                let value = Self { $( $field: fields.take($tag, stringify!($field))? ),* };
                fields.finish()?;
                Ok(value)
            }

            $(
                fn absent() -> Option<Self> {
                    Some(<Self as Default>::$absent())
                }

                fn is_absent(&self) -> bool {
                    *self == <Self as Default>::$absent()
                }
            )?
        }

        #[cfg(test)]
        impl $crate::sample::Sample for $type {
            fn sample(source: &mut $crate::sample::Source) -> Self {
                Self { $( $field: $crate::sample::Sample::sample(source) ),* }
            }
        }
    };
}

/// Numbers of the variants of an enum with content: a message with the variant under 1 and its content above. The variant
/// named after `absent` is not written.
macro_rules! choice {
    ($type:ty $(, absent $absent:ident)? { $(
        $code:literal $variant:ident
        $( ( $($value_tag:literal $value:ident),+ ) )?
        $( { $($field_tag:literal $field:ident),+ } )?
    ),* $(,)? }) => {
        impl $crate::wire::Item for $type {
            fn write(&self, tag: u32, out: &mut Vec<u8>) {
                $crate::wire::write_nested(tag, out, |out| match self {
                    $( Self::$variant $( ( $($value),+ ) )? $( { $($field),+ } )? => {
                        $crate::wire::write_number(1, $code, out);
                        $( $( $crate::wire::Field::put($value, $value_tag, out); )+ )?
                        $( $( $crate::wire::Field::put($field, $field_tag, out); )+ )?
                    } )*
                });
            }

            fn read(raw: $crate::wire::Raw<'_>) -> Result<Self, $crate::wire::Malformed> {
                let mut fields = raw.fields()?;
                let value = match fields.take::<u64>(1, "variant")? {
                    $( $code => Self::$variant
                        $( ( $( fields.take($value_tag, stringify!($variant))? ),+ ) )?
                        $( { $( $field: fields.take($field_tag, stringify!($field))? ),+ } )?,
                    )*
                    other => return Err($crate::wire::Problem::UnknownVariant(other).into()),
                };
                fields.finish()?;
                Ok(value)
            }

            $(
                fn absent() -> Option<Self> {
                    Some(Self::$absent)
                }

                fn is_absent(&self) -> bool {
                    matches!(self, Self::$absent)
                }
            )?
        }

        #[cfg(test)]
        impl $crate::sample::Sample for $type {
            fn sample(source: &mut $crate::sample::Source) -> Self {
                let makers: &[fn(&mut $crate::sample::Source) -> Self] = &[ $( |_source| {
                    $( $( let $value = $crate::sample::Sample::sample(_source); )+ )?
                    $( $( let $field = $crate::sample::Sample::sample(_source); )+ )?
                    Self::$variant $( ( $($value),+ ) )? $( { $($field),+ } )?
                } ),* ];
                source.pick(makers)(source)
            }
        }
    };
}

/// Numbers of an enum without content. 0 is none of them, so that an absent one is an error
/// unless a variant is named after `absent`.
macro_rules! codes {
    ($type:ty $(, absent $absent:ident)? { $($code:literal $variant:ident),* $(,)? }) => {
        impl $crate::wire::Item for $type {
            fn write(&self, tag: u32, out: &mut Vec<u8>) {
                let code = match self { $( Self::$variant => $code, )* };
                $crate::wire::write_number(tag, code, out);
            }

            fn read(raw: $crate::wire::Raw<'_>) -> Result<Self, $crate::wire::Malformed> {
                match raw.number()? {
                    $( $code => Ok(Self::$variant), )*
                    other => Err($crate::wire::Problem::UnknownVariant(other).into()),
                }
            }

            $(
                fn absent() -> Option<Self> {
                    Some(Self::$absent)
                }

                fn is_absent(&self) -> bool {
                    matches!(self, Self::$absent)
                }
            )?
        }

        #[cfg(test)]
        impl $crate::sample::Sample for $type {
            fn sample(source: &mut $crate::sample::Source) -> Self {
                source.pick(&[ $( Self::$variant ),* ])
            }
        }
    };
}

pub(crate) use {choice, codes, message};
