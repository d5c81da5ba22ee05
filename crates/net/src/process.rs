//! Processes: started as a [`Plan`] says, confined, in namespaces of their own, and the init that
//! parents them.
//!
//! The caller has many threads, and between fork and exec such a process may do next to nothing. So a
//! start has two steps: [`spawn()`] runs this same program again with the argument [`RUN_PLAN`], and that
//! fresh process, with one thread, calls [`run_plan`], which reads the plan from its standard input,
//! makes the namespaces and mounts, gives its privileges away and becomes the program asked for. The
//! binary must pass that argument on before it starts any thread.
//!
//! ```text
//! spawn ──exec──▶ run_plan ──(PID namespace)──▶ init, pid 1 ──fork──▶ the program, pid 2
//!                     └────(otherwise)──▶ the program
//! ```
//!
//! [`split()`] is how a supervisor gets into namespaces of its own under an init: whatever part of it is
//! killed, nothing it started is left.

mod child;
mod confine;
mod fork;
mod init;
mod plan;
mod run;
mod spawn;
mod split;

pub use child::{Child, ExitStatus};
pub use confine::protect_memory;
pub use fork::inherited_descriptor;
pub use init::leave_init_behind;
pub use plan::{Capabilities, Isolation, Limit, Limited, Mount, Plan, Stream};
pub use run::{RUN_PLAN, RunError, run_plan};
pub use spawn::{SpawnError, spawn, spawn_with};
pub use split::{Outside, Split, SplitError, split};
