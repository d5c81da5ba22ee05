//! User-facing objects into the IR. Layer 3, pure.
//!
//! [`Translator`] holds objects (Kubernetes' and Istio's) and answers for each resource that a proxy may hold, for each
//! object what there is to say about it, and for each field what became of it. Everything is a keyed derivation with
//! recorded inputs (`engine`), so a change costs what depends on it, and an endpoint change never touches routes.
//! [`workloads`] makes pods and addresses out of Deployments and their kin where no cluster does.
//!
//! A dialect is a module of this crate (`istio`) and nothing else. This crate enforces nothing and sends nothing.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod cilium;
mod client;
pub mod codes;
mod crossing;
mod destinations;
mod endpoint;
mod engine;
mod export;
mod gateway;
pub mod gateway_api;
mod inbound;
mod index;
mod istio;
mod kubernetes;
mod linkerd;
mod mesh;
mod names;
mod network;
mod object;
mod options;
mod outbound;
pub mod outcomes;
mod pod;
mod protocol;
mod proxy;
mod rate_limits;
mod replacement;
mod report;
mod scope;
mod secret;
mod service;
mod smi;
mod status;
mod tables;
mod translator;
mod workload;
pub mod workloads;

pub use mesh::{MeshAuthority, TrustSettings};
pub use object::{ObjectKey, duplicates};
pub use options::{Enrolment, LinkerdOptions, Options, Profile};
pub use replacement::losses;
pub use report::Report;
pub use status::{Condition, Status};
pub use translator::{Change, Changed, Translator};
