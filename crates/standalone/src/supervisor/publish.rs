//! Ports of the host that lead into the mesh.
//!
//! The broker opens the listener on the host and hands it in; connections are accepted here, and relayed from
//! the fabric's namespace to a ready workload: to the mesh they are what they are, plaintext from outside.
//! Workloads that publish the same address and port share it, in turn: so a Service with replicas is published.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;

use heddle_net::broker::{Client, Error, RefusalKind, Request};
use heddle_net::socket::SocketFactory;

/// A workload's address must answer within this time.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Connections relayed at once per port; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Clients per port whose datagrams are relayed at once.
const SESSIONS_MAX: usize = 1024;
/// So long nobody says anything until a client's datagrams may go elsewhere. Longer than the gateways' own time.
const SESSION_IDLE: Duration = Duration::from_secs(90);

/// One workload's wish for a port of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    /// Where on the host; port 0 is any free one.
    pub(crate) host: SocketAddr,
    /// Where in the mesh.
    pub(crate) target: SocketAddr,
    /// Who wishes it, for messages.
    pub(crate) workload: String,
    /// The Service whose port it is (`namespace/name`); empty: the port of a container.
    pub(crate) service: String,
    /// Whether connections may go there now.
    pub(crate) ready: bool,
    /// Whether it is for datagrams of UDP.
    pub(crate) udp: bool,
}

/// What became of a wish.
pub(crate) type Outcome = Result<SocketAddr, String>;

/// Keeps the host's ports in step with the wishes.
pub(crate) struct Publisher {
    broker: Client,
    ports: BTreeMap<PortKey, Port>,
    /// Dropping it ends every relay.
    relays: JoinSet<()>,
}

/// The ports of Services are theirs; wishes for any free port are not shared: each is of its own workload.
type PortKey = (SocketAddr, bool, Option<(String, u16)>);

/// Ports that only root may open, on most hosts.
const PRIVILEGED: u16 = 1024;
/// What an ordinary user gets in place of such a port: 8080 for 80, 8443 for 443.
const PRIVILEGED_SHIFT: u16 = 8000;

struct Port {
    address: SocketAddr,
    targets: Arc<Targets>,
    relay: AbortHandle,
}

#[derive(Default)]
struct Targets {
    ready: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Targets {
    fn set(&self, ready: Vec<SocketAddr>) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
    }

    fn pick(&self) -> Option<SocketAddr> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        (!ready.is_empty()).then(|| ready[turn % ready.len()])
    }
}

impl Publisher {
    /// Nothing is published yet.
    pub(crate) fn new(broker: Client) -> Self {
        Self { broker, ports: BTreeMap::new(), relays: JoinSet::new() }
    }

    /// Opens what is wished and not open, closes what nobody wishes any longer, and points what is open at
    /// the ready workloads. The outcomes are in the order of the wishes. A port that could not be opened is
    /// tried again at the next call.
    pub(crate) async fn apply(&mut self, wishes: &[Wish]) -> Vec<Outcome> {
        let wanted: Vec<PortKey> = wishes.iter().map(key).collect();
        self.ports.retain(|key, port| {
            let keep = wanted.contains(key);
            if !keep {
                port.relay.abort();
            }
            keep
        });
        while self.relays.try_join_next().is_some() {}
        let mut failures: BTreeMap<&PortKey, String> = BTreeMap::new();
        for (wish, key) in wishes.iter().zip(&wanted) {
            if self.ports.contains_key(key) || failures.contains_key(key) {
                continue;
            }
            match self.open_for(wish).await {
                Ok(port) => drop(self.ports.insert(key.clone(), port)),
                Err(error) => drop(failures.insert(key, explain(wish, &error))),
            }
        }
        for (key, port) in &self.ports {
            let of_port = wishes.iter().zip(&wanted).filter(|(wish, k)| *k == key && wish.ready);
            port.targets.set(of_port.map(|(wish, _)| wish.target).collect());
        }
        let outcome = |key| match self.ports.get(key) {
            Some(port) => Ok(port.address),
            None => Err(failures.get(key).cloned().unwrap_or_default()),
        };
        wanted.iter().map(outcome).collect()
    }

    /// Opens what is wished. The port of a Service that an ordinary user may not have, or that another Service of this
    /// mesh has already, is replaced by another one.
    async fn open_for(&mut self, wish: &Wish) -> Result<Port, Error> {
        let udp = wish.udp;
        let error = match self.open(wish.host, udp).await {
            Err(error) if !wish.service.is_empty() => error,
            result => return result,
        };
        let Error::Refused(refusal) = &error else { return Err(error) };
        let port = wish.host.port();
        let replaced = match refusal.kind {
            RefusalKind::Denied => port < PRIVILEGED,
            RefusalKind::AddressInUse => {
                let mut open = self.ports.iter();
                open.any(|((_, own, _), port)| *own == udp && port.address == wish.host)
            }
            _ => false,
        };
        if !replaced {
            return Err(error);
        }
        let others = [Some(port + PRIVILEGED_SHIFT).filter(|_| port < PRIVILEGED), Some(0)];
        for other in others.into_iter().flatten() {
            if let Ok(opened) = self.open(SocketAddr::new(wish.host.ip(), other), udp).await {
                return Ok(opened);
            }
        }
        Err(error)
    }

    async fn open(&mut self, host: SocketAddr, udp: bool) -> Result<Port, Error> {
        if udp {
            let descriptor = self.broker.descriptor(&Request::ListenUdp(host)).await?;
            let socket = UdpSocket::from_std(descriptor.into())?;
            let address = socket.local_addr()?;
            let targets = Arc::new(Targets::default());
            let relay = self.relays.spawn(datagrams(socket, Arc::clone(&targets)));
            return Ok(Port { address, targets, relay });
        }
        let descriptor = self.broker.descriptor(&Request::Listen(host)).await?;
        let listener = std::net::TcpListener::from(descriptor);
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let targets = Arc::new(Targets::default());
        let relay = self.relays.spawn(accept(listener, Arc::clone(&targets)));
        Ok(Port { address, targets, relay })
    }
}

fn key(wish: &Wish) -> PortKey {
    if !wish.service.is_empty() {
        return (wish.host, wish.udp, Some((wish.service.clone(), 0)));
    }
    let own = (wish.host.port() == 0).then(|| (wish.workload.clone(), wish.target.port()));
    (wish.host, wish.udp, own)
}

fn explain(wish: &Wish, error: &Error) -> String {
    let (address, port) = (wish.host.ip(), wish.host.port());
    let who = if wish.service.is_empty() {
        wish.workload.clone()
    } else {
        format!("the Service {}", wish.service)
    };
    match error {
        Error::Refused(refusal) if refusal.kind == RefusalKind::AddressInUse => format!(
            "port {port} of {address}, which {who} publishes, is taken by another program of this host; \
             stop that program or publish another port"
        ),
        Error::Refused(refusal) if refusal.kind == RefusalKind::Denied && port < 1024 => format!(
            "port {port} of {address}, which {who} publishes, needs root on this host (ports below 1024); \
             publish another port"
        ),
        Error::Refused(refusal) => {
            format!("cannot open port {port} of {address}, which {who} publishes: {refusal}")
        }
        other => format!("cannot open port {port} of {address}, which {who} publishes: {other}"),
    }
}

async fn accept(listener: TcpListener, targets: Arc<Targets>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((client, peer)) = listener.accept().await else {
            // Out of descriptors, most likely: do not spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let target = targets.pick();
        connections.spawn(async move {
            if let Some(target) = target
                && let Err(error) = relay(client, target).await
            {
                debug!(%peer, %target, %error, "relay ended");
            }
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let connect = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(target));
    let mut server = connect.await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Leads datagrams in; each client's go to one workload for as long as the two have something to say.
async fn datagrams(socket: UdpSocket, targets: Arc<Targets>) {
    heddle_net::datagrams::relay(&socket, SESSIONS_MAX, |mut session| {
        let target = targets.pick();
        async move {
            let Some(target) = target else { return };
            let exchanged = async {
                let server = SocketFactory::here().connect_udp(target).await?;
                session.exchange(&server, SESSION_IDLE).await
            };
            if let Err(error) = exchanged.await {
                debug!(client = %session.client, %target, %error, "datagrams are not taken");
            }
        }
    })
    .await;
}

/// The address on the host that a wish is for; empty text is the mesh's own.
pub(crate) fn host_address(text: &str, own: IpAddr) -> Option<IpAddr> {
    if text.is_empty() { Some(own) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests;
