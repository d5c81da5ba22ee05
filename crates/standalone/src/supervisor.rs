//! The supervisor: user 0 of the mesh's own namespaces, parent of everything that runs in it.
//!
//! It does what the control plane says shall run and tells it what became of that; it reads no Kubernetes object.
//! It has one thread for its tasks, and threads for blocking work only. When it ends, its init ends, and the
//! kernel ends everything that was started in here.

mod api;
mod container;
mod control;
mod exec;
mod fabric;
mod files;
mod launch;
mod link;
mod local;
mod logs;
mod names;
mod node;
mod probes;
mod publish;
mod reconcile;
mod select;
mod virtual_addresses;
mod workload;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use heddle_net::broker::Client;
use heddle_net::socket::SocketFactory;

use crate::options::Options;
use crate::state::{Lock, StateDirectory};
use crate::status::{Board, MeshStatus};

use fabric::Fabric;
use launch::{Launcher, OWN_PROGRAM, environment};
use logs::{LogSink, Logs};
use names::Names;
pub(crate) use probes::chain;
use virtual_addresses::VirtualAddresses;
use workload::Context;

/// The control plane's share of a stop, after the workloads'.
const CONTROL_STOP_MAX: Duration = Duration::from_secs(3);
/// Commands of the API that wait to be carried out.
const COMMANDS_MAX: usize = 64;
/// Port of DNS.
const DNS_PORT: u16 = 53;

/// What every part of the supervisor uses.
pub(crate) struct Services {
    pub(crate) options: Options,
    pub(crate) state: StateDirectory,
    pub(crate) launcher: Launcher,
    pub(crate) logs: Logs,
    pub(crate) board: Board,
    pub(crate) fabric: Fabric,
    pub(crate) broker: Client,
    pub(crate) names: Arc<Names>,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Where this program lies, when workloads can see it there.
    pub(crate) program: Option<PathBuf>,
    nameservers: Mutex<Vec<IpAddr>>,
    pub(crate) virtual_addresses: VirtualAddresses,
    /// Of running workloads, by id.
    contexts: Mutex<BTreeMap<String, Weak<Context>>>,
}

/// What the API asks of the supervisor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// Kill the control plane; it is started again.
    KillControl,
    /// Kill the proxy of a workload; it is started again.
    KillProxy(String),
    /// Stop the containers of a workload and start them again.
    RestartWorkload(String),
    /// Stop the whole mesh.
    Stop,
}

impl Services {
    /// The log of a container of a workload.
    pub(crate) fn workload_log(
        &self,
        desired: &heddle_proto::node::DesiredWorkload,
        container: &str,
    ) -> LogSink {
        self.logs.sink(&[&desired.namespace, &desired.name, container])
    }

    /// Makes the inside of a workload known, for commands that are to run there.
    pub(crate) fn enter_context(&self, id: &str, context: &Arc<Context>) {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.retain(|_, context| context.strong_count() > 0);
        contexts.insert(id.to_owned(), Arc::downgrade(context));
    }

    /// The inside of a running workload.
    pub(crate) fn context(&self, id: &str, uid: &str) -> Option<Arc<Context>> {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.get(id)?.upgrade().filter(|context| context.desired.uid == uid)
    }

    /// The insides of all running workloads.
    pub(crate) fn contexts(&self) -> Vec<Arc<Context>> {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.values().filter_map(Weak::upgrade).collect()
    }

    /// The environment of heddle's own processes.
    pub(crate) fn own_environment(&self) -> Vec<(OsString, OsString)> {
        let own = self.options.own_environment.iter();
        environment(own.map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The bridge's addresses.
    pub(crate) fn nameservers(&self) -> Vec<IpAddr> {
        self.nameservers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the fabric its ranges, and answers DNS on its addresses.
    pub(crate) fn set_ranges(
        &self,
        ranges: &[String],
        tasks: &mut JoinSet<()>,
    ) -> Result<(), fabric::FabricError> {
        let (addresses, grown) = self.fabric.set_ranges(ranges)?;
        if !grown {
            return Ok(());
        }
        let known = std::mem::replace(
            &mut *self.nameservers.lock().unwrap_or_else(PoisonError::into_inner),
            addresses.clone(),
        );
        for address in addresses.iter().filter(|address| !known.contains(address)) {
            match SocketFactory::here().bind_udp(SocketAddr::new(*address, DNS_PORT)) {
                Ok(socket) => {
                    let serving =
                        names::serve(socket, Arc::clone(&self.names), self.broker.clone());
                    tasks.spawn(async move {
                        if let Err(error) = serving.await {
                            tracing::error!(%error, "workloads without a proxy have no DNS");
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(%address, %error, "workloads without a proxy have no DNS");
                }
            }
        }
        self.board.update_mesh(|mesh| mesh.fabric_addresses = addresses);
        Ok(())
    }
}

/// The supervisor could not be set up.
#[derive(Debug, Error)]
pub(crate) enum SupervisorError {
    /// A system call or a file.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The channel to the broker.
    #[error("cannot talk to the broker")]
    Broker(#[source] heddle_net::broker::Error),
    /// The network of the mesh.
    #[error("cannot make the network of the mesh")]
    Fabric(#[source] fabric::FabricError),
}

fn io_error(action: &'static str) -> impl FnOnce(std::io::Error) -> SupervisorError {
    move |source| SupervisorError::Io { action, source }
}

/// Runs the mesh inside its namespaces until it is told to stop, or the broker is gone.
pub(crate) fn run(
    options: Options,
    state: &StateDirectory,
    lock: Lock,
    channel: OwnedFd,
    broker_pid: u32,
) -> Result<(), SupervisorError> {
    // The terminal's signals are the broker's to understand.
    let _ = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io_error("start the event loop"))?;
    let result = runtime.block_on(serve(options, state.clone(), channel, broker_pid));
    // What still blocks ends with the namespaces.
    runtime.shutdown_background();
    drop(lock);
    result
}

async fn serve(
    options: Options,
    state: StateDirectory,
    channel: OwnedFd,
    broker_pid: u32,
) -> Result<(), SupervisorError> {
    let (broker, driver) = Client::new(channel).map_err(SupervisorError::Broker)?;
    let fabric = Fabric::create().map_err(SupervisorError::Fabric)?;
    let (commands, mut requests) = mpsc::channel(COMMANDS_MAX);
    let board = Board::new(MeshStatus {
        instance: draw_instance().map_err(io_error("read /dev/urandom"))?,
        broker_pid,
        network_namespace: fabric.namespace().inode(),
        ..MeshStatus::default()
    });
    let services = Arc::new(Services {
        launcher: Launcher::new(),
        logs: Logs::new(state.logs()),
        board,
        fabric,
        broker,
        names: Arc::default(),
        commands,
        program: visible_program(&state),
        nameservers: Mutex::default(),
        virtual_addresses: VirtualAddresses::default(),
        contexts: Mutex::default(),
        options,
        state,
    });
    let mut tasks = JoinSet::new();
    let mut broker_link = JoinSet::new();
    broker_link.spawn(driver.run());
    tasks.spawn(api::listen(Arc::clone(&services)).map_err(io_error("listen for commands"))?);
    tasks.spawn(exec::listen(Arc::clone(&services)).map_err(io_error("listen for commands"))?);
    let (control_orders, orders) = watch::channel(control::Order::default());
    let mut control = JoinSet::new();
    if !services.options.control_arguments.is_empty() {
        control.spawn(control::run(Arc::clone(&services), orders));
    }
    let (desired, wanted) = watch::channel(None);
    tasks.spawn(node::run(Arc::clone(&services), desired));
    let (workload_orders, orders) = watch::channel(reconcile::Order::default());
    let mut workloads = JoinSet::new();
    workloads.spawn(reconcile::run(Arc::clone(&services), wanted, orders));

    let mut terminate = signal(SignalKind::terminate()).map_err(io_error("watch for SIGTERM"))?;
    loop {
        let command = tokio::select! {
            command = requests.recv() => command,
            _ = terminate.recv() => Some(Command::Stop),
            // Without its broker there is no mesh: the kernel ends this process too, by then or soon.
            Some(_) = broker_link.join_next() => Some(Command::Stop),
        };
        match command {
            Some(Command::KillControl) => control_orders.send_modify(|order| order.kills += 1),
            Some(Command::Stop) | None => break,
            Some(other) => workload_orders.send_modify(|order| order.take(&other)),
        }
    }
    workload_orders.send_modify(|order| order.stop = true);
    while workloads.join_next().await.is_some() {}
    control_orders.send_modify(|order| order.stop = true);
    let _ = tokio::time::timeout(CONTROL_STOP_MAX, control.join_next()).await;
    Ok(())
}

/// Waits until what is watched fulfils a condition, or can change no more.
pub(crate) async fn until<T>(watched: &mut watch::Receiver<T>, condition: impl FnMut(&T) -> bool) {
    // An error means that the sender is gone. Senders live longer than the tasks they speak to.
    let _ = watched.wait_for(condition).await;
}

/// This program's file. None when it was replaced since it was started, or lies in what workloads do not see:
/// then `heddle` is found as the first word of a command only.
fn visible_program(state: &StateDirectory) -> Option<PathBuf> {
    let path = std::fs::read_link(OWN_PROGRAM).ok()?;
    (path.is_file() && !path.starts_with(state.root())).then_some(path)
}

/// A name for this run of the mesh that no other run has.
fn draw_instance() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0_u8; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
