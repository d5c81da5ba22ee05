//! Tests of the whole crate by tables; `reference` compares with a naive evaluator.

mod action;
mod cors;
mod matching;
mod order;
mod reference;
mod streams;
pub(crate) mod support;
