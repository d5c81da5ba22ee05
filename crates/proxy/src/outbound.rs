//! From the workload to others: accept, detect, route, pick, connect, forward, record.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod request_id;
pub(crate) mod session;
pub(crate) mod stream;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use heddle_http::drain::DrainGuard;
use heddle_http::{Connection, Transport};
use heddle_ir::protocol::Protocol;
use heddle_ir::proxy::Limits;
use heddle_net::socket::original_destination;
use heddle_route::RouteDecision;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::detect::{self, First, Patience, Spoken};
use crate::find::{self, Found};
use crate::forward::stream::Opened;
use crate::worker::Worker;

/// How long a client may take to say something that is allowed, where bytes as such are not: one that waits for its server
/// would wait for ever.
const DENIED_WAIT: Duration = Duration::from_secs(5);

/// A connection of the workload, and where it was meant to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// When a request is given up. An injected delay comes before the time that its rule gives it, as in Envoy.
fn due(decision: &RouteDecision<'_>, started: Instant) -> Option<Instant> {
    let timeout = decision.rule.timeout?;
    Some(started + decision.delay.unwrap_or_default() + timeout)
}

/// A connection of which it is known what it speaks.
struct Detected {
    accepted: Accepted,
    client: Connection,
    spoken: Spoken,
}

/// Accepts connections until the thread drains. Each is a task of the thread's local set.
pub async fn serve(worker: Rc<Worker>, listener: TcpListener) {
    crate::accept::serve(worker, listener, |worker, tcp, source, guard| {
        Box::pin(async move {
            // Without its destination a connection is nobody's; closing it is all that can be done.
            let Ok(accepted) = accept(&worker, &tcp, source) else { return };
            let client = Connection::new(Transport::Plain(tcp));
            let detected = Box::pin(detect(&worker, accepted, client, &guard)).await;
            if let Some(detected) = detected {
                serve_detected(&worker, detected, guard).await;
            }
        })
    })
    .await;
}

fn accept(worker: &Worker, tcp: &TcpStream, source: SocketAddr) -> io::Result<Accepted> {
    tcp.set_nodelay(true)?;
    let destination = match worker.shared.overrides.outbound_destination {
        Some(destination) => destination,
        None => original_destination(tcp)?,
    };
    Ok(Accepted { source: canonical(source), destination: canonical(destination) })
}

/// IPv4 as such on a listener of both families.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Tells what the connection speaks, by what is declared of the port, else by what is said first. None when it has been
/// served already, as a stream whose server spoke first.
async fn detect(
    worker: &Rc<Worker>,
    accepted: Accepted,
    mut client: Connection,
    guard: &DrainGuard,
) -> Option<Detected> {
    let snapshot = worker.shared.configuration.snapshot();
    let declared = snapshot.targets.declared(accepted.destination);
    // Rules on what is said must be able to hear it, whatever the port declares.
    let listens = snapshot
        .egress
        .as_ref()
        .is_some_and(|own| own.needs_requests() || own.needs_server_names());
    let declared = if declared == Protocol::Tcp && listens { Protocol::Detect } else { declared };
    let patience = patience(worker, guard);
    let spoken = match declared {
        Protocol::Tcp | Protocol::Udp => Spoken::Opaque,
        // Which version it is, is told by the first bytes; what is no HTTP at all is refused by the parser.
        Protocol::Grpc | Protocol::Http1 | Protocol::Http2 => {
            match detect::client_speaks(&mut client, patience).await {
                Spoken::Opaque => Spoken::Http1,
                spoken => spoken,
            }
        }
        // What is no TLS there is nobody's request to route, as in Istio.
        Protocol::Tls => match detect::client_speaks(&mut client, patience).await {
            Spoken::Http1 | Spoken::Http2 if !listens => Spoken::Opaque,
            spoken => spoken,
        },
        Protocol::Detect => return detect_undeclared(worker, accepted, client, patience).await,
    };
    Some(Detected { accepted, client, spoken })
}

async fn detect_undeclared(
    worker: &Rc<Worker>,
    accepted: Accepted,
    mut client: Connection,
    patience: Patience<'_>,
) -> Option<Detected> {
    let remembered = worker.outbound_ports.client_first(accepted.destination);
    if remembered == Some(true) {
        let spoken = detect::client_speaks(&mut client, patience).await;
        return Some(Detected { accepted, client, spoken });
    }
    let snapshot = worker.shared.configuration.snapshot();
    let Ok(found) = find::find(worker, snapshot, accepted.destination, None).await else {
        stream::refused(worker, accepted, &stream::StreamError::NotPermitted);
        return None;
    };
    let opening = Box::pin(stream::open(worker, accepted, &found, None));
    let first = detect::first_of_both(&mut client, opening, Opened::connection, patience).await;
    let (spoken, opened) = match first {
        First::Client(spoken, opened) => (spoken, opened),
        First::Server(opened) => {
            worker.outbound_ports.note(accepted.destination, false);
            stream::copy(worker, &mut client, opened, pending()).await;
            return None;
        }
        // The client may still be a request that is answered with 503.
        // What policies make of bytes that nobody has heard yet is not what they make of what is said.
        First::Failed(error) if error.is_denial() => {
            let speaking = detect::client_speaks(&mut client, patience);
            let Ok(spoken) = tokio::time::timeout(DENIED_WAIT, speaking).await else {
                stream::refused(worker, accepted, &error);
                return None;
            };
            return Some(Detected { accepted, client, spoken });
        }
        First::Failed(error) => {
            stream::refused(worker, accepted, &error);
            (detect::client_speaks(&mut client, patience).await, None)
        }
    };
    worker.outbound_ports.note(accepted.destination, true);
    match (&spoken, opened) {
        (Spoken::Opaque, Some(opened)) => {
            stream::copy(worker, &mut client, opened, pending()).await;
            None
        }
        _ => Some(Detected { accepted, client, spoken }),
    }
}

/// How long is listened, as the settings say.
pub(crate) fn patience<'a>(worker: &Worker, guard: &'a DrainGuard) -> Patience<'a> {
    /// Until the settings have come.
    const VERDICT: Duration = Duration::from_millis(100);
    let snapshot = worker.shared.configuration.snapshot();
    let (verdict, limits) = snapshot.settings.as_ref().map_or_else(
        || (VERDICT, Limits::default()),
        |settings| (settings.detection_timeout, settings.limits),
    );
    Patience { verdict, hello: limits.head_timeout, idle: limits.idle_timeout, guard }
}

async fn serve_detected(worker: &Rc<Worker>, detected: Detected, guard: DrainGuard) {
    let Detected { accepted, client, spoken } = detected;
    let tls = match spoken {
        Spoken::Ended => return,
        Spoken::Http1 => return http1::serve(worker, accepted, None, client, guard).await,
        Spoken::Http2 => return http2::serve(worker, accepted, None, client, guard).await,
        Spoken::Opaque => None,
        Spoken::Tls(hello) => Some(hello),
    };
    Box::pin(async {
        let snapshot = worker.shared.configuration.snapshot();
        let found: Result<Found, _> =
            find::find(worker, snapshot, accepted.destination, None).await;
        match found {
            Ok(found) => {
                let name = tls.and_then(|hello| hello.server_name);
                stream::serve(worker, accepted, client, &found, name.as_deref(), pending()).await;
            }
            Err(_) => stream::refused(worker, accepted, &stream::StreamError::NotPermitted),
        }
    })
    .await;
}
