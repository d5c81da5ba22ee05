//! The supervisor's end of a proxy's socket pair: what the proxy asks for, under the identity of its workload.
//!
//! Which workload asks is known from the pair, never from what is said on it: that is how a proxy proves who
//! it is (peer credentials, without a secret that could be read from a file).

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use heddle_net::broker::{Client, Error, Grant, Refusal, RefusalKind, Request, Server};

/// Requests of one proxy under way at once; more wait in the socket's queue.
const CALLS_MAX: usize = 256;

/// Whose requests are answered, and by what.
#[derive(Clone)]
pub(crate) struct Link {
    /// Id of the workload.
    pub(crate) workload: String,
    /// The control plane's stream socket.
    pub(crate) stream_socket: PathBuf,
    /// The way to the host.
    pub(crate) broker: Client,
}

impl Link {
    /// Answers requests until the proxy is gone.
    pub(crate) async fn serve(self, server: Server) -> Result<(), Error> {
        let slots = Arc::new(Semaphore::new(CALLS_MAX));
        let mut calls = JoinSet::new();
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
            let Some(call) = server.accept().await? else { return Ok(()) };
            let link = self.clone();
            calls.spawn(async move {
                let reply = link.grant(&call.request).await;
                // The proxy may be gone; then what was opened is closed.
                let _ = call.reply(reply).await;
                drop(slot);
            });
            while calls.try_join_next().is_some() {}
        }
    }

    async fn grant(&self, request: &Request) -> Result<Grant, Refusal> {
        match request {
            Request::Control => self.control().await,
            Request::Connect(_) | Request::Resolve(_) => {
                self.broker.request(request).await.map_err(|error| match error {
                    Error::Refused(refusal) => refusal,
                    other => Refusal::new(RefusalKind::Other, other.to_string()),
                })
            }
            Request::Listen(_) | Request::ListenUdp(_) => {
                Err(Refusal::new(RefusalKind::Denied, "a proxy opens no ports on the host"))
            }
        }
    }

    /// Connects to the control plane and says who this is, before the proxy holds the connection.
    async fn control(&self) -> Result<Grant, Refusal> {
        let mut stream = UnixStream::connect(&self.stream_socket).await.map_err(Refusal::from)?;
        let preamble = preamble("workload", &self.workload);
        stream.write_all(preamble.as_bytes()).await.map_err(Refusal::from)?;
        Ok(Grant::Descriptor(stream.into_std()?.into()))
    }
}

/// The first line of a connection to the control plane's stream socket.
pub(crate) fn preamble(role: &str, name: &str) -> String {
    let mut line = serde_json::json!({ role: name }).to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_net::broker::pair;
    use tokio::io::AsyncBufReadExt;

    #[tokio::test]
    async fn a_proxy_gets_a_connection_under_its_own_workload_and_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let stream_socket = folder.path().join("stream.sock");
        let listener = tokio::net::UnixListener::bind(&stream_socket).unwrap();
        let mut tasks = JoinSet::new();
        let (near, far) = pair().unwrap();
        let (broker, driver) = Client::new(near).unwrap();
        tasks.spawn(driver.run());
        tasks.spawn(crate::host::serve(Server::new(far).unwrap(), None));
        let (near, far) = pair().unwrap();
        let (proxy, driver) = Client::new(near).unwrap();
        tasks.spawn(driver.run());
        let link = Link { workload: "standalone/Pod/a/b".into(), stream_socket, broker };
        tasks.spawn(link.serve(Server::new(far).unwrap()));

        let _connection = proxy.descriptor(&Request::Control).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let mut line = String::new();
        tokio::io::BufReader::new(accepted).read_line(&mut line).await.unwrap();
        assert_eq!(line, "{\"workload\":\"standalone/Pod/a/b\"}\n");

        let listen = Request::Listen("127.0.0.1:0".parse().unwrap());
        let Err(Error::Refused(refusal)) = proxy.request(&listen).await else { panic!() };
        assert_eq!(refusal.kind, RefusalKind::Denied);
        let Grant::Addresses(addresses) =
            proxy.request(&Request::Resolve("localhost".into())).await.unwrap()
        else {
            panic!()
        };
        assert!(!addresses.is_empty());

        drop(listener);
        let Err(Error::Refused(refusal)) = proxy.request(&Request::Control).await else { panic!() };
        assert_eq!(refusal.kind, RefusalKind::Refused);
    }
}
