//! A mesh on one machine: workloads as processes in namespaces of their own.

#![forbid(unsafe_code)]

pub mod backoff;
mod host;
pub mod log;
pub mod probe;
pub mod state;
pub mod status;
mod supervisor;
mod timestamp;
