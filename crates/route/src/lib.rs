//! Decides where a request or a stream goes. Layer 3.
//!
//! [`TargetIndex`] says whose routes count for a destination; [`CompiledRoutes`] is made once per
//! [`heddle_ir::outbound::Outbound`] and asked for every request. The proxy and `heddle explain` use the same code. A
//! decision allocates nothing, takes no lock and is a function of the request head and one random number. What could
//! not be compiled never matches, or answers 500 where it is part of what a matched request needs, and is reported
//! once as a [`Problem`]. This crate knows no dialect, opens nothing and logs nothing: [`CompiledRoutes::explain`]
//! tells the story as data.
//!
//! The path of the [`heddle_ir::request::RequestHead`] must be the one that is forwarded, that is after
//! normalisation (`heddle_wire::path`), so that routing, authorisation and the upstream see the same.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod compile;
mod cors;
mod decision;
mod descriptor;
mod draw;
mod explain;
mod filter;
mod gateway;
mod index;
mod matching;
mod names;
mod order;
mod redirect;
mod rewrite;
mod stream;
mod target;

pub use compile::{CompiledRoutes, Effect, Problem};
pub use cors::{CorsHeaders, CorsOutcome};
pub use decision::{HeaderEdit, RequestCopy, RouteAction, RouteDecision};
pub use descriptor::{CompiledDescriptors, Descriptor, DescriptorFacts};
pub use explain::{ConsideredMatch, ConsideredStreamRule, MatchOutcome, StreamOutcome};
pub use filter::{CompiledFilter, CompiledTexts};
pub use gateway::{CompiledGateway, FoundServer};
pub use matching::FailedCondition;
pub use names::{Name, NameTable};
pub use stream::StreamDecision;
pub use target::{FoundFrontend, Speaker, TargetIndex, host_of};

#[cfg(test)]
mod tests;
