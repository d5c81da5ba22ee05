//! Tests of the whole crate by tables; `reference` compares with a naive evaluator.

mod action;
mod copies;
mod cors;
mod filter;
mod gateway;
mod matching;
mod order;
mod reference;
mod streams;
pub(crate) mod support;
