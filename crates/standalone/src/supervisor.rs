//! The supervisor.
mod fabric;
mod files;
mod link;
mod names;
mod probes;
mod publish;
