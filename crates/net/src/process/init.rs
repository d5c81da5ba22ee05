//! The init of a PID namespace: reaps what is orphaned, passes signals on, ends with its main child.
//!
//! The kernel ends every process of the namespace when its init ends, so an init that ends with its
//! main child leaves nothing behind.

use rustix::process::{Pid, Signal, WaitOptions};

use super::fork::{self, Side};

/// Signals that are passed on to the main child.
const FORWARDED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGWINCH,
];

/// Forks: the child returns and goes on as the main process, the caller stays behind as init and never
/// returns. `before_init` runs in the caller first (to close what only the child needs).
pub(super) fn become_init(before_init: impl FnOnce()) -> std::io::Result<()> {
    let mask = fork::block_signals();
    match fork::fork() {
        Ok(Side::Child) => {
            fork::restore_signals(&mask);
            Ok(())
        }
        Ok(Side::Parent(main)) => {
            before_init();
            supervise(main)
        }
        Err(error) => {
            fork::restore_signals(&mask);
            Err(error)
        }
    }
}

/// Leaves an init behind when this process is the first of its PID namespace, as in a container, and
/// goes on as that init's child; does nothing otherwise. The process must have one thread.
///
/// Without it nobody would collect what a killed program leaves to the first process, and the kernel
/// keeps signals with no handler from it.
pub fn leave_init_behind() -> std::io::Result<()> {
    if std::process::id() == 1 { become_init(|| {}) } else { Ok(()) }
}

/// Waits for signals until the main child has ended; every signal must be blocked.
fn supervise(main: i32) -> ! {
    loop {
        match fork::next_signal() {
            libc::SIGCHLD => {
                if let Some(code) = reap(main) {
                    fork::exit_now(code);
                }
            }
            signal if FORWARDED.contains(&signal) => {
                if let (Some(pid), Some(signal)) =
                    (Pid::from_raw(main), Signal::from_named_raw(signal))
                {
                    // It may be gone already; the SIGCHLD that says so is on its way.
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
            _ => {}
        }
    }
}

/// Collects every child that has ended; the exit code to use when the main one is among them.
fn reap(main: i32) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() == main {
            let by_signal = status.terminating_signal().map(|signal| 128 + signal);
            code = status.exit_status().or(by_signal).or(Some(1));
        }
    }
    code
}
