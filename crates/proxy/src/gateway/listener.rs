//! The sockets that a gateway listens on. They follow the configuration: new ones are opened, those that nothing wants any
//! more are closed and their connections drain. A change of what is served on a socket leaves it and its connections as
//! they are.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use heddle_http::drain::{DrainGuard, LocalDrain};
use heddle_net::socket::{ListenOptions, SocketFactory};
use heddle_tls::expiry_from_pem;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::datagrams;
use crate::outbound::{Accepted, canonical};
use crate::snapshot::Snapshot;
use crate::worker::Worker;

/// A port that is taken is tried again so often.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// After a failed accept (no descriptors left); connections wait in the kernel's queue meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How long connections of a closed listener drain when the control plane has not said.
const DRAIN_MAX: Duration = Duration::from_secs(45);

/// A socket: a port, the address it is bound to (none: all addresses), and whether it is one of datagrams.
type Place = (u16, Option<IpAddr>, bool);

/// A socket that is listened on.
struct Listening {
    /// Dropped to close it.
    stop: oneshot::Sender<()>,
    /// Ready once it is closed; connections may still drain.
    closed: oneshot::Receiver<()>,
}

/// Opens and closes listeners as the configuration says, until the thread drains. Does nothing where the proxy is no
/// gateway.
pub async fn run(worker: Rc<Worker>) {
    let mut changes = worker.shared.configuration.changes();
    let guard = worker.drain.watch();
    let mut open: BTreeMap<Place, Listening> = BTreeMap::new();
    let mut failing: BTreeMap<Place, io::ErrorKind> = BTreeMap::new();
    let mut ends = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let snapshot = worker.shared.configuration.snapshot();
        tell_ends(&worker, &snapshot, &mut ends);
        let wanted = places(&snapshot);
        let gone: Vec<Place> =
            open.keys().filter(|place| !wanted.contains(place)).copied().collect();
        for place in gone {
            let Some(Listening { stop, closed }) = open.remove(&place) else { continue };
            drop(stop);
            // So that what comes next may bind an address of it.
            let _ = closed.await;
            info!(port = place.0, "a gateway's listener is closed");
        }
        failing.retain(|place, _| wanted.contains(place));
        for place in wanted {
            if open.contains_key(&place) {
                continue;
            }
            match listen(&worker.shared.sockets, place) {
                Ok(listener) => {
                    failing.remove(&place);
                    info!(port = place.0, "a gateway listens");
                    open.insert(place, begin(&worker, listener));
                }
                Err(error) => {
                    // Said once, not with every try.
                    if failing.insert(place, error.kind()) != Some(error.kind()) {
                        warn!(port = place.0, %error, "a gateway cannot listen; tried again");
                    }
                }
            }
        }
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    // Nothing publishes any more: what is open stays so.
                    std::future::pending::<()>().await;
                }
            }
            () = tokio::time::sleep(RETRY_AFTER), if !failing.is_empty() => {}
            () = draining(&guard) => return,
        }
    }
}

async fn draining(guard: &DrainGuard) {
    poll_fn(|cx| if guard.poll_draining(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// States when the certificates end that are presented now, by the Secret, where that is another time than before.
fn tell_ends(
    worker: &Worker,
    snapshot: &Snapshot,
    told: &mut BTreeMap<String, Option<SystemTime>>,
) {
    let Some(metrics) = &worker.shared.mesh_metrics else { return };
    let mut ends: BTreeMap<String, Option<SystemTime>> =
        told.keys().map(|name| (name.clone(), None)).collect();
    for secret in snapshot.gateway.iter().flat_map(|gateway| gateway.presented()) {
        let name = format!("{}/{}", secret.key.namespace, secret.key.name);
        ends.insert(name, expiry_from_pem(&secret.certificate_chain).ok());
    }
    for (name, end) in ends.iter().filter(|(name, end)| told.get(*name) != Some(*end)) {
        metrics.record_gateway_certificate(name, *end);
    }
    *told = ends;
}

/// The sockets that the configuration asks for. A port on all addresses takes its single addresses with it: who answers is
/// told by the address that was connected to.
fn places(snapshot: &Snapshot) -> Vec<Place> {
    let Some(gateway) = &snapshot.gateway else { return Vec::new() };
    let listeners = &gateway.compiled.gateway().listeners;
    let place = |listener: &heddle_ir::gateway::Listener| {
        let bind = listener.bind.filter(|bind| !bind.is_unspecified());
        (listener.port, bind, listener.is_udp())
    };
    let mut places: Vec<Place> = listeners.iter().map(place).collect();
    places.sort_unstable();
    places.dedup();
    let everywhere: Vec<(u16, bool)> = places
        .iter()
        .filter(|(_, bind, _)| bind.is_none())
        .map(|(port, _, udp)| (*port, *udp))
        .collect();
    places.retain(|(port, bind, udp)| bind.is_none() || !everywhere.contains(&(*port, *udp)));
    places
}

/// What is listened on.
enum Socket {
    Connections(TcpListener),
    Datagrams(UdpSocket),
}

fn listen(sockets: &SocketFactory, (port, bind, udp): Place) -> io::Result<Socket> {
    let options = ListenOptions::default();
    let open = |address: IpAddr| {
        let address = SocketAddr::new(address, port);
        if udp {
            sockets.bind_udp(address).map(Socket::Datagrams)
        } else {
            sockets.listen(address, options).map(Socket::Connections)
        }
    };
    if let Some(address) = bind {
        return open(address);
    }
    match open(Ipv6Addr::UNSPECIFIED.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // A host without IPv6.
        Err(_) => open(Ipv4Addr::UNSPECIFIED.into()),
        Ok(socket) => Ok(socket),
    }
}

fn begin(worker: &Rc<Worker>, socket: Socket) -> Listening {
    let (stop, stopped) = oneshot::channel();
    let (closing, closed) = oneshot::channel();
    match socket {
        Socket::Connections(listener) => {
            tokio::task::spawn_local(accept(worker.clone(), listener, stopped, closing));
        }
        Socket::Datagrams(socket) => {
            let worker = worker.clone();
            tokio::task::spawn_local(async move {
                let guard = worker.drain.watch();
                tokio::select! {
                    _ = stopped => {}
                    () = draining(&guard) => {}
                    () = datagrams::serve(&worker, &socket) => {}
                }
                drop(socket);
                drop(closing);
            });
        }
    }
    Listening { stop, closed }
}

/// Accepts until the listener is not wanted any more or the thread drains, then lets the connections come to an end.
async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    mut stopped: oneshot::Receiver<()>,
    closing: oneshot::Sender<()>,
) {
    let guard = worker.drain.watch();
    let drain = LocalDrain::new();
    let mut connections: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            () = draining(&guard) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                Ok((tcp, source)) => {
                    // The thread waits for it as for any other when it drains.
                    let guards = (drain.enter(), worker.drain.enter());
                    let serving = serve(worker.clone(), tcp, source, guards);
                    connections.spawn_local(serving);
                    // Clients that fill the limit must not keep the listener open.
                    tokio::select! {
                        biased;
                        _ = &mut stopped => break,
                        () = draining(&guard) => break,
                        () = crate::accept::wait_for_room(&worker) => {}
                    }
                }
            },
        }
    }
    drop(listener);
    drop(closing);
    drain.begin();
    let settings = worker.shared.configuration.snapshot().settings.clone();
    let drain_max = settings.map_or(DRAIN_MAX, |settings| settings.drain_duration);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_max, finished).await.is_err() {
        warn!("connections of a closed listener were cut at the end of the drain");
    }
}

async fn serve(
    worker: Rc<Worker>,
    tcp: TcpStream,
    source: SocketAddr,
    (guard, _counted): (DrainGuard, DrainGuard),
) {
    if tcp.set_nodelay(true).is_err() {
        return;
    }
    let Ok(destination) = tcp.local_addr() else { return };
    let accepted = Accepted { source: canonical(source), destination: canonical(destination) };
    super::serve_connection(&worker, accepted, tcp, guard).await;
}
