//! Datagrams of UDP at a gateway. What one client sends is a session: policy, the route's draw by weight and the pick of an
//! endpoint happen once for it, as for a connection, and it ends when nobody has said anything for a while.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use heddle_authz::{Connection as Facts, OutboundTarget, Permit, Transport as How};
use heddle_balance::Observation;
use heddle_ir::endpoint::EndpointAddress;
use heddle_ir::request::ConnectionFacts;
use heddle_net::datagrams::{self, Session};
use heddle_net::socket::ConnectError;
use heddle_telemetry::mesh::Direction;
use heddle_telemetry::{Reason, ResponseFlags};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::access_log::StreamLog;
use crate::admission;
use crate::egress::{Judged, Underway};
use crate::inbound::{self, Peer};
use crate::outbound::stream::{self, StreamError};
use crate::outbound::{Accepted, canonical};
use crate::snapshot::DestinationState;
use crate::upstream::{self, Target, UpstreamError};
use crate::worker::Worker;

/// Clients of a listener that have a session at once.
const SESSIONS_MAX: usize = 1024;
/// A session in which so long nothing was said has ended (Envoy's time for UDP).
const IDLE: Duration = Duration::from_mins(1);
/// So long nothing of a client is looked at that was refused or could not be served.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Where a session leads.
struct Opened {
    server: UdpSocket,
    state: Arc<DestinationState>,
    target: Target,
    underway: Underway,
    log: Option<Box<StreamLog>>,
    /// The generation of the configuration that let it through.
    generation: u64,
}

/// Serves the clients of a socket, for ever.
pub(super) async fn serve(worker: &Rc<Worker>, socket: &UdpSocket) {
    let Ok(local) = socket.local_addr() else { return };
    datagrams::relay(socket, SESSIONS_MAX, |session| serve_session(worker, local, session)).await;
}

async fn serve_session(worker: &Rc<Worker>, local: SocketAddr, mut session: Session<'_>) {
    let (source, destination) = (canonical(session.client), destination(worker, local));
    let accepted = Accepted { source, destination };
    let facts = ConnectionFacts { peer_identity: None, source, destination, server_name: None };
    let facts = Facts::new(How::Plaintext, facts);
    let peer = Peer::new(inbound::Accepted { source, destination }, facts, None);
    let opened = match open(worker, local, accepted, &peer).await {
        Ok(opened) => opened,
        Err(Refused::Here) => return session.ignore(REFUSED_PAUSE).await,
        Err(Refused::There(error)) => {
            stream::refused(worker, accepted, &error);
            return session.ignore(REFUSED_PAUSE).await;
        }
    };
    let Opened { server, state, target, underway, log, generation } = opened;
    let exchanged = tokio::select! {
        exchanged = session.exchange(&server, IDLE) => exchanged,
        () = underway.newly_denied(worker) => Ok(datagrams::Carried::default()),
        () = inbound::stream::newly_denied(worker, &peer, generation, false) => Ok(datagrams::Carried::default()),
    };
    let carried = match exchanged {
        Ok(carried) => carried,
        Err(source) => {
            let address = server.peer_addr().unwrap_or(destination);
            let error = ConnectError::Connect { address, source }.into();
            // The next datagram begins another session, elsewhere if there is an elsewhere.
            observe(worker, &state, &target, Observation::ConnectFailure);
            upstream::tell(worker, &state, &target, Some(accepted.source), &error);
            datagrams::Carried::default()
        }
    };
    if let Some(log) = log {
        log.end(carried.sent, carried.received, ResponseFlags::NONE);
    }
}

/// Where a client's datagrams were sent to, as policies see it: a socket on all addresses stands for the workload's first.
fn destination(worker: &Worker, local: SocketAddr) -> SocketAddr {
    if !local.ip().is_unspecified() {
        return canonical(local);
    }
    let snapshot = worker.shared.configuration.snapshot();
    let settings = snapshot.settings.as_ref();
    let own = settings.and_then(|settings| settings.workload.addresses.first().copied());
    let own = own.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    SocketAddr::new(own.to_canonical(), local.port())
}

/// Why a session leads nowhere.
enum Refused {
    /// Policy of the gateway, which has been told.
    Here,
    There(StreamError),
}

impl<E: Into<StreamError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::There(error.into())
    }
}

async fn open(
    worker: &Rc<Worker>,
    local: SocketAddr,
    accepted: Accepted,
    peer: &Peer,
) -> Result<Opened, Refused> {
    let snapshot = worker.shared.configuration.snapshot();
    let policy = snapshot.inbound.clone().ok_or(StreamError::NotPermitted)?;
    let admitted = admission::stream::admit(worker, peer.party(), &policy).await;
    admission::stream::note_decided(worker, peer.party());
    if let Err(origin) = admitted {
        worker.events.count(Direction::Inbound, Some(Reason::AuthorizationDenied));
        inbound::denied(worker, peer, &"datagrams", &origin);
        return Err(Refused::Here);
    }
    let gateway = snapshot.gateway.as_ref().ok_or(StreamError::NoRoute)?;
    let found = gateway.compiled.by_datagram(local).ok_or(StreamError::NoRoute)?;
    let routes = found.streams().and_then(|routes| gateway.outbound(routes));
    let outbound = routes.ok_or(StreamError::NoRoute)?.clone();
    let random = worker.random();
    let decision = outbound.routes.decide_tcp(accepted.destination.ip(), random);
    let (place, _) =
        decision.and_then(|decision| decision.destination).ok_or(StreamError::NoRoute)?;
    let state = outbound.destinations.get(place).ok_or(StreamError::NoRoute)?.clone();
    let mut target = stream::pick(worker, accepted, &state).ok_or(StreamError::NoEndpoint)?;
    let generation = snapshot.generation;
    let judged = Judged::of_stream(snapshot, accepted, OutboundTarget::Configured, None);
    let opened = match judged.permit(worker, &state, &mut target).await {
        Ok(permit) => connect(worker, &target, &permit).await,
        Err(error) => Err(error),
    };
    let server = match opened {
        Ok(server) => server,
        Err(error) => {
            observe(worker, &state, &target, Observation::ConnectFailure);
            upstream::tell(worker, &state, &target, Some(accepted.source), &error);
            return Err(error.into());
        }
    };
    observe(worker, &state, &target, Observation::Opened);
    let addresses = (accepted.source, accepted.destination);
    let log = StreamLog::begin(worker, addresses, &state, &target, None);
    let underway = Underway::new(worker, judged, state.clone(), target.clone(), None);
    Ok(Opened { server, state, target, underway, log, generation })
}

/// A socket towards an endpoint. The permit says that somebody decided that it may be.
async fn connect(
    worker: &Rc<Worker>,
    target: &Target,
    _permit: &Permit,
) -> Result<UdpSocket, UpstreamError> {
    let address = match target {
        Target::Address(address) | Target::Application(address) => *address,
        Target::Endpoint(endpoint, _) => match &endpoint.address {
            EndpointAddress::Address(address) => *address,
            EndpointAddress::Name(host, port) => {
                upstream::resolve(worker, host.as_str(), *port).await?
            }
        },
    };
    let connected = worker.shared.sockets.connect_udp(address).await;
    connected.map_err(|source| ConnectError::Connect { address, source }.into())
}

fn observe(worker: &Worker, state: &DestinationState, target: &Target, seen: Observation) {
    if let Target::Endpoint(_, known) = target {
        state.balancer.record(known, seen, worker.now_ms(Instant::now()));
    }
}
