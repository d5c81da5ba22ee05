//! Opaque streams: bytes copied both ways until both sides have ended.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::deadline::Deadline;
use crate::{Connection, Transport};

/// Reads that fill the whole buffer, before a larger one is taken.
const FULL_READS_MAX: u8 = 2;

/// How a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The side that the connection was accepted from broke.
    #[error("the client's connection broke")]
    Client(#[source] io::Error),
    /// Nothing moved for so long.
    #[error("no byte moved for {0:?}")]
    Idle(Duration),
    /// The side that was connected to broke.
    #[error("the server's connection broke")]
    Server(#[source] io::Error),
}

/// What a stream carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Carried {
    /// Bytes from the client to the server.
    pub upstream_bytes: u64,
    /// Bytes from the server to the client.
    pub downstream_bytes: u64,
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    bytes: u64,
    full_reads: u8,
    ended: bool,
    finished: bool,
}

impl Direction {
    /// Ready when the source has ended and the sink was told. The error says which side broke.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Connection,
        sink: &mut Transport,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            if !source.buffer.is_empty() {
                let count =
                    ready!(sink.poll_send(cx, source.buffer.filled())).map_err(Broken::Sink)?;
                source.buffer.consume(count);
                self.bytes += count as u64;
                continue;
            }
            if self.ended {
                ready!(sink.poll_finish(cx)).map_err(Broken::Sink)?;
                self.finished = true;
                continue;
            }
            if let Poll::Ready(Err(error)) = sink.poll_send_rest(cx) {
                return Poll::Ready(Err(Broken::Sink(error)));
            }
            let count = ready!(source.poll_fill(cx)).map_err(Broken::Source)?;
            self.ended = count == 0;
            let was_full = count > 0 && source.buffer.len() >= source.buffer.capacity();
            self.full_reads = if was_full { self.full_reads.saturating_add(1) } else { 0 };
            if self.full_reads >= FULL_READS_MAX {
                source.buffer.enlarge();
            }
        }
    }
}

enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

/// Copies both ways until both have ended, or either breaks, or nothing has moved for `idle_timeout`. The end of
/// one direction is passed on and the other goes on (half-close). What the buffers hold already goes first.
pub async fn tunnel(
    client: &mut Connection,
    server: &mut Connection,
    idle_timeout: Option<Duration>,
    carried: &mut Carried,
) -> Result<(), TunnelError> {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut idle = idle_timeout.map(|timeout| (timeout, Deadline::new(Instant::now() + timeout)));
    poll_fn(|cx| {
        let before = (up.bytes, down.bytes);
        let ended_up = up.poll(cx, client, &mut server.transport);
        let ended_down = down.poll(cx, server, &mut client.transport);
        *carried = Carried { upstream_bytes: up.bytes, downstream_bytes: down.bytes };
        match ended_up {
            Poll::Ready(Err(Broken::Source(error))) => {
                return Poll::Ready(Err(TunnelError::Client(error)));
            }
            Poll::Ready(Err(Broken::Sink(error))) => {
                return Poll::Ready(Err(TunnelError::Server(error)));
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match ended_down {
            Poll::Ready(Err(Broken::Source(error))) => {
                return Poll::Ready(Err(TunnelError::Server(error)));
            }
            Poll::Ready(Err(Broken::Sink(error))) => {
                return Poll::Ready(Err(TunnelError::Client(error)));
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if up.finished && down.finished {
            return Poll::Ready(Ok(()));
        }
        if let Some((timeout, deadline)) = &mut idle {
            if before != (up.bytes, down.bytes) {
                deadline.set(Instant::now() + *timeout);
            }
            ready!(deadline.poll(cx));
            return Poll::Ready(Err(TunnelError::Idle(*timeout)));
        }
        Poll::Pending
    })
    .await
}
