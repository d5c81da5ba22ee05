//! Decides who may talk to whom. Layer 3; the only maker of a [`Permit`].
//!
//! Inbound, [`CompiledAuthorization`] is made once per [`heddle_ir::inbound::Inbound`] and asked for every connection and
//! request; it judges the transport (mutual TLS or not) and the policies together, so that no permit exists that only
//! one of the two was asked for. Outbound, [`OutboundPolicy`] judges by what the index says of unknown destinations and by
//! [`CompiledEgress`] together. Whatever opens a connection asks for a permit.
//!
//! Order, within and across systems: a transport that is not accepted, then CUSTOM rules (an external authoriser decides),
//! then any matching DENY rule, then ALLOW rules, then the default. What could not be read denies more and allows less, never the other way round. A decision
//! allocates nothing and takes no lock. This crate knows no dialect and logs nothing:
//! [`CompiledAuthorization::explain`] tells the story as data.
//!
//! The path of the [`heddle_ir::request::RequestHead`] must be the one that is forwarded, that is after normalisation.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod compile;
mod condition;
mod connection;
mod decision;
mod egress;
mod evaluate;
mod explain;
mod outbound;
mod packets;
mod permit;
mod policies;
mod question;
mod template;
mod value;

pub use compile::{CompiledAuthorization, Problem};
pub use connection::{Acceptance, Connection, Transport};
pub use decision::{AllowedBy, Decision, Denial, Verdict};
pub use egress::CompiledEgress;
pub use explain::{ConsideredRule, RuleOutcome};
pub use outbound::{OutboundDenial, OutboundPolicy, OutboundRefusal, OutboundTarget};
pub use packets::{PacketDirection, PacketOrigins, packet_policy, packet_rules};
pub use permit::Permit;
pub use question::{Approvals, Question};

#[cfg(test)]
mod tests;
