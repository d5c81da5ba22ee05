//! Streams that are not HTTP: copied and recorded.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use heddle_balance::ActiveRequest;
use heddle_http::Connection;
use heddle_http::copy::{Carried, TunnelError, tunnel};
use heddle_telemetry::istio::TcpRecorder;
use heddle_telemetry::{ResponseFlag, ResponseFlags};

use crate::access_log::StreamLog;
use crate::egress::Underway;
use crate::snapshot::DestinationState;
use crate::upstream::PooledConnection;

/// A connection to where a stream goes.
pub(crate) struct Opened {
    pub(crate) upstream: PooledConnection,
    pub(crate) state: Arc<DestinationState>,
    pub(crate) recorder: Option<Arc<TcpRecorder>>,
    /// What is asked again when policies on what the workload does to others change; none of streams to the workload.
    pub(crate) underway: Option<Box<Underway>>,
    /// The generation of the configuration that let it through.
    pub(crate) generation: u64,
    /// Its line in the access log; none: none is written.
    pub(crate) log: Option<Box<StreamLog>>,
    /// Counted as under way at the endpoint.
    pub(crate) _active: Option<ActiveRequest>,
}

impl Opened {
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.upstream.connection
    }
}

/// Copies both ways until both sides have ended; `revoked` ends it before, and so does the longest duration of the
/// destination's connections.
pub(crate) async fn serve(
    client: &mut Connection,
    mut opened: Opened,
    revoked: impl Future<Output = ()>,
) {
    if let Some(recorder) = &opened.recorder {
        recorder.record_opened();
    }
    let pool = &opened.state.destination.connection_pool;
    let (idle_timeout, duration_max) = (pool.tcp_idle_timeout, pool.connection_duration_max);
    let mut duration = duration_max.map(|duration| Box::pin(tokio::time::sleep(duration)));
    let mut carried = Carried::default();
    let result = {
        let server = &mut opened.upstream.connection;
        let mut copying = pin!(tunnel(client, server, idle_timeout, &mut carried));
        let mut revoked = pin!(revoked);
        poll_fn(|cx| {
            if revoked.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(ResponseFlag::LocalReset));
            }
            if duration.as_mut().is_some_and(|duration| duration.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Err(ResponseFlag::DurationTimeout));
            }
            copying.as_mut().poll(cx).map(Ok)
        })
        .await
    };
    let flags = match result {
        Ok(Ok(())) => ResponseFlags::NONE,
        Ok(Err(TunnelError::Client(_))) => {
            ResponseFlags::from(ResponseFlag::DownstreamConnectionTermination)
        }
        Ok(Err(TunnelError::Server(_))) => {
            ResponseFlags::from(ResponseFlag::UpstreamConnectionTermination)
        }
        Ok(Err(TunnelError::Idle(_))) => ResponseFlags::from(ResponseFlag::StreamIdleTimeout),
        Err(flag) => ResponseFlags::from(flag),
    };
    if let Some(log) = &opened.log {
        log.end(carried.upstream_bytes, carried.downstream_bytes, flags);
    }
    if let Some(recorder) = &opened.recorder {
        recorder.record_bytes(carried.downstream_bytes, carried.upstream_bytes);
        recorder.record_closed(flags);
    }
}

/// Copies both ways after a switch of protocols, as part of the request that asked for it.
pub(crate) async fn copy(
    client: &mut Connection,
    server: &mut Connection,
    idle_timeout: Option<Duration>,
) {
    let mut carried = Carried::default();
    // Whoever broke it: both ends see it.
    let _ = Box::pin(tunnel(client, server, idle_timeout, &mut carried)).await;
}
