//! Streams of the workload that are not HTTP.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use heddle_authz::OutboundTarget;
use heddle_balance::{HashedRequest, Observation, Pick, Picked};
use heddle_http::Connection;
use heddle_http::pool::Upstream;
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::Direction;
use tokio::time::Instant;

use super::Accepted;
use crate::access_log::StreamLog;
use crate::egress::{Judged, Underway};
use crate::events::Parties;
use crate::find::Found;
use crate::forward::stream::{self, Opened};
use crate::record::{self, Pair};
use crate::snapshot::DestinationState;
use crate::upstream::proof::ServerProof;
use crate::upstream::{self, Target, UpstreamError, UpstreamProtocol};
use crate::worker::Worker;

/// Why a stream goes nowhere. The client's connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// Nothing that is configured permits it.
    #[error("the destination is not permitted")]
    NotPermitted,
    /// No route matches, or what it leads to is not valid.
    #[error("no route leads anywhere")]
    NoRoute,
    /// There is no endpoint to send it to.
    #[error("no healthy endpoint")]
    NoEndpoint,
    /// It is not let through to where it was to go, or that could not be found out.
    #[error("{}", .0.error)]
    Denied(Box<DeniedStream>),
    /// The endpoint.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// A stream that is not let through, and where it was to go.
#[derive(Debug)]
pub(crate) struct DeniedStream {
    error: UpstreamError,
    state: Arc<DestinationState>,
    target: Target,
}

impl StreamError {
    /// Whether the stream is not let through.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}

/// Opens a connection to where the stream goes and copies until both sides have ended; `revoked` ends it before.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    accepted: Accepted,
    mut client: Connection,
    found: &Found,
    server_name: Option<&str>,
    revoked: impl Future<Output = ()>,
) {
    // A client that cannot be served is closed: there is no answer in a protocol that is not known.
    match open(worker, accepted, found, server_name).await {
        Ok(opened) => copy(worker, &mut client, opened, revoked).await,
        Err(error) => refused(worker, accepted, &error),
    }
}

/// Copies until both sides have ended, or the stream is newly denied; `revoked` ends it too.
pub(crate) async fn copy(
    worker: &Worker,
    client: &mut Connection,
    mut opened: Opened,
    revoked: impl Future<Output = ()>,
) {
    let Some(underway) = opened.underway.take() else {
        return stream::serve(client, opened, revoked).await;
    };
    let either = async {
        let (mut denied, mut revoked) = (pin!(underway.newly_denied(worker)), pin!(revoked));
        poll_fn(|cx| match denied.as_mut().poll(cx) {
            Poll::Pending => revoked.as_mut().poll(cx),
            ended @ Poll::Ready(()) => ended,
        })
        .await;
    };
    stream::serve(client, opened, either).await;
}

/// Tells of a stream that goes nowhere.
pub(crate) fn refused(worker: &Worker, accepted: Accepted, error: &StreamError) {
    let (reason, hint) = match error {
        StreamError::NotPermitted => {
            (Reason::DestinationUnknown, "declare the destination with a ServiceEntry")
        }
        StreamError::NoRoute => {
            (Reason::NoRoute, "`heddle explain` says which rules were looked at")
        }
        StreamError::NoEndpoint => {
            (Reason::NoHealthyEndpoint, "does a workload have the labels, and is it ready?")
        }
        StreamError::Denied(denied) => {
            let DeniedStream { error, state, target } = &**denied;
            worker.events.count(Direction::Outbound, Some(upstream::reason_of(error)));
            return upstream::tell(worker, state, target, Some(accepted.source), error);
        }
        // Told when it happened.
        StreamError::Upstream(error) => {
            let reason = upstream::reason_of(error);
            return worker.events.count(Direction::Outbound, Some(reason));
        }
    };
    let Accepted { source, destination } = accepted;
    let (direction, source) = (Direction::Outbound, Some(source));
    let parties = Parties { direction, source, peer: "", destination: &destination };
    worker.events.failed(parties, reason, error, hint);
}

/// Opens a connection to where a stream goes.
pub(crate) async fn open(
    worker: &Rc<Worker>,
    accepted: Accepted,
    found: &Found,
    server_name: Option<&str>,
) -> Result<Opened, StreamError> {
    let snapshot = worker.shared.configuration.snapshot();
    let judged = |target| Judged::of_stream(snapshot, accepted, target, server_name);
    match found {
        Found::Direct(reached, state) => {
            let target = reached.target(accepted.destination);
            connect(worker, accepted, state, judged(target)).await
        }
        Found::Routes(outbound) => {
            let address = accepted.destination.ip().to_canonical();
            let random = worker.random();
            let decision = match server_name {
                Some(name) => outbound.routes.decide_tls(Some(name), address, random),
                None => outbound.routes.decide_tcp(address, random),
            };
            let (place, _) =
                decision.and_then(|decision| decision.destination).ok_or(StreamError::NoRoute)?;
            let state = outbound.destinations.get(place).ok_or(StreamError::NoRoute)?;
            connect(worker, accepted, state, judged(OutboundTarget::Configured)).await
        }
    }
}

async fn connect(
    worker: &Rc<Worker>,
    accepted: Accepted,
    state: &Arc<DestinationState>,
    judged: Judged,
) -> Result<Opened, StreamError> {
    let mut target = pick(worker, accepted, state).ok_or(StreamError::NoEndpoint)?;
    let permit = match judged.permit(worker, state, &mut target).await {
        Ok(permit) => permit,
        Err(error) => {
            let state = state.clone();
            return Err(StreamError::Denied(Box::new(DeniedStream { error, state, target })));
        }
    };
    let active = match &target {
        Target::Endpoint(_, state) => Some(state.begin()),
        Target::Address(_) | Target::Application(_) => None,
    };
    let client = Some(&accepted);
    let endpoint = upstream::endpoint_for(worker, state, &target, UpstreamProtocol::Tcp, client)?;
    let token =
        upstream::acquire_stream_connection(state, &endpoint).map_err(UpstreamError::from)?;
    let mut opened = upstream::open(worker, state, &endpoint, &permit).await;
    if let (Ok(connection), Some(tunnel)) = (&mut opened, &state.destination.tunnel) {
        let timeout = state.destination.connection_pool.connect_timeout;
        if let Err(error) = upstream::open_tunnel(connection, tunnel, timeout).await {
            opened = Err(error);
        }
    }
    if let Target::Endpoint(_, known) = &target {
        let seen = match &opened {
            Ok(_) => Observation::Opened,
            Err(_) => Observation::ConnectFailure,
        };
        state.balancer.record(known, seen, worker.now_ms(Instant::now()));
    }
    if let Err(error) = &opened {
        upstream::tell(worker, state, &target, Some(accepted.source), error);
    }
    let mutual_tls = endpoint.is_mutual_tls();
    let known = target.endpoint();
    let destination = &state.destination;
    let pair = Pair::Outbound {
        destination: Some(destination.id.clone()),
        workload: known.and_then(|endpoint| endpoint.workload.clone()),
        mutual_tls,
        grpc: false,
    };
    let recorder = worker.recorders.streams(pair, |metrics, kind| {
        let snapshot = worker.shared.configuration.snapshot();
        let known = known.map(|endpoint| &**endpoint);
        record::outbound(metrics, kind, &snapshot, Some(destination), known, mutual_tls, false)
    });
    let opened = opened?;
    let proof = ServerProof::of(worker, &endpoint, &opened);
    let upstream = Upstream::new(opened, token);
    let addresses = (accepted.source, accepted.destination);
    let log = StreamLog::begin(worker, addresses, state, &target, None);
    let underway = Some(Box::new(Underway::new(worker, judged, state.clone(), target, proof)));
    let (state, generation) = (state.clone(), permit.generation());
    Ok(Opened { upstream, state, recorder, underway, generation, log, _active: active })
}

/// The endpoint for a connection, or for the datagrams of a client.
pub(crate) fn pick(
    worker: &Worker,
    accepted: Accepted,
    state: &DestinationState,
) -> Option<Target> {
    let policy = &state.destination.load_balancing;
    let pick = Pick {
        hash: HashedRequest::of_stream(policy, accepted.source.ip()),
        random: worker.random(),
        now_ms: worker.now_ms(Instant::now()),
        ..Pick::default()
    };
    match state.balancer.pick(&pick)? {
        Picked::OriginalDestination => Some(Target::Address(accepted.destination)),
        Picked::Endpoint(place) => {
            let slot = state.balancer.slots().get(place)?;
            Some(Target::Endpoint(slot.endpoint.clone(), slot.state.clone()))
        }
    }
}
