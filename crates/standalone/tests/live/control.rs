//! A control plane that says what a test wrote into a file, and keeps the last report in another.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use heddle_proto::certificate::{CertificateRequest, CertificateResponse};
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use heddle_proto::node::{DesiredState, NodeReport, ReportResponse, WatchRequest};
use heddle_rpc::server::{Handler, Limits, serve};
use heddle_rpc::{Peer, Status, Streaming};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Where a test writes the desired state.
pub(crate) fn desired_file(state: &Path) -> PathBuf {
    state.join("desired.bin")
}

/// Where the last report is.
pub(crate) fn report_file(state: &Path) -> PathBuf {
    state.join("report.bin")
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let state = PathBuf::from(&arguments[0]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = state.join("run/stream.sock");
        let listener = heddle_net::socket::listen_unix(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        let handler = Fake { state: Arc::new(state) };
        serve(handler, listener, Limits::default(), std::future::pending()).await.unwrap();
    });
    ExitCode::SUCCESS
}

#[derive(Clone)]
struct Fake {
    state: Arc<PathBuf>,
}

impl Handler for Fake {
    type Delta = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;
    type Desired = ReceiverStream<Result<DesiredState, Status>>;

    async fn delta(
        &self,
        _: Peer,
        _: Streaming<DeltaDiscoveryRequest>,
    ) -> Result<Self::Delta, Status> {
        Err(Status::unimplemented("no proxies here"))
    }

    async fn create_certificate(
        &self,
        _: Peer,
        _: CertificateRequest,
    ) -> Result<CertificateResponse, Status> {
        Err(Status::unimplemented("no proxies here"))
    }

    async fn watch(&self, peer: Peer, request: WatchRequest) -> Result<Self::Desired, Status> {
        assert_eq!(peer, Peer::Node("local".into()));
        assert!(!request.instance.is_empty());
        let (sender, receiver) = mpsc::channel(1);
        let file = desired_file(&self.state);
        tokio::spawn(async move {
            let mut last = Vec::new();
            while !sender.is_closed() {
                let bytes = std::fs::read(&file).unwrap_or_default();
                if bytes != last {
                    let state = DesiredState::decode(bytes.as_slice()).unwrap();
                    last = bytes;
                    let _ = sender.send(Ok(state)).await;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Ok(ReceiverStream::new(receiver))
    }

    async fn report(&self, _: Peer, report: NodeReport) -> Result<ReportResponse, Status> {
        let file = report_file(&self.state);
        let new = file.with_extension("new");
        std::fs::write(&new, report.encode_to_vec()).unwrap();
        std::fs::rename(new, file).unwrap();
        Ok(ReportResponse {})
    }
}
