//! Connections to the control plane's port for machines.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use heddle_ident::{SpiffeId, TrustDomain};
use heddle_net::broker::{Refusal, RefusalKind};
use heddle_tls::{CryptoProvider, JoinTrust, LeafNames, SystemClock, join_client};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// A connection with its TLS.
pub(super) type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// From the first packet to the end of the handshake.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The longest answer to the wish to be carried.
const WORD_BYTES_MAX: usize = 256;
/// The name that somebody without one says.
const GUEST_NAME: &str = "control.heddle.internal";

/// Connects without a certificate; the control plane's trust domain.
pub(super) async fn as_guest(
    address: &str,
    provider: Arc<CryptoProvider>,
    trust: JoinTrust,
) -> io::Result<(Stream, TrustDomain)> {
    let config = join_client(provider, Arc::new(SystemClock), trust).map_err(io::Error::other)?;
    let tls = with(address, config, GUEST_NAME.to_owned()).await?;
    let leaf = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let names = leaf.map(|leaf| LeafNames::parse(leaf)).transpose().map_err(io::Error::other)?;
    let uri = names.and_then(|names| names.uris.into_iter().next()).unwrap_or_default();
    let id = SpiffeId::parse(&uri).map_err(io::Error::other)?;
    let domain = id.trust_domain().clone();
    Ok((tls, domain))
}

/// Connects with a configuration, saying that name.
pub(super) async fn with(
    address: &str,
    config: Arc<ClientConfig>,
    name: String,
) -> io::Result<Stream> {
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let connecting = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, tcp).await
    };
    let timeout =
        || io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {CONNECT_MAX:?}"));
    tokio::time::timeout(CONNECT_MAX, connecting).await.unwrap_or_else(|_| Err(timeout()))
}

/// Asks to be carried to an address inside, and gives the connection as a socket of its own.
pub(super) async fn carried(mut tls: Stream, address: SocketAddr) -> Result<OwnedFd, Refusal> {
    let asking = async {
        tls.write_all(format!("{address}\n").as_bytes()).await?;
        let mut word = Vec::new();
        loop {
            match tls.read_u8().await? {
                b'\n' => return io::Result::Ok(word),
                _ if word.len() == WORD_BYTES_MAX => return Err(io::ErrorKind::InvalidData.into()),
                byte => word.push(byte),
            }
        }
    };
    let word = tokio::time::timeout(CONNECT_MAX, asking).await;
    let word = word.map_err(|_| Refusal::from(io::Error::from(io::ErrorKind::TimedOut)))??;
    if word != b"ok" {
        let why = String::from_utf8_lossy(&word).into_owned();
        return Err(Refusal::new(RefusalKind::Refused, why));
    }
    let (near, mut far) = pair().await?;
    tokio::spawn(async move {
        // However it ends: both ends notice.
        let _ = tokio::io::copy_bidirectional(&mut far, &mut tls).await;
    });
    Ok(near.into())
}

/// Two ends of a connection of this machine with itself: the proxy takes sockets of TCP.
async fn pair() -> io::Result<(std::net::TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    loop {
        let (far, from) = listener.accept().await?;
        // Anybody on this machine may have been faster.
        if from == near.local_addr()? {
            far.set_nodelay(true)?;
            return Ok((near.into_std()?, far));
        }
    }
}
