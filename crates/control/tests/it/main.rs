//! The control plane in process, over its real sockets.

#![expect(clippy::unwrap_used, reason = "tests may")]

mod certificates;
mod harness;
mod lifecycle;
mod machines;
mod objects;
mod streams;
mod trust;
