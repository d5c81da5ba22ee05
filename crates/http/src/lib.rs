//! Connections: transports, pooled buffers, HTTP/1 exchanges, opaque copies, upstream pools. Layer 5.
//!
//! This is the part of the forwarding path that moves bytes. It decides nothing: what a head becomes and where
//! it goes is said by the caller between two calls. The rules of the path:
//!
//! - one task per downstream connection; no second task, no channel and no lock per request;
//! - no buffer is held while a connection is idle: buffers belong to the thread and are lent;
//! - a message that fits a buffer is read by one system call and written by one;
//! - a read is tried only when the socket is known to have something (the readiness that a short read cleared).
//!
//! Everything here lives on one thread (`Rc`, `RefCell`, thread-local buffers), so futures are not `Send`: they
//! are run by a single-threaded runtime with a local task set.
//!
//! The main types are [`Transport`], [`Buffer`], [`copy::tunnel`] and [`pool::EndpointPool`].

#![forbid(unsafe_code)]

mod buffer;
pub mod copy;
pub mod deadline;
pub mod drain;
pub mod exchange;
pub mod pool;
pub mod progress;
mod tls;
mod transport;

pub use buffer::{BUFFER_BYTES, Buffer, LARGE_BUFFER_BYTES, Output};
pub use tls::{HandshakeError, TlsStream};
pub use transport::{Connection, Transport};
