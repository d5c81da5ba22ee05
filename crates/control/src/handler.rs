//! The gRPC front door: which peer may call what, and the tasks behind streams.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use heddle_ident::WorkloadId;
use heddle_proto::certificate::{
    CertificateRequest, CertificateResponse, InstalledCertificate, InstalledResponse, JoinRequest,
    JoinResponse, RefreshRequest, TokenRequest, TokenResponse,
};
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use heddle_proto::node::{DesiredState, NodeReport, ReportResponse, WatchRequest};
use heddle_proto::rate_limit_service::{RateLimitRequest, RateLimitResponse};
use heddle_rpc::{Peer, Status, Streaming};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use zeroize::Zeroizing;

use crate::Shared;
use crate::authority::request_from_pem;
use crate::sessions::SessionId;

/// Responses on their way to one proxy; more wait in its state machine, coalesced.
const RESPONSES_MAX: usize = 2;

/// Answers calls.
#[derive(Clone)]
pub(crate) struct Handler {
    shared: Arc<Shared>,
}

impl Handler {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl heddle_rpc::server::Handler for Handler {
    type Delta = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;
    type Desired = Pin<Box<dyn Stream<Item = Result<DesiredState, Status>> + Send>>;

    async fn delta(
        &self,
        peer: Peer,
        requests: Streaming<DeltaDiscoveryRequest>,
    ) -> Result<Self::Delta, Status> {
        let workload = workload_of(&peer)?;
        let opened = self.shared.state().open_session(&workload, SystemTime::now());
        let (id, wake) = opened.ok_or_else(|| unknown(&workload))?;
        let session = OpenSession { shared: self.shared.clone(), id };
        let (responses, outgoing) = mpsc::channel(RESPONSES_MAX);
        // Ends with its stream: when the proxy goes, `requests` ends or `responses` closes.
        tokio::spawn(serve_session(session, wake, requests, responses));
        Ok(ReceiverStream::new(outgoing))
    }

    async fn create_certificate(
        &self,
        peer: Peer,
        request: CertificateRequest,
    ) -> Result<CertificateResponse, Status> {
        let workload = workload_of(&peer)?;
        let csr = request_from_pem(&request.csr)
            .ok_or_else(|| Status::invalid_argument("csr is not a signing request in PEM"))?;
        let signed =
            self.shared.state().sign(&workload, request.for_application, &csr, SystemTime::now());
        match signed {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(unknown(&workload)),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%workload, %error, cause, "certificate refused");
                Err(Status::failed_precondition(cause.unwrap_or_else(|| error.to_string())))
            }
        }
    }

    async fn installed(
        &self,
        peer: Peer,
        installed: InstalledCertificate,
    ) -> Result<InstalledResponse, Status> {
        let workload = workload_of(&peer)?;
        let serial = heddle_tls::serial_of(&installed.leaf)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if let Some(serial) = serial {
            let mut state = self.shared.state();
            state.handle_installed(&workload, serial, SystemTime::now());
        }
        Ok(InstalledResponse {})
    }

    async fn join(&self, request: JoinRequest) -> Result<JoinResponse, Status> {
        let token = Zeroizing::new(request.token);
        let csr = request_from_pem(&request.csr)
            .ok_or_else(|| Status::invalid_argument("csr is not a signing request in PEM"))?;
        let machine = request.machine.as_ref();
        let joined = self.shared.state().join(&token, &csr, machine, SystemTime::now());
        joined.map_err(|error| {
            let hint = "`heddle certs` shows what became of a token, `heddle certs token create` makes another";
            tracing::warn!(why = heddle_diag::error_chain(&error), hint, "a machine may not join");
            // Whoever asks learns what is wrong with their own token, and nothing about others'.
            Status::permission_denied(error.to_string())
        })
    }

    async fn create_token(
        &self,
        peer: Peer,
        request: TokenRequest,
    ) -> Result<TokenResponse, Status> {
        let workload = workload_of(&peer)?;
        let created =
            self.shared.state().create_token(&workload, &request.audiences, SystemTime::now());
        match created {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(unknown(&workload)),
            Err(error) => {
                let why = heddle_diag::error_chain(&error);
                let hint = "certificates are not concerned; the store's folder may be full";
                tracing::error!(%workload, why, hint, "no token can be signed");
                Err(Status::internal(error.to_string()))
            }
        }
    }

    async fn refresh(&self, peer: Peer, request: RefreshRequest) -> Result<JoinResponse, Status> {
        let Peer::Machine(workload) = &peer else {
            return Err(Status::permission_denied("only a machine that has joined may call this"));
        };
        let csr =
            match request.csr.as_str() {
                "" => None,
                text => Some(request_from_pem(text).ok_or_else(|| {
                    Status::invalid_argument("csr is not a signing request in PEM")
                })?),
            };
        let refreshed =
            self.shared.state().refresh(workload, &request, csr.as_deref(), SystemTime::now());
        refreshed.map_err(|error| {
            tracing::warn!(%workload, why = heddle_diag::error_chain(&error), "a machine is refused");
            Status::permission_denied(error.to_string())
        })
    }

    async fn should_rate_limit(
        &self,
        peer: Peer,
        request: RateLimitRequest,
    ) -> Result<RateLimitResponse, Status> {
        workload_of(&peer)?;
        let answer = self.shared.limits.answer(&request, SystemTime::now());
        answer.map_err(|error| Status::invalid_argument(error.to_string()))
    }

    async fn watch(&self, peer: Peer, request: WatchRequest) -> Result<Self::Desired, Status> {
        if let Peer::Machine(workload) = peer {
            let (number, desired) = self.shared.state().machine_came(&workload);
            let presence = Presence { shared: self.shared.clone(), workload, number };
            let states = WatchStream::new(desired).filter_map(move |desired| {
                // Not there yet, or not any more: then nothing shall run.
                let own = desired.get(&presence.workload).cloned().unwrap_or_default();
                Some(Ok(own))
            });
            return Ok(Box::pin(states));
        }
        node_of(&peer, &request.node)?;
        let desired = {
            let mut state = self.shared.state();
            state.set_instance(&request.instance, SystemTime::now());
            state.desired()
        };
        let states = WatchStream::new(desired).map(|desired| Ok(DesiredState::clone(&desired)));
        Ok(Box::pin(states))
    }

    async fn report(&self, peer: Peer, report: NodeReport) -> Result<ReportResponse, Status> {
        if let Peer::Machine(workload) = &peer {
            self.shared.state().handle_machine_report(workload, &report, SystemTime::now());
            return Ok(ReportResponse {});
        }
        node_of(&peer, &report.node)?;
        self.shared.state().handle_report(&report, SystemTime::now());
        Ok(ReportResponse {})
    }
}

/// A machine is there as long as it watches.
struct Presence {
    shared: Arc<Shared>,
    workload: WorkloadId,
    number: u64,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.shared.state().machine_went(&self.workload, self.number, SystemTime::now());
    }
}

/// Closes its session when it goes, however its task ends.
struct OpenSession {
    shared: Arc<Shared>,
    id: SessionId,
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.shared.state().close_session(self.id);
    }
}

async fn serve_session(
    session: OpenSession,
    wake: Arc<Notify>,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    loop {
        loop {
            let response = session.shared.state().poll_transmit(session.id);
            let outcome = match response {
                Ok(Some(response)) => responses.send(Ok(response)).await,
                Ok(None) => break,
                Err(reason) => {
                    let _ = responses.send(Err(Status::permission_denied(reason))).await;
                    return;
                }
            };
            if outcome.is_err() {
                return;
            }
        }
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                let now = SystemTime::now();
                let handled = session.shared.state().handle_request(session.id, &request, now);
                if let Err(error) = handled {
                    let _ = responses.send(Err(Status::invalid_argument(error.to_string()))).await;
                    return;
                }
            }
            () = wake.notified() => {}
            () = responses.closed() => return,
        }
    }
}

fn workload_of(peer: &Peer) -> Result<WorkloadId, Status> {
    match peer {
        Peer::Machine(workload) | Peer::Workload(workload) => Ok(workload.clone()),
        Peer::Guest | Peer::Node(_) => {
            Err(Status::permission_denied("only the proxy of a workload may call this"))
        }
    }
}

fn node_of(peer: &Peer, node: &str) -> Result<(), Status> {
    match peer {
        Peer::Node(own) if own == node => Ok(()),
        Peer::Node(_) => Err(Status::permission_denied("a node speaks for itself only")),
        Peer::Guest | Peer::Machine(_) | Peer::Workload(_) => {
            Err(Status::permission_denied("only a supervisor may call this"))
        }
    }
}

fn unknown(workload: &WorkloadId) -> Status {
    Status::permission_denied(format!("{workload} is not a workload of this mesh"))
}
