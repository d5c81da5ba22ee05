//! Compares with what Istio's own tests and samples say. The data is optional.

mod samples;
mod shared;
mod validation;
