//! Requests of others' case files, explained.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod authz_cases;
mod cilium;
mod conformance_cases;
mod conformance_manifests;
mod conformance_world;
mod corpus;
mod gateway_api;
mod istio;
mod linkerd;
mod second_opinion;
mod shared;
mod stories;
