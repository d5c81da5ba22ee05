//! From others to the workload: accept, detect, identify, authorize, forward, record.

pub(crate) mod http1;
pub(crate) mod http2;
mod peer;
pub(crate) mod standing;
pub(crate) mod stream;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use heddle_authz::{Acceptance, CompiledAuthorization};
use heddle_balance::Resource;
use heddle_diag::Origin;
use heddle_http::drain::DrainGuard;
use heddle_http::{Buffer, Connection, HandshakeError, TlsStream, Transport};
use heddle_ident::SpiffeId;
use heddle_ir::destination::ClientTls;
use heddle_ir::inbound::{Inbound, MutualTlsMode};
use heddle_ir::protocol::Protocol;
use heddle_ir::proxy::{Limits, ProxySettings};
use heddle_ir::request::ConnectionFacts;
use heddle_ir::resource::ResourceName;
use heddle_ir::workload::MeshTransport;
use heddle_net::socket::original_destination;
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::Direction;
use heddle_tls::alpn::Payload;
use heddle_tls::{MeshIdentity, PeerVerificationError, alpn, default_provider, sha256_hex};
use heddle_wire::sniff::ClientHello;
use tokio::net::{TcpListener, TcpStream};

pub(crate) use peer::Peer;

use crate::admission::{Party, connection_refused, peer_refused};
use crate::built_in;
use crate::detect::{self, First, Patience, Spoken};
use crate::events::Parties;
use crate::find::name_of;
use crate::forward::stream::Opened;
use crate::kept::Kept;
use crate::outbound::{canonical, patience};
use crate::snapshot::{DestinationState, Snapshot};
use crate::upstream::Target;
use crate::worker::Worker;

/// A connection to the workload, and where it was meant to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Accepted {
    /// The same, with what is known of the connection.
    pub(crate) fn party(self, facts: &heddle_authz::Connection) -> Party<'_> {
        let Self { source, destination } = self;
        Party { source, destination, facts, direction: Direction::Inbound, https: false }
    }
}

/// A connection of which it is known who is at its other end.
struct Identified {
    peer: Box<Peer>,
    client: Connection,
}

impl Identified {
    fn new(
        accepted: Accepted,
        facts: heddle_authz::Connection,
        client: Connection,
        client_certificate: Option<String>,
    ) -> Self {
        Self { peer: Box::new(Peer::new(accepted, facts, client_certificate)), client }
    }
}

/// What is known of the port before anything is read.
struct Port {
    inbound: Arc<CompiledAuthorization>,
    mode: MutualTlsMode,
    declared: Protocol,
    /// How long a handshake may take.
    handshake_max: Duration,
}

/// Accepts connections until the thread drains. Each is a task of the thread's local set.
pub async fn serve(worker: Rc<Worker>, listener: TcpListener) {
    crate::accept::serve(worker, listener, |worker, tcp, source, guard| {
        Box::pin(async move {
            let Ok(accepted) = accept(&worker, &tcp, source) else { return };
            let Some(port) = port(&worker, accepted.destination.port()) else {
                let why = "no policy has come from the control plane yet";
                let hint = "it takes connections once it has; see the log for why it has not";
                return failed(&worker, accepted, Reason::DestinationUnknown, &why, hint);
            };
            let client = Connection::new(Transport::Plain(tcp));
            let identified = Box::pin(identify(&worker, &port, accepted, client, &guard)).await;
            if let Some((identified, payload)) = identified {
                serve_identified(&worker, identified, payload, guard).await;
            }
        })
    })
    .await;
}

fn accept(worker: &Worker, tcp: &TcpStream, source: SocketAddr) -> io::Result<Accepted> {
    tcp.set_nodelay(true)?;
    let destination = match worker.shared.overrides.inbound_destination {
        Some(destination) => destination,
        None => original_destination(tcp)?,
    };
    Ok(Accepted { source: canonical(source), destination: canonical(destination) })
}

/// None while no policy has come: nothing is accepted.
fn port(worker: &Worker, number: u16) -> Option<Port> {
    let snapshot = worker.shared.configuration.snapshot();
    let inbound = snapshot.inbound.clone()?;
    let settings: Option<&ProxySettings> = snapshot.settings.as_deref();
    let ports = &inbound.inbound().ports;
    let declared = ports.iter().find(|port| port.port == number);
    Some(Port {
        mode: inbound.mutual_tls(number).mode,
        declared: declared.map_or(Protocol::Detect, |port| port.protocol),
        handshake_max: settings
            .map_or(Limits::default().head_timeout, |settings| settings.limits.head_timeout),
        inbound,
    })
}

/// What a connection carries, once the peer is known.
enum What {
    /// As the first bytes tell; HTTP is declared.
    Http,
    /// HTTP/1, as the peer has negotiated.
    Http1,
    /// HTTP/2, as the peer has negotiated.
    Http2,
    /// Opaque bytes, with the connection to the application if there is one already.
    Stream(Option<Opened>),
    /// As the first bytes of either side tell.
    Undeclared,
}

/// Finds out whether it is mutual TLS of the mesh, and who it is then. None: the connection is not accepted, and is closed
/// without a byte of answer; or it has ended.
async fn identify(
    worker: &Rc<Worker>,
    port: &Port,
    accepted: Accepted,
    mut client: Connection,
    guard: &DrainGuard,
) -> Option<(Identified, What)> {
    let patience = patience(worker, guard);
    if port.mode == MutualTlsMode::Disable {
        return plaintext(worker, port, accepted, client, None);
    }
    let may_be_served_first = port.mode == MutualTlsMode::Permissive
        && !port.declared.is_http()
        && !hello_comes(worker, accepted, &mut client).await;
    let spoken = if may_be_served_first {
        // A server that speaks first must not wait for a client that does not, plaintext being accepted here.
        let facts = facts_of(heddle_authz::Transport::Plaintext, accepted, None, None);
        let opening = Box::pin(stream::open(worker, accepted, &facts));
        match detect::first_of_both(&mut client, opening, Opened::connection, patience).await {
            First::Server(opened) => {
                return plaintext(worker, port, accepted, client, Some(opened));
            }
            First::Client(Spoken::Opaque, Some(opened)) if port.declared == Protocol::Tcp => {
                return plaintext(worker, port, accepted, client, Some(opened));
            }
            First::Client(spoken, _) => spoken,
            First::Failed(_) => detect::client_speaks(&mut client, patience).await,
        }
    } else {
        detect::client_speaks(&mut client, patience).await
    };
    match spoken {
        Spoken::Ended => None,
        Spoken::Tls(hello) if is_mesh(&hello) => {
            if may_be_served_first || worker.hellos.client_first(caller(accepted)) == Some(false) {
                // The next one is given more time.
                worker.hellos.note(caller(accepted), true);
            }
            let shaking = shake_hands(worker, port, accepted, client, hello);
            let Ok(shaken) = tokio::time::timeout(port.handshake_max, shaking).await else {
                let why = format_args!("TLS handshake not done within {:?}", port.handshake_max);
                failed(
                    worker,
                    accepted,
                    Reason::ConnectTimeout,
                    &why,
                    "see the log of the caller's proxy",
                );
                return None;
            };
            shaken
        }
        Spoken::Tls(hello) => opaque_tls(worker, port, accepted, client, hello),
        Spoken::Http1 | Spoken::Http2 | Spoken::Opaque => {
            plaintext(worker, port, accepted, client, None)
        }
    }
}

/// Waits for the first byte of a client that may be about to send the hello of mutual TLS; false: it is silent, so that
/// it may be a plaintext client of a server that speaks first. Nothing but time tells the two apart, and a greeting in
/// plaintext in place of a handshake cannot be taken back. So a proxy of the mesh, which sends its hello as soon as it
/// is scheduled, is given time for that, and whoever is not behind a proxy is not kept waiting.
async fn hello_comes(worker: &Worker, accepted: Accepted, client: &mut Connection) -> bool {
    /// A loaded machine may take this long to schedule a proxy that has just connected.
    const HELLO_WAIT: Duration = Duration::from_secs(1);
    let snapshot = worker.shared.configuration.snapshot();
    let address = accepted.source.ip();
    if snapshot.targets.is_known() && !snapshot.targets.is_in_mesh(address) {
        return false;
    }
    let short = snapshot.settings.as_ref().map_or(HELLO_WAIT, |s| s.detection_timeout);
    // None: nobody has said yet what is at the address.
    let transport = |snapshot: &Snapshot| snapshot.workloads.get(&address).map(|w| w.transport);
    match (transport(&snapshot), worker.hellos.client_first(caller(accepted))) {
        (Some(MeshTransport::None), _) => return false,
        (_, Some(false)) => return client.speaks_within(short).await,
        (None, None) => {
            if let Some(settings) = &snapshot.settings {
                let network = settings.workload.network.clone();
                worker.shared.configuration.want(ResourceName::Workload(network, address));
            }
            if client.speaks_within(short).await {
                return true;
            }
            let snapshot = worker.shared.configuration.snapshot();
            if transport(&snapshot) != Some(MeshTransport::MutualTls) {
                return false;
            }
        }
        (_, Some(true)) | (Some(MeshTransport::MutualTls), None) => {}
    }
    let comes = client.speaks_within(HELLO_WAIT).await;
    if !comes {
        worker.hellos.note(caller(accepted), false);
    }
    comes
}

/// What is remembered about hellos: by who calls, and which port.
fn caller(accepted: Accepted) -> SocketAddr {
    SocketAddr::new(accepted.source.ip(), accepted.destination.port())
}

fn is_mesh(hello: &ClientHello) -> bool {
    hello.application_protocols.iter().any(|name| alpn::is_mesh(name))
}

async fn shake_hands(
    worker: &Worker,
    port: &Port,
    accepted: Accepted,
    client: Connection,
    hello: ClientHello,
) -> Option<(Identified, What)> {
    let Some(identity) = worker.shared.identity.current() else {
        let why = "this proxy has no valid certificate";
        failed(worker, accepted, Reason::PeerIdentity, &why, "its log says why it got none");
        return None;
    };
    let server = identity.sidecar_server();
    let Connection { transport: Transport::Plain(tcp), buffer: ciphertext } = client else {
        return None;
    };
    let mut buffer = Buffer::new();
    let config = server.config().clone();
    let tls = match TlsStream::accept(tcp, config, ciphertext.filled(), &mut buffer).await {
        Ok(tls) => tls,
        Err(error) => {
            let refusal = match &error {
                HandshakeError::Tls(error) => PeerVerificationError::from_handshake(error),
                HandshakeError::Connection(_) | HandshakeError::TooLarge => None,
            };
            let parties = parties(accepted, "", &accepted.destination);
            worker.events.count(Direction::Inbound, Some(Reason::PeerIdentity));
            worker.events.handshake(parties, refusal.as_ref(), &error);
            peer_refused(worker, accepted, refusal.as_ref(), &error);
            return None;
        }
    };
    let peer = match server.peer(tls.common_state()) {
        Ok(peer) => peer,
        Err(error) => {
            let parties = parties(accepted, "", &accepted.destination);
            worker.events.count(Direction::Inbound, Some(Reason::PeerIdentity));
            worker.events.handshake(parties, Some(&error), &error);
            peer_refused(worker, accepted, Some(&error), &error);
            return None;
        }
    };
    let client_certificate = certificate_header(&identity, &tls, &peer.identity);
    let transport = heddle_authz::Transport::MutualTls;
    let serial = peer.serial;
    let facts = facts_of(transport, accepted, Some(peer.identity), hello.server_name);
    if let Acceptance::Refuse(mutual_tls) = port.inbound.accept(&facts) {
        let why = format_args!("mutual TLS is off on this port by {}", mutual_tls.origin);
        let identity = facts.peer_identity().map(ToString::to_string).unwrap_or_default();
        let rule = Some(&mutual_tls.origin);
        connection_refused(worker, accepted, &identity, transport.name(), &why, rule);
        let reason = Reason::AuthorizationDenied;
        failed(
            worker,
            accepted,
            reason,
            &why,
            "the caller must use plaintext, or that mode change",
        );
        return None;
    }
    let what = match (Payload::of(tls.common_state().alpn_protocol()), port.declared) {
        (Payload::Http1, _) => What::Http1,
        (Payload::Http2, _) => What::Http2,
        (Payload::Detect, declared) => undetected(declared),
    };
    let client = Connection { transport: Transport::Tls(tls), buffer };
    let mut identified = Identified::new(accepted, facts, client, client_certificate);
    identified.peer.serial = serial;
    Some((identified, what))
}

/// What a connection carries whose peer has not said.
fn undetected(declared: Protocol) -> What {
    match declared {
        Protocol::Grpc | Protocol::Http1 | Protocol::Http2 => What::Http,
        Protocol::Tcp | Protocol::Tls | Protocol::Udp => What::Stream(None),
        Protocol::Detect => What::Undeclared,
    }
}

fn facts_of(
    transport: heddle_authz::Transport,
    accepted: Accepted,
    peer_identity: Option<SpiffeId>,
    server_name: Option<String>,
) -> heddle_authz::Connection {
    let Accepted { source, destination } = accepted;
    let facts = ConnectionFacts { peer_identity, source, destination, server_name };
    heddle_authz::Connection::new(transport, facts)
}

fn plaintext(
    worker: &Worker,
    port: &Port,
    accepted: Accepted,
    client: Connection,
    opened: Option<Opened>,
) -> Option<(Identified, What)> {
    let facts = facts_of(heddle_authz::Transport::Plaintext, accepted, None, None);
    if let Acceptance::Refuse(mutual_tls) = port.inbound.accept(&facts) {
        plaintext_refused(worker, accepted, facts.transport(), "plaintext", &mutual_tls.origin);
        return None;
    }
    let what = match opened {
        Some(opened) => What::Stream(Some(opened)),
        None => undetected(port.declared),
    };
    Some((Identified::new(accepted, facts, client, None), what))
}

fn plaintext_refused(
    worker: &Worker,
    accepted: Accepted,
    transport: heddle_authz::Transport,
    what: &str,
    origin: &Origin,
) {
    let why = format_args!("{what} came where {origin} asks for mutual TLS of the mesh");
    connection_refused(worker, accepted, "", transport.name(), &why, Some(origin));
    let hint = "run the caller in the mesh, or allow plaintext on this port (mode PERMISSIVE)";
    failed(worker, accepted, Reason::PlaintextRefused, &why, hint);
}

fn opaque_tls(
    worker: &Worker,
    port: &Port,
    accepted: Accepted,
    client: Connection,
    hello: ClientHello,
) -> Option<(Identified, What)> {
    let transport = heddle_authz::Transport::OpaqueTls;
    let facts = facts_of(transport, accepted, None, hello.server_name);
    match port.inbound.accept(&facts) {
        Acceptance::Accept => {
            Some((Identified::new(accepted, facts, client, None), What::Stream(None)))
        }
        Acceptance::ProbesOnly(mutual_tls) | Acceptance::Refuse(mutual_tls) => {
            let what = "TLS that is not the mesh's";
            plaintext_refused(worker, accepted, transport, what, &mutual_tls.origin);
            None
        }
    }
}

fn parties<'a>(
    accepted: Accepted,
    peer: &'a str,
    destination: &'a dyn std::fmt::Display,
) -> Parties<'a> {
    let source = Some(accepted.source);
    Parties { direction: Direction::Inbound, source, peer, destination }
}

/// Tells of a connection that is refused or has failed.
fn failed(
    worker: &Worker,
    accepted: Accepted,
    reason: Reason,
    why: &dyn std::fmt::Display,
    hint: &str,
) {
    worker.events.failed(parties(accepted, "", &accepted.destination), reason, why, hint);
}

/// Tells of a request or stream that a policy denied.
pub(crate) fn denied(worker: &Worker, peer: &Peer, what: &dyn std::fmt::Display, origin: &Origin) {
    let identity = peer.facts.principal().unwrap_or_default();
    let Accepted { destination, .. } = peer.accepted;
    worker.events.denied(parties(peer.accepted, identity, &destination), what, origin);
}

async fn serve_identified(
    worker: &Rc<Worker>,
    mut identified: Identified,
    what: What,
    guard: DrainGuard,
) {
    let Some(what) = Box::pin(resolve(worker, &mut identified, what, &guard)).await else { return };
    let Identified { peer, mut client } = identified;
    match what {
        What::Http1 => http1::serve(worker, peer, client, guard).await,
        What::Http2 => http2::serve(worker, peer, client, guard).await,
        What::Http | What::Undeclared | What::Stream(None) => {
            Box::pin(async {
                match stream::open(worker, peer.accepted, &peer.facts).await {
                    Ok(opened) => stream::serve(worker, &peer, &mut client, opened).await,
                    Err(error) => stream::refused(worker, &peer, &error),
                }
            })
            .await;
        }
        What::Stream(Some(opened)) => {
            Box::pin(stream::serve(worker, &peer, &mut client, opened)).await;
        }
    }
}

/// Settles what is carried, where the first bytes have to tell, and learns who the caller is. None when the client has
/// ended.
async fn resolve(
    worker: &Rc<Worker>,
    identified: &mut Identified,
    what: What,
    guard: &DrainGuard,
) -> Option<What> {
    let patience = patience(worker, guard);
    let may_wait = matches!(what, What::Http | What::Http1 | What::Http2);
    learn_caller(worker, &identified.peer, may_wait).await;
    match what {
        What::Http => match detect::client_speaks(&mut identified.client, patience).await {
            Spoken::Http2 => Some(What::Http2),
            Spoken::Http1 | Spoken::Opaque | Spoken::Tls(_) => Some(What::Http1),
            Spoken::Ended => None,
        },
        What::Undeclared => detect_undeclared(worker, identified, patience).await,
        What::Http1 | What::Http2 | What::Stream(_) => Some(what),
    }
}

/// None when the client has ended.
async fn detect_undeclared(
    worker: &Rc<Worker>,
    identified: &mut Identified,
    patience: Patience<'_>,
) -> Option<What> {
    let Identified { peer, client } = identified;
    let Peer { accepted, facts, .. } = &**peer;
    let destination = accepted.destination;
    let (spoken, opened) = if worker.inbound_ports.client_first(destination) == Some(true) {
        (detect::client_speaks(client, patience).await, None)
    } else {
        let opening = Box::pin(stream::open(worker, *accepted, facts));
        match detect::first_of_both(client, opening, Opened::connection, patience).await {
            First::Server(opened) => {
                worker.inbound_ports.note(destination, false);
                return Some(What::Stream(Some(opened)));
            }
            First::Client(spoken, opened) => (spoken, opened),
            First::Failed(_) => (detect::client_speaks(client, patience).await, None),
        }
    };
    worker.inbound_ports.note(destination, true);
    match spoken {
        Spoken::Ended => None,
        Spoken::Http1 => Some(What::Http1),
        Spoken::Http2 => Some(What::Http2),
        Spoken::Opaque | Spoken::Tls(_) => Some(What::Stream(opened)),
    }
}

/// The value of `x-forwarded-client-cert` for a peer, as Istio's sidecars write it.
fn certificate_header(identity: &MeshIdentity, tls: &TlsStream, peer: &SpiffeId) -> Option<String> {
    let leaf = tls.common_state().peer_certificates()?.first()?;
    let hash = sha256_hex(&default_provider(), leaf)?;
    let own = &identity.svid().identity;
    Some(format!("By={own};Hash={hash};Subject=\"\";URI={peer}"))
}

/// Asks once who the caller is, for the labels of metrics: its workload, by its address. A peer without identity is not
/// asked about, since nothing would tell whether the answer is about it.
async fn learn_caller(worker: &Worker, peer: &Peer, may_wait: bool) {
    /// Metrics are not worth more delay of a first request.
    const WAIT_MAX: Duration = Duration::from_millis(250);
    let configuration = &worker.shared.configuration;
    let (snapshot, address) = (configuration.snapshot(), peer.accepted.source.ip());
    let Some(settings) = &snapshot.settings else { return };
    let name = ResourceName::Workload(settings.workload.network.clone(), address);
    let is_known = snapshot.workloads.contains_key(&address) || snapshot.absent.contains(&name);
    if is_known || peer.facts.peer_identity().is_none() || !snapshot.targets.is_in_mesh(address) {
        return;
    }
    if !may_wait {
        // A server that speaks first must be heard at once.
        return configuration.want(name);
    }
    let find = |snapshot: &Arc<Snapshot>| snapshot.workloads.get(&address).cloned();
    configuration.wait_for(name, WAIT_MAX, find).await;
}

/// Where the application is reached that a connection to this address is for: at the address itself, unless something else
/// is said of the port. The unspecified address stands for that of the workload.
pub(crate) fn application(worker: &Worker, inbound: &Inbound, destination: SocketAddr) -> Target {
    let settings = inbound.ports.iter().find(|port| port.port == destination.port());
    let own = settings.and_then(|settings| settings.application);
    let port = own.map_or(destination.port(), |own| own.port());
    let address = own.map(|own| own.ip()).filter(|address| !address.is_unspecified());
    let address = address.or(worker.shared.overrides.application).unwrap_or(destination.ip());
    Target::Application(SocketAddr::new(address, port))
}

/// The application behind each port, as a thread connects to it.
#[derive(Default)]
pub(crate) struct Applications(RefCell<Kept<u16, Application>>);

/// The policy that it was made under, and the destination.
type Application = (Arc<Inbound>, Arc<DestinationState>);

impl Applications {
    /// The application on a port, under this policy.
    pub(crate) fn on(&self, port: u16, inbound: &Arc<Inbound>) -> Arc<DestinationState> {
        let mut known = self.0.borrow_mut();
        if let Some((policy, state)) = known.get(&port)
            && Arc::ptr_eq(policy, inbound)
        {
            return state.clone();
        }
        let settings = inbound.ports.iter().find(|settings| settings.port == port);
        let pool = settings.and_then(|settings| settings.connection_pool.as_ref());
        let mut pool = pool.unwrap_or(&inbound.connection_pool).clone();
        // That is for clients; the application is spoken to as its port declares.
        pool.upgrade_to_http2 = false;
        let host = name_of("localhost");
        let protocol = settings.map_or(Protocol::Detect, |settings| settings.protocol);
        let state =
            built_in::destination("inbound", host, port, protocol, ClientTls::Disable, pool);
        // Any port can be connected to; what is counted of connections goes on for as long as there are any.
        let in_use = |(_, state): &Application| {
            let all = [Resource::Connections, Resource::PendingRequests, Resource::Requests];
            Arc::strong_count(state) > 1
                || all.iter().any(|own| state.limits.breakers.taken(*own) > 0)
        };
        known.insert(port, (inbound.clone(), state.clone()), in_use);
        state
    }
}
