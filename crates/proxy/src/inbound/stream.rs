//! Streams to the workload that are not HTTP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::Connection as Facts;
use heddle_http::Connection;
use heddle_http::pool::Upstream;
use heddle_telemetry::istio::TcpRecorder;

use super::{Accepted, application};
use crate::forward::stream::{self, Opened};
use crate::record::{self, Pair};
use crate::upstream::{self, UpstreamError, UpstreamProtocol};
use crate::worker::Worker;

/// Why a stream is not let through. The client's connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// A policy denies it, or there is none yet.
    #[error("denied")]
    Denied,
    /// The application.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Copies between the client and the application, until both have ended or the stream is newly denied.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    facts: &Facts,
    client: &mut Connection,
    opened: Opened,
) {
    stream::serve(client, opened, newly_denied(worker, facts)).await;
}

/// Opens a connection to the application, if policy lets the stream through.
pub(crate) async fn open(
    worker: &Rc<Worker>,
    accepted: Accepted,
    facts: &Facts,
) -> Result<Opened, StreamError> {
    let snapshot = worker.shared.configuration.snapshot();
    let inbound = snapshot.inbound.clone().ok_or(StreamError::Denied)?;
    let permit = inbound.decide_stream(facts).verdict.into_permit();
    let permit = permit.map_err(|_| StreamError::Denied)?;
    let state = worker.applications.on(accepted.destination.port(), inbound.inbound());
    let target = application(worker, accepted.destination);
    let endpoint = upstream::endpoint_of(worker, &state, &target, UpstreamProtocol::Tcp)?;
    let token = upstream::acquire_connection(&state).map_err(UpstreamError::from)?;
    let connection = upstream::open(worker, &state, &endpoint, &permit).await?;
    let recorder = recorder(worker, facts, accepted.source, accepted.destination.port());
    let upstream = Upstream::new(connection, token);
    Ok(Opened { upstream, state, recorder, _active: None })
}

fn recorder(
    worker: &Worker,
    facts: &Facts,
    source: SocketAddr,
    port: u16,
) -> Option<Arc<TcpRecorder>> {
    let (peer, source) = (facts.peer_identity(), source.ip());
    let pair = Pair::Inbound { peer: peer.cloned(), source, port, grpc: false };
    worker.recorders.streams(pair, |metrics, kind| {
        let snapshot = worker.shared.configuration.snapshot();
        let services = record::services_on(&snapshot, port);
        record::inbound(metrics, kind, &snapshot, peer, source, services, false)
    })
}

/// Ready when a change of configuration denies what was permitted.
async fn newly_denied(worker: &Worker, facts: &Facts) {
    let mut changes = worker.shared.configuration.changes();
    changes.mark_unchanged();
    while changes.changed().await.is_ok() {
        let snapshot = worker.shared.configuration.snapshot();
        let permitted = snapshot
            .inbound
            .as_ref()
            .is_some_and(|inbound| inbound.decide_stream(facts).verdict.into_permit().is_ok());
        if !permitted {
            return;
        }
    }
    // Nothing publishes any more: what holds now holds on.
    std::future::pending::<()>().await;
}
