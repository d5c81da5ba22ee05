//! A small encoder for nf_tables: tables, chains, sets and rules, sent as one atomic batch.
//!
//! It knows the expressions interception needs and no more; numbers and layouts are those of the
//! kernel's `linux/netfilter/nf_tables.h`. What the rules say is decided in [`crate::interception`].
//! The existing crates do not fit: one is under the GPL, the others need C libraries.

mod batch;
mod expression;

pub(crate) use batch::{Batch, Chain, ChainKind, Hook, Policy, Set, SetKey, counters, has_table};
pub(crate) use expression::{Connection, Direction, End, ICMP, ICMPV6, Meta, Rule, SCTP, TCP, UDP};
