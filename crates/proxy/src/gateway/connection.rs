//! One connection to a gateway: what it speaks, which server takes it, TLS, and policy where it is no HTTP.

use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::{Connection as Facts, Transport as How};
use heddle_cert::Serial;
use heddle_diag::Origin;
use heddle_http::drain::DrainGuard;
use heddle_http::{Buffer, Connection, HandshakeError, TlsStream, Transport};
use heddle_ident::SpiffeId;
use heddle_ir::gateway::{ServerProtocol, ServerTls};
use heddle_ir::proxy::Limits;
use heddle_ir::request::ConnectionFacts;
use heddle_route::FoundServer;
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::Direction;
use heddle_tls::alpn::{self, Payload};
use heddle_tls::{MeshIdentity, PeerVerificationError};
use heddle_wire::sniff::ClientHello;
use tokio::net::TcpStream;

use super::certificate;
use super::edge::{Edge, Taken};
use super::passthrough;
use super::tls::Acceptor;
use crate::admission;
use crate::detect::{self, Spoken};
use crate::events::Parties;
use crate::find::Found;
use crate::inbound::{self, Peer};
use crate::outbound::{self, Accepted, patience};
use crate::snapshot::{GatewayState, OutboundState, ServerTlsState};
use crate::worker::Worker;

/// What a client gets whose server name nobody has: a fatal alert, `unrecognized_name` (RFC 6066 section 3).
const UNRECOGNIZED_NAME: &[u8] = &[0x15, 3, 1, 0, 2, 2, 112];

/// A connection of HTTP, whose server is known as far as the connection tells it.
struct Identified {
    edge: Edge,
    payload: Payload,
    client: Connection,
}

/// A connection as it came, and what was there to serve it.
struct Arrived<'a> {
    worker: &'a Rc<Worker>,
    accepted: Accepted,
    gateway: Arc<GatewayState>,
}

/// A connection whose TLS has been taken off.
struct Opened {
    client: Connection,
    payload: Payload,
    identity: Option<SpiffeId>,
    proven: Proven,
}

/// What is known of a client's certificate.
#[derive(Default)]
struct Proven {
    client_certificate: Option<String>,
    /// The number of one of the mesh, for when that is revoked.
    serial: Option<Serial>,
}

/// Serves a connection to a listener, until it ends.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    accepted: Accepted,
    tcp: TcpStream,
    guard: DrainGuard,
) {
    let Some(gateway) = worker.shared.configuration.snapshot().gateway.clone() else { return };
    let arrived = Arrived { worker, accepted, gateway };
    let client = Connection::new(Transport::Plain(tcp));
    // In memory of its own, which an idle connection of HTTP does not hold.
    let Some(identified) = Box::pin(arrived.identify(client, &guard)).await else { return };
    let Identified { edge, payload, client } = identified;
    drop(arrived);
    let edge = Some(Rc::new(edge));
    match payload {
        Payload::Http2 => outbound::http2::serve(worker, accepted, edge, client, guard).await,
        Payload::Http1 | Payload::Detect => {
            outbound::http1::serve(worker, accepted, edge, client, guard).await;
        }
    }
}

impl Arrived<'_> {
    /// Finds out what the connection is. None when it has been served already, as a stream, or is not taken.
    async fn identify(&self, mut client: Connection, guard: &DrainGuard) -> Option<Identified> {
        let (compiled, address) = (&self.gateway.compiled, self.accepted.destination);
        let listener = compiled.listener_at(address)?;
        let has_tls = listener.servers.iter().any(|server| server.tls.is_some());
        let opaque = compiled.by_port(address);
        if let Some(found) = opaque
            && !has_tls
        {
            // Nothing is waited for: the server may be the one that speaks first.
            self.stream(client, &found, self.facts(How::Plaintext, None, None), None).await;
            return None;
        }
        let patience = patience(self.worker, guard);
        let payload = match detect::client_speaks(&mut client, patience).await {
            Spoken::Ended => return None,
            Spoken::Tls(hello) => return self.tls(client, hello, guard).await,
            Spoken::Http2 => Payload::Http2,
            Spoken::Http1 | Spoken::Opaque => Payload::Http1,
        };
        if let Some(found) = opaque {
            self.stream(client, &found, self.facts(How::Plaintext, None, None), None).await;
            return None;
        }
        if listener.servers.iter().all(|server| server.tls.is_some()) {
            let hint = "the client must speak TLS on this port";
            self.refuse(Reason::PlaintextRefused, &"plaintext came where TLS is served", hint);
            return None;
        }
        let facts = self.facts(How::Plaintext, None, None);
        Some(Identified { edge: self.edge(facts, Taken::Plain, None), payload, client })
    }

    fn facts(
        &self,
        how: How,
        peer_identity: Option<SpiffeId>,
        server_name: Option<String>,
    ) -> Facts {
        let Accepted { source, destination } = self.accepted;
        let facts = ConnectionFacts { peer_identity, source, destination, server_name };
        Facts::new(how, facts)
    }

    fn edge(&self, facts: Facts, taken: Taken, opened: Option<Proven>) -> Edge {
        let Proven { client_certificate, serial } = opened.unwrap_or_default();
        let mut peer = self.peer(facts, client_certificate);
        peer.https = matches!(taken, Taken::Tls(_));
        peer.serial = serial;
        Edge { peer, taken }
    }

    fn peer(&self, facts: Facts, client_certificate: Option<String>) -> Peer {
        let Accepted { source, destination } = self.accepted;
        Peer::new(inbound::Accepted { source, destination }, facts, client_certificate)
    }

    /// A connection that begins with a TLS hello.
    async fn tls(
        &self,
        mut client: Connection,
        hello: ClientHello,
        guard: &DrainGuard,
    ) -> Option<Identified> {
        let (compiled, address) = (&self.gateway.compiled, self.accepted.destination);
        let name = hello.server_name.as_deref();
        let Some(found) = compiled.by_server_name(address, name) else {
            let mut servers = compiled.listener_at(address)?.servers.iter();
            if servers.any(|server| server.tls.is_none()) {
                return self.tls_to_plaintext(client, &hello).await;
            }
            let why = format_args!("no server has the name {}", name.unwrap_or("(none)"));
            self.refuse(Reason::NoRoute, &why, "see the hosts of the gateway's servers");
            // The client may have gone.
            let _ = client.transport.send_all(UNRECOGNIZED_NAME).await;
            return None;
        };
        match &found.server.tls {
            Some(ServerTls::Terminate(_)) => self.terminate(client, hello, &found, guard).await,
            Some(ServerTls::AutoPassthrough) => {
                self.auto_passthrough(client, hello).await;
                None
            }
            Some(ServerTls::Passthrough) | None => {
                let facts = self.facts(How::OpaqueTls, None, hello.server_name.clone());
                self.stream(client, &found, facts, hello.server_name.as_deref()).await;
                None
            }
        }
    }

    /// Proxies of the mesh may speak their mutual TLS to a server that asks for none; anything else is no HTTP.
    async fn tls_to_plaintext(
        &self,
        client: Connection,
        hello: &ClientHello,
    ) -> Option<Identified> {
        let is_mesh = hello.application_protocols.iter().any(|name| alpn::is_mesh(name));
        if !is_mesh {
            let facts = self.facts(How::Plaintext, None, None);
            let edge = self.edge(facts, Taken::Plain, None);
            return Some(Identified { edge, payload: Payload::Http1, client });
        }
        let identity = self.identity()?;
        let opened = self.mesh(client, &identity).await?;
        let Opened { client, payload, identity, proven } = opened;
        let facts = self.facts(How::MutualTls, identity, hello.server_name.clone());
        let edge = self.edge(facts, Taken::Plain, Some(proven));
        Some(Identified { edge, payload, client })
    }

    async fn terminate(
        &self,
        client: Connection,
        hello: ClientHello,
        found: &FoundServer<'_>,
        guard: &DrainGuard,
    ) -> Option<Identified> {
        let state = self.gateway.server(found)?.tls.clone()?;
        let protocol = &found.server.protocol;
        let is_http = matches!(protocol, ServerProtocol::Http(_) | ServerProtocol::HttpsRedirect);
        let Opened { mut client, mut payload, identity, proven } =
            self.open(client, &state, is_http).await?;
        let how = if identity.is_some() { How::MutualTls } else { How::Plaintext };
        let facts = self.facts(how, identity, hello.server_name.clone());
        if !is_http {
            self.stream(client, found, facts, hello.server_name.as_deref()).await;
            return None;
        }
        if payload == Payload::Detect {
            payload = match detect::client_speaks(&mut client, patience(self.worker, guard)).await {
                Spoken::Ended => return None,
                Spoken::Http2 => Payload::Http2,
                Spoken::Http1 | Spoken::Opaque | Spoken::Tls(_) => Payload::Http1,
            };
        }
        let edge = self.edge(facts, Taken::Tls(hello.server_name), Some(proven));
        Some(Identified { edge, payload, client })
    }

    /// Shakes hands as the server says.
    async fn open(
        &self,
        client: Connection,
        state: &ServerTlsState,
        is_http: bool,
    ) -> Option<Opened> {
        let clock = self.worker.shared.identity.clock();
        let config = match state.acceptor(clock, is_http) {
            Ok(Acceptor::Mesh) => {
                let identity = self.identity()?;
                let opened = self.mesh(client, &identity).await?;
                let peer = opened.identity.as_ref().map(ToString::to_string).unwrap_or_default();
                let names = &state.termination.subject_alt_names;
                if !names.is_empty() && !names.iter().any(|name| **name == *peer) {
                    let why = format_args!("{peer} is none of the subjectAltNames");
                    self.refuse(Reason::PeerIdentity, &why, "name it in the Gateway, if it may");
                    return None;
                }
                return Some(opened);
            }
            Ok(Acceptor::Own(config)) => config,
            Err(why) => {
                let hint = "`heddle explain` says what the server refers to";
                self.refuse(Reason::PeerIdentity, why, hint);
                return None;
            }
        };
        let (tls, buffer) = self.shake_hands(client, config.config().clone()).await?;
        let payload = Payload::of(tls.common_state().alpn_protocol());
        let leaf = config.client(tls.common_state());
        let client_certificate = leaf.and_then(|leaf| certificate::header(leaf, None));
        let client = Connection { transport: Transport::Tls(tls), buffer };
        let proven = Proven { client_certificate, serial: None };
        Some(Opened { client, payload, identity: None, proven })
    }

    fn identity(&self) -> Option<Arc<MeshIdentity>> {
        let identity = self.worker.shared.identity.current();
        if identity.is_none() {
            let why = "this proxy has no valid certificate";
            self.refuse(Reason::PeerIdentity, &why, "its log says why it got none");
        }
        identity
    }

    /// Mutual TLS of the mesh.
    async fn mesh(&self, client: Connection, identity: &MeshIdentity) -> Option<Opened> {
        let server = identity.sidecar_server();
        let (tls, buffer) = self.shake_hands(client, server.config().clone()).await?;
        let peer = match server.peer(tls.common_state()) {
            Ok(peer) => peer,
            Err(error) => {
                self.worker.events.handshake(self.parties(), Some(&error), &error);
                return None;
            }
        };
        let payload = Payload::of(tls.common_state().alpn_protocol());
        let leaf = tls.common_state().peer_certificates().and_then(|all| all.first());
        let by = identity.svid().identity.to_string();
        let client_certificate = leaf.and_then(|leaf| certificate::header(leaf, Some(&by)));
        let client = Connection { transport: Transport::Tls(tls), buffer };
        let proven = Proven { client_certificate, serial: peer.serial };
        Some(Opened { client, payload, identity: Some(peer.identity), proven })
    }

    async fn shake_hands(
        &self,
        client: Connection,
        config: Arc<heddle_tls::ServerConfig>,
    ) -> Option<(Box<TlsStream>, Buffer)> {
        let Connection { transport: Transport::Plain(tcp), buffer: ciphertext } = client else {
            return None;
        };
        let settings = self.worker.shared.configuration.snapshot().settings.clone();
        let limits = settings.map_or_else(Limits::default, |settings| settings.limits);
        let mut buffer = Buffer::new();
        let shaking = TlsStream::accept(tcp, config, ciphertext.filled(), &mut buffer);
        let error = match tokio::time::timeout(limits.head_timeout, shaking).await {
            Ok(Ok(tls)) => return Some((tls, buffer)),
            Ok(Err(error)) => error,
            Err(_) => {
                let why = format_args!("TLS handshake not done within {:?}", limits.head_timeout);
                self.refuse(Reason::ConnectTimeout, &why, "the client is slow, or gone");
                return None;
            }
        };
        let refusal = match &error {
            HandshakeError::Tls(error) => PeerVerificationError::from_handshake(error),
            HandshakeError::Connection(_) | HandshakeError::TooLarge => None,
        };
        self.worker.events.count(Direction::Inbound, Some(Reason::PeerIdentity));
        self.worker.events.handshake(self.parties(), refusal.as_ref(), &error);
        None
    }

    /// Passes a stream on by the rules of its server.
    async fn stream(
        &self,
        client: Connection,
        found: &FoundServer<'_>,
        facts: Facts,
        server_name: Option<&str>,
    ) {
        let outbound = found.streams().and_then(|routes| self.gateway.outbound(routes)).cloned();
        self.pass_on(client, outbound, facts, server_name).await;
    }

    /// Mesh TLS on its way to another network: its server name says to which service.
    async fn auto_passthrough(&self, client: Connection, hello: ClientHello) {
        let name = hello.server_name.as_deref().unwrap_or_default();
        let is_mesh = hello.application_protocols.iter().any(|name| alpn::is_mesh(name));
        let outbound = if is_mesh { passthrough::outbound(self.worker, name).await } else { None };
        let facts = self.facts(How::OpaqueTls, None, hello.server_name.clone());
        self.pass_on(client, outbound, facts, None).await;
    }

    async fn pass_on(
        &self,
        client: Connection,
        outbound: Option<Arc<OutboundState>>,
        facts: Facts,
        server_name: Option<&str>,
    ) {
        use outbound::stream::{self, StreamError};
        let (worker, accepted) = (self.worker, self.accepted);
        let peer = self.peer(facts, None);
        let snapshot = worker.shared.configuration.snapshot();
        let Some(policy) = &snapshot.inbound else {
            let why = "no policy has come from the control plane yet";
            return self.refuse(
                Reason::DestinationUnknown,
                &why,
                "it takes connections once it has",
            );
        };
        let admitted = admission::stream::admit(worker, peer.party(), policy).await;
        admission::stream::note_decided(worker, peer.party());
        if let Err(origin) = admitted {
            return self.denied(&peer, &"stream", &origin);
        }
        let Some(outbound) = outbound else {
            return stream::refused(worker, accepted, &StreamError::NoRoute);
        };
        let found = Found::Routes(outbound);
        let revoked = inbound::stream::newly_denied(worker, &peer, snapshot.generation, false);
        stream::serve(worker, accepted, client, &found, server_name, revoked).await;
    }

    fn denied(&self, peer: &Peer, what: &dyn Display, origin: &Origin) {
        self.worker.events.count(Direction::Inbound, Some(Reason::AuthorizationDenied));
        inbound::denied(self.worker, peer, what, origin);
    }

    fn parties(&self) -> Parties<'_> {
        let Accepted { source, destination } = &self.accepted;
        let (direction, source) = (Direction::Inbound, Some(*source));
        Parties { direction, source, peer: "", destination }
    }

    fn refuse(&self, reason: Reason, why: &dyn Display, hint: &str) {
        self.worker.events.failed(self.parties(), reason, why, hint);
    }
}
