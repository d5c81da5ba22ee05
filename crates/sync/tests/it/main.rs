//! Both ends of the stream together.

#![expect(clippy::unwrap_used, reason = "tests may")]

mod exchange;
mod simulation;
mod world;
