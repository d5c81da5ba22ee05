//! Opening a connection to an endpoint: TCP, what the connection begins with, TLS, a tunnel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_authz::Permit;
use heddle_http::{Buffer, Connection, TlsStream, Transport};
use heddle_ir::destination::{ConnectionPool, Tunnel, TunnelMethod};
use heddle_ir::endpoint::EndpointAddress;
use heddle_net::broker;
use heddle_net::socket::{ConnectError, KeepAlive, SocketFactory};
use heddle_wire::http1::{HeadLimits, Parsed};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Place, Security, UpstreamEndpoint, UpstreamError};
use crate::forward::client::LentResponseIndex;
use crate::snapshot::DestinationState;
use crate::worker::Worker;

/// Opens a connection. The permit says that somebody decided that it may be.
pub(crate) async fn open(
    worker: &Worker,
    state: &DestinationState,
    endpoint: &UpstreamEndpoint,
    _permit: &Permit,
) -> Result<Connection, UpstreamError> {
    let timeout = state.destination.connection_pool.connect_timeout;
    // Boxed: it is needed seldom, and would make every request's future as large as a handshake's.
    let opening = Box::pin(open_within(worker, state, endpoint, timeout));
    tokio::time::timeout(timeout, opening).await.unwrap_or(Err(UpstreamError::Timeout(timeout)))
}

async fn open_within(
    worker: &Worker,
    state: &DestinationState,
    endpoint: &UpstreamEndpoint,
    timeout: Duration,
) -> Result<Connection, UpstreamError> {
    let address = match &endpoint.address {
        EndpointAddress::Address(address) => *address,
        EndpointAddress::Name(host, port) => resolve(worker, host.as_str(), *port).await?,
    };
    let factory = match endpoint.place {
        Place::Application => &worker.shared.application_sockets,
        Place::Inside | Place::Outside => &worker.shared.sockets,
    };
    let own;
    let factory = match keep_alive(&state.destination.connection_pool) {
        Some(keep_alive) => {
            own = factory.clone().with_keep_alive(keep_alive);
            &own
        }
        None => factory,
    };
    let mut tcp = match (&worker.shared.outside, endpoint.place) {
        (Some(outside), Place::Outside) => connect_outside(outside, factory, address).await?,
        (_, Place::Application) => match application_socket(worker, endpoint, address) {
            Some(name) => {
                let broken =
                    |source| UpstreamError::Connect(ConnectError::Open { address, source });
                factory.connect_abstract(&name).map_err(broken)?
            }
            None => factory.connect(address, timeout).await?,
        },
        _ => factory.connect(address, timeout).await?,
    };
    if let Some(header) = &endpoint.header {
        tcp.write_all(header).await.map_err(UpstreamError::Header)?;
    }
    let mut buffer = Buffer::new();
    let transport = match &endpoint.security {
        Security::Plain => Transport::Plain(tcp),
        Security::Mesh { client, server_name } => {
            let config = client.config().clone();
            let tls = TlsStream::connect(tcp, config, server_name.clone(), &mut buffer).await?;
            client.peer(tls.common_state())?;
            Transport::Tls(tls)
        }
        Security::Originate(origination) => {
            let host = state.destination.id.host.as_str();
            let name = origination
                .server_name(host)
                .map_err(|error| UpstreamError::TlsSettings(error.to_string()))?;
            let config = origination.config().clone();
            Transport::Tls(TlsStream::connect(tcp, config, name, &mut buffer).await?)
        }
    };
    Ok(Connection { transport, buffer })
}

/// The socket on which the own application listens for a port; none: it listens on the port.
fn application_socket(
    worker: &Worker,
    endpoint: &UpstreamEndpoint,
    address: SocketAddr,
) -> Option<Arc<str>> {
    // What has a state is an endpoint of a service that happens to be on the loopback address.
    if endpoint.state.is_some() {
        return None;
    }
    let snapshot = worker.shared.configuration.snapshot();
    let ports = &snapshot.inbound.as_ref()?.inbound().ports;
    ports.iter().find(|port| port.port == address.port())?.application_socket.clone()
}

/// What is asked of the operating system, where anything is.
fn keep_alive(pool: &ConnectionPool) -> Option<KeepAlive> {
    let wanted = pool.keepalive?;
    Some(KeepAlive { idle: wanted.time, interval: wanted.interval, retries: wanted.probes })
}

/// Asks the endpoint at the other end to open a tunnel (RFC 9110 section 9.3.6). What follows is the stream.
pub(crate) async fn open_tunnel(
    connection: &mut Connection,
    tunnel: &Tunnel,
    timeout: Duration,
) -> Result<(), UpstreamError> {
    let Tunnel { method, host, port } = tunnel;
    // An address of IPv6 stands in brackets.
    let asked =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let refused = |why: String| UpstreamError::Tunnel { asked: asked.clone(), why };
    if *method == TunnelMethod::Post {
        return Err(refused("`POST` is not supported, use `CONNECT`".to_owned()));
    }
    let asking = Box::pin(async {
        let request = format!("CONNECT {asked} HTTP/1.1\r\nHost: {asked}\r\n\r\n");
        connection
            .transport
            .send_all(request.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        tunnel_answer(connection).await
    });
    match tokio::time::timeout(timeout, asking).await {
        Ok(outcome) => outcome.map_err(refused),
        Err(_) => Err(UpstreamError::Timeout(timeout)),
    }
}

/// Reads the answer's head; whatever follows stays in the buffer.
async fn tunnel_answer(connection: &mut Connection) -> Result<(), String> {
    const LIMITS: HeadLimits =
        HeadLimits { head_bytes_max: 16 * 1024, fields_max: 100, target_bytes_max: 16 * 1024 };
    let mut seen = 0;
    let mut index = LentResponseIndex::new(LIMITS.fields_max);
    loop {
        let length = connection.buffer.len();
        if length > seen {
            let parsed = index.index().parse(connection.buffer.filled(), seen, &LIMITS);
            match parsed.map_err(|error| error.to_string())? {
                Parsed::Incomplete => seen = length,
                Parsed::Complete(head_bytes) => {
                    let head = index.index().head(connection.buffer.filled(), head_bytes);
                    let (status, is_interim) = (head.status(), head.is_interim());
                    connection.buffer.consume(head_bytes);
                    if is_interim {
                        seen = 0;
                        continue;
                    }
                    return match status {
                        200..300 => Ok(()),
                        _ => Err(format!("it answered {status}")),
                    };
                }
            }
        }
        if connection.fill().await.map_err(|error| error.to_string())? == 0 {
            return Err("it closed the connection".to_owned());
        }
    }
}

/// A workload in a namespace of its own has no way out; somebody outside connects in its place.
async fn connect_outside(
    outside: &broker::Client,
    factory: &SocketFactory,
    address: SocketAddr,
) -> Result<TcpStream, UpstreamError> {
    let descriptor = outside.descriptor(&broker::Request::Connect(address)).await?;
    let broken = |source| UpstreamError::Connect(ConnectError::Open { address, source });
    let tcp = TcpStream::from_std(descriptor.into()).map_err(broken)?;
    factory.configure(&tcp).map_err(broken)?;
    Ok(tcp)
}

pub(crate) async fn resolve(
    worker: &Worker,
    name: &str,
    port: u16,
) -> Result<SocketAddr, UpstreamError> {
    if let Some(outside) = &worker.shared.outside {
        let grant = outside.request(&broker::Request::Resolve(name.to_owned())).await?;
        let broker::Grant::Addresses(addresses) = grant else {
            return Err(UpstreamError::Outside(broker::Error::Closed));
        };
        let first = addresses.first().map(|address| SocketAddr::new(*address, port));
        return first.ok_or_else(|| not_found(name));
    }
    let error = |source| UpstreamError::Resolve { name: name.to_owned(), source };
    let mut addresses = tokio::net::lookup_host((name, port)).await.map_err(error)?;
    addresses.next().ok_or_else(|| not_found(name))
}

fn not_found(name: &str) -> UpstreamError {
    UpstreamError::Resolve { name: name.to_owned(), source: std::io::ErrorKind::NotFound.into() }
}
