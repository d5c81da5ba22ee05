//! The connection to the control plane: made, used, lost, made again.

use std::time::Duration;

use heddle_diag::error_chain;
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use heddle_rpc::Streaming;
use heddle_rpc::client::Connection;
use heddle_sync::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::config::Connector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A control plane that takes no request for this long is as good as gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Requests on their way out; there is one per type of resource at most.
const REQUESTS_MAX: usize = 16;

/// What happened to the link.
pub(super) enum LinkEvent {
    Opened,
    Lost(String),
    Response(DeltaDiscoveryResponse),
}

struct Session {
    connection: Connection,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

enum State {
    Waiting(Instant),
    Connecting(JoinHandle<Result<Session, String>>),
    Open(Box<Session>),
}

pub(super) struct Link {
    connector: Connector,
    backoff: Backoff,
    state: State,
}

impl Link {
    pub(super) fn new(connector: Connector, seed: u64) -> Self {
        let backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX, seed);
        Self { connector, backoff, state: State::Waiting(Instant::now()) }
    }

    /// The next event. Safe to drop and call again: nothing is lost.
    pub(super) async fn next(&mut self) -> LinkEvent {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    sleep_until(*until).await;
                    self.state = State::Connecting(tokio::spawn(open(self.connector.clone())));
                }
                State::Connecting(task) => {
                    let outcome = task.await.unwrap_or_else(|error| Err(error.to_string()));
                    match outcome {
                        Ok(session) => {
                            self.state = State::Open(Box::new(session));
                            return LinkEvent::Opened;
                        }
                        Err(reason) => return self.lose(reason),
                    }
                }
                State::Open(session) => match session.responses.message().await {
                    Ok(Some(response)) => {
                        self.backoff.reset();
                        return LinkEvent::Response(response);
                    }
                    Ok(None) => return self.lose("the control plane ended the stream".to_owned()),
                    Err(status) => return self.lose(status.message().to_owned()),
                },
            }
        }
    }

    /// Sends a request; false when there is no session, or not any more.
    pub(super) async fn send(&mut self, request: DeltaDiscoveryRequest) -> bool {
        let State::Open(session) = &mut self.state else { return false };
        if matches!(timeout(SEND_TIMEOUT, session.requests.send(request)).await, Ok(Ok(()))) {
            return true;
        }
        self.lose("the control plane takes no requests".to_owned());
        false
    }

    /// The connection, for calls beside the stream.
    pub(super) fn connection(&self) -> Option<Connection> {
        match &self.state {
            State::Open(session) => Some(session.connection.clone()),
            State::Connecting(_) | State::Waiting(_) => None,
        }
    }

    fn lose(&mut self, reason: String) -> LinkEvent {
        self.state = State::Waiting(Instant::now() + self.backoff.next_wait());
        LinkEvent::Lost(reason)
    }
}

async fn open(connector: Connector) -> Result<Session, String> {
    let opened = timeout(CONNECT_TIMEOUT, async {
        let connection = connector.connect().await.map_err(|error| error_chain(&error))?;
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let responses = connection.delta(ReceiverStream::new(queue)).await;
        let responses = responses.map_err(|status| status.message().to_owned())?;
        Ok(Session { connection, requests, responses })
    });
    opened.await.unwrap_or_else(|_| Err(format!("no answer within {CONNECT_TIMEOUT:?}")))
}
