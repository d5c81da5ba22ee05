//! The sample application (Bookinfo's topology) and its load generator. Layer 5.
//!
//! The services really call each other over HTTP and know nothing of the mesh: plain names, plain HTTP, no
//! special headers but the ones that real applications pass on. Each answer names the service, version and
//! replica that gave it, so that a split can be counted from outside. Nothing here is used by the mesh itself.

#![forbid(unsafe_code)]

mod client;
mod load;
mod service;

pub use client::{Connection, Endpoint, RequestError};
pub use load::{LoadOptions, LoadSummary, run as run_load};
pub use service::{Kind, ServeError, ServeOptions, serve};
