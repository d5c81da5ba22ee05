//! Finding what speaks for a request or stream: a table of routes that is held or is asked for, the workload at an
//! address, or nothing that is configured.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::{OutboundPolicy, OutboundRefusal, OutboundTarget};
use heddle_balance::Balancer;
use heddle_ident::{Host, NetworkName};
use heddle_ir::destination::ClientTls;
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth};
use heddle_ir::outbound::OutboundKey;
use heddle_ir::protocol::Protocol;
use heddle_ir::proxy::Limits;
use heddle_ir::resource::ResourceName;
use heddle_ir::workload::Workload;
use heddle_route::Speaker;
use heddle_telemetry::Reason;
use heddle_telemetry::istio::PASSTHROUGH;
use heddle_telemetry::mesh::Direction;
use tokio::time::Instant;

use crate::built_in;
use crate::egress::account::Ledger;
use crate::events::{Parties, REGISTRY_HINT};
use crate::forward::answer::Answer;
use crate::gateway::Edge;
use crate::kept;
use crate::names::now_s;
use crate::snapshot::{DestinationState, OutboundState, Snapshot};
use crate::worker::Worker;

/// Destinations by address that a thread keeps; beyond, it begins anew.
const DIRECT_MAX: usize = 1024;

/// What speaks for a request.
pub(crate) enum Found {
    /// A table of routes.
    Routes(Arc<OutboundState>),
    /// Nothing but the address itself.
    Direct(Reached, Arc<DestinationState>),
}

/// Who says how to reach what no table speaks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reached {
    /// Configuration.
    Configured,
    /// Nobody: it is passed through.
    Unknown,
}

impl Reached {
    /// What is asked for of a connection that was made to this address.
    pub(crate) fn target(self, destination: SocketAddr) -> OutboundTarget {
        match self {
            Self::Configured => OutboundTarget::Configured,
            Self::Unknown => OutboundTarget::Unknown(destination.ip().to_canonical()),
        }
    }
}

/// Finds for the requests of one connection, and remembers: most ask for the same.
pub(crate) struct Finder {
    destination: SocketAddr,
    last: Option<Last>,
    /// At a gateway, what is known of the connection.
    edge: Option<Rc<Edge>>,
}

struct Last {
    generation: u64,
    authority: String,
    outbound: Arc<OutboundState>,
}

impl Finder {
    pub(crate) fn new(destination: SocketAddr, edge: Option<Rc<Edge>>) -> Self {
        Self { destination, last: None, edge }
    }

    /// What is known of the connection where it came to a gateway; who enters there is not looked for by address.
    pub(crate) fn edge(&self) -> Option<&Rc<Edge>> {
        self.edge.as_ref()
    }

    /// What speaks for a request with this authority; waits for configuration that is not held.
    pub(crate) async fn find(
        &mut self,
        worker: &Rc<Worker>,
        authority: &str,
        now: Instant,
    ) -> Result<Found, Answer> {
        let snapshot = worker.shared.configuration.snapshot();
        if let Some(last) = &self.last
            && last.generation == snapshot.generation
            && last.authority == authority
        {
            last.outbound.touch(worker.now_ms(now));
            return Ok(Found::Routes(last.outbound.clone()));
        }
        let authority = authority.to_owned();
        let found = find(worker, snapshot.clone(), self.destination, Some(&authority)).await?;
        if let Found::Routes(outbound) = &found {
            let generation = snapshot.generation;
            self.last = Some(Last { generation, authority, outbound: outbound.clone() });
        }
        Ok(found)
    }
}

/// The table of routes of this key, as the snapshot has it, else as soon as it has come; it counts as used.
pub(crate) async fn table(
    worker: &Worker,
    snapshot: &Arc<Snapshot>,
    key: &OutboundKey,
) -> Option<Arc<OutboundState>> {
    let find = |snapshot: &Arc<Snapshot>| snapshot.outbounds.get(key).cloned();
    let mut found = find(snapshot);
    if found.is_none() {
        let limits = snapshot.settings.as_ref().map_or_else(Limits::default, |s| s.limits);
        let name = ResourceName::Outbound(key.clone());
        let configuration = &worker.shared.configuration;
        // In memory of its own, which most requests do not need.
        found = Box::pin(configuration.wait_for(name, limits.config_wait_max, find)).await;
    }
    let found = found?;
    found.touch(worker.now_ms(Instant::now()));
    Some(found)
}

/// What speaks for a request with this authority, or for a stream without one, to `destination`.
pub(crate) async fn find(
    worker: &Rc<Worker>,
    snapshot: Arc<Snapshot>,
    destination: SocketAddr,
    authority: Option<&str>,
) -> Result<Found, Answer> {
    let targets = &snapshot.targets;
    let speaker = targets.speaker(authority, destination);
    let Some(settings) = &snapshot.settings else { return Err(Answer::no_destination()) };
    if let Speaker::Table(host) = speaker {
        let scope = settings.scope.clone();
        let key = OutboundKey { scope, host, port: destination.port() };
        let outbound = table(worker, &snapshot, &key).await;
        let outbound = outbound.ok_or_else(Answer::no_destination)?;
        if authority.is_some()
            && let Some(state) = heard(worker, &outbound, destination)
        {
            return Ok(Found::Direct(Reached::Configured, state));
        }
        return Ok(Found::Routes(outbound));
    }
    if speaker == Speaker::Workload {
        let address = destination.ip().to_canonical();
        let network = settings.workload.network.clone();
        let find = |snapshot: &Arc<Snapshot>| snapshot.workloads.get(&address).cloned();
        let mut known = find(&snapshot);
        if known.is_none() {
            let name = ResourceName::Workload(network, address);
            let wait_max = settings.limits.config_wait_max;
            known = Box::pin(worker.shared.configuration.wait_for(name, wait_max, find)).await;
        }
        if let Some(workload) = known {
            let state = worker.direct.workload(worker, &workload, destination);
            return Ok(Found::Direct(Reached::Configured, state));
        }
    }
    let target = OutboundTarget::Unknown(destination.ip().to_canonical());
    let policy = OutboundPolicy::new(targets.index(), None, snapshot.generation);
    match policy.admits(target) {
        Ok(()) => Ok(Found::Direct(Reached::Unknown, worker.direct.passthrough())),
        Err(refusal) => {
            tell(worker, destination, authority, refusal);
            Err(match refusal {
                OutboundRefusal::InsideMesh(_) => Answer::no_destination(),
                // As Istio's block-all route answers.
                OutboundRefusal::NotConfigured(_) => {
                    Answer { status: 502, ..Answer::no_destination() }
                }
            })
        }
    }
}

/// Where requests on a port go that declares streams: there are no rules for requests, and rules on what is said made them
/// heard.
fn heard(
    worker: &Worker,
    outbound: &OutboundState,
    destination: SocketAddr,
) -> Option<Arc<DestinationState>> {
    let table = outbound.routes.outbound();
    if table.protocol != Protocol::Tcp {
        return None;
    }
    let address = destination.ip().to_canonical();
    let (place, _) = outbound.routes.decide_tcp(address, worker.random())?.destination?;
    outbound.destinations.get(place).cloned()
}

/// Names what was asked for by the host that the client named, not only by its address.
fn tell(
    worker: &Worker,
    destination: SocketAddr,
    authority: Option<&str>,
    refusal: OutboundRefusal,
) {
    let text = if let Some(authority) = authority.filter(|authority| !authority.is_empty()) {
        format!("{authority} at {destination}")
    } else {
        {
            let names = worker.shared.names.of(destination.ip(), now_s()).join(", ");
            if names.is_empty() {
                destination.to_string()
            } else {
                format!("{names} at {destination}")
            }
        }
    };
    let host = authority.unwrap_or_default();
    Ledger::of(worker).not_configured(destination, host, &refusal);
    let (direction, reason) = (Direction::Outbound, Reason::DestinationUnknown);
    let parties = Parties { direction, source: None, peer: "", destination: &text };
    let hint = match refusal {
        OutboundRefusal::InsideMesh(_) => "does a Service or a workload have that address?",
        OutboundRefusal::NotConfigured(_) => REGISTRY_HINT,
    };
    worker.events.refused(parties, reason, &refusal, hint);
}

/// Destinations that are addresses, as a thread keeps them.
#[derive(Default)]
pub(crate) struct DirectDestinations {
    passthrough: RefCell<Option<Arc<DestinationState>>>,
    workloads: RefCell<HashMap<SocketAddr, DirectWorkload>>,
}

/// The record that it was made of, and the destination.
type DirectWorkload = (Arc<Workload>, Arc<DestinationState>);

impl DirectDestinations {
    /// Whatever is outside of the mesh, as it is.
    fn passthrough(&self) -> Arc<DestinationState> {
        let mut passthrough = self.passthrough.borrow_mut();
        let make = || {
            let host = name_of(PASSTHROUGH);
            let pool = built_in::connection_pool();
            built_in::destination(PASSTHROUGH, host, 0, Protocol::Detect, ClientTls::Disable, pool)
        };
        passthrough.get_or_insert_with(make).clone()
    }

    /// A workload at its own address.
    fn workload(
        &self,
        worker: &Worker,
        workload: &Arc<Workload>,
        address: SocketAddr,
    ) -> Arc<DestinationState> {
        let mut workloads = self.workloads.borrow_mut();
        if let Some((known, state)) = workloads.get(&address)
            && Arc::ptr_eq(known, workload)
        {
            return state.clone();
        }
        let now_ms = worker.now_ms(Instant::now());
        let state = workload_state(workload, address, worker.random(), now_ms);
        kept::put(&mut workloads, DIRECT_MAX, address, (workload.clone(), state.clone()));
        state
    }
}

fn workload_state(
    workload: &Workload,
    address: SocketAddr,
    seed: u64,
    now_ms: u64,
) -> Arc<DestinationState> {
    let host = name_of(&address.ip().to_string());
    let pool = built_in::connection_pool();
    let name = &*workload.workload_name;
    let (port, protocol) = (address.port(), Protocol::Detect);
    let alone = built_in::destination(name, host, port, protocol, ClientTls::Auto, pool);
    let mut destination = (*alone.destination).clone();
    destination.service_namespace = workload.namespace.clone();
    destination.load_balancing = heddle_ir::destination::LoadBalancing::Random;
    destination.endpoints =
        heddle_ir::destination::EndpointSource::Set(heddle_ir::endpoint::EndpointSetKey {
            host: destination.id.host.clone(),
            port: address.port(),
        });
    let endpoint = Endpoint {
        workload: Some(workload.id.clone()),
        address: EndpointAddress::Address(address),
        weight: 1,
        health: EndpointHealth::Healthy,
        labels: workload.labels.clone(),
        identity: Some(workload.identity.clone()),
        transport: workload.taken_transport(),
        locality: workload.locality.clone(),
        network: NetworkName::clone(&workload.network),
        namespace: workload.namespace.clone(),
        workload_name: workload.workload_name.clone(),
        canonical_name: workload.canonical_name.clone(),
        canonical_revision: workload.canonical_revision.clone(),
        hostname: Arc::default(),
        health_check: None,
    };
    let balancer = Balancer::new(&destination, &[Arc::new(endpoint)], None, None, seed, now_ms);
    Arc::new(DestinationState {
        destination: Arc::new(destination),
        balancer,
        limits: Arc::default(),
        credentials: Arc::default(),
    })
}

/// A host for telemetry. The texts are constants and addresses, which are hosts; `invalid` (RFC 6761) stands for what
/// cannot happen.
pub(crate) fn name_of(text: &str) -> Host {
    Host::parse(text).or_else(|_| Host::parse("invalid")).expect("`invalid` is a host name")
}
