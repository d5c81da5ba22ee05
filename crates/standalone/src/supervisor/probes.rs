//! Carrying out the actions of probes and lifecycle hooks, from inside the workload's network namespace.
//!
//! Sockets carry a mark that interception leaves alone: a probe asks the application, not its proxy, and no
//! policy can make a healthy container look ill. What a result means is [`crate::probe`]'s business.

mod grpc;
mod http;
mod insecure;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

pub(crate) use heddle_diag::error_chain as chain;
use heddle_net::interception::{DELIVERY_MARK, PROXY_MARK};
use heddle_net::namespace::NetworkNamespace;
use heddle_net::socket::SocketFactory;
use heddle_proto::node::{Handler, handler::Action};

/// A page of a workload's proxy must come within this time.
const PAGE_MAX: Duration = Duration::from_secs(5);

/// Fetches a page from a port that interception leaves alone.
pub(crate) async fn page(address: SocketAddr, path: &str) -> Result<bytes::Bytes, String> {
    let fetch = async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        http::page(stream, path).await
    };
    let fetched = tokio::time::timeout(PAGE_MAX, fetch).await;
    fetched.unwrap_or_else(|_| Err(format!("no answer within {} s", PAGE_MAX.as_secs())))
}

/// Where a workload's probes connect, and how.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    /// The workload's own addresses, the preferred one first.
    addresses: Vec<IpAddr>,
    to_self: SocketFactory,
    to_others: SocketFactory,
}

/// Runs a command inside the container; an error is one sentence.
pub(crate) trait Exec {
    /// Ends with the exit code, or why there is none.
    fn exec(&self, command: &[String]) -> impl Future<Output = Result<i32, String>> + Send;
}

impl Prober {
    pub(crate) fn new(namespace: &NetworkNamespace, addresses: Vec<IpAddr>) -> Self {
        let sockets = SocketFactory::in_namespace(namespace.clone());
        Self {
            addresses,
            to_self: sockets.clone().with_mark(DELIVERY_MARK),
            to_others: sockets.with_mark(PROXY_MARK),
        }
    }

    /// Carries out one action within a time; a failure is one sentence.
    pub(crate) async fn attempt(
        &self,
        handler: Option<&Handler>,
        timeout: Duration,
        exec: &impl Exec,
    ) -> Result<(), String> {
        match tokio::time::timeout(timeout, self.act(handler, timeout, exec)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no result within {} ms", timeout.as_millis())),
        }
    }

    async fn act(
        &self,
        handler: Option<&Handler>,
        timeout: Duration,
        exec: &impl Exec,
    ) -> Result<(), String> {
        match handler.and_then(|handler| handler.action.as_ref()) {
            Some(Action::Http(action)) => {
                let port = port(action.port)?;
                let stream = self.connect(&action.host, port, timeout).await?;
                http::get(stream, action).await
            }
            Some(Action::Tcp(action)) => {
                self.connect(&action.host, port(action.port)?, timeout).await.map(drop)
            }
            Some(Action::Grpc(action)) => {
                let stream = self.connect("", port(action.port)?, timeout).await?;
                grpc::check(stream, &action.service).await
            }
            Some(Action::Exec(action)) => match exec.exec(&action.command).await? {
                0 => Ok(()),
                code => Err(format!("command exited with {code}")),
            },
            Some(Action::SleepMs(milliseconds)) => {
                tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
                Ok(())
            }
            None => Err("the action is of a kind that this version does not know".to_owned()),
        }
    }

    /// Whether something listens and answers `200` at a path of the workload's loopback.
    pub(crate) async fn answers(&self, port: u16, path: &str, timeout: Duration) -> bool {
        let ask = async {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let stream = self.to_self.connect(address, timeout).await.map_err(|e| chain(&e))?;
            let action = heddle_proto::node::HttpAction {
                port: port.into(),
                path: path.to_owned(),
                ..heddle_proto::node::HttpAction::default()
            };
            http::get(stream, &action).await
        };
        matches!(tokio::time::timeout(timeout, ask).await, Ok(Ok(())))
    }

    /// Connects to a host as an action names it; empty is the workload itself.
    async fn connect(&self, host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
        let (sockets, addresses) = if host.is_empty() {
            (&self.to_self, self.addresses.clone())
        } else if matches!(host, "localhost") {
            (&self.to_self, vec![IpAddr::from([127, 0, 0, 1])])
        } else {
            let Ok(address) = host.parse::<IpAddr>() else {
                return Err(format!("{host:?} is not an address; a probe's host is not resolved"));
            };
            let own = self.addresses.contains(&address) || address.is_loopback();
            (if own { &self.to_self } else { &self.to_others }, vec![address])
        };
        let mut error = "the workload has no address".to_owned();
        for address in addresses {
            match sockets.connect(SocketAddr::new(address, port), timeout).await {
                Ok(stream) => return Ok(stream),
                Err(failure) => error = chain(&failure),
            }
        }
        Err(error)
    }
}

fn port(number: u32) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("{number} is not a port"))
}

#[cfg(test)]
mod tests;
