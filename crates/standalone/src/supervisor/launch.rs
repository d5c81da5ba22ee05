//! Starting processes, and holding them until they have ended.
//!
//! What a process may do is said by a [`Plan`]; the kernel's part is `net`'s. A process that is dropped here is
//! killed and collected.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::pipe::PipeFlags;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use heddle_net::process::{Child, ExitStatus, Plan, Stream, spawn};

use crate::log;
use crate::supervisor::logs::LogSink;
use crate::supervisor::probes::chain;

/// Where this program is found to be started again, whatever became of its file.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";
/// Ended processes that wait to be collected.
const GRAVES_MAX: usize = 1024;

/// A signal to a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    /// SIGKILL; ends everything that the process started.
    Kill,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    fn number(self) -> i32 {
        match self {
            Self::Kill => rustix::process::Signal::KILL.as_raw(),
            Self::Terminate => rustix::process::Signal::TERM.as_raw(),
        }
    }
}

/// What shells exit with when there is no such program, and when it cannot be executed (POSIX, XCU 2.8.2).
const PROGRAM_NOT_FOUND: i32 = 127;
const PROGRAM_NOT_EXECUTABLE: i32 = 126;

/// A process was not started.
pub(crate) struct StartFailure {
    /// One sentence.
    pub(crate) message: String,
    /// What a shell would exit with; none where the program is not the reason.
    pub(crate) code: Option<i32>,
}

impl From<String> for StartFailure {
    fn from(message: String) -> Self {
        Self { message, code: None }
    }
}

/// Starts processes. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Launcher {
    graves: mpsc::Sender<Child>,
    _digger: Arc<JoinSet<()>>,
}

impl Launcher {
    /// Must be called inside a runtime.
    pub(crate) fn new() -> Self {
        let (graves, mut killed) = mpsc::channel::<Child>(GRAVES_MAX);
        let mut digger = JoinSet::new();
        digger.spawn(async move {
            let mut waiting = JoinSet::new();
            while let Some(mut child) = killed.recv().await {
                waiting.spawn(async move { drop(child.ended().await) });
                while waiting.try_join_next().is_some() {}
            }
        });
        Self { graves, _digger: Arc::new(digger) }
    }

    /// Starts a process; an error is one sentence. Takes some milliseconds, on a thread for blocking work. When the
    /// future is dropped meanwhile, the process is killed and collected all the same: an uncollected one would
    /// keep the PID namespace that it joined from ending.
    pub(crate) async fn start(&self, plan: Plan) -> Result<Process, String> {
        self.try_start(plan).await.map_err(|failure| failure.message)
    }

    /// [`Launcher::start`], for whoever passes the failure on as an exit code.
    pub(crate) async fn try_start(&self, plan: Plan) -> Result<Process, StartFailure> {
        let graves = self.graves.clone();
        let start = move || match spawn(plan) {
            Ok(child) => Ok(Process { child: Some(child), graves }),
            Err(error) => Err(StartFailure {
                code: match error.program_error() {
                    Some(io::ErrorKind::NotFound) => Some(PROGRAM_NOT_FOUND),
                    Some(_) => Some(PROGRAM_NOT_EXECUTABLE),
                    None => None,
                },
                message: chain(&error),
            }),
        };
        tokio::task::spawn_blocking(start).await.unwrap_or_else(|error| {
            Err(StartFailure { message: format!("cannot start a process: {error}"), code: None })
        })
    }

    /// Starts a process whose outputs go to a log.
    pub(crate) async fn start_logged(
        &self,
        mut plan: Plan,
        log: &LogSink,
    ) -> Result<Process, String> {
        let pipes = || -> io::Result<_> { Ok((output_pipe()?, output_pipe()?)) };
        let ((stdout, out), (stderr, err)) =
            pipes().map_err(|error| format!("cannot make a pipe: {error}"))?;
        plan.stdout = Stream::Descriptor(out);
        plan.stderr = Stream::Descriptor(err);
        log.start_run([(stdout, log::Stream::Stdout), (stderr, log::Stream::Stderr)])?;
        self.start(plan).await
    }
}

fn output_pipe() -> io::Result<(Receiver, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Receiver::from_owned_fd(reader)?, writer))
}

/// A running process.
pub(crate) struct Process {
    /// None only while being dropped.
    child: Option<Child>,
    graves: mpsc::Sender<Child>,
}

impl Process {
    /// Its id in the supervisor's PID namespace; with a PID namespace of its own, that of its init.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::pid)
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // The kernel refuses only what cannot be: the process is a child, and the signal exists.
            let _ = child.signal(signal.number());
        }
    }

    /// Waits until it has ended: its exit code, or 128 and the number of the signal that ended it. May be
    /// dropped and called again.
    pub(crate) async fn wait(&mut self) -> i32 {
        let Some(child) = &mut self.child else { return std::future::pending().await };
        match child.ended().await {
            Ok(ExitStatus::Code(code)) => code,
            Ok(ExitStatus::Signal(signal)) => 128 + signal,
            Err(error) => {
                tracing::error!(%error, "cannot wait for a process");
                -1
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take()
            && !matches!(child.try_wait(), Ok(Some(_)))
        {
            let _ = child.kill();
            // When the queue is full, the child stays uncollected until the supervisor's init ends.
            let _ = self.graves.try_send(child);
        }
    }
}

/// Variables as a plan takes them.
pub(crate) fn environment<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(OsString, OsString)> {
    variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}
