//! One module per group of commands.

pub(crate) mod agent;
pub(crate) mod analyze;
pub(crate) mod api;
pub(crate) mod certs;
pub(crate) mod codes;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod internal;
pub(crate) mod kinds;
pub(crate) mod objects;
pub(crate) mod print;
pub(crate) mod reference;
pub(crate) mod sample;
pub(crate) mod signals;
pub(crate) mod state;
pub(crate) mod static_files;
pub(crate) mod terminal;
pub(crate) mod up;
pub(crate) mod words;
pub(crate) mod workload;
