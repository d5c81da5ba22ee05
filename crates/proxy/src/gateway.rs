//! A proxy as a gateway: it takes connections on listeners of its own and sends them on as if they were its workload's.
//!
//! The phases after identification and authorisation are those of [`crate::outbound`]; here is what comes before: sockets
//! that come and go with the configuration, TLS, the server that takes a connection, and what a request tells about its
//! client.

mod certificate;
mod connection;
mod datagrams;
pub(crate) mod edge;
mod listener;
mod passthrough;
pub(crate) mod tls;

pub use listener::run;

pub(crate) use connection::serve as serve_connection;
pub(crate) use edge::{Edge, Entered};
