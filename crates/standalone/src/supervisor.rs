//! The supervisor.
mod files;
mod link;
mod publish;
