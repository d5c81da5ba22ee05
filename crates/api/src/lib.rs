//! User-facing objects, decoded with the position of every field. Layer 2.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

#[macro_use]
mod macros;

mod check;
pub mod codes;
mod decode;
pub mod istio;
pub mod kinds;
pub mod kubernetes;
mod mesh;
mod meta;
mod object;
mod read;
mod recognised;
mod scalar;
pub mod schema;
mod suggest;
mod text;
mod tree;
mod value;
mod yaml;

pub use decode::{Decode, Decoder, Findings, Manners};
pub use kinds::{Kind, Resource};
pub use meta::{Meta, OwnerReference};
pub use object::{Object, Written};
pub use read::{Loaded, Reader};
pub use tree::{At, Children, Tree, Value};
pub use value::{
    Base64, Duration, Free, IntOrText, LabelSelector, LabelSelectorOperator,
    LabelSelectorRequirement, Quantity,
};
pub use yaml::Limits;
