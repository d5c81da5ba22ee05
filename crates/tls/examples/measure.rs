//! Measures what mesh TLS costs: CPU per handshake in its variants, bytes per idle connection.
//!
//! `cargo run --release -p heddle-tls --example measure [-- handshakes | client | server]`. Both ends run in this
//! process, so a handshake's figure is that of a pair; of connections only the named side is kept.

#![expect(clippy::print_stdout, reason = "prints its measurements")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use heddle_cert::{BACKDATE, Crypto, Svid, TrustBundle, Validity};
use heddle_ident::{SpiffeId, TrustDomain};
use heddle_tls::{
    CryptoProvider, Expected, Identity, Keys, MeshClient, MeshServer, SigningRoot, SystemClock,
    alpn, default_provider,
};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConnection, ServerConnection};

const HANDSHAKES: u32 = 2_000;
const CONNECTIONS: usize = 1_000;

/// Lets a session consume what has come and say what is to go; tells whether anything moved.
macro_rules! drive {
    ($session:ident, $incoming:ident, $outgoing:ident) => {{
        let mut moved = false;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                $session.process_tls_records(&mut $incoming);
            let mut idle = false;
            match state? {
                ConnectionState::EncodeTlsData(mut data) => {
                    let mut buffer = vec![0; 16_384];
                    let length = data.encode(&mut buffer)?;
                    $outgoing.extend_from_slice(&buffer[..length]);
                    moved = true;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => idle = true,
            }
            $incoming.drain(..discard);
            if idle && discard == 0 {
                break moved;
            }
        }
    }};
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        None | Some("handshakes") => handshakes(),
        Some(side @ ("client" | "server")) => memory(side),
        Some(other) => Err(format!("{other}: not handshakes, client or server").into()),
    }
}

fn handshakes() -> Result<()> {
    let hybrid = default_provider();
    let mut classic = CryptoProvider::clone(&hybrid);
    classic.kx_groups = vec![kx_group::X25519];
    for (name, provider) in [("hybrid", hybrid), ("X25519", Arc::new(classic))] {
        let (client, server, _) = mesh(&provider)?;
        let (client, server) =
            (client.current().ok_or("client")?, server.current().ok_or("server")?);
        let client = client.client(alpn::CLIENT_HTTP_11, Expected::AnyTrusted)?;
        let server = server.sidecar_server();
        time(&format!("{name}, full"), || {
            let (connected, accepted) = connect(&client.for_endpoint(), server)?;
            client.peer(&connected)?;
            server.peer(&accepted)?;
            Ok(())
        })?;
        time(&format!("{name}, resumed"), || {
            let (connected, accepted) = connect(&client, server)?;
            client.peer(&connected)?;
            server.peer(&accepted)?;
            Ok(())
        })?;
    }
    let provider = default_provider();
    let (client, _, bundle) = mesh(&provider)?;
    let current = client.current().ok_or("client")?;
    time("client configuration of a destination", || {
        current.client(alpn::CLIENT_HTTP_11, Expected::AnyTrusted).map(drop)?;
        Ok(())
    })?;
    let destination = current.client(alpn::CLIENT_HTTP_11, Expected::AnyTrusted)?;
    time("client configuration of an endpoint", || {
        std::hint::black_box(destination.for_endpoint());
        Ok(())
    })?;
    let keys = Keys::new(provider);
    let svid = current.svid();
    time("chain verified twice, from nothing", || {
        keys.check_chain(&svid.key, &svid.identity, &svid.chain, &bundle)?;
        Ok(())
    })?;
    time("key and request", || keys.make_key(&svid.identity).map(drop).map_err(Into::into))
}

/// Unbuffered sessions, as the proxy drives them: ciphertext and plaintext are in the caller's buffers.
fn memory(side: &str) -> Result<()> {
    let (client, server, _) = mesh(&default_provider())?;
    let (client, server) = (client.current().ok_or("client")?, server.current().ok_or("server")?);
    let client = client.client(alpn::CLIENT_HTTP_11, Expected::AnyTrusted)?.for_endpoint();
    let server = server.sidecar_server();
    // Kept to the end: memory that was given back would be used again and hide what the next ones need.
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        connect_unbuffered(&client, server)?;
    }
    let before = rss_bytes()?;
    for _ in 0..CONNECTIONS {
        let (connected, accepted) = connect_unbuffered(&client, server)?;
        if side == "client" { clients.push(connected) } else { servers.push(accepted) }
    }
    let each = (rss_bytes()? - before) / CONNECTIONS;
    println!("{side}: {each} bytes per idle connection");
    Ok(())
}

fn connect_unbuffered(
    client: &MeshClient,
    server: &MeshServer,
) -> Result<(UnbufferedClientConnection, UnbufferedServerConnection)> {
    let name = alpn::outbound_server_name(9080, "", "reviews.default.svc.cluster.local");
    let mut connected = UnbufferedClientConnection::new(client.config().clone(), name)?;
    let mut accepted = UnbufferedServerConnection::new(server.config().clone())?;
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    loop {
        let moved =
            drive!(connected, to_client, to_server) | drive!(accepted, to_server, to_client);
        if !moved {
            break;
        }
    }
    client.peer(&connected)?;
    server.peer(&accepted)?;
    Ok((connected, accepted))
}

/// A client and a server of one trust domain.
fn mesh(provider: &Arc<CryptoProvider>) -> Result<(Identity, Identity, TrustBundle)> {
    let now = SystemTime::now();
    let domain = TrustDomain::parse("cluster.local")?;
    let day = Duration::from_hours(24);
    let root = SigningRoot::generate(provider.clone(), &domain, now, day * 365)?;
    let held = root.root().clone();
    let bundle = TrustBundle::new(1, domain, held.id.clone(), vec![held.clone()])?;
    let keys = Keys::new(provider.clone());
    let identity = |name: &str| -> Result<Identity> {
        let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{name}"))?;
        let (key, request) = keys.make_key(&id)?;
        let validity = Validity { not_before: now - BACKDATE, not_after: now + day };
        let chain = root.sign(&request, &id, validity, root.new_serial()?)?;
        let svid = Svid { identity: id, key, chain, validity, root: held.id.clone() };
        let holder = Identity::new(provider.clone(), Arc::new(SystemClock));
        holder.install(Arc::new(svid), &bundle)?;
        Ok(holder)
    };
    let (client, server) = (identity("client")?, identity("server")?);
    Ok((client, server, bundle))
}

fn time(what: &str, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..HANDSHAKES / 10 {
        run()?;
    }
    let start = Instant::now();
    for _ in 0..HANDSHAKES {
        run()?;
    }
    println!("{:>8.1} µs  {what}", start.elapsed().as_secs_f64() * 1e6 / f64::from(HANDSHAKES));
    Ok(())
}

fn connect(
    client: &MeshClient,
    server: &MeshServer,
) -> Result<(ClientConnection, ServerConnection)> {
    let name = alpn::outbound_server_name(9080, "", "reviews.default.svc.cluster.local");
    let mut pair = (
        ClientConnection::new(client.config().clone(), name)?,
        ServerConnection::new(server.config().clone())?,
    );
    exchange(&mut pair)?;
    Ok(pair)
}

fn exchange((client, server): &mut (ClientConnection, ServerConnection)) -> Result<()> {
    let mut wire = Vec::new();
    while client.wants_write() || server.wants_write() {
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest)?;
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest)?;
            client.process_new_packets()?;
        }
        wire.clear();
    }
    Ok(())
}

fn rss_bytes() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: usize = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kib * 1024)
}
