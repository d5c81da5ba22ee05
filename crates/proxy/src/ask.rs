//! Requests that the proxy makes for itself: to external authorisers, and for the keys of token issuers.
//!
//! They go the way of the workload's own requests: the same destinations, mutual TLS, pools and limits. Answers are
//! bounded in size and time; nothing is retried but a kept connection that had been closed meanwhile.

pub(crate) mod grpc;
mod http1;
mod http2;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_authz::{OutboundPolicy, OutboundTarget, Permit};
use heddle_balance::{Balancer, Pick, Picked};
use heddle_ident::{Host, HostPattern, Locality, NetworkName};
use heddle_ir::destination::{ClientTls, EndpointSource, LoadBalancing, TlsOrigination};
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth, EndpointSetKey};
use heddle_ir::outbound::OutboundKey;
use heddle_ir::protocol::Protocol;
use heddle_ir::workload::MeshTransport;
use tokio::time::Instant;

use crate::built_in;
use crate::find;
use crate::kept;
use crate::snapshot::{DestinationState, OutboundState};
use crate::upstream::{self, Target, UpstreamError, UpstreamProtocol};
use crate::worker::Worker;

/// Destinations that a thread remembers; beyond, it begins anew.
const KNOWN_MAX: usize = 256;

/// What is asked.
pub(crate) struct Asking<'a> {
    pub(crate) method: &'a str,
    /// Path and query.
    pub(crate) target: &'a str,
    pub(crate) authority: &'a str,
    /// Names are lower case; framing is not among them.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Bytes,
    /// The longest body of an answer.
    pub(crate) reply_bytes_max: usize,
}

/// What was answered.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names are lower case; with the trailers.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody is configured there.
    #[error("nothing is configured for {0}:{1}")]
    Unknown(Host, u16),
    /// No endpoint can be picked.
    #[error("no endpoint is ready")]
    NoEndpoint,
    /// No connection.
    #[error("no connection")]
    Upstream(#[from] UpstreamError),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
    /// The same, of HTTP/2.
    #[error("the HTTP/2 stream broke")]
    Stream(#[from] h2::Error),
    /// It is not HTTP.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// Its body is over the limit.
    #[error("the answer is too long")]
    TooLong,
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The request cannot be written.
    #[error("the request cannot be written")]
    Unwritable,
}

/// Destinations of the proxy's own requests, as a thread remembers them.
#[derive(Default)]
pub(crate) struct Known {
    services: RefCell<HashMap<(Host, u16), OfGeneration>>,
    outside: RefCell<HashMap<(Host, u16, bool), Arc<DestinationState>>>,
}

/// What a configuration has for a service, and the generation of that configuration.
type OfGeneration = (u64, Arc<OutboundState>);

/// A place to ask.
pub(crate) struct Place {
    pub(crate) state: Arc<DestinationState>,
    pub(crate) permit: Permit,
}

/// Finds a service of the mesh; waits for configuration that is not held.
pub(crate) async fn service(
    worker: &Rc<Worker>,
    host: &Host,
    port: u16,
) -> Result<Place, AskError> {
    let snapshot = worker.shared.configuration.snapshot();
    let key = (host.clone(), port);
    let now_ms = worker.now_ms(Instant::now());
    let known = worker.asked.services.borrow().get(&key).cloned();
    let outbound = match known {
        Some((generation, outbound)) if generation == snapshot.generation => outbound,
        _ => {
            let unknown = || AskError::Unknown(host.clone(), port);
            let settings = snapshot.settings.as_ref().ok_or_else(unknown)?;
            let frontends = &snapshot.targets.index().frontends;
            let namespace = &settings.workload.namespace;
            let full = frontends.iter().find_map(|frontend| match &frontend.host {
                HostPattern::Exact(own) => (is_named(own, host, namespace)
                    && frontend.ports.iter().any(|own| own.number == port))
                .then_some(own),
                _ => None,
            });
            let host = full.ok_or_else(unknown)?;
            let (scope, host) = (settings.scope.clone(), host.as_str().into());
            let found = find::table(worker, &snapshot, &OutboundKey { scope, host, port }).await;
            let found = found.ok_or_else(unknown)?;
            let mut services = worker.asked.services.borrow_mut();
            kept::put(&mut services, KNOWN_MAX, key, (snapshot.generation, found.clone()));
            found
        }
    };
    outbound.touch(now_ms);
    // The service itself, whatever routes make of requests to it.
    let table = outbound.routes.outbound();
    let own = outbound.destinations.iter().find(|state| {
        let id = &state.destination.id;
        Some(&id.host) == table.host.as_ref() && id.port == port && id.subset.is_empty()
    });
    let state = own.or_else(|| outbound.destinations.first()).cloned();
    let state = state.ok_or(AskError::NoEndpoint)?;
    Ok(Place { state, permit: permit(worker)? })
}

/// Whether a service is the one that a name means, which may leave out the domain, as a workload of that namespace may.
fn is_named(full: &Host, name: &Host, namespace: &str) -> bool {
    let rest = full.as_str().strip_prefix(name.as_str());
    let Some(rest) = rest else { return false };
    rest.is_empty()
        || rest == ".cluster.local"
        || rest == ".svc.cluster.local"
        || rest.strip_prefix('.').and_then(|rest| rest.strip_prefix(namespace))
            == Some(".svc.cluster.local")
}

/// A server that is not of the mesh, by its name.
pub(crate) fn outside(
    worker: &Worker,
    host: &Host,
    port: u16,
    tls: bool,
) -> Result<Place, AskError> {
    let mut outside = worker.asked.outside.borrow_mut();
    let key = (host.clone(), port, tls);
    let known = outside.get(&key).cloned();
    let state = known.unwrap_or_else(|| {
        let made = outside_state(worker, host, port, tls);
        kept::put(&mut outside, KNOWN_MAX, key, made.clone());
        made
    });
    drop(outside);
    Ok(Place { state, permit: permit(worker)? })
}

fn permit(worker: &Worker) -> Result<Permit, AskError> {
    let snapshot = worker.shared.configuration.snapshot();
    let index = snapshot.targets.index();
    // Whoever configures the proxy has it ask; policies on what the workload does to others are not about that.
    let policy = OutboundPolicy::new(index, None, snapshot.generation);
    let permit = policy.permit_unjudged(OutboundTarget::Configured);
    permit.map_err(|_| AskError::NoEndpoint)
}

impl Place {
    /// A place whose destination is known.
    pub(crate) fn of(worker: &Worker, state: Arc<DestinationState>) -> Result<Self, AskError> {
        Ok(Self { state, permit: permit(worker)? })
    }
}

/// One endpoint and nothing else, reached as the mesh reaches it.
pub(crate) fn endpoint_state(worker: &Worker, endpoint: &Endpoint) -> Arc<DestinationState> {
    let (host, port) = match &endpoint.address {
        EndpointAddress::Address(address) => (Host::of_address(address.ip()), address.port()),
        EndpointAddress::Name(host, port) => (host.clone(), *port),
    };
    state_of(worker, &host, port, ClientTls::Auto, endpoint.clone())
}

/// Opens a connection and closes it again.
pub(crate) async fn connect(worker: &Rc<Worker>, place: &Place) -> Result<(), AskError> {
    let target = pick(worker, &place.state)?;
    let endpoint = upstream::endpoint_of(worker, &place.state, &target, UpstreamProtocol::Http1)?;
    upstream::open::open(worker, &place.state, &endpoint, &place.permit).await?;
    Ok(())
}

fn outside_state(worker: &Worker, host: &Host, port: u16, tls: bool) -> Arc<DestinationState> {
    let security = if tls {
        ClientTls::Originate(TlsOrigination::simple(host.as_str()))
    } else {
        ClientTls::Disable
    };
    let endpoint = Endpoint {
        workload: None,
        address: EndpointAddress::Name(host.clone(), port),
        weight: 1,
        health: EndpointHealth::Healthy,
        labels: Arc::default(),
        identity: None,
        transport: MeshTransport::None,
        locality: Locality::default(),
        network: NetworkName::new(""),
        namespace: Arc::default(),
        workload_name: Arc::default(),
        canonical_name: Arc::default(),
        canonical_revision: Arc::default(),
        hostname: Arc::default(),
        health_check: None,
    };
    state_of(worker, host, port, security, endpoint)
}

fn state_of(
    worker: &Worker,
    host: &Host,
    port: u16,
    security: ClientTls,
    endpoint: Endpoint,
) -> Arc<DestinationState> {
    let pool = built_in::connection_pool();
    let (name, protocol) = (host.as_str(), Protocol::Detect);
    let alone = built_in::destination(name, host.clone(), port, protocol, security, pool);
    let mut destination = (*alone.destination).clone();
    destination.load_balancing = LoadBalancing::Random;
    destination.endpoints = EndpointSource::Set(EndpointSetKey { host: host.clone(), port });
    let now_ms = worker.now_ms(Instant::now());
    let endpoints = [Arc::new(endpoint)];
    let balancer = Balancer::new(&destination, &endpoints, None, None, worker.random(), now_ms);
    Arc::new(DestinationState {
        destination: Arc::new(destination),
        balancer,
        limits: Arc::default(),
        credentials: Arc::default(),
    })
}

fn pick(worker: &Worker, state: &DestinationState) -> Result<Target, AskError> {
    let pick = Pick {
        hash: None,
        random: worker.random(),
        now_ms: worker.now_ms(Instant::now()),
        tried: &[],
        other_tiers: false,
        session: None,
    };
    match state.balancer.pick(&pick) {
        Some(Picked::Endpoint(place)) => {
            let slot = state.balancer.slots().get(place).ok_or(AskError::NoEndpoint)?;
            Ok(Target::Endpoint(slot.endpoint.clone(), slot.state.clone()))
        }
        Some(Picked::OriginalDestination) | None => Err(AskError::NoEndpoint),
    }
}

/// Asks over HTTP/1.
pub(crate) async fn over_http1(
    worker: &Rc<Worker>,
    place: &Place,
    asking: &Asking<'_>,
    timeout: Duration,
) -> Result<Reply, AskError> {
    let asked = Box::pin(http1::ask(worker, place, asking));
    tokio::time::timeout(timeout, asked).await.unwrap_or(Err(AskError::Timeout(timeout)))
}

/// Asks over HTTP/2.
pub(crate) async fn over_http2(
    worker: &Rc<Worker>,
    place: &Place,
    asking: &Asking<'_>,
    timeout: Duration,
) -> Result<Reply, AskError> {
    let asked = Box::pin(http2::ask(worker, place, asking));
    tokio::time::timeout(timeout, asked).await.unwrap_or(Err(AskError::Timeout(timeout)))
}
