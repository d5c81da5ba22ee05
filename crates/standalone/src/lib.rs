//! A mesh on one machine: workloads as processes in namespaces of their own.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod log;
pub mod probe;
mod timestamp;
