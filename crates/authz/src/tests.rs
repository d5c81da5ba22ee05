//! Tests of the whole crate by tables, exhaustively over small policies, and against a naive reference.

mod attributes;
mod combination;
mod egress;
mod exhaustive;
mod packets;
mod reference;
mod support;
mod transport;
