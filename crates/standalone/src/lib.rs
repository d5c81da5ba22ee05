//! A mesh on one machine: workloads as processes in namespaces of their own. Layer 7.
//!
//! Three processes carry it. The **broker** stays in the host's namespaces as the user who started the mesh, and
//! opens ports and outbound sockets; it is whoever called [`start`]. The **supervisor** lives in namespaces of its
//! own and starts everything else: the **control plane**, and for every workload a proxy and its containers. It
//! does what the control plane's node API says and decides nothing about the mesh. No root is needed; when any
//! of the first two is killed, the kernel ends everything.
//!
//! [`start`] begins a mesh, [`Client`] talks to a running one, [`StateDirectory`] says where it is.

#![forbid(unsafe_code)]

pub mod agent;
pub mod backoff;
mod client;
mod exec;
mod host;
pub mod log;
mod mesh;
mod options;
mod own_log;
pub mod probe;
pub mod state;
pub mod status;
mod supervisor;
mod timestamp;

pub use client::{CaptureReport, CapturedDirection, Client, ClientError, LogRequest};
pub use exec::ExecRequest;
pub use mesh::{Ended, Mesh, StartError, start};
pub use options::{Application, LocalWorkload, Options};
pub use state::StateDirectory;
