//! Wire types of the config stream, of the certificate API and of the node API, and their conversion to and
//! from the IR. Layer 2, pure.
//!
//! The messages are written by hand with prost's derive, so that a plain checkout builds with cargo alone; each
//! field's number stands in its attribute and may never be used for anything else again. Messages of other
//! projects ([`discovery`], [`certificate`], [`external_authorization`]) hold the fields that heddle reads or writes, under the numbers of
//! those projects; fields left out are skipped when read, as protobuf asks for.
//!
//! | module | package on the wire | between |
//! |---|---|---|
//! | [`discovery`] | `envoy.service.discovery.v3` | control plane and proxy |
//! | [`certificate`] | `istio.v1.auth` | control plane and proxy |
//! | [`external_authorization`] | `envoy.service.auth.v3` | proxy and an authoriser of the user's |
//! | [`resource`] | `heddle.v1`, the IR's own types | control plane and proxy |
//! | [`node`] | `heddle.node.v1` | control plane and a node's supervisor |

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod certificate;
pub mod discovery;
pub mod external_authorization;
pub mod node;
pub mod rate_limit_service;
pub mod resource;

mod model;
#[cfg(test)]
mod sample;
pub mod wire;
pub mod workload_api;
