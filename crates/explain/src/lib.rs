//! Says what happens to a request, and why: every phase, every object that was considered, the line that decided.
//! Layer 5, and pure like the layers below: no clock, socket, file, environment or log.
//!
//! [`World`] holds objects as a mesh would. [`World::explain`] follows one request through them: the client's proxy
//! (accept, detect, identify, authorize, route, pick, connect, forward), then the proxy of every workload that it may
//! reach. Nothing is decided here. Objects are translated by `translate`; resources are evaluated as `proto` encoded and
//! decoded them, compiled by `route`, `authz` and `balance` as the proxy compiles them. What the proxy draws at random is
//! told with its shares, and what only a running mesh knows (a clock, an answer of somebody else) is named in
//! [`Answer::depends_on`].

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod answer;
mod assume;
mod branch;
mod caller;
mod choice;
mod combine;
mod direct;
mod egress;
mod gateway;
mod head;
mod json;
mod outbound;
mod query;
mod server;
mod story;
mod target;
mod text;
mod tokens;
mod world;

pub use answer::{
    Alternative, Answer, Considered, DestinationView, Handled, HeaderChanges, MirrorView,
    PhaseView, RequestView, RetriesView, ServerView, TransportView, Verdict,
};
pub use head::Head;
pub use query::{Query, QueryError};
pub use tokens::{HeadEdit, TokenVerdict, Tokens};
pub use world::World;
