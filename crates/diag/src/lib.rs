//! Diagnostics: code, severity, origin, message, hint, and their renderers. Layer 0.
//!
//! Every item of the IR carries an [`Origin`], and every finding about a user's object is a value of this
//! crate, so that the proxy, `analyze`, admission and the dashboard tell the same thing about the same line.
//! This crate must not find anything itself and must not read files: excerpts are made from text passed in.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod origin;

pub use origin::{Dialect, Origin, Position, Source};
