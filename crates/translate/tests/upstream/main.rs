//! Compares with what Istio's own tests and samples say. The data is optional.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod analyzers;
mod conformance;
mod everything;
mod linkerd;
mod samples;
mod shared;
mod validation;
