//! What the mesh may ask of the host: the broker's answers to [`heddle_net::broker`] requests.
//!
//! The broker runs in the host's namespaces as the user who started the mesh, with that user's rights and no
//! others. It opens sockets and hands them in; no byte of a workload's traffic passes through it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::agent::Agent;
use heddle_net::broker::{Error, Grant, Refusal, RefusalKind, Request, Server};

/// A connection that is not open by then is given up.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// An answer of the host's resolver that has not come by then is given up.
const RESOLVE_MAX: Duration = Duration::from_secs(10);
/// Requests under way at once; more wait in the socket's queue.
const CALLS_MAX: usize = 512;

/// Answers requests until the other end is gone. Everything it has opened and not handed over is closed then.
///
/// On a machine of another mesh, addresses inside of that are reached through its agent.
pub(crate) async fn serve(server: Server, agent: Option<Arc<Agent>>) -> Result<(), Error> {
    let slots = Arc::new(Semaphore::new(CALLS_MAX));
    let mut calls = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
        let Some(call) = server.accept().await? else { return Ok(()) };
        let agent = agent.clone();
        calls.spawn(async move {
            let reply = match (&call.request, &agent) {
                (Request::Connect(address), Some(agent)) if agent.carries(*address) => {
                    agent.connect_inside(*address).await.map(Grant::Descriptor)
                }
                (request, _) => grant(request).await,
            };
            // The asker may be gone; then what was opened is closed.
            let _ = call.reply(reply).await;
            drop(slot);
        });
        while calls.try_join_next().is_some() {}
    }
}

async fn grant(request: &Request) -> Result<Grant, Refusal> {
    match request {
        Request::Connect(address) => connect(*address).await,
        Request::Control => {
            Err(Refusal::new(RefusalKind::Denied, "the control plane is not reached from the host"))
        }
        Request::Listen(address) => {
            let listener = TcpListener::bind(address).await?.into_std()?;
            Ok(Grant::Descriptor(listener.into()))
        }
        Request::ListenUdp(address) => {
            let socket = UdpSocket::bind(address).await?.into_std()?;
            Ok(Grant::Descriptor(socket.into()))
        }
        Request::Resolve(name) => resolve(name).await,
    }
}

async fn connect(address: SocketAddr) -> Result<Grant, Refusal> {
    // The host's loopback is where databases and agents listen that trust everyone who can reach them.
    if is_loopback(address.ip()) {
        let message =
            format!("{address} is the host's own loopback, which the mesh does not reach");
        return Err(Refusal::new(RefusalKind::Denied, message));
    }
    let stream = bounded(CONNECT_MAX, TcpStream::connect(address)).await?.into_std()?;
    Ok(Grant::Descriptor(stream.into()))
}

async fn resolve(name: &str) -> Result<Grant, Refusal> {
    let found = bounded(RESOLVE_MAX, tokio::net::lookup_host((name, 0))).await;
    // getaddrinfo tells "no such name" and "no resolver" by text only; both are no answer.
    let found = found.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Refusal::from(error),
        _ => Refusal::new(RefusalKind::NotFound, error.to_string()),
    })?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        return Err(Refusal::new(RefusalKind::NotFound, format!("{name} has no address")));
    }
    Ok(Grant::Addresses(addresses))
}

fn is_loopback(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

async fn bounded<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {limit:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_net::broker::{Client, pair};

    async fn with_broker<T>(work: impl AsyncFnOnce(Client) -> T) -> T {
        let (near, far) = pair().unwrap();
        let (client, driver) = Client::new(near).unwrap();
        let serving = tokio::spawn(serve(Server::new(far).unwrap(), None));
        let driving = tokio::spawn(driver.run());
        let result = work(client).await;
        driving.abort();
        let _ = driving.await;
        serving.await.unwrap().unwrap();
        result
    }

    fn refusal(result: Result<Grant, Error>) -> RefusalKind {
        match result {
            Err(Error::Refused(refusal)) => refusal.kind,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_listener_is_handed_over_and_a_taken_port_is_told() {
        with_broker(async |client| {
            let any = Request::Listen("127.0.0.1:0".parse().unwrap());
            let descriptor = client.descriptor(&any).await.unwrap();
            let listener = std::net::TcpListener::from(descriptor);
            let address = listener.local_addr().unwrap();
            let again = client.request(&Request::Listen(address)).await;
            assert_eq!(refusal(again), RefusalKind::AddressInUse);
        })
        .await;
    }

    #[tokio::test]
    async fn the_hosts_loopback_is_out_of_reach() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        with_broker(async |client| {
            for host in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"] {
                let address = format!("{host}:{port}").parse().unwrap();
                let result = client.request(&Request::Connect(address)).await;
                assert_eq!(refusal(result), RefusalKind::Denied, "{host}");
            }
            assert_eq!(refusal(client.request(&Request::Control).await), RefusalKind::Denied);
        })
        .await;
    }

    #[tokio::test]
    async fn names_are_resolved_by_the_host() {
        with_broker(async |client| {
            let found = client.request(&Request::Resolve("localhost".into())).await.unwrap();
            let Grant::Addresses(addresses) = found else { panic!("{found:?}") };
            assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
            let none = client.request(&Request::Resolve("nowhere.invalid".into())).await;
            assert_eq!(refusal(none), RefusalKind::NotFound);
        })
        .await;
    }
}
