//! gRPC stubs and transports between the control plane, proxies and supervisors. Layer 4.
//!
//! Who is at the other end is told once per connection, before HTTP/2 begins ([`Peer`]), and handed to every call.
//! Nothing here decides what a peer may do; `control` does. Messages are those of `proto`.
//!
//! - [`client`] makes a channel out of a connected socket, and calls.
//! - [`server`] accepts connections, within bounds, and hands calls to a [`server::Handler`].
//! - [`workload_api`] is SPIFFE's, for applications, and for a proxy whose identity comes from elsewhere.

#![forbid(unsafe_code)]

pub mod client;
pub mod peer;
pub mod server;
pub mod workload_api;

pub use peer::Peer;
pub use tonic::{Code, Status, Streaming};

/// The largest message in bytes, either way: a response holds about 1 MiB, or one resource.
pub const MESSAGE_BYTES_MAX: usize = heddle_proto::wire::RESOURCE_BYTES_MAX + (1 << 20);
