//! One module per group of commands.

pub(crate) mod print;
pub(crate) mod sample;
pub(crate) mod words;
