//! Connections to endpoints: opened with the permit of the request, kept for the next one.

mod made_of;
pub(crate) mod open;
pub(crate) mod proof;
mod told;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use heddle_authz::{OutboundRefusal, Permit};
use heddle_balance::{EndpointState, Overflow, Resource, Token};
use heddle_http::HandshakeError;
use heddle_http::pool::{EndpointPool, PoolLimits, Upstream};
use heddle_ident::SpiffeId;
use heddle_ir::destination::{ClientTls, ConnectionPool, Destination, ProxyProtocolVersion};
use heddle_ir::endpoint::{Endpoint, EndpointAddress};
use heddle_net::broker;
use heddle_net::socket::ConnectError;
use heddle_telemetry::istio::RequestRecorder;
use heddle_tls::{Expected, MeshClient, PeerVerificationError, alpn};
use heddle_wire::proxy_protocol;
use rustls_pki_types::ServerName;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::egress::account::Denied;
use crate::outbound::Accepted;
use crate::snapshot::{DestinationLimits, DestinationState};
use crate::upstream::proof::ServerProof;
use crate::worker::Worker;

use made_of::MadeOf;
pub(crate) use open::{open, open_tunnel, resolve};
pub(crate) use told::{reason_of, refusal_of, tell};

/// A connection that counts against the limit of its destination for as long as it is open.
pub(crate) type PooledConnection = Upstream<ConnectionToken>;

/// What is spoken on a connection; connections are not shared between protocols.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum UpstreamProtocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Opaque bytes.
    Tcp,
}

/// Tells the pools of a thread apart. The source identity is that of the worker's workload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct EndpointKey {
    target: TargetKey,
    protocol: UpstreamProtocol,
    /// Generation of the identity; 0 without TLS of the mesh.
    identity_generation: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum TargetKey {
    /// An endpoint of a destination: the address of its state, which lives as long as the pool refers to it, and where it is
    /// reached, as far as that is known.
    Endpoint(usize, Option<SocketAddr>),
    /// An address that no endpoint stands for, of a destination.
    Address(SocketAddr, usize),
}

/// Why no connection to an endpoint could be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// A policy on what the workload does to others denies it.
    #[error("egress is not allowed: {0}")]
    Denied(Box<Denied>),
    /// What the index says of the destination.
    #[error(transparent)]
    NotAdmitted(#[from] OutboundRefusal),
    /// The endpoint's certificate does not prove the identity it must have.
    #[error("the endpoint is not who it must be")]
    Identity(#[from] PeerVerificationError),
    /// TCP.
    #[error("the endpoint cannot be reached")]
    Connect(#[from] ConnectError),
    /// TLS.
    #[error("no TLS connection to the endpoint")]
    Handshake(#[from] HandshakeError),
    /// The endpoint does not speak HTTP/2.
    #[error("no HTTP/2 with the endpoint")]
    Http2(#[source] h2::Error),
    /// The endpoint takes no request on a new HTTP/2 connection.
    #[error("the endpoint takes no request on a new HTTP/2 connection")]
    Http2Refused,
    /// Mutual TLS is due and the proxy has no valid certificate. Never answered by plaintext.
    #[error("the proxy has no valid certificate to connect with")]
    NoIdentity,
    /// Whoever connects to the outside in the proxy's place refused or failed.
    #[error("no connection to the outside of the mesh")]
    Outside(#[from] broker::Error),
    /// The connection took too long, TLS included.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// A limit of the destination is reached.
    #[error("a limit of the destination is reached")]
    Overflow(#[from] Overflow),
    /// The name of the endpoint cannot be resolved.
    #[error("{name} cannot be resolved")]
    Resolve {
        /// The name.
        name: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The endpoint was asked for a tunnel and did not open it.
    #[error("the endpoint opens no tunnel to {asked}: {why}")]
    Tunnel {
        /// The host and port behind.
        asked: String,
        /// What it did instead.
        why: String,
    },
    /// The header of the PROXY protocol could not be sent.
    #[error("the connection broke before it had begun")]
    Header(#[source] std::io::Error),
    /// The configured TLS settings cannot be used.
    #[error("the TLS settings of the destination cannot be used: {0}")]
    TlsSettings(String),
}

/// A unit of a destination's connection limit, and what else lives as long as the connection. In a box: it is moved with
/// every request.
#[derive(Debug)]
pub(crate) struct ConnectionToken(Box<Held>);

#[derive(Debug)]
struct Held {
    limits: Arc<DestinationLimits>,
    token: Option<Token>,
    /// Connections to the same endpoint, this one included.
    open: Rc<Cell<usize>>,
    proof: Option<ServerProof>,
}

impl ConnectionToken {
    fn new(state: &DestinationState, endpoint: &UpstreamEndpoint, token: Token) -> Self {
        endpoint.open.set(endpoint.open.get() + 1);
        let (limits, open) = (state.limits.clone(), endpoint.open.clone());
        Self(Box::new(Held { limits, token: Some(token), open, proof: None }))
    }

    /// What the server has proven itself with; of connections of HTTP/1, which one request has at a time.
    pub(crate) fn proof(&self) -> Option<&ServerProof> {
        self.0.proof.as_ref()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        if let Some(token) = self.token.take() {
            self.limits.breakers.release(token);
        }
        self.limits.notify_freed();
    }
}

/// A unit of another limit, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct LimitToken {
    limits: Arc<DestinationLimits>,
    token: Option<Token>,
}

impl LimitToken {
    /// Takes a unit.
    pub(crate) fn acquire(state: &DestinationState, resource: Resource) -> Result<Self, Overflow> {
        let limit = resource.limit(&state.destination.connection_pool);
        let token = state.limits.breakers.try_acquire(resource, limit)?;
        Ok(Self { limits: state.limits.clone(), token: Some(token) })
    }
}

impl Drop for LimitToken {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.limits.breakers.release(token);
        }
    }
}

/// How an endpoint is connected to.
enum Security {
    /// Bytes as they are.
    Plain,
    /// Mutual TLS of the mesh.
    Mesh { client: MeshClient, server_name: ServerName<'static> },
    /// TLS to something outside of the mesh.
    Originate(Rc<heddle_tls::OriginationConfig>),
}

/// On which side of the workload's network namespace an endpoint is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// The own application.
    Application,
    /// In the mesh.
    Inside,
    /// Beyond it, where a namespace of its own may have no way to.
    Outside,
}

fn is_loopback(address: &EndpointAddress) -> bool {
    matches!(address, EndpointAddress::Address(address) if address.ip().to_canonical().is_loopback())
}

fn place_of(worker: &Worker, target: &Target) -> Place {
    let address = match target {
        Target::Application(_) => return Place::Application,
        // Something beside the application, as an authoriser in the same pod; never the host that the broker lives on.
        Target::Endpoint(endpoint, _) if is_loopback(&endpoint.address) => {
            return Place::Application;
        }
        Target::Endpoint(endpoint, _) => match &endpoint.address {
            EndpointAddress::Address(address) => address,
            EndpointAddress::Name(..) => return Place::Outside,
        },
        Target::Address(address) => address,
    };
    let snapshot = worker.shared.configuration.snapshot();
    let is_in_mesh = snapshot.targets.is_in_mesh(address.ip().to_canonical());
    if is_in_mesh && !worker.shared.is_outside { Place::Inside } else { Place::Outside }
}

/// An endpoint as a thread connects to it: its idle connections, its TLS sessions.
pub(crate) struct UpstreamEndpoint {
    state: Option<Weak<EndpointState>>,
    /// What its settings were made of; others with the same settings replace it.
    made_of: RefCell<MadeOf>,
    address: EndpointAddress,
    place: Place,
    identity_generation: u64,
    security: Security,
    /// The header of the PROXY protocol that its connections begin with; none: they begin with none.
    header: Option<Box<[u8]>>,
    /// Idle HTTP/1 connections.
    pub(crate) pool: Rc<EndpointPool<ConnectionToken>>,
    /// The HTTP/2 connections.
    pub(crate) http2: RefCell<Vec<crate::forward::http2_client::SharedConnection>>,
    /// Connections to it that are open.
    open: Rc<Cell<usize>>,
    /// Woken when a connection to it has become idle; only requests that wait for one listen.
    freed: Notify,
    /// Held while a HTTP/2 connection is being made.
    pub(crate) http2_connecting: tokio::sync::Mutex<()>,
    /// What counts requests to it: of HTTP, and of gRPC.
    pub(crate) recorders: [OnceCell<Option<Arc<RequestRecorder>>>; 2],
    /// Keeps the address that keys it from being used for anything else.
    _limits: Arc<DestinationLimits>,
}

impl std::fmt::Debug for UpstreamEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamEndpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

impl UpstreamEndpoint {
    /// Whether it is still configured, and of this generation; else its idle connections are closed.
    pub(crate) fn keep_or_evict(&self, identity_generation: u64) -> bool {
        let configured = self.state.as_ref().is_none_or(|state| state.strong_count() > 0);
        let current =
            self.identity_generation == 0 || self.identity_generation == identity_generation;
        if configured && current {
            return true;
        }
        self.retire();
        false
    }

    /// Whether somebody uses it, or has a connection to it.
    fn is_in_use(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1 || self.open.get() > 0
    }

    /// Closes idle connections, and those in use once they are idle.
    fn retire(&self) {
        self.pool.evict();
        self.http2.borrow_mut().clear();
    }

    /// Whether connections to it are mutual TLS of the mesh.
    pub(crate) fn is_mutual_tls(&self) -> bool {
        matches!(self.security, Security::Mesh { .. })
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// An endpoint.
    Endpoint(Arc<Endpoint>, Arc<EndpointState>),
    /// The address that the client connected to.
    Address(SocketAddr),
    /// The own application at this address.
    Application(SocketAddr),
}

impl Target {
    /// The endpoint.
    pub(crate) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        match self {
            Self::Endpoint(endpoint, _) => Some(endpoint),
            Self::Address(_) | Self::Application(_) => None,
        }
    }
}

/// Where a client's connection came from, and where it was made to.
pub(crate) type ClientAddresses = (SocketAddr, SocketAddr);

/// As [`endpoint_of`], for one client where the endpoint is told of the client by the PROXY protocol: its connections are
/// nobody else's then and are not kept.
pub(crate) fn endpoint_for(
    worker: &Worker,
    state: &DestinationState,
    target: &Target,
    protocol: UpstreamProtocol,
    client: Option<&Accepted>,
) -> Result<Rc<UpstreamEndpoint>, UpstreamError> {
    let Some(version) = state.destination.proxy_protocol else {
        return endpoint_of(worker, state, target, protocol);
    };
    let client = client.map(|accepted| (accepted.source, accepted.destination));
    let mut header = Vec::new();
    match version {
        ProxyProtocolVersion::V1 => proxy_protocol::write_v1(client, &mut header),
        ProxyProtocolVersion::V2 => proxy_protocol::write_v2(client, &mut header),
    }
    let made = make_endpoint(worker, state, target, protocol, Some(header.into()))?;
    Ok(Rc::new(made))
}

/// Finds, or begins, what the thread keeps about an endpoint.
pub(crate) fn endpoint_of(
    worker: &Worker,
    state: &DestinationState,
    target: &Target,
    protocol: UpstreamProtocol,
) -> Result<Rc<UpstreamEndpoint>, UpstreamError> {
    if state.destination.proxy_protocol.is_some() {
        return endpoint_for(worker, state, target, protocol, None);
    }
    let destination = &state.destination;
    let mesh = destination.tls.is_mesh(target.endpoint().map(|endpoint| endpoint.transport));
    let identity_generation = if mesh { worker.shared.identity.generation() } else { 0 };
    let target_key = match target {
        Target::Endpoint(endpoint, state) => {
            let address = match endpoint.address {
                EndpointAddress::Address(address) => Some(address),
                EndpointAddress::Name(..) => None,
            };
            TargetKey::Endpoint(Arc::as_ptr(state).addr(), address)
        }
        Target::Address(address) | Target::Application(address) => {
            TargetKey::Address(*address, Arc::as_ptr(&state.limits).addr())
        }
    };
    let key = EndpointKey { target: target_key, protocol, identity_generation };
    if let Some(found) = worker.endpoints.borrow().get(&key) {
        if found.made_of.borrow_mut().suits(state, target) {
            return Ok(found.clone());
        }
        found.retire();
    }
    let made = Rc::new(make_endpoint(worker, state, target, protocol, None)?);
    worker.endpoints.borrow_mut().insert(key, made.clone(), UpstreamEndpoint::is_in_use);
    Ok(made)
}

fn make_endpoint(
    worker: &Worker,
    state: &DestinationState,
    target: &Target,
    protocol: UpstreamProtocol,
    header: Option<Box<[u8]>>,
) -> Result<UpstreamEndpoint, UpstreamError> {
    let destination = &state.destination;
    let mesh = destination.tls.is_mesh(target.endpoint().map(|endpoint| endpoint.transport));
    let identity_generation = if mesh { worker.shared.identity.generation() } else { 0 };
    let security = security_of(worker, state, target, protocol, mesh)?;
    let limits = pool_limits(&destination.connection_pool);
    Ok(UpstreamEndpoint {
        made_of: RefCell::new(MadeOf::new(state, target)),
        header,
        state: match target {
            Target::Endpoint(_, state) => Some(Arc::downgrade(state)),
            Target::Address(_) | Target::Application(_) => None,
        },
        address: match target {
            Target::Endpoint(endpoint, _) => endpoint.address.clone(),
            Target::Address(address) | Target::Application(address) => {
                EndpointAddress::Address(*address)
            }
        },
        place: place_of(worker, target),
        identity_generation,
        security,
        pool: EndpointPool::new(&worker.keeper, limits),
        http2: RefCell::default(),
        open: Rc::default(),
        freed: Notify::new(),
        http2_connecting: tokio::sync::Mutex::default(),
        recorders: Default::default(),
        _limits: state.limits.clone(),
    })
}

fn pool_limits(pool: &ConnectionPool) -> PoolLimits {
    PoolLimits {
        idle_timeout: pool.http_idle_timeout,
        requests_max: pool.requests_per_connection_max,
        age_max: pool.connection_duration_max,
    }
}

fn security_of(
    worker: &Worker,
    state: &DestinationState,
    target: &Target,
    protocol: UpstreamProtocol,
    mesh: bool,
) -> Result<Security, UpstreamError> {
    let destination = &state.destination;
    if mesh {
        let identity = worker.shared.identity.current().ok_or(UpstreamError::NoIdentity)?;
        let protocols = match protocol {
            UpstreamProtocol::Http1 => alpn::CLIENT_HTTP_11,
            UpstreamProtocol::Http2 => alpn::CLIENT_H2,
            UpstreamProtocol::Tcp => alpn::CLIENT_TCP,
        };
        let expected = expected_of(worker, destination, target);
        let client = identity
            .client(protocols, expected)
            .map_err(|error| UpstreamError::TlsSettings(error.to_string()))?;
        let id = &destination.id;
        let named = destination.mesh_server_name.as_deref();
        let server_name = named
            .and_then(|name| ServerName::try_from(name.to_owned()).ok())
            .unwrap_or_else(|| alpn::outbound_server_name(id.port, &id.subset, id.host.as_str()));
        return Ok(Security::Mesh { client, server_name });
    }
    match &destination.tls {
        ClientTls::Originate(settings) => {
            let config = crate::origination::config(worker, settings, &state.credentials, protocol)
                .map_err(UpstreamError::TlsSettings)?;
            Ok(Security::Originate(Rc::new(config)))
        }
        ClientTls::Auto | ClientTls::Disable | ClientTls::Mesh => Ok(Security::Plain),
    }
}

/// Whom the endpoint must prove to be: its own workload, or what the policy names besides.
fn expected_of(worker: &Worker, destination: &Destination, target: &Target) -> Expected {
    let own = target.endpoint().and_then(|endpoint| endpoint.identity.clone());
    let named = destination.subject_alt_names.iter().filter_map(|name| SpiffeId::parse(name).ok());
    let identities: Vec<SpiffeId> = own.into_iter().chain(named).collect();
    if !identities.is_empty() {
        return Expected::identities(identities);
    }
    let snapshot = worker.shared.configuration.snapshot();
    match &snapshot.settings {
        Some(settings) => Expected::TrustDomain(settings.trust_domain.clone()),
        None => Expected::identities([]),
    }
}

/// Takes an idle HTTP/1 connection, or opens one, or waits for one, as the destination's limits allow.
pub(crate) async fn connect_http1(
    worker: &Worker,
    state: &DestinationState,
    endpoint: &UpstreamEndpoint,
    permit: &Permit,
) -> Result<PooledConnection, UpstreamError> {
    if let Some(upstream) = endpoint.pool.take() {
        return Ok(upstream);
    }
    // In memory of its own, which most requests do not need.
    Box::pin(connect_new_http1(worker, state, endpoint, permit)).await
}

async fn connect_new_http1(
    worker: &Worker,
    state: &DestinationState,
    endpoint: &UpstreamEndpoint,
    permit: &Permit,
) -> Result<PooledConnection, UpstreamError> {
    let _pending = LimitToken::acquire(state, Resource::PendingRequests)?;
    loop {
        // Listens before it looks, so that what becomes free in between is not missed.
        let (waiting, own) = (state.limits.freed.notified(), endpoint.freed.notified());
        tokio::pin!(waiting, own);
        waiting.as_mut().enable();
        own.as_mut().enable();
        if let Some(upstream) = endpoint.pool.take() {
            return Ok(upstream);
        }
        if let Ok(mut token) = acquire_connection(state, endpoint) {
            let connection = open(worker, state, endpoint, permit).await?;
            token.0.proof = ServerProof::of(worker, endpoint, &connection);
            return Ok(Upstream::new(connection, token));
        }
        tokio::select! {
            () = waiting => {}
            () = own => {}
        }
    }
}

/// A unit of the destination's connection limit. An endpoint without a connection gets one in any case, as with Envoy: where
/// others hold all units, those who wait for this one could wait for ever.
pub(crate) fn acquire_connection(
    state: &DestinationState,
    endpoint: &UpstreamEndpoint,
) -> Result<ConnectionToken, Overflow> {
    match acquire_stream_connection(state, endpoint) {
        Err(_) if endpoint.open.get() == 0 => {
            let token = state.limits.breakers.acquire(Resource::Connections);
            Ok(ConnectionToken::new(state, endpoint, token))
        }
        acquired => acquired,
    }
}

/// The same for a stream, which does not wait: beyond the limit there is no connection.
pub(crate) fn acquire_stream_connection(
    state: &DestinationState,
    endpoint: &UpstreamEndpoint,
) -> Result<ConnectionToken, Overflow> {
    let limit = Resource::Connections.limit(&state.destination.connection_pool);
    let token = state.limits.breakers.try_acquire(Resource::Connections, limit)?;
    Ok(ConnectionToken::new(state, endpoint, token))
}

/// Keeps a connection for the next request, and tells those that wait for one.
pub(crate) fn put_back(
    state: &DestinationState,
    endpoint: &UpstreamEndpoint,
    upstream: PooledConnection,
) {
    endpoint.pool.put(upstream, Instant::now());
    // Those who wait for another endpoint have no use for it.
    if state.limits.has_waiting() {
        endpoint.freed.notify_one();
    }
}

impl DestinationLimits {
    /// Whether requests may wait for a connection. Almost always none does; the count saves a look at a list under its
    /// lock.
    fn has_waiting(&self) -> bool {
        self.breakers.taken(Resource::PendingRequests) > 0
    }

    /// Tells one that waits that a unit of the limit is free.
    fn notify_freed(&self) {
        if self.has_waiting() {
            self.freed.notify_one();
        }
    }
}
