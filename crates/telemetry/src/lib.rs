//! Metrics registry, names of metrics, response flags and reasons, access-log lines, log set-up. Layer 5.
//!
//! What an operator sees is named here once. The forwarding path takes handles ([`metrics::Series`],
//! [`istio::RequestRecorder`]) when a route is made and only adds to atomics afterwards; lines go to a
//! [`Sink`], whose thread writes them and which drops and counts rather than wait.
//!
//! This crate must not decide anything, serve anything or read the environment: levels, formats and writers are
//! passed in, and whoever has a listener gives out [`metrics::Registry::encode`].

#![forbid(unsafe_code)]

pub mod access_log;
pub mod audit;
mod calendar;
mod flags;
pub mod istio;
pub mod log;
pub mod mesh;
pub mod metrics;
mod reason;
mod sink;

pub use calendar::rfc3339;
pub use flags::{ResponseFlag, ResponseFlags};
pub use reason::{Fault, Reason};
pub use sink::{Sink, SinkGuard, SinkSettings};
