//! A proxy as a process: its threads, its listeners, its readiness and its end.
//!
//! Traffic has one thread (or as many as asked for), each a single-threaded event loop; configuration, certificates, names, health
//! and metrics have another, so that neither waits for the other. Nothing here looks at traffic.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use heddle_ident::{Host, WorkloadId};
use heddle_ir::endpoint::{EndpointAddress, EndpointHealth, EndpointSetKey};
use heddle_ir::proxy::{ProxyRole, ProxySettings};
use heddle_ir::request::ConnectionFacts;
use heddle_ir::resource::ResourceName;
use heddle_net::broker::{self, Grant, RefusalKind, Request};
use heddle_net::interception::{DELIVERY_MARK, PROXY_MARK};
use heddle_net::socket::{ListenOptions, SocketFactory};
use heddle_route::{Name, NameTable, TargetIndex};
use heddle_rpc::workload_api::Source;
use heddle_telemetry::audit::{AuditLog, AuditSettings};
use heddle_telemetry::istio::{StandardMetrics, record_build};
use heddle_telemetry::mesh::MeshMetrics;
use heddle_telemetry::metrics::{Registry, RegistrySettings};
use heddle_tls::{Identity, SystemClock, default_provider};
use heddle_wire::dns::Transport;
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::admin::{Admin, Readiness};
use crate::config::{Connector, Demands, Driver, Setup};
use crate::configuration::Configuration;
use crate::dns::{self, Names};
use crate::egress::account::Ledger;
use crate::names::{LearnedNames, now_s};
use crate::packets::account::{Accounts, Ledgers};
use crate::snapshot::Snapshot;
use crate::worker::{Overrides, Shared, Worker};
use crate::{gateway, health, inbound, memory, outbound};
use crate::{names_file, packets};

/// Ports that interception sends connections and questions to, and ports of health and metrics (DESIGN section 4).
const OUTBOUND_PORT: u16 = 15001;
const INBOUND_PORT: u16 = 15006;
const DNS_PORT: u16 = 15053;
const MERGED_METRICS_PORT: u16 = 15020;
const HEALTH_PORT: u16 = 15021;
const METRICS_PORT: u16 = 15090;
/// How long a draining proxy waits when the control plane has not said.
const DRAIN_MAX: Duration = Duration::from_secs(45);

/// How a sidecar is started.
pub struct SidecarOptions {
    /// Whose proxy it is.
    pub workload: WorkloadId,
    /// The socket pair that descriptors are asked for on.
    pub supervisor: OwnedFd,
    /// Where names that the workload has found are written, and read when the proxy is started again; none: they are
    /// forgotten with the process.
    pub names: Option<File>,
    /// A listening Unix socket on which the application finds the SPIFFE Workload API; none: it is not served.
    pub workload_api: Option<OwnedFd>,
    /// The socket of a Workload API that gives the identity; none: the control plane signs one.
    pub svid_source: Option<PathBuf>,
    /// The proxy is on a machine outside of the mesh's network: workloads too are reached through the supervisor.
    pub is_outside: bool,
    /// Where decisions are written that somebody may have to account for.
    pub audit: AuditSettings,
}

/// Why a proxy could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Something of the operating system failed; the text says what.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
    /// A port is taken, or may not be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The supervisor's socket cannot be used.
    #[error("cannot use the supervisor's socket")]
    Supervisor(#[from] broker::Error),
}

/// Runs a sidecar until it is told to end (SIGTERM): then no new connection is taken, those under way finish.
pub fn run_sidecar(options: SidecarOptions) -> Result<(), ProxyError> {
    heddle_net::process::protect_memory()
        .map_err(|error| ProxyError::System("cannot protect this process's memory", error))?;
    let started = Instant::now();
    let provider = default_provider();
    let identity = Arc::new(Identity::new(provider.clone(), Arc::new(SystemClock)));
    let seed = random_seed(&provider);
    let (demands, wanted) = Demands::new();
    let (configuration, publisher) = Configuration::new(Snapshot::default(), Arc::new(demands));
    let registry = Registry::new(RegistrySettings::default());
    record_build(&registry, "proxy", env!("CARGO_PKG_VERSION"));
    let (audit, _audit_writers) = options
        .audit
        .open(options.workload.as_str(), &registry)
        .map_err(|error| ProxyError::System("cannot open the audit log", error))?;
    let mesh_metrics = MeshMetrics::new(&registry);
    let (certificate_metrics, of_packets) = (mesh_metrics.clone(), mesh_metrics.clone());
    let names = Arc::new(LearnedNames::default());
    if let Some(file) = &options.names {
        names_file::read(file, &names)
            .map_err(|error| ProxyError::System("cannot read the names learned before", error))?;
    }
    let of_names = names.clone();
    let (sender, receiver) = oneshot::channel();
    let control_plane = crate::rate_limits::ControlPlane::default();
    let of_link = control_plane.clone();
    let of_control = (configuration.clone(), identity.clone(), registry.clone(), audit.clone());
    let control = move || -> Result<(), ProxyError> {
        let (configuration, identity, registry, audit) = of_control;
        let runtime = runtime()?;
        runtime.block_on(async move {
            let (client, descriptors) = broker::Client::new(options.supervisor)?;
            let (driver, source) = Driver::new(
                Setup {
                    workload: options.workload,
                    identity: identity.clone(),
                    provider,
                    seed,
                    started,
                    metrics: Some(certificate_metrics),
                    svid_source: options.svid_source,
                    control_plane: of_link,
                },
                Connector::Broker(client.clone()),
                publisher,
                wanted,
            );
            tokio::spawn(driver.run());
            if let Some(listener) = options.workload_api {
                serve_workload_api(source, listener)?;
            }
            if let Some(file) = options.names {
                tokio::spawn(names_file::keep(file, of_names.clone()));
            }
            let enforced = Arc::new(AtomicBool::new(false));
            let accounts = Arc::new(Accounts::new(Ledgers {
                audit: audit.clone(),
                identity: identity.clone(),
                metrics: of_packets,
                names: of_names.clone(),
            }));
            tokio::spawn(accounts.clone().keep());
            let (configured, names) = (configuration.clone(), of_names.clone());
            tokio::spawn(packets::enforce(configured, accounts, names, enforced.clone()));
            serve_names(&configuration, client.clone(), of_names, (audit, identity.clone()))?;
            serve_admin(&configuration, &identity, &registry, enforced)?;
            // The other end is waited on by the thread that started this one.
            let _ = sender.send(client);
            if let Err(error) = descriptors.run().await {
                warn!(%error, "the supervisor's socket failed");
            }
            // Without a supervisor there is no mesh that this proxy belongs to.
            info!("the supervisor is gone");
            std::process::exit(1)
        })
    };
    let control = thread::Builder::new()
        .name("control".to_owned())
        .spawn(control)
        .map_err(|error| ProxyError::System("cannot start the control thread", error))?;
    let Ok(outside) = receiver.blocking_recv() else {
        // The thread has ended before it was ready, with the reason.
        return control.join().unwrap_or(Ok(()));
    };
    let shared = Shared {
        configuration,
        identity,
        sockets: SocketFactory::here().with_mark(PROXY_MARK),
        application_sockets: SocketFactory::here().with_mark(DELIVERY_MARK),
        outside: Some(outside),
        is_outside: options.is_outside,
        metrics: Some(StandardMetrics::new(&registry)),
        mesh_metrics: Some(mesh_metrics),
        names,
        audit,
        token_keys: Arc::default(),
        control_plane,
        started,
        overrides: Overrides::default(),
    };
    serve_traffic(&shared, seed)
}

/// The data plane's thread: this one.
fn serve_traffic(shared: &Shared, seed: u64) -> Result<(), ProxyError> {
    let runtime = runtime()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let mut terminate = signal(SignalKind::terminate())
            .map_err(|error| ProxyError::System("cannot watch for SIGTERM", error))?;
        let worker = Worker::new(shared.clone(), seed);
        tokio::task::spawn_local(worker.clone().run());
        let listener = listen(&shared.sockets, OUTBOUND_PORT)?;
        tokio::task::spawn_local(outbound::serve(worker.clone(), listener));
        let listener = listen(&shared.sockets, INBOUND_PORT)?;
        tokio::task::spawn_local(inbound::serve(worker.clone(), listener));
        tokio::task::spawn_local(gateway::run(worker.clone()));
        tokio::task::spawn_local(health::run(worker.clone()));
        tokio::task::spawn_local(memory::keep(worker.clone()));
        terminate.recv().await;
        let settings = shared.configuration.snapshot().settings.clone();
        let deadline = settings.map_or(DRAIN_MAX, |settings| settings.drain_duration);
        info!(?deadline, "draining");
        worker.drain().begin();
        if tokio::time::timeout(deadline, worker.drain().finished()).await.is_err() {
            warn!("connections were cut at the end of the drain");
        }
        crate::access_log::close();
        Ok(())
    })
}

pub(crate) fn runtime() -> Result<Runtime, ProxyError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ProxyError::System("cannot start an event loop", error))
}

/// Every address of both families, or of IPv4 where the host has no IPv6.
fn listen(sockets: &SocketFactory, port: u16) -> Result<TcpListener, ProxyError> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match sockets.listen(both, ListenOptions::default()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ProxyError::Listen(both, error))
        }
        Err(_) => {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let listener = sockets.listen(v4, ListenOptions::default());
            listener.map_err(|error| ProxyError::Listen(v4, error))
        }
        Ok(listener) => Ok(listener),
    }
}

/// Questions come to the loopback addresses: that is where a redirection of the workload's own packets leads.
fn listen_udp(sockets: &SocketFactory, port: u16) -> Result<Vec<UdpSocket>, ProxyError> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut bound = vec![sockets.bind_udp(v4).map_err(|error| ProxyError::Listen(v4, error))?];
    // A host without IPv6 has no packets that lead there.
    bound.extend(sockets.bind_udp(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).ok());
    Ok(bound)
}

/// Gives the application its identity.
fn serve_workload_api(source: Source, listener: OwnedFd) -> Result<(), ProxyError> {
    let listener = std::os::unix::net::UnixListener::from(listener);
    let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    let listener = listener
        .map_err(|error| ProxyError::System("cannot use the Workload API's socket", error))?;
    tokio::spawn(async move {
        let served = heddle_rpc::workload_api::serve(source, listener, std::future::pending());
        if let Err(error) = served.await {
            warn!(%error, "the Workload API is not served any more");
        }
    });
    Ok(())
}

fn serve_names(
    configuration: &Configuration,
    client: broker::Client,
    learned: Arc<LearnedNames>,
    (audit, identity): (AuditLog, Arc<Identity>),
) -> Result<(), ProxyError> {
    let sockets = SocketFactory::here().with_mark(PROXY_MARK);
    let udp = listen_udp(&sockets, DNS_PORT)?;
    let tcp = listen(&sockets, DNS_PORT)?;
    let names = Arc::new(MeshNames {
        configuration: configuration.clone(),
        client,
        learned,
        audit,
        identity,
        table: arc_swap::ArcSwap::from_pointee((Arc::default(), NameTable::default())),
    });
    tokio::spawn(async move {
        if let Err(error) = dns::serve(udp, tcp, names).await {
            warn!(%error, "the name server's socket failed");
        }
    });
    Ok(())
}

fn serve_admin(
    configuration: &Configuration,
    identity: &Arc<Identity>,
    registry: &Registry,
    enforced: Arc<AtomicBool>,
) -> Result<(), ProxyError> {
    let sockets = SocketFactory::here().with_mark(PROXY_MARK);
    let (configuration, identity) = (configuration.clone(), identity.clone());
    let readiness: Readiness = Arc::new(move || {
        let snapshot = configuration.snapshot();
        let is_at_edge = |settings: &Arc<ProxySettings>| settings.role == ProxyRole::Gateway;
        let is_at_edge = snapshot.settings.as_ref().is_some_and(is_at_edge);
        let missing = [
            (snapshot.settings.is_none(), "settings"),
            (snapshot.inbound.is_none(), "policy"),
            (is_at_edge && snapshot.gateway.is_none(), "listeners"),
            (identity.current().is_none(), "certificate"),
            (!enforced.load(Ordering::Acquire), "rules for packets"),
        ];
        match missing.iter().find(|(missing, _)| *missing) {
            Some((_, what)) => Err(format!("waiting for the control plane: {what}")),
            None => Ok(()),
        }
    });
    let admin = Admin { readiness, registry: registry.clone() };
    for (port, metrics) in [(MERGED_METRICS_PORT, true), (HEALTH_PORT, false), (METRICS_PORT, true)]
    {
        let listener = listen(&sockets, port)?;
        tokio::spawn(admin.clone().serve(listener, metrics));
    }
    Ok(())
}

/// The name server's view of the mesh and of what is outside.
struct MeshNames {
    configuration: Configuration,
    client: broker::Client,
    learned: Arc<LearnedNames>,
    audit: AuditLog,
    identity: Arc<Identity>,
    /// The names of an index, made when first asked after it came.
    table: arc_swap::ArcSwap<(Arc<TargetIndex>, NameTable)>,
}

impl Names for MeshNames {
    fn refuses(&self, name: &str, transport: Transport) -> Option<String> {
        let snapshot = self.configuration.snapshot();
        let egress = snapshot.egress.as_ref()?;
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 53));
        let facts = ConnectionFacts {
            peer_identity: None,
            source: nowhere,
            destination: nowhere,
            server_name: None,
        };
        let protocol = match transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        let query = heddle_authz::Connection::new(heddle_authz::Transport::Plaintext, facts)
            .with_protocol(protocol, None)
            .with_queried_name(name.to_owned());
        let denial = egress.decide_query(&query).err()?;
        let ledger = Ledger { audit: &self.audit, identity: &self.identity };
        ledger.name_refused(name, &denial);
        Some(denial.to_string())
    }

    fn learn(&self, name: &str, addresses: &[IpAddr], ttl: Duration) {
        self.learned.learn(name, addresses, ttl, now_s());
    }

    fn find(&self, name: &str) -> Name {
        let targets = self.configuration.snapshot().targets.clone();
        let known = self.table.load();
        if Arc::ptr_eq(&known.0, &targets) {
            return known.1.find(name);
        }
        let fresh = Arc::new((targets.clone(), NameTable::new(targets.index())));
        self.table.store(fresh.clone());
        fresh.1.find(name)
    }

    async fn endpoints(&self, host: &Host, port: u16, own: Option<&str>) -> Vec<IpAddr> {
        let key = EndpointSetKey { host: host.clone(), port };
        let wait_max = Duration::from_secs(2);
        let find = |snapshot: &Arc<Snapshot>| snapshot.endpoints(&key).cloned();
        let name = ResourceName::Endpoints(key.clone());
        let found = match find(&self.configuration.snapshot()) {
            Some(found) => Some(found),
            None => self.configuration.wait_for(name, wait_max, find).await,
        };
        let endpoints = found.iter().flat_map(|set| &set.endpoints);
        endpoints
            .filter(|endpoint| endpoint.health == EndpointHealth::Healthy)
            .filter(|endpoint| own.is_none_or(|own| *own == *endpoint.hostname))
            .filter_map(|endpoint| match &endpoint.address {
                EndpointAddress::Address(address) => Some(address.ip()),
                EndpointAddress::Name(..) => None,
            })
            .collect()
    }

    async fn outside(&self, name: &str) -> io::Result<Option<Vec<IpAddr>>> {
        match self.client.request(&Request::Resolve(name.to_owned())).await {
            Ok(Grant::Addresses(addresses)) => Ok(Some(addresses)),
            Ok(Grant::Descriptor(_)) => Err(io::Error::other("a descriptor in place of addresses")),
            Err(broker::Error::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Where the system has no randomness, all proxies spread alike, which costs evenness and nothing else.
fn random_seed(provider: &heddle_tls::CryptoProvider) -> u64 {
    let mut bytes = [0; 8];
    let _ = provider.secure_random.fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
