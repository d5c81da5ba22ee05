//! Streams of the workload that are not HTTP.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::{OutboundTarget, Permit, permit_outbound};
use heddle_balance::{HashedRequest, Observation, Pick, Picked};
use heddle_http::Connection;
use heddle_http::pool::Upstream;
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::Direction;
use tokio::time::Instant;

use super::Accepted;
use crate::access_log::StreamLog;
use crate::events::Parties;
use crate::find::Found;
use crate::forward::stream::{self, Opened};
use crate::record::{self, Pair};
use crate::snapshot::DestinationState;
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
    /// The endpoint.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
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
        Ok(opened) => stream::serve(&mut client, opened, revoked).await,
        Err(error) => refused(worker, accepted, &error),
    }
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
    match found {
        Found::Direct(permit, state) => connect(worker, accepted, state, permit).await,
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
            let snapshot = worker.shared.configuration.snapshot();
            let index = snapshot.targets.index();
            let target = OutboundTarget::Configured;
            let permit = permit_outbound(index, snapshot.generation, target)
                .map_err(|_| StreamError::NotPermitted)?;
            connect(worker, accepted, state, &permit).await
        }
    }
}

async fn connect(
    worker: &Rc<Worker>,
    accepted: Accepted,
    state: &Arc<DestinationState>,
    permit: &Permit,
) -> Result<Opened, StreamError> {
    let target = pick(worker, accepted, state).ok_or(StreamError::NoEndpoint)?;
    let active = match &target {
        Target::Endpoint(_, state) => Some(state.begin()),
        Target::Address(_) | Target::Application(_) => None,
    };
    let client = Some((accepted.source, accepted.destination));
    let endpoint = upstream::endpoint_for(worker, state, &target, UpstreamProtocol::Tcp, client)?;
    let token = upstream::acquire_connection(state).map_err(UpstreamError::from)?;
    let mut opened = upstream::open(worker, state, &endpoint, permit).await;
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
        grpc: false,
    };
    let recorder = worker.recorders.streams(pair, |metrics, kind| {
        let snapshot = worker.shared.configuration.snapshot();
        let known = known.map(|endpoint| &**endpoint);
        record::outbound(metrics, kind, &snapshot, Some(destination), known, mutual_tls, false)
    });
    let upstream = Upstream::new(opened?, token);
    let (state, generation) = (state.clone(), permit.generation());
    let log =
        StreamLog::begin(worker, (accepted.source, accepted.destination), &state, &target, None);
    Ok(Opened { upstream, state, recorder, generation, log, _active: active })
}

fn pick(worker: &Worker, accepted: Accepted, state: &DestinationState) -> Option<Target> {
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
