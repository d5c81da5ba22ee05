//! Streams to the workload that are not HTTP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::Connection as Facts;
use heddle_diag::{Origin, error_chain};
use heddle_http::Connection;
use heddle_http::pool::Upstream;
use heddle_telemetry::Reason;
use heddle_telemetry::istio::TcpRecorder;
use heddle_telemetry::mesh::Direction;

use super::{Accepted, Peer, application};
use crate::access_log::StreamLog;
use crate::admission;
use crate::forward::stream::{self, Opened};
use crate::record::{self, Pair};
use crate::upstream::{self, UpstreamError, UpstreamProtocol};
use crate::worker::Worker;

/// Why a stream is not let through. The client's connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// A policy denies it.
    #[error("denied by {0}")]
    Denied(Box<Origin>),
    /// There is no policy.
    #[error("no policy has come from the control plane yet")]
    NoPolicy,
    /// The application.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Copies between the client and the application, until both have ended or the stream is newly denied.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    peer: &Peer,
    client: &mut Connection,
    opened: Opened,
) {
    admission::stream::note_decided(worker, peer.party());
    let revoked = newly_denied(worker, peer, opened.generation, true);
    stream::serve(client, opened, revoked).await;
}

/// Tells of a stream that goes nowhere.
pub(crate) fn refused(worker: &Worker, peer: &Peer, error: &StreamError) {
    let events = &worker.events;
    match error {
        StreamError::Denied(origin) => {
            events.count(Direction::Inbound, Some(Reason::AuthorizationDenied));
            super::denied(worker, peer, &"stream", origin);
            admission::stream::note_decided(worker, peer.party());
        }
        StreamError::NoPolicy => {
            let why = "no policy has come from the control plane yet";
            super::failed(worker, peer.accepted, Reason::DestinationUnknown, &why, "");
        }
        StreamError::Upstream(error) => {
            let why = error_chain(error);
            let hint = "is the application listening on that port?";
            super::failed(worker, peer.accepted, upstream::reason_of(error), &why, hint);
        }
    }
}

/// Opens a connection to the application, if policy lets the stream through.
pub(crate) async fn open(
    worker: &Rc<Worker>,
    accepted: Accepted,
    facts: &Facts,
) -> Result<Opened, StreamError> {
    let snapshot = worker.shared.configuration.snapshot();
    let inbound = snapshot.inbound.clone().ok_or(StreamError::NoPolicy)?;
    let permit = admission::stream::admit(worker, accepted.party(facts), &inbound).await;
    let permit = permit.map_err(StreamError::Denied)?;
    let state = worker.applications.on(accepted.destination.port(), inbound.inbound());
    let target = application(worker, inbound.inbound(), accepted.destination);
    let endpoint = upstream::endpoint_of(worker, &state, &target, UpstreamProtocol::Tcp)?;
    let token =
        upstream::acquire_stream_connection(&state, &endpoint).map_err(UpstreamError::from)?;
    let connection = upstream::open(worker, &state, &endpoint, &permit).await?;
    let recorder = recorder(worker, facts, accepted.source, accepted.destination.port());
    let upstream = Upstream::new(connection, token);
    let generation = permit.generation();
    let addresses = (accepted.source, accepted.destination);
    let log = StreamLog::begin(worker, addresses, &state, &target, Some(facts));
    Ok(Opened { upstream, state, recorder, underway: None, generation, log, _active: None })
}

fn recorder(
    worker: &Worker,
    facts: &Facts,
    source: SocketAddr,
    port: u16,
) -> Option<Arc<TcpRecorder>> {
    let (peer, source) = (facts.peer_identity(), source.ip());
    let snapshot = worker.shared.configuration.snapshot();
    let pair = Pair::inbound(&snapshot, peer, source, port, false);
    worker.recorders.streams(pair, |metrics, kind| {
        let services = record::services_on(&snapshot, port);
        record::inbound(metrics, kind, &snapshot, peer, source, services, false)
    })
}

/// Ready when a change of configuration denies what the configuration of this generation permitted, or the peer's
/// certificate is revoked. `asks`: authorisers outside are asked again; else they stand by their word.
pub(crate) async fn newly_denied(worker: &Rc<Worker>, peer: &Peer, mut decided: u64, asks: bool) {
    let mut changes = worker.shared.configuration.changes();
    loop {
        // Before it looks: what comes after that is told, and what came while the application was connected to is seen.
        changes.mark_unchanged();
        if peer.is_revoked(worker) {
            return peer.tell_revoked(worker);
        }
        let snapshot = worker.shared.configuration.snapshot();
        let Some(inbound) = &snapshot.inbound else { return };
        let denied = match snapshot.generation {
            same if same == decided => None,
            _ if asks => admission::stream::admit(worker, peer.party(), inbound).await.err(),
            _ => admission::stream::denial_of(inbound, &peer.facts),
        };
        if let Some(origin) = denied {
            worker.events.count(Direction::Inbound, Some(Reason::AuthorizationDenied));
            admission::stream::note_decided(worker, peer.party());
            return super::denied(worker, peer, &"stream under way newly", &origin);
        }
        decided = snapshot.generation;
        if changes.changed().await.is_err() {
            break;
        }
    }
    // Nothing publishes any more: what holds now holds on.
    std::future::pending::<()>().await;
}
