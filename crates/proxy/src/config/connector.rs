//! How the proxy gets a connection to its control plane.

use std::io;
use std::path::PathBuf;

use heddle_net::broker::{Client, Request};
use heddle_rpc::Peer;
use heddle_rpc::client::{ConnectError, Connection};
use tokio::net::UnixStream;

/// Where the configuration comes from.
#[derive(Clone)]
pub(crate) enum Connector {
    /// The supervisor hands in connections that are introduced as this workload already.
    Broker(Client),
    /// A control plane's socket that this process may introduce itself on (tests, and whoever owns the socket).
    #[expect(dead_code, reason = "a proxy outside of a standalone mesh is not started yet")]
    Socket(PathBuf, Peer),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectorError {
    #[error("the supervisor gave no connection")]
    Broker(#[from] heddle_net::broker::Error),
    #[error("cannot use the connection")]
    Io(#[from] io::Error),
    #[error("cannot speak to the control plane")]
    Connect(#[from] ConnectError),
}

impl Connector {
    pub(crate) async fn connect(&self) -> Result<Connection, ConnectorError> {
        match self {
            Self::Broker(client) => {
                let descriptor = client.descriptor(&Request::Control).await?;
                let stream = std::os::unix::net::UnixStream::from(descriptor);
                stream.set_nonblocking(true)?;
                Ok(Connection::over(UnixStream::from_std(stream)?).await?)
            }
            Self::Socket(path, peer) => Ok(Connection::open(path, peer).await?),
        }
    }
}
