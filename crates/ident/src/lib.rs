//! Names: SPIFFE ids, hosts, workloads, addresses. Layer 0.
//!
//! Every name of a mesh is parsed once, here, and is a type of its own from then on, so that no later
//! code compares strings of different grammars. This crate parses, compares and prints. It must not
//! decide anything, resolve anything or touch a socket.
//!
//! The main types are [`SpiffeId`] (who a peer is), [`Host`] and [`HostPattern`] (what a request is
//! addressed to), [`ObjectName`] (a namespaced Kubernetes name) and [`Cidr`].

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod cidr;
mod host;
mod name;
mod spiffe;

pub use cidr::{Cidr, ParseCidrError};
pub use host::{Host, HostPattern, ParseHostError};
pub use name::{ClusterName, Locality, NetworkName, ObjectName, WorkloadId};
pub use spiffe::{ParseSpiffeIdError, SpiffeId, TrustDomain};
