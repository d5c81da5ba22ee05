//! From others to the workload: accept, detect, identify, authorize, forward, record.

mod http1;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::{Acceptance, CompiledAuthorization};
use heddle_http::{Buffer, Connection, TlsStream, Transport};
use heddle_ident::SpiffeId;
use heddle_ir::destination::ClientTls;
use heddle_ir::inbound::Inbound;
use heddle_ir::request::ConnectionFacts;
use heddle_net::socket::original_destination;
use heddle_tls::{MeshIdentity, alpn, default_provider, sha256_hex};
use heddle_wire::sniff::{ClientHello, Sniffed, read_client_hello, sniff};
use tokio::net::{TcpListener, TcpStream};

use crate::built_in;
use crate::find::name_of;
use crate::snapshot::DestinationState;
use crate::worker::Worker;

/// A connection to the workload, and where it was meant to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// A connection of which it is known who is at its other end.
pub(crate) struct Identified {
    pub(crate) accepted: Accepted,
    pub(crate) facts: heddle_authz::Connection,
    pub(crate) connection: Connection,
    /// What the peer's certificate says, for the application.
    pub(crate) client_certificate: Option<String>,
}

/// Accepts connections until the thread drains. Each is a task of the thread's local set.
pub async fn serve(worker: Rc<Worker>, listener: TcpListener) {
    crate::accept::serve(worker, listener, |worker, tcp, source| {
        Box::pin(async move {
            let Ok(accepted) = accept(&worker, &tcp, source) else { return };
            let Some(identified) = Box::pin(identify(&worker, accepted, tcp)).await else { return };
            http1::serve(&worker, identified).await;
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
    Ok(Accepted { source, destination })
}

/// Finds out what the client speaks first and, where it is mutual TLS of the mesh, who it is. None: the connection is not
/// accepted, and is closed without a byte of answer.
async fn identify(worker: &Worker, accepted: Accepted, tcp: TcpStream) -> Option<Identified> {
    let snapshot = worker.shared.configuration.snapshot();
    let inbound = snapshot.inbound.clone()?;
    let mut connection = Connection::new(Transport::Plain(tcp));
    let first = peek(&mut connection).await?;
    let First::Tls(hello) = first else {
        return plaintext(&inbound, accepted, connection);
    };
    let is_mesh = hello.application_protocols.iter().any(|name| alpn::is_mesh(name));
    if !is_mesh {
        return opaque_tls(&inbound, accepted, connection, hello);
    }
    let identity = worker.shared.identity.current()?;
    let server = identity.sidecar_server();
    let Connection { transport: Transport::Plain(tcp), buffer: ciphertext } = connection else {
        return None;
    };
    let mut buffer = Buffer::new();
    let config = server.config().clone();
    let tls = TlsStream::accept(tcp, config, ciphertext.filled(), &mut buffer).await.ok()?;
    let peer = server.peer(tls.common_state()).ok()?;
    let client_certificate = certificate_header(&identity, &tls, &peer.identity);
    let facts = facts(accepted, Some(peer.identity), hello.server_name);
    let facts = heddle_authz::Connection::new(heddle_authz::Transport::MutualTls, facts);
    if let Acceptance::Refuse(_) = inbound.accept(&facts) {
        return None;
    }
    let connection = Connection { transport: Transport::Tls(tls), buffer };
    Some(Identified { accepted, facts, connection, client_certificate })
}

fn facts(
    accepted: Accepted,
    peer_identity: Option<SpiffeId>,
    server_name: Option<String>,
) -> ConnectionFacts {
    let Accepted { source, destination } = accepted;
    ConnectionFacts { peer_identity, source, destination, server_name }
}

fn plaintext(
    inbound: &CompiledAuthorization,
    accepted: Accepted,
    connection: Connection,
) -> Option<Identified> {
    let facts = facts(accepted, None, None);
    let facts = heddle_authz::Connection::new(heddle_authz::Transport::Plaintext, facts);
    match inbound.accept(&facts) {
        Acceptance::Accept | Acceptance::ProbesOnly(_) => {
            Some(Identified { accepted, facts, connection, client_certificate: None })
        }
        Acceptance::Refuse(_) => None,
    }
}

fn opaque_tls(
    inbound: &CompiledAuthorization,
    accepted: Accepted,
    connection: Connection,
    hello: ClientHello,
) -> Option<Identified> {
    let facts = facts(accepted, None, hello.server_name);
    let facts = heddle_authz::Connection::new(heddle_authz::Transport::OpaqueTls, facts);
    match inbound.accept(&facts) {
        Acceptance::Accept => {
            Some(Identified { accepted, facts, connection, client_certificate: None })
        }
        Acceptance::ProbesOnly(_) | Acceptance::Refuse(_) => None,
    }
}

enum First {
    Tls(ClientHello),
    Other,
}

/// Reads until it is known whether it is TLS. None when the client went away.
async fn peek(connection: &mut Connection) -> Option<First> {
    loop {
        if connection.fill().await.ok()? == 0 {
            return None;
        }
        let filled = connection.buffer.filled();
        match sniff(filled) {
            Sniffed::Tls => match read_client_hello(filled) {
                Ok(Some(hello)) => return Some(First::Tls(hello)),
                Ok(None) => {}
                Err(_) => return Some(First::Other),
            },
            Sniffed::NeedMore if filled[0] == 0x16 => {}
            Sniffed::Http1 | Sniffed::Http2 | Sniffed::NeedMore | Sniffed::Opaque => {
                return Some(First::Other);
            }
        }
    }
}

/// The value of `x-forwarded-client-cert` for a peer, as Istio's sidecars write it.
fn certificate_header(identity: &MeshIdentity, tls: &TlsStream, peer: &SpiffeId) -> Option<String> {
    let leaf = tls.common_state().peer_certificates()?.first()?;
    let hash = sha256_hex(&default_provider(), leaf)?;
    let own = &identity.svid().identity;
    Some(format!("By={own};Hash={hash};Subject=\"\";URI={peer}"))
}

/// The application behind each port, as a thread connects to it.
#[derive(Default)]
pub(crate) struct Applications(RefCell<HashMap<u16, (Arc<Inbound>, Arc<DestinationState>)>>);

impl Applications {
    /// The application on a port, under this policy.
    pub(crate) fn on(&self, port: u16, inbound: &Arc<Inbound>) -> Arc<DestinationState> {
        let mut known = self.0.borrow_mut();
        if let Some((policy, state)) = known.get(&port)
            && Arc::ptr_eq(policy, inbound)
        {
            return state.clone();
        }
        let pool = inbound.connection_pool.clone();
        let host = name_of("localhost");
        let state = built_in::destination("inbound", host, port, ClientTls::Disable, pool);
        known.insert(port, (inbound.clone(), state.clone()));
        state
    }
}
