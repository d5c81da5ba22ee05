//! The conversation about a command to run inside a workload: messages only.
//!
//! The caller connects to `run/exec.sock`, sends one line of JSON with the descriptors of the command's standard
//! streams, and reads lines of JSON. Its terminal, where it has one, stays its own: it makes a pseudo-terminal
//! and passes the far end. Closing the connection ends the command.

use serde::{Deserialize, Serialize};

/// The longest line.
pub(crate) const LINE_BYTES_MAX: usize = 60 * 1024;

/// What to run, and where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExecRequest {
    /// `[namespace/]name` of a workload, or of its Deployment.
    pub workload: String,
    /// Name of the container; none is the first.
    pub container: Option<String>,
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Whether the streams are a terminal that the command shall control.
    pub terminal: bool,
    /// Variables on top of the container's own (`TERM`).
    pub environment: Vec<(String, String)>,
}

/// What the supervisor says about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ExecEvent {
    /// It ended: its exit code, or 128 and a signal's number.
    Exited(i32),
    /// It was not started.
    Failed {
        /// One sentence.
        message: String,
        /// What a shell would exit with (127: no such program); none where the program is not the reason.
        code: Option<i32>,
    },
    /// It runs.
    Started,
}

/// What the caller says after the request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ExecOrder {
    /// Send SIGTERM.
    Terminate,
}
