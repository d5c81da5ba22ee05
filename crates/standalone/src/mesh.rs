//! Starting a mesh, and its broker.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use heddle_net::broker::Server;
use heddle_net::namespace::Namespaces;
use heddle_net::process::{Child, ExitStatus, Split, SplitError, split};

use crate::agent::Agent;
use crate::options::Options;
use crate::state::{Lock, StateDirectory, StateError};
use crate::{host, own_log, supervisor};

/// On top of the longest stop of the workloads: after that the kernel ends what is left.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// The mesh was not started; nothing of it is left.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state directory cannot be used, or another mesh runs there.
    #[error("cannot use the state directory")]
    State(#[from] StateError),
    /// The namespaces could not be made.
    #[error("cannot make the namespaces of the mesh")]
    Split(#[from] SplitError),
}

impl StartError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::State(error) => error.hint(),
            Self::Split(error) => error.hint(),
        }
    }
}

/// How a mesh ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The supervisor was killed or failed; its log says why.
    Failed(ExitStatus),
    /// It was told to stop.
    Stopped,
}

/// A running mesh, seen from its broker. Dropping it ends the mesh at once.
#[derive(Debug)]
pub struct Mesh {
    init: Child,
    channel: Option<OwnedFd>,
    stop_max: Duration,
    lock: Lock,
    agent: Option<Arc<Agent>>,
}

/// Starts a mesh. Must be called while this process has one thread.
///
/// It returns in the broker, whose caller then runs [`Mesh::run`] in a runtime; the supervisor is a copy of this
/// process that never returns from here. The program must pass [`heddle_net::process::RUN_PLAN`] on to
/// [`heddle_net::process::run_plan`] before anything else.
pub fn start(options: Options) -> Result<Mesh, StartError> {
    let state = StateDirectory::new(&options.state)?;
    let lock = state.lock()?;
    let stop_max = options.stop_max;
    let broker_pid = std::process::id();
    match split(Namespaces::ALL)? {
        Split::Inside(channel) => {
            std::process::exit(inside(options, &state, lock, channel.into(), broker_pid))
        }
        Split::Outside(outside) => Ok(Mesh {
            init: outside.init,
            channel: Some(outside.channel.into()),
            stop_max,
            lock,
            agent: None,
        }),
    }
}

/// The life of the supervisor: its exit code.
fn inside(
    options: Options,
    state: &StateDirectory,
    lock: Lock,
    channel: OwnedFd,
    broker_pid: u32,
) -> i32 {
    let log = match own_log::begin(state, &options.own_environment) {
        Ok(log) => log,
        Err(error) => {
            let path = state.supervisor_log();
            let _ = writeln!(io::stderr(), "cannot write the log {}: {error}", path.display());
            return 1;
        }
    };
    let result = supervisor::run(options, state, lock, channel, broker_pid);
    if let Err(error) = &result {
        let error = supervisor::chain(error);
        tracing::error!(%error, "the supervisor failed");
    }
    // Writes what waits.
    drop(log);
    i32::from(result.is_err())
}

impl Mesh {
    /// The same for a machine of another mesh: addresses inside of that are reached through its agent.
    #[must_use]
    pub fn with_agent(mut self, agent: Arc<Agent>) -> Self {
        self.agent = Some(agent);
        self
    }

    /// Serves the mesh until it has ended. When `stop` ends first, the mesh is told to stop in order; what has
    /// not ended in time then is ended by the kernel.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> io::Result<Ended> {
        let Some(channel) = self.channel.take() else { return Err(io::ErrorKind::Other.into()) };
        let server = Server::new(channel)?;
        let serving = host::serve(server, self.agent.take());
        tokio::pin!(serving, stop);
        let mut stopping = false;
        let mut served = false;
        let deadline = self.stop_max + STOP_MARGIN;
        let ended = loop {
            tokio::select! {
                status = self.init.ended() => break status?,
                // The supervisor has closed its end, and is about to end.
                result = &mut serving, if !served => {
                    served = true;
                    if let Err(error) = result {
                        let error = supervisor::chain(&error);
                        tracing::error!(%error, "the mesh has lost its way to the host");
                    }
                }
                () = &mut stop, if !stopping => {
                    stopping = true;
                    // Its init passes the signal on to the supervisor.
                    self.init.signal(rustix::process::Signal::TERM.as_raw())?;
                }
                () = tokio::time::sleep(deadline), if stopping => self.init.kill()?,
            }
        };
        self.lock.clean_up();
        Ok(if stopping || ended == ExitStatus::Code(0) {
            Ended::Stopped
        } else {
            Ended::Failed(ended)
        })
    }

    /// The process id, on the host, of the init that everything inside ends with.
    pub fn init_pid(&self) -> u32 {
        self.init.pid()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if !matches!(self.init.try_wait(), Ok(Some(_))) {
            let _ = self.init.kill();
            let _ = self.init.wait();
        }
    }
}
