//! The data plane: accept, detect, identify, authorize, route, pick, connect, forward, record. Layer 7.

#![forbid(unsafe_code)]

mod accept;
mod access_log;
mod admin;
mod admission;
mod ask;
mod built_in;
mod changes;
mod config;
pub mod configuration;
mod detect;
mod dns;
mod egress;
mod events;
mod find;
pub mod fixed;
mod forward;
pub mod gateway;
pub mod health;
mod http1;
mod http2;
pub mod inbound;
mod kept;
mod memory;
pub mod names;
mod names_file;
mod origination;
pub mod outbound;
mod packets;
pub mod rate_limits;
mod record;
pub mod run;
#[cfg(test)]
mod sizes;
pub mod snapshot;
pub mod tokens;
mod upstream;
pub mod worker;
