//! The data plane: accept, detect, identify, authorize, route, pick, connect, forward, record. Layer 7.

#![forbid(unsafe_code)]

pub mod config;
mod dns;
