//! A process that was started, held by a descriptor, so that its id cannot come to mean another.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;

use crate::option;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// It ended itself with this code. Under an init, 128 + n says that signal n ended it.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// Whether it ended itself with 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A child process. Dropping it neither kills it nor waits for it; who starts must wait.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    descriptor: OwnedFd,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Takes over a child of this process that has not been waited for.
    pub(super) fn adopt(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, descriptor, ended: None })
    }

    /// Its process id in the caller's PID namespace. Under an init this is the init.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal; under an init it is passed on to the program, but for SIGKILL, which ends the
    /// whole PID namespace. Nothing happens when the process has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        match rustix::process::pidfd_send_signal(&self.descriptor, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Ends it at once, and under an init everything it started.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// How it ended; none while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.collect(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Waits until it ends, on the calling thread.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            match self.collect(WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until it ends, within tokio. Cancel safe.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let watched = option::watch(self.descriptor.try_clone()?, Interest::READABLE)?;
        loop {
            let mut ready = watched.readable().await?;
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            ready.clear_ready();
        }
    }

    fn collect(&mut self, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            let status = rustix::process::waitid(WaitId::PidFd(self.descriptor.as_fd()), options)?;
            self.ended = status.and_then(|status| {
                let code = status.exit_status().map(ExitStatus::Code);
                code.or_else(|| status.terminating_signal().map(ExitStatus::Signal))
            });
        }
        Ok(self.ended)
    }
}

impl AsFd for Child {
    /// The pidfd: readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
