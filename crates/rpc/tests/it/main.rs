//! Client and server over a real socket, with a handler that says who called.

#![expect(clippy::unwrap_used, reason = "tests may")]

mod workload_api;

use std::path::Path;
use std::time::Duration;

use heddle_proto::certificate::{CertificateRequest, CertificateResponse};
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use heddle_proto::node::{DesiredState, NodeReport, ReportResponse, WatchRequest};
use heddle_rpc::client::Connection;
use heddle_rpc::server::{Handler, Limits, serve};
use heddle_rpc::{Code, MESSAGE_BYTES_MAX, Peer, Status, Streaming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers with the name of its peer, and sends requests back.
#[derive(Clone)]
struct Echo;

type Responses<T> = ReceiverStream<Result<T, Status>>;

impl Handler for Echo {
    type Delta = Responses<DeltaDiscoveryResponse>;
    type Desired = Responses<DesiredState>;

    async fn delta(
        &self,
        peer: Peer,
        mut requests: Streaming<DeltaDiscoveryRequest>,
    ) -> Result<Self::Delta, Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let (type_url, nonce) = (request.type_url, peer.to_string());
                let response =
                    DeltaDiscoveryResponse { type_url, nonce, ..DeltaDiscoveryResponse::default() };
                if sender.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        });
        Ok(ReceiverStream::new(receiver))
    }

    async fn create_certificate(
        &self,
        peer: Peer,
        request: CertificateRequest,
    ) -> Result<CertificateResponse, Status> {
        Ok(CertificateResponse {
            cert_chain: vec![peer.to_string(), request.csr.len().to_string()],
        })
    }

    async fn watch(&self, _: Peer, request: WatchRequest) -> Result<Self::Desired, Status> {
        Err(Status::permission_denied(request.node))
    }

    async fn report(&self, _: Peer, _: NodeReport) -> Result<ReportResponse, Status> {
        Ok(ReportResponse {})
    }
}

/// A server in a directory that goes with it.
struct Server {
    directory: tempfile::TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            serve(Echo, listener, limits, async { drop(stopped.await) }).await.unwrap();
        });
        Self { directory, stop: Some(stop), task }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("s")
    }
}

fn workload(name: &str) -> Peer {
    Peer::Workload(heddle_ident::WorkloadId::new(name))
}

/// Waits until the other end closes.
async fn closed(stream: &mut UnixStream) {
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await;
    assert!(matches!(read.expect("it is closed in time"), Ok(0) | Err(_)));
}

async fn sign(path: &Path, peer: &Peer, csr: String) -> Result<Vec<String>, Status> {
    let connection = Connection::open(path, peer).await.unwrap();
    let request = CertificateRequest { csr, validity_duration: 0, for_application: false };
    connection.create_certificate(request).await.map(|answer| answer.cert_chain)
}

#[tokio::test]
async fn every_call_knows_the_peer_of_its_connection() {
    let server = Server::start(Limits::default());
    let answer = sign(&server.path(), &workload("a"), "x".into()).await.unwrap();
    assert_eq!(answer, ["proxy of a", "1"]);
    let connection = Connection::open(&server.path(), &Peer::Node("n".into())).await.unwrap();
    let request = |url: &str| DeltaDiscoveryRequest {
        type_url: url.into(),
        ..DeltaDiscoveryRequest::default()
    };
    let requests = tokio_stream::iter([request("1"), request("2")]).chain(tokio_stream::pending());
    let mut responses = connection.delta(requests).await.unwrap();
    for url in ["1", "2"] {
        let response = responses.message().await.unwrap().unwrap();
        assert_eq!((response.type_url.as_str(), response.nonce.as_str()), (url, "node n"));
    }
}

#[tokio::test]
async fn an_error_comes_back_as_it_was() {
    let server = Server::start(Limits::default());
    let connection = Connection::open(&server.path(), &workload("a")).await.unwrap();
    let request = WatchRequest { node: "why".into(), instance: String::new() };
    let error = connection.watch(request).await.map(drop).unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::PermissionDenied, "why"));
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_and_there_is_room_again_later() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let server = Server::start(limits);
    let first = Connection::open(&server.path(), &workload("a")).await.unwrap();
    first.report(NodeReport::default()).await.unwrap();
    let mut second = UnixStream::connect(server.path()).await.unwrap();
    closed(&mut second).await;
    drop(first);
    // The server notices the end of the first in its own time.
    let again = async {
        loop {
            let connection = Connection::open(&server.path(), &workload("b")).await;
            if let Ok(connection) = connection
                && connection.report(NodeReport::default()).await.is_ok()
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn who_does_not_say_who_it_is_gets_nowhere() {
    let limits = Limits { preamble_timeout: Duration::from_millis(20), ..Limits::default() };
    let server = Server::start(limits);
    let mut silent = UnixStream::connect(server.path()).await.unwrap();
    let mut wrong = UnixStream::connect(server.path()).await.unwrap();
    wrong.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    closed(&mut silent).await;
    closed(&mut wrong).await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let server = Server::start(Limits::default());
    let large = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let error = sign(&server.path(), &workload("a"), large).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_server_that_stops_lets_calls_end_and_takes_no_more() {
    let mut server = Server::start(Limits::default());
    let connection = Connection::open(&server.path(), &workload("a")).await.unwrap();
    connection.report(NodeReport::default()).await.unwrap();
    drop(server.stop.take());
    tokio::time::timeout(PATIENCE, &mut server.task).await.unwrap().unwrap();
    let error = connection.report(NodeReport::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}
