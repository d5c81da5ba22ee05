//! User-facing objects, decoded with the position of every field. Layer 2.
//!
//! [`Reader`] turns the bytes of a file (YAML or JSON) or of an API server into [`Resource`]s: an [`Object`] each, with
//! its [`Meta`] and its typed `spec`. Every mistake of a file is found in one run; an object with mistakes still has
//! everything that could be decoded, and knows its broken parts, so that `translate` can put their safe meaning in place.
//!
//! Every decoded mapping has its place as `at`. With it the object tells the path and position of any field:
//!
//! ```
//! use heddle_api::{Reader, Resource};
//!
//! let text = "apiVersion: networking.istio.io/v1
//! kind: VirtualService
//! metadata: {name: reviews}
//! spec:
//!   hosts: [reviews]
//!   http:
//!   - timeout: 3s
//!     retires: {attempts: 2}
//! ";
//! let loaded = Reader::default().read_file("vs.yaml", text.as_bytes());
//! let Some(Resource::VirtualService(service)) = loaded.resources.first() else { unreachable!() };
//! let rule = &service.spec.http[0];
//! assert_eq!(
//!     service.origin_of(rule.at, "timeout").to_string(),
//!     "VirtualService default/reviews spec.http[0].timeout (vs.yaml:7:5)",
//! );
//! assert!(service.is_broken(rule.at), "`retires` is not a field");
//! assert_eq!(loaded.diagnostics.iter().next().unwrap().hint.as_deref(), Some("did you mean `retries`?"));
//! ```
//!
//! The stages, each a module: `text` (bytes to documents), `yaml` (documents to a positioned [`Tree`]), `decode` (trees
//! to types, by the tables of [`istio`], [`kubernetes`], [`linkerd`] and [`smi`]), `read` (objects of any kind, by the registry [`kinds`]).
//! What fields mean, what refers to what, and what contradicts what is not known here.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

#[macro_use]
mod macros;

mod check;
pub mod cilium;
pub mod codes;
mod decode;
mod fragment;
pub mod gateway_api;
pub mod istio;
pub mod kinds;
pub mod kubernetes;
pub mod linkerd;
mod mesh;
mod meta;
mod object;
pub mod rate_limits;
mod read;
mod recognised;
mod scalar;
pub mod schema;
pub mod smi;
mod suggest;
mod text;
mod tree;
mod value;
mod yaml;

pub use decode::{Decode, Decoder, Findings, Manners};
pub use kinds::{Kind, Resource};
pub use mesh::{Nested, nested_document};
pub use meta::{Meta, OwnerReference};
pub use object::{Object, Written};
pub use read::{Loaded, Reader};
pub use tree::{At, Children, Tree, Value};
pub use value::{
    Base64, Duration, Free, IntOrText, LabelSelector, LabelSelectorOperator,
    LabelSelectorRequirement, Quantity,
};
pub use yaml::Limits;
