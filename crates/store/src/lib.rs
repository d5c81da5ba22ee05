//! The embedded store of a standalone mesh: objects with the texts they were read from, history, small documents
//! and secrets, in one file. Layer 4.
//!
//! Objects are kept as the whole texts of the files they came from, each with its path, and a list of which object is
//! taken from which text. So an object read again after a restart has the same origins, line and column included,
//! and the store needs to know nothing of YAML. Every change is one transaction: after a crash it is there or it is
//! not. The file is readable by its owner only, since it holds the authority's keys.
//!
//! The store decides nothing: what is valid, and which object a text holds, its caller knows.

#![forbid(unsafe_code)]

mod error;
mod record;
mod store;

pub use error::StoreError;
pub use record::{
    ChangeKind, Contents, ObjectChange, ObjectKey, ObjectRecord, Revision, SourceId, SourceText,
};
pub use store::{Change, Put, Seal, Store};
