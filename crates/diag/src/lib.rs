//! Diagnostics: code, severity, origin, message, hint, and their renderers. Layer 0.
//!
//! Every item of the IR carries an [`Origin`], and every finding about a user's object is a [`Diagnostic`],
//! so that the proxy, `analyze`, admission and the dashboard tell the same thing about the same line.
//! This crate must not find anything itself and must not read files: excerpts are made from text passed in.
//!
//! Codes are declared with [`codes!`], in one file per area (`crates/<area>/src/codes.rs`), and nowhere else.
//! The hundreds say whose they are: 00 text of files, 01 objects and their fields, 02 and up what objects mean.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod chain;
mod code;
mod diagnostic;
mod json;
mod origin;
mod outcome;
mod render;

pub use chain::error_chain;
pub use code::Code;
pub use diagnostic::{Diagnostic, Diagnostics, Level, Related};
pub use json::{JsonWriter, findings_json};
pub use origin::{Dialect, Origin, Position, Source};
pub use outcome::{Outcome, OutcomeRecord};
pub use render::{render_place, render_text};
