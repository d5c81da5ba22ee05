//! The port at which machines outside reach the control plane: TLS 1.3, and certificates of the mesh on both sides.
//!
//! Three kinds of connections come in. A **guest** has no certificate: it may present a join token, once, and is gone after
//! some seconds. A **machine** proves the identity that its token was for and speaks as the supervisor and the proxy of its
//! workload. A **carried** connection is a machine's proxy that speaks to a workload inside: workloads of a standalone mesh
//! have addresses that nobody outside can reach, so its bytes (which are the two proxies' own TLS) are carried to the
//! workload and back. Nothing of them is looked at.
//!
//! Everything is bounded, guests most of all: they can keep each other out, and nobody else.

pub(crate) mod own;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use heddle_diag::error_chain;
use heddle_ident::WorkloadId;
use heddle_rpc::Peer;
use heddle_rpc::server::{Accepted, serve_accepted};
use heddle_tls::{MeshServer, PeerVerificationError, RELAY_PROTOCOL};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy_bidirectional, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Shared;
use crate::handler::Handler;

/// Handshakes under way; further connections are closed at once.
const HANDSHAKES_MAX: usize = 256;
/// For one handshake, and for the first words of a connection that is to be carried.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Connections without a certificate at a time, and how long one lasts.
const GUESTS_MAX: usize = 64;
const GUEST_MAX: Duration = Duration::from_secs(15);
/// Connections of machines at a time: each has one of its own and one of its proxy.
const MACHINES_MAX: usize = 8192;
/// Connections that are carried at a time.
const CARRIED_MAX: usize = 4096;
/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 16;
/// Bytes on their way between TLS and HTTP/2, each way.
const PIPE_BYTES: usize = 64 * 1024;
/// The longest address that a connection is to be carried to, line feed included.
const TARGET_BYTES_MAX: usize = 64;
/// For the connection to a workload inside.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Refusals that are written into the log, per period; the others are counted.
const LOGGED_MAX: u32 = 20;
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// What a machine's name ends with when it says it (server name indication).
pub(crate) const NAME_SUFFIX: &str = ".machine.heddle.internal";

/// What every connection uses.
struct Port {
    shared: Arc<Shared>,
    guests: Arc<Semaphore>,
    machines: Arc<Semaphore>,
    carried: Arc<Semaphore>,
    accepted: mpsc::Sender<Accepted<DuplexStream>>,
    refusals: Refusals,
}

/// Serves machines for ever.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (accepted, incoming) = mpsc::channel(64);
    let slots = |count| Arc::new(Semaphore::new(count));
    let port = Arc::new(Port {
        guests: slots(GUESTS_MAX),
        machines: slots(MACHINES_MAX),
        carried: slots(CARRIED_MAX),
        accepted,
        refusals: Refusals::default(),
        shared: shared.clone(),
    });
    tokio::select! {
        () = accept(port, listener) => Ok(()),
        served = serve_accepted(Handler::new(shared), incoming, STREAMS_MAX) => Ok(served?),
    }
}

async fn accept(port: Arc<Port>, listener: TcpListener) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, from)) = accepted else {
            // Out of descriptors, most likely: connections that end make room.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(slot) = handshakes.clone().try_acquire_owned() else {
            port.refusals
                .tell(from, "too many connections at once that have not said who they are");
            continue;
        };
        let port = port.clone();
        connections.spawn(async move {
            if let Err(why) = port.clone().attend(tcp, from, slot).await {
                port.refusals.tell(from, &why);
            }
        });
    }
}

impl Port {
    /// Stays with a connection until it is over; an error: why it was refused.
    async fn attend(
        self: Arc<Self>,
        tcp: TcpStream,
        from: SocketAddr,
        handshake: OwnedSemaphorePermit,
    ) -> Result<(), String> {
        let server = self.shared.state().own_identity().and_then(own::OwnIdentity::server);
        let server = server.ok_or("the control plane has no certificate at the moment")?;
        // Small messages both ways; an error means that the peer has gone already.
        let _ = tcp.set_nodelay(true);
        let acceptor = TlsAcceptor::from(server.config().clone());
        let tls = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(tcp)).await;
        let tls = tls.map_err(|_| format!("no TLS handshake within {HANDSHAKE_MAX:?}"))?;
        let tls = tls.map_err(|error| match error.to_string() {
            alert if alert.contains("fatal alert") => {
                format!("the other end does not believe that this is its control plane: {alert}")
            }
            other => format!("TLS: {other}"),
        })?;
        let machine = self.machine_of(&server, &tls)?;
        let is_carried = tls.get_ref().1.alpn_protocol() == Some(RELAY_PROTOCOL);
        let full = |_| "too many connections of this kind".to_owned();
        match machine {
            None if is_carried => {
                Err("no client certificate: only machines that have joined are carried inside"
                    .into())
            }
            None => {
                let slot = self.guests.clone().try_acquire_owned().map_err(full)?;
                drop(handshake);
                let served = self.call(tls, Peer::Guest, slot);
                // Whoever has a token needs one call.
                let _ = tokio::time::timeout(GUEST_MAX, served).await;
                Ok(())
            }
            Some((workload, peer)) => {
                let slots = if is_carried { &self.carried } else { &self.machines };
                let slot = slots.clone().try_acquire_owned().map_err(full)?;
                drop(handshake);
                let ended = self.until_not_welcome(&workload, &peer);
                let served = async {
                    if is_carried {
                        return self.carry(tls, &workload, slot).await;
                    }
                    self.call(tls, Peer::Machine(workload.clone()), slot).await;
                    Ok(())
                };
                tokio::select! {
                    outcome = served => outcome,
                    why = ended => {
                        tracing::info!(%workload, %from, why, "a machine's connection is ended");
                        Ok(())
                    }
                }
            }
        }
    }

    /// Which machine it is; none: a guest.
    fn machine_of(
        &self,
        server: &MeshServer,
        tls: &TlsStream<TcpStream>,
    ) -> Result<Option<(WorkloadId, heddle_tls::Peer)>, String> {
        let connection = tls.get_ref().1;
        let peer = match server.peer(connection) {
            Ok(peer) => peer,
            Err(PeerVerificationError::NoCertificate) => return Ok(None),
            Err(error) => return Err(error_chain(&error)),
        };
        let name = connection.server_name().and_then(|name| name.strip_suffix(NAME_SUFFIX));
        let name =
            name.ok_or_else(|| format!("{} does not say which machine it is", peer.identity))?;
        let workload = self.shared.state().machine_of(&peer.identity, name);
        let workload = workload.ok_or_else(|| {
            format!("{} is no machine {name:?} that has joined; it needs a token", peer.identity)
        })?;
        Ok(Some((workload, peer)))
    }

    /// Hands a connection to the gRPC server, and moves its bytes until it is over.
    async fn call(&self, mut tls: TlsStream<TcpStream>, peer: Peer, slot: OwnedSemaphorePermit) {
        let (mut near, far) = duplex(PIPE_BYTES);
        // Fails only when the server is going.
        if self.accepted.send(Accepted::new(far, peer, slot)).await.is_ok() {
            // However it ends: the peer makes another connection when it wants one.
            let _ = copy_bidirectional(&mut tls, &mut near).await;
        }
    }

    /// Carries a connection to a workload inside.
    async fn carry(
        &self,
        mut tls: TlsStream<TcpStream>,
        workload: &WorkloadId,
        _slot: OwnedSemaphorePermit,
    ) -> Result<(), String> {
        let target = tokio::time::timeout(HANDSHAKE_MAX, read_target(&mut tls)).await;
        let target = target.map_err(|_| format!("{workload} does not say where to"))?;
        let target =
            target.map_err(|error| format!("{workload} does not say where to: {error}"))?;
        let connected = if self.shared.state().is_inside(target.ip()) {
            match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(target)).await {
                Ok(Ok(inside)) => Ok(inside),
                Ok(Err(error)) => Err(format!("cannot connect to {target}: {error}")),
                Err(_) => Err(format!("{target} does not answer within {CONNECT_MAX:?}")),
            }
        } else {
            let why = format!("{target} is no workload of this mesh");
            self.refusals.tell(target, &format!("{workload} asks for it: {why}"));
            Err(why)
        };
        let word = match &connected {
            Ok(_) => "ok\n".to_owned(),
            Err(why) => format!("{why}\n"),
        };
        let written = tls.write_all(word.as_bytes()).await;
        if let (Ok(mut inside), Ok(())) = (connected, written) {
            let _ = inside.set_nodelay(true);
            let _ = copy_bidirectional(&mut tls, &mut inside).await;
        }
        // A peer that is told why may still be reading.
        let _ = tls.shutdown().await;
        Ok(())
    }

    /// Ends when the machine may not stay, with the reason.
    async fn until_not_welcome(
        &self,
        workload: &WorkloadId,
        peer: &heddle_tls::Peer,
    ) -> &'static str {
        let mut progress = self.shared.progress.clone();
        let left = peer.validity.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        let expired = tokio::time::sleep(left);
        tokio::pin!(expired);
        loop {
            {
                let state = self.shared.state();
                if !state.is_machine(workload) {
                    return "it is no machine of this mesh any more";
                }
                let revokes = |own: &own::OwnIdentity| {
                    peer.serial.is_some_and(|serial| own.identity().revokes(serial))
                };
                if state.own_identity().is_some_and(revokes) {
                    return "its certificate is revoked";
                }
            }
            tokio::select! {
                () = &mut expired => return "its certificate has expired",
                changed = progress.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }
}

/// The first line of a connection that is to be carried: an address and a port.
async fn read_target(tls: &mut TlsStream<TcpStream>) -> io::Result<SocketAddr> {
    let mut line = Vec::new();
    loop {
        match tls.read_u8().await? {
            b'\n' => break,
            _ if line.len() == TARGET_BYTES_MAX => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
    let text = String::from_utf8_lossy(&line);
    text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "that is no address"))
}

/// Refused connections, as the log has them: anybody can cause some, so that only so many are written.
#[derive(Default)]
struct Refusals(Mutex<Option<(Instant, u32)>>);

impl Refusals {
    fn tell(&self, from: SocketAddr, why: &str) {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (begun, count) = period.get_or_insert((now, 0));
        if now.duration_since(*begun) >= LOG_PERIOD {
            let unsaid = count.saturating_sub(LOGGED_MAX);
            if unsaid > 0 {
                tracing::warn!(unsaid, "further connections were refused at the port for machines");
            }
            (*begun, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count <= LOGGED_MAX {
            let hint =
                "`heddle certs token create` makes a token for `heddle agent`; nothing was changed";
            tracing::warn!(%from, why, hint, "a connection is refused at the port for machines");
        }
    }
}
