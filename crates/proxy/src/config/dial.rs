//! Ways to the control plane.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;

use heddle_ident::WorkloadId;
use heddle_net::broker::{Client, Request};
use heddle_rpc::Peer;
use tokio::io::AsyncWriteExt;

/// An attempt to connect.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send>>;

/// Connects to the control plane, under the identity of the proxy's workload.
pub trait Dial: Send + 'static {
    /// Makes a connection that says already whose it is.
    fn dial(&mut self) -> Dialing;
}

/// Asks the supervisor for a connection, over the socket pair inherited at spawn.
pub struct BrokerDialer(pub Client);

impl Dial for BrokerDialer {
    fn dial(&mut self) -> Dialing {
        let client = self.0.clone();
        Box::pin(async move {
            let descriptor =
                client.descriptor(&Request::Control).await.map_err(io::Error::other)?;
            Ok(UnixStream::from(descriptor))
        })
    }
}

/// Connects to a socket that this process may open itself.
pub struct SocketDialer {
    /// The control plane's stream socket.
    pub path: PathBuf,
    /// Whose proxy this is.
    pub workload: WorkloadId,
}

impl Dial for SocketDialer {
    fn dial(&mut self) -> Dialing {
        let (path, peer) = (self.path.clone(), Peer::Workload(self.workload.clone()));
        Box::pin(async move {
            let mut stream = tokio::net::UnixStream::connect(path).await?;
            stream.write_all(&peer.preamble()).await?;
            stream.into_std()
        })
    }
}
