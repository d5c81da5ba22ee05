//! Why a resource could not be read, and where in it.

use std::fmt;

/// A resource that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// The field, for example `http.rules[3].matches[0].path`; empty: the whole resource.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The value parses, but is not one the field may have; says why.
    Invalid(String),
    /// A field that must be there is not.
    Missing,
    /// A number does not fit its field.
    OutOfRange,
    /// A singular field is there more than once.
    Repeated,
    /// The resource, a list or a text is longer than allowed; its size.
    TooMany(usize),
    /// The message ends inside a field.
    Truncated,
    /// The message has a field this version does not know.
    UnknownField,
    /// A choice has a variant this version does not know; its number.
    UnknownVariant(u64),
    /// The field has another wire type than its kind of value.
    WireType,
}

impl Malformed {
    /// An empty name stands for no field.
    pub(crate) fn in_field(mut self, name: &str) -> Self {
        if name.is_empty() {
            return self;
        }
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{name}{separator}{}", self.path);
        self
    }

    pub(crate) fn at_index(mut self, index: usize) -> Self {
        let separator = if self.path.is_empty() { "" } else { "." };
        self.path = format!("[{index}]{separator}{}", self.path);
        self
    }
}

impl From<Problem> for Malformed {
    fn from(problem: Problem) -> Self {
        Self { path: String::new(), problem }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        match &self.problem {
            Problem::Invalid(why) => f.write_str(why),
            Problem::Missing => f.write_str("required field is missing"),
            Problem::OutOfRange => f.write_str("number out of range"),
            Problem::Repeated => f.write_str("singular field is repeated"),
            Problem::TooMany(size) => write!(f, "size {size} is over the limit"),
            Problem::Truncated => f.write_str("ends inside a field"),
            Problem::UnknownField => f.write_str("has a field that this version does not know"),
            Problem::UnknownVariant(number) => {
                write!(f, "variant {number} is not known to this version")
            }
            Problem::WireType => f.write_str("field has the wrong wire type"),
        }
    }
}

impl std::error::Error for Malformed {}
