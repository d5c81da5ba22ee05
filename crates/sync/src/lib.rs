//! The config stream as state machines, both ends. Layer 3, pure.
//!
//! The rules are those of delta xDS: a client subscribes to names, the server sends what changed, each response is
//! acknowledged or refused by its nonce, and a client that comes back says what it holds, so that nothing is sent
//! twice. Nothing here opens a stream, knows a clock or encodes more than a message: callers carry messages and
//! pass seeds in.
//!
//! - [`Client`] is the proxy's end of a stream: subscriptions, versions, acknowledgements.
//! - [`Holdings`] is what the proxy has: a resource takes effect only when everything it refers to is there.
//! - [`ServerStream`] is the control plane's end of one stream: what was offered, accepted, refused.
//! - [`Backoff`] says how long to wait before the next attempt.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod backoff;
mod client;
mod holdings;
mod server;

pub use backoff::Backoff;
pub use client::{Client, Update};
pub use holdings::{Effect, Effects, Holdings, references};
pub use server::{Catalog, Handled, ProtocolError, Rejection, SUBSCRIPTIONS_MAX, ServerStream};
