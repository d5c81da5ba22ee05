//! The proxy's end of the config stream: what the data plane reads, asks for and waits for.
//!
//! A thread of its own keeps the stream to the control plane, holds resources, compiles them, and renews the
//! certificate. The data plane reads an immutable [`Snapshot`], and asks for a destination the first time it is used.
//! It compiles nothing and waits for nothing else. Nothing here looks at traffic.
//!
//! While the control plane is gone, the data plane goes on with what it has; what it has not and asks for, fails after
//! a bounded wait.

mod certificate;
mod compile;
mod dial;
mod link;
mod snapshot;
mod task;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use heddle_ident::{NetworkName, WorkloadId};
use heddle_ir::endpoint::{EndpointSet, EndpointSetKey};
use heddle_ir::outbound::OutboundKey;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::Workload;
use heddle_tls::Identity;
use tokio::sync::{mpsc, watch};

pub use certificate::CertificateStatus;
pub use dial::{BrokerDialer, Dial, Dialing, SocketDialer};
pub use snapshot::{CompiledOutbound, DestinationState, Lookup, Prepared, Snapshot};

/// Names asked for that the control thread has not looked at yet.
const WANTS_MAX: usize = 1024;

/// How the control thread works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose proxy this is.
    pub workload: WorkloadId,
    /// Makes jitter, and the order in which endpoints are tried.
    pub seed: u64,
    /// A destination that was not used for this long is let go.
    pub idle_timeout: Duration,
    /// The longest wait for a resource, until the proxy's settings say another.
    pub wait_max: Duration,
    /// First wait after a lost connection.
    pub reconnect_min: Duration,
    /// Longest wait after a lost connection.
    pub reconnect_max: Duration,
}

impl Options {
    /// The defaults, for a workload.
    pub fn new(workload: WorkloadId, seed: u64) -> Self {
        Self {
            workload,
            seed,
            idle_timeout: Duration::from_mins(10),
            wait_max: Duration::from_secs(2),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
        }
    }
}

/// Why a resource cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotHeld {
    /// The control plane says that it does not exist.
    #[error("the control plane knows no such destination")]
    Absent,
    /// It was asked for, and did not come in time.
    #[error("the control plane did not send the configuration of this destination in time")]
    Timeout,
    /// Too many are being asked for.
    #[error("too many destinations are being asked for")]
    Overload,
}

/// What the data plane knows, and the way to ask for more. Cheap to clone.
#[derive(Clone)]
pub struct Config {
    shared: Arc<Shared>,
}

struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// The generation of the snapshot, for whoever waits for one.
    generation: watch::Sender<u64>,
    wants: mpsc::Sender<ResourceName>,
    identity: Arc<Identity>,
    certificate: ArcSwap<CertificateStatus>,
    started: Instant,
    wait_max: Duration,
}

impl Config {
    /// Starts the control thread. It ends when the last clone of the result is dropped.
    pub fn start(
        options: Options,
        dial: Box<dyn Dial>,
        identity: Arc<Identity>,
        keys: heddle_tls::Keys,
    ) -> io::Result<Self> {
        let certificates = certificate::Certificates::new(keys, identity.clone(), options.seed);
        let (config, wants) = Self::new(&options, identity);
        let shared = Arc::downgrade(&config.shared);
        let task = task::Task::new(options, dial, certificates, shared, wants);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("heddle-control".to_owned())
            .spawn(move || runtime.block_on(task.run()))?;
        Ok(config)
    }

    /// A configuration that never changes, for tests and measurements: no control plane, no certificate requests.
    /// Whatever it does not have does not exist.
    pub fn fixed(
        options: &Options,
        identity: Arc<Identity>,
        resources: Vec<(ResourceName, Resource)>,
    ) -> Self {
        let (config, _) = Self::new(options, identity);
        let mut compiler = compile::Compiler::new(options.seed, config.shared.started);
        for (name, resource) in resources {
            compiler.set(&name, &resource);
        }
        config.shared.publish(compiler.snapshot().complete());
        config
    }

    fn new(options: &Options, identity: Arc<Identity>) -> (Self, mpsc::Receiver<ResourceName>) {
        let (wants, wanted) = mpsc::channel(WANTS_MAX);
        let shared = Shared {
            snapshot: ArcSwap::default(),
            generation: watch::Sender::new(0),
            wants,
            identity,
            certificate: ArcSwap::default(),
            started: Instant::now(),
            wait_max: options.wait_max,
        };
        (Self { shared: Arc::new(shared) }, wanted)
    }

    /// Everything held, as of now. One request must read one snapshot only.
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.shared.snapshot.load()
    }

    /// Changes with every new snapshot; holds its generation.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// The identity to connect and accept with.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.shared.identity
    }

    /// Where the certificate stands, for people.
    pub fn certificate(&self) -> Arc<CertificateStatus> {
        self.shared.certificate.load_full()
    }

    /// Milliseconds since the configuration was started: the clock of balancers.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until the proxy has what it always needs: settings, index, policy, roots and a certificate.
    /// Ends early, with false, when the control thread has ended. Cancel safe.
    pub async fn ready(&self) -> bool {
        let mut generations = self.generations();
        loop {
            if self.snapshot().is_complete() && self.identity().current().is_some() {
                return true;
            }
            if generations.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Routes and destinations of a host and port in the proxy's own scope; asked for when not held. Cancel safe.
    pub async fn outbound(&self, host: &str, port: u16) -> Result<Arc<CompiledOutbound>, NotHeld> {
        self.wait(
            |snapshot| snapshot.outbound(host, port).cloned(),
            |snapshot| {
                let scope = snapshot.settings()?.scope.clone();
                Some(ResourceName::Outbound(OutboundKey { scope, host: host.into(), port }))
            },
        )
        .await
    }

    /// The endpoints of a service port; asked for when not held. Cancel safe.
    pub async fn endpoints(&self, key: &EndpointSetKey) -> Result<Arc<EndpointSet>, NotHeld> {
        let name = || ResourceName::Endpoints(key.clone());
        self.wait(|snapshot| snapshot.endpoints(key).cloned(), |_| Some(name())).await
    }

    /// Who is at an address; asked for when not held. Cancel safe.
    pub async fn workload(
        &self,
        network: &NetworkName,
        address: IpAddr,
    ) -> Result<Arc<Workload>, NotHeld> {
        let name = || ResourceName::Workload(network.clone(), address);
        self.wait(|snapshot| snapshot.workload(network, address).cloned(), |_| Some(name())).await
    }

    /// Looks, asks and waits, at most as long as the settings say.
    async fn wait<T>(
        &self,
        look: impl Fn(&Snapshot) -> Lookup<T>,
        name: impl Fn(&Snapshot) -> Option<ResourceName>,
    ) -> Result<T, NotHeld> {
        let mut generations = self.shared.generation.subscribe();
        let mut asked = None;
        let wait_max = self
            .snapshot()
            .settings()
            .map_or(self.shared.wait_max, |settings| settings.limits.config_wait_max);
        let look = async {
            loop {
                let snapshot = self.shared.snapshot.load_full();
                match look(&snapshot) {
                    Lookup::Held(value) => return Ok(value),
                    Lookup::Absent => return Err(NotHeld::Absent),
                    Lookup::Unknown => {}
                }
                // The name depends on the scope, which may change while this waits.
                let name = name(&snapshot);
                if name.is_some() && name != asked {
                    asked.clone_from(&name);
                    if let Some(name) = name {
                        self.shared.wants.try_send(name).map_err(|_| NotHeld::Overload)?;
                    }
                }
                if generations.changed().await.is_err() {
                    return Err(NotHeld::Timeout);
                }
            }
        };
        tokio::time::timeout(wait_max, look).await.unwrap_or(Err(NotHeld::Timeout))
    }
}

impl Shared {
    fn publish(&self, snapshot: Snapshot) {
        let generation = snapshot.generation();
        self.snapshot.store(Arc::new(snapshot));
        self.generation.send_replace(generation);
    }
}

#[cfg(test)]
mod tests;
