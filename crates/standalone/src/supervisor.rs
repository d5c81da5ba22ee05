//! The supervisor.
mod files;
mod link;
mod names;
mod probes;
mod publish;
