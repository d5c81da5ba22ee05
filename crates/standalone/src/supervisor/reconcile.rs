//! Making what runs equal to what shall run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use heddle_proto::node::{DesiredState, DesiredWorkload, TransportProtocol};

use super::publish::{Publisher, Wish, host_address};
use super::{Command, Services, container, virtual_addresses, workload};
use crate::status::{MeshStatus, PublishedStatus};

/// What the supervisor's main loop tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Order {
    /// Whether the mesh stops.
    pub(super) stop: bool,
    /// How often the containers of a workload were to be started again, by id.
    pub(super) restarts: BTreeMap<String, u64>,
    /// How often the proxy of a workload was to be killed, by id.
    pub(super) proxy_kills: BTreeMap<String, u64>,
}

impl Order {
    /// Takes note of a command of the API.
    pub(super) fn take(&mut self, command: &Command) {
        match command {
            Command::RestartWorkload(id) => *self.restarts.entry(id.clone()).or_default() += 1,
            Command::KillProxy(id) => *self.proxy_kills.entry(id.clone()).or_default() += 1,
            Command::Stop => self.stop = true,
            Command::KillControl => {}
        }
    }
}

/// A workload that runs or is being stopped.
struct Handle {
    uid: String,
    orders: watch::Sender<container::Order>,
    grace: Duration,
}

/// Everything that runs.
struct Running {
    services: Arc<Services>,
    handles: BTreeMap<String, Handle>,
    tasks: JoinSet<String>,
    /// Resolvers for workloads without a proxy.
    resolvers: JoinSet<()>,
    publisher: Publisher,
    /// Ports that could not be opened are tried again after this.
    publish_again: Option<Instant>,
}

/// How long a port that could not be opened is left alone.
const PUBLISH_PAUSE: Duration = Duration::from_secs(2);

/// Follows the desired state until the mesh stops, and then until everything has ended.
pub(super) async fn run(
    services: Arc<Services>,
    mut wanted: watch::Receiver<Option<DesiredState>>,
    mut orders: watch::Receiver<Order>,
) {
    let mut running = Running {
        publisher: Publisher::new(services.broker.clone()),
        handles: BTreeMap::new(),
        tasks: JoinSet::new(),
        resolvers: JoinSet::new(),
        publish_again: None,
        services,
    };
    let mut changed = running.services.board.changed();
    loop {
        let order = orders.borrow_and_update().clone();
        if order.stop {
            return running.stop_all().await;
        }
        running.relay(&order);
        let desired = wanted.borrow_and_update().clone();
        if let Some(desired) = &desired {
            running.reconcile(desired);
            running.publish(desired).await;
            virtual_addresses::follow(&running.services, &desired.virtual_addresses).await;
        }
        let again = running.publish_again;
        tokio::select! {
            // An error means that the sender is gone, and with it the supervisor.
            _ = wanted.changed() => {}
            _ = orders.changed() => {}
            _ = changed.changed() => {}
            Some(ended) = running.tasks.join_next() => running.forget(ended),
            () = at(again) => {}
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

impl Running {
    /// Stops what shall not run, and starts what does not.
    fn reconcile(&mut self, desired: &DesiredState) {
        if let Err(error) = self.services.set_ranges(&desired.workload_ranges, &mut self.resolvers)
        {
            let error = super::probes::chain(&error);
            tracing::error!(%error, "cannot give the mesh its addresses");
        }
        self.services.names.set(&desired.names, "cluster.local");
        self.services.board.update_version(&desired.version);
        let by_id: BTreeMap<&str, &DesiredWorkload> =
            desired.workloads.iter().map(|workload| (workload.id.as_str(), workload)).collect();
        for (id, handle) in &self.handles {
            if by_id.get(id.as_str()).is_none_or(|workload| workload.uid != handle.uid) {
                handle.stop(Duration::MAX);
            }
        }
        // An address is free when the workload that had it has ended.
        let taken: BTreeSet<IpAddr> = self
            .handles
            .keys()
            .filter_map(|id| self.services.board.workload(id))
            .flat_map(|status| status.addresses)
            .collect();
        for (id, workload) in by_id {
            let waits = workload
                .addresses
                .iter()
                .filter_map(|text| text.parse().ok())
                .any(|address: IpAddr| taken.contains(&address));
            if !self.handles.contains_key(id) && !waits {
                self.start(workload);
            }
        }
    }

    fn start(&mut self, workload: &DesiredWorkload) {
        let (orders, receiver) = watch::channel(container::Order::default());
        let id = workload.id.clone();
        let handle = Handle {
            uid: workload.uid.clone(),
            orders,
            grace: Duration::from_millis(workload.termination_grace_ms),
        };
        self.handles.insert(id.clone(), handle);
        let running = workload::run(Arc::clone(&self.services), workload.clone(), receiver);
        self.tasks.spawn(async move {
            running.await;
            id
        });
    }

    fn forget(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(id) => drop(self.handles.remove(&id)),
            Err(error) => tracing::error!(%error, "a workload's task failed"),
        }
    }

    /// Passes wishes of the operator on.
    fn relay(&self, order: &Order) {
        for (id, handle) in &self.handles {
            let restart = order.restarts.get(id).copied().unwrap_or(0);
            let proxy_kills = order.proxy_kills.get(id).copied().unwrap_or(0);
            handle.orders.send_if_modified(|own| {
                let before = *own;
                own.restart = restart;
                own.proxy_kills = proxy_kills;
                *own != before
            });
        }
    }

    async fn publish(&mut self, desired: &DesiredState) {
        let status = self.services.board.snapshot();
        let (wishes, owners) = wishes(desired, &status, self.services.options.publish_address);
        let outcomes = self.publisher.apply(&wishes).await;
        let failed = outcomes.iter().any(Result::is_err);
        self.publish_again = failed.then(|| Instant::now() + PUBLISH_PAUSE);
        let mut by_workload: BTreeMap<(&str, &str), Vec<PublishedStatus>> = BTreeMap::new();
        for workload in &status.workloads {
            by_workload.insert((&workload.id, &workload.uid), Vec::new());
        }
        for ((wish, outcome), owner) in wishes.iter().zip(outcomes).zip(&owners) {
            let address = outcome.as_ref().map_or(wish.host, |address| *address);
            by_workload.entry((&owner.0, &owner.1)).or_default().push(PublishedStatus {
                host_address: address.ip(),
                host_port: address.port(),
                workload_port: wish.target.port(),
                wanted_port: wish.host.port(),
                service: wish.service.clone(),
                udp: wish.udp,
                error: outcome.err(),
            });
        }
        for ((id, uid), published) in by_workload {
            self.services.board.update(id, uid, |status| status.published = published);
        }
    }

    async fn stop_all(&mut self) {
        for handle in self.handles.values() {
            handle.stop(self.services.options.stop_max);
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Handle {
    /// Tells it to stop, within its grace period and `longest`. What was told first stays.
    fn stop(&self, longest: Duration) {
        let by = Instant::now() + self.grace.min(longest);
        self.orders.send_if_modified(|order| {
            let sooner = order.stop_by.is_none_or(|before| by < before);
            if sooner {
                order.stop_by = Some(by);
            }
            sooner
        });
    }
}

/// The ports that running workloads publish, and whose they are (id and uid).
fn wishes(
    desired: &DesiredState,
    status: &MeshStatus,
    own: IpAddr,
) -> (Vec<Wish>, Vec<(String, String)>) {
    let mut wishes = Vec::new();
    let mut owners = Vec::new();
    for workload in &desired.workloads {
        let Some(entry) =
            status.workloads.iter().find(|s| s.id == workload.id && s.uid == workload.uid)
        else {
            continue;
        };
        let Some(address) = entry.addresses.first() else { continue };
        for port in &workload.published_ports {
            let (Ok(host_port), Ok(target_port), Some(host)) = (
                u16::try_from(port.host_port),
                u16::try_from(port.workload_port),
                host_address(&port.host_address, own),
            ) else {
                continue;
            };
            wishes.push(Wish {
                host: SocketAddr::new(host, host_port),
                target: SocketAddr::new(*address, target_port),
                workload: format!("{}/{}", workload.namespace, workload.name),
                service: port.service.clone(),
                ready: entry.ready,
                udp: port.protocol() == TransportProtocol::Udp,
            });
            owners.push((workload.id.clone(), workload.uid.clone()));
        }
    }
    (wishes, owners)
}
