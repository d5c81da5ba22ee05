//! HTTP/2 towards endpoints: connections shared by many requests.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use heddle_authz::Permit;
use heddle_balance::Resource;

use crate::forward::http2::{
    Active, CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, RESET_STREAMS_MAX, STREAM_WINDOW_BYTES,
};
use crate::snapshot::DestinationState;
use crate::upstream::{self, LimitToken, UpstreamEndpoint, UpstreamError};
use crate::worker::Worker;

/// A connection that requests to one endpoint share.
pub(crate) struct SharedConnection {
    sender: SendRequest<Bytes>,
    active: Rc<Cell<usize>>,
    requests: Cell<u32>,
    alive: Rc<Cell<bool>>,
}

/// A place for one request on a shared connection.
pub(crate) struct Place {
    pub(crate) sender: SendRequest<Bytes>,
    _active: Active,
}

/// The largest response head, in bytes.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

impl SharedConnection {
    fn place(&self, streams_max: usize, requests_max: u32) -> Option<Place> {
        let streams_max = streams_max.min(self.sender.current_max_send_streams());
        let spent = requests_max > 0 && self.requests.get() >= requests_max;
        if !self.alive.get() || spent || self.active.get() >= streams_max {
            return None;
        }
        self.requests.set(self.requests.get().saturating_add(1));
        Some(Place { sender: self.sender.clone(), _active: Active::new(&self.active) })
    }

    fn is_of_use(&self, requests_max: u32) -> bool {
        let spent = requests_max > 0 && self.requests.get() >= requests_max;
        self.alive.get() && !spent
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
    let _connecting = endpoint.http2_connecting.lock().await;
    if let Some(place) = take(state, endpoint) {
        return Ok(place);
    }
    let token = upstream::acquire_connection(state)?;
    let connection = upstream::open(worker, state, endpoint, permit).await?;
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
    let alive = Rc::new(Cell::new(true));
    let ended = alive.clone();
    tokio::task::spawn_local(async move {
        // Requests on it see how it ended; the token lives as long as the connection.
        let _token = token;
        let _ = connection.await;
        ended.set(false);
    });
    let shared = SharedConnection { sender, active: Rc::default(), requests: Cell::new(0), alive };
    let place = shared.place(usize::MAX, 0);
    endpoint.http2.borrow_mut().push(shared);
    place.ok_or(UpstreamError::Http2Refused)
}

fn take(state: &DestinationState, endpoint: &UpstreamEndpoint) -> Option<Place> {
    let pool = &state.destination.connection_pool;
    let streams_max = usize::try_from(pool.concurrent_streams_max).unwrap_or(usize::MAX);
    let mut connections = endpoint.http2.borrow_mut();
    connections.retain(|connection| connection.is_of_use(pool.requests_per_connection_max));
    let requests_max = pool.requests_per_connection_max;
    connections.iter().find_map(|connection| connection.place(streams_max, requests_max))
}
