//! The data plane: accept, detect, identify, authorize, route, pick, connect, forward, record. Layer 7.

#![forbid(unsafe_code)]

mod config;
mod configuration;
mod dns;
mod snapshot;
mod target;
