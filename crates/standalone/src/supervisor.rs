//! The supervisor.
mod publish;
