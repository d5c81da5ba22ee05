//! The connection to the control plane, from waiting over dialling to an open stream.

use std::time::Duration;

use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use heddle_rpc::Streaming;
use heddle_rpc::client::Connection;
use heddle_sync::Backoff;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::dial::Dial;

/// Requests on their way; more wait in the state machine.
const REQUESTS_MAX: usize = 16;
/// A connection that is not made within this time is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream that lived at least this long was a success.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// What the link tells its owner.
pub(super) enum Event {
    /// A stream is open.
    Connected,
    /// The stream, or the attempt to open it, failed.
    Lost(String),
    /// A response came.
    Response(Box<DeltaDiscoveryResponse>),
}

type Opening = std::pin::Pin<Box<dyn Future<Output = Result<Open, String>> + Send>>;

/// An open stream.
pub(super) struct Open {
    pub(super) connection: Connection,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    since: tokio::time::Instant,
}

enum State {
    Waiting(tokio::time::Instant),
    Opening(Opening),
    Open(Box<Open>),
}

/// The connection to the control plane.
pub(super) struct Link {
    dial: Box<dyn Dial>,
    backoff: Backoff,
    state: State,
}

impl Link {
    /// Will dial at once.
    pub(super) fn new(dial: Box<dyn Dial>, backoff: Backoff) -> Self {
        Self { dial, backoff, state: State::Waiting(tokio::time::Instant::now()) }
    }

    /// The open stream.
    pub(super) fn open(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) => Some(open),
            State::Opening(_) | State::Waiting(_) => None,
        }
    }

    /// Waits for the next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.state = State::Opening(open(self.dial.as_mut()));
                }
                State::Opening(opening) => match opening.await {
                    Ok(open) => {
                        self.state = State::Open(Box::new(open));
                        return Event::Connected;
                    }
                    Err(reason) => return self.lost(reason),
                },
                State::Open(open) => match open.responses.message().await {
                    Ok(Some(response)) => return Event::Response(Box::new(response)),
                    Ok(None) => return self.lost("the control plane ended the stream".to_owned()),
                    Err(status) => return self.lost(status.to_string()),
                },
            }
        }
    }

    /// Whether a request can be sent now.
    pub(super) fn can_send(&self) -> bool {
        self.open().is_some_and(|open| open.requests.capacity() > 0)
    }

    /// Sends a request; only after [`Link::can_send`]. A stream that has ended loses it, which [`Link::next`] will say.
    pub(super) fn send(&self, request: DeltaDiscoveryRequest) {
        if let Some(open) = self.open() {
            let _ = open.requests.try_send(request);
        }
    }

    /// Waits until a request can be sent; for ever without a stream. Cancel safe.
    pub(super) async fn sendable(requests: Option<mpsc::Sender<DeltaDiscoveryRequest>>) {
        match requests {
            Some(requests) => drop(requests.reserve().await.map(drop)),
            None => std::future::pending().await,
        }
    }

    /// The way out, for [`Link::sendable`].
    pub(super) fn requests(&self) -> Option<mpsc::Sender<DeltaDiscoveryRequest>> {
        self.open().map(|open| open.requests.clone())
    }

    fn lost(&mut self, reason: String) -> Event {
        if self.open().is_some_and(|open| open.since.elapsed() >= STABLE_AFTER) {
            self.backoff.reset();
        }
        self.state = State::Waiting(tokio::time::Instant::now() + self.backoff.next_wait());
        Event::Lost(reason)
    }
}

fn open(dial: &mut dyn Dial) -> Opening {
    let dialing = dial.dial();
    let open = async move {
        let stream = dialing.await.map_err(|error| error.to_string())?;
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        let stream = tokio::net::UnixStream::from_std(stream).map_err(|error| error.to_string())?;
        let connection = Connection::over(stream).await.map_err(|error| error.to_string())?;
        let (requests, outgoing) = mpsc::channel(REQUESTS_MAX);
        let responses = connection.delta(ReceiverStream::new(outgoing)).await;
        let responses = responses.map_err(|status| status.to_string())?;
        Ok(Open { connection, requests, responses, since: tokio::time::Instant::now() })
    };
    Box::pin(async move {
        let timeout = || Err("the control plane did not answer in time".to_owned());
        tokio::time::timeout(CONNECT_TIMEOUT, open).await.unwrap_or_else(|_| timeout())
    })
}
