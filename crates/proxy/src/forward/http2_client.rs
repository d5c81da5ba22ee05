//! HTTP/2 towards endpoints: connections shared by many requests.

mod upkeep;

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use heddle_authz::Permit;
use heddle_balance::Resource;
use heddle_ir::destination::ConnectionPool;
use tokio::time::Instant;

use crate::forward::http2::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, RESET_STREAMS_MAX, STREAM_WINDOW_BYTES,
};
use crate::snapshot::DestinationState;
use crate::upstream::proof::ServerProof;
use crate::upstream::{self, LimitToken, UpstreamEndpoint, UpstreamError};
use crate::worker::Worker;

/// A connection that requests to one endpoint share.
pub(crate) struct SharedConnection {
    sender: SendRequest<Bytes>,
    usage: Rc<Usage>,
}

/// What is known of a connection by those that use it and by the task that keeps it up.
struct Usage {
    alive: Cell<bool>,
    /// Requests under way.
    active: Cell<usize>,
    requests: Cell<u32>,
    opened: Instant,
    /// When the last request that was under way ended.
    rests_since: Cell<Instant>,
}

/// A place for one request on a shared connection.
pub(crate) struct Place {
    pub(crate) sender: SendRequest<Bytes>,
    usage: Rc<Usage>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.usage.active.set(self.usage.active.get() - 1);
        if self.usage.active.get() == 0 {
            self.usage.rests_since.set(Instant::now());
        }
    }
}

/// The largest response head, in bytes.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

impl SharedConnection {
    fn new(sender: SendRequest<Bytes>) -> Self {
        let opened = Instant::now();
        let usage = Usage {
            alive: Cell::new(true),
            active: Cell::new(0),
            requests: Cell::new(0),
            opened,
            rests_since: Cell::new(opened),
        };
        Self { sender, usage: Rc::new(usage) }
    }

    fn place(&self, streams_max: usize) -> Option<Place> {
        let streams_max = streams_max.min(self.sender.current_max_send_streams());
        let Usage { active, requests, .. } = &*self.usage;
        if active.get() >= streams_max {
            return None;
        }
        requests.set(requests.get().saturating_add(1));
        active.set(active.get() + 1);
        Some(Place { sender: self.sender.clone(), usage: self.usage.clone() })
    }

    /// Whether it takes further requests: it is open, neither spent nor too old, and its server has not said that it goes
    /// away.
    fn is_of_use(&mut self, pool: &ConnectionPool, now: Instant) -> bool {
        let Usage { alive, requests, opened, .. } = &*self.usage;
        let requests_max = pool.requests_per_connection_max;
        let spent = requests_max > 0 && requests.get() >= requests_max;
        let old = pool.connection_duration_max.is_some_and(|age| now - *opened >= age);
        // Nobody waits with this waker: whoever sends asks again.
        let mut cx = Context::from_waker(Waker::noop());
        alive.get()
            && !spent
            && !old
            && !matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }
}

/// A place on a connection that is open, else on a new one. Requests that come while a connection is being made wait for
/// that one.
pub(crate) async fn connect(
    worker: &Rc<Worker>,
    state: &DestinationState,
    endpoint: &Rc<UpstreamEndpoint>,
    permit: &Permit,
) -> Result<Place, UpstreamError> {
    if let Some(place) = take(state, endpoint) {
        return Ok(place);
    }
    // In memory of its own, which most requests do not need.
    Box::pin(connect_new(worker, state, endpoint, permit)).await
}

async fn connect_new(
    worker: &Rc<Worker>,
    state: &DestinationState,
    endpoint: &Rc<UpstreamEndpoint>,
    permit: &Permit,
) -> Result<Place, UpstreamError> {
    let _pending = LimitToken::acquire(state, Resource::PendingRequests)?;
    // Not for longer than a connection may take: where it does not come about, each of those who wait would try in turn.
    let wait_max = state.destination.connection_pool.connect_timeout;
    let connecting = tokio::time::timeout(wait_max, endpoint.http2_connecting.lock());
    let _connecting = connecting.await.map_err(|_| UpstreamError::Timeout(wait_max))?;
    if let Some(place) = take(state, endpoint) {
        return Ok(place);
    }
    let token = upstream::acquire_connection(state, endpoint)?;
    let connection = upstream::open(worker, state, endpoint, permit).await?;
    let proof = ServerProof::of(worker, endpoint, &connection);
    let (sender, connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .max_send_buffer_size(STREAM_WINDOW_BYTES as usize)
        .enable_push(false)
        .handshake(connection)
        .await
        .map_err(UpstreamError::Http2)?;
    let shared = SharedConnection::new(sender);
    let place = shared.place(usize::MAX);
    let keeping = upkeep::Upkeep::new(
        connection,
        &state.destination.connection_pool,
        shared.usage.clone(),
        Rc::downgrade(endpoint),
    );
    endpoint.http2.borrow_mut().push(shared);
    tokio::task::spawn_local(async move {
        // The token lives as long as the connection.
        let _token = token;
        let Some(proof) = proof else { return keeping.run().await };
        // Nobody hears more of a server whose certificate is revoked: its streams end with the connection.
        tokio::select! {
            () = keeping.run() => {}
            () = proof.revoked() => {}
        }
    });
    place.ok_or(UpstreamError::Http2Refused)
}

fn take(state: &DestinationState, endpoint: &UpstreamEndpoint) -> Option<Place> {
    let pool = &state.destination.connection_pool;
    let streams_max = usize::try_from(pool.concurrent_streams_max).unwrap_or(usize::MAX);
    let mut connections = endpoint.http2.borrow_mut();
    let mut now = None;
    connections
        .retain_mut(|connection| connection.is_of_use(pool, *now.get_or_insert_with(Instant::now)));
    connections.iter().find_map(|connection| connection.place(streams_max))
}
