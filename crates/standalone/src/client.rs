//! Talking to a running mesh's supervisor.

mod exec;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::UnixStream;

use crate::state::StateDirectory;
use crate::status::MeshStatus;

/// Between two looks at something that is awaited.
const POLL_PERIOD: Duration = Duration::from_millis(20);
/// The largest answer that is not a log.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A request to the supervisor failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No mesh runs in the state directory.
    #[error("no mesh runs in {}", .0.display())]
    NotRunning(PathBuf),
    /// The connection failed.
    #[error("cannot talk to the supervisor")]
    Io(#[from] io::Error),
    /// The supervisor does not speak HTTP as expected.
    #[error("unexpected answer of the supervisor")]
    Http(#[from] hyper::Error),
    /// The answer is not what this version expects.
    #[error("unexpected answer of the supervisor: {0}")]
    Answer(String),
    /// The supervisor says no; its sentence.
    #[error("{0}")]
    Refused(String),
    /// A program could not be run inside a workload.
    #[error("{message}")]
    NotRunnable {
        /// One sentence.
        message: String,
        /// What a shell would exit with: 127 when there is no such program, 126 when it cannot be executed.
        code: i32,
    },
    /// What was awaited did not happen in time.
    #[error("{what} after {} s", after.as_secs())]
    Timeout {
        /// What is missing.
        what: &'static str,
        /// The time it had.
        after: Duration,
    },
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRunning(_) => Some("start one with `heddle up`"),
            _ => None,
        }
    }
}

/// Which log to read, and how much of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogRequest {
    /// `[namespace/]name` of a workload or of its Deployment; none is the control plane.
    pub workload: Option<String>,
    /// Name of the container (`proxy` is the proxy); none is the first.
    pub container: Option<String>,
    /// The run before the last.
    pub previous: bool,
    /// Go on with what is printed later.
    pub follow: bool,
    /// The time before each line.
    pub timestamps: bool,
    /// So many lines from the end; none is all.
    pub tail: Option<usize>,
}

/// What went over the bridge between workloads for a while.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CaptureReport {
    /// Frames that found no room; with any, an absence proves nothing.
    pub dropped: u64,
    /// Frames captured.
    pub frames: usize,
    /// Both directions of every TCP connection that carried something.
    pub connections: Vec<CapturedDirection>,
}

/// One direction of one TCP connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CapturedDirection {
    /// Address and port of the sender.
    pub source: String,
    /// Address and port of the receiver.
    pub destination: String,
    /// Bytes sent.
    pub bytes: usize,
    /// Whether they begin as a TLS record does.
    pub tls: bool,
    /// The first bytes, in hexadecimal.
    pub head: String,
}

/// Talks to the supervisor of a mesh. Cheap to clone; each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    state: StateDirectory,
}

impl Client {
    /// A client of the mesh in a state directory, which need not run yet.
    pub fn new(state: StateDirectory) -> Self {
        Self { state }
    }

    /// The state directory.
    pub fn state(&self) -> &StateDirectory {
        &self.state
    }

    /// What runs.
    pub async fn status(&self) -> Result<MeshStatus, ClientError> {
        self.json("GET", "/v1/status").await
    }

    /// What a workload's proxy counts, in Prometheus' text format. `workload` is `[namespace/]name` of it or of its
    /// Deployment.
    pub async fn metrics(&self, workload: &str) -> Result<String, ClientError> {
        let body =
            self.request("GET", &format!("/v1/metrics?workload={}", escape(workload))).await?;
        Ok(String::from_utf8_lossy(&self.whole(body).await?).into_owned())
    }

    /// Waits until the supervisor and the control plane answer.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<MeshStatus, ClientError> {
        let what = "the control plane does not answer";
        self.wait_until(timeout, what, |status| status.control.ready).await
    }

    /// Waits until what runs fulfils a condition; `what` says what is missing when it does not.
    pub async fn wait_until(
        &self,
        timeout: Duration,
        what: &'static str,
        condition: impl Fn(&MeshStatus) -> bool,
    ) -> Result<MeshStatus, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.status().await {
                Ok(status) if condition(&status) => return Ok(status),
                Ok(_) | Err(ClientError::NotRunning(_)) if Instant::now() < deadline => {}
                Ok(_) => return Err(ClientError::Timeout { what, after: timeout }),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(POLL_PERIOD).await;
        }
    }

    /// Hands out a log in pieces, as it comes. With `follow` it ends only with the mesh; dropping the future
    /// ends it as well.
    pub async fn logs(
        &self,
        request: &LogRequest,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let mut query = vec![
            format!("previous={}", request.previous),
            format!("follow={}", request.follow),
            format!("timestamps={}", request.timestamps),
        ];
        query.extend(request.workload.iter().map(|name| format!("workload={}", escape(name))));
        query.extend(request.container.iter().map(|name| format!("container={}", escape(name))));
        query.extend(request.tail.map(|lines| format!("tail={lines}")));
        let path = format!("/v1/logs?{}", query.join("&"));
        let mut body = self.request("GET", &path).await?;
        while let Some(frame) = body.frame().await {
            // The mesh ends in the middle of an answer when it is stopped.
            let Ok(frame) = frame else { return Ok(()) };
            if let Some(data) = frame.data_ref() {
                take(data)?;
            }
        }
        Ok(())
    }

    /// Captures what goes over the bridge between workloads, for a while.
    pub async fn capture(&self, time: Duration) -> Result<CaptureReport, ClientError> {
        self.json("GET", &format!("/v1/capture?milliseconds={}", time.as_millis())).await
    }

    /// Stops the containers of a workload and starts them again.
    pub async fn restart(&self, workload: &str) -> Result<(), ClientError> {
        self.request("POST", &format!("/v1/restart?workload={}", escape(workload))).await.map(drop)
    }

    /// Kills the control plane; it is started again.
    pub async fn kill_control(&self) -> Result<(), ClientError> {
        self.request("POST", "/v1/kill").await.map(drop)
    }

    /// Kills the proxy of a workload; it is started again.
    pub async fn kill_proxy(&self, workload: &str) -> Result<(), ClientError> {
        let path = format!("/v1/kill?proxy_of={}", escape(workload));
        self.request("POST", &path).await.map(drop)
    }

    /// Stops the mesh, and waits until nothing of it is left.
    pub async fn stop(&self, timeout: Duration) -> Result<(), ClientError> {
        self.request("POST", "/v1/stop").await.map(drop)?;
        let deadline = Instant::now() + timeout;
        while self.state.running().is_some() {
            if Instant::now() >= deadline {
                return Err(ClientError::Timeout { what: "the mesh still runs", after: timeout });
            }
            tokio::time::sleep(POLL_PERIOD).await;
        }
        Ok(())
    }

    async fn json<T: for<'a> Deserialize<'a>>(
        &self,
        method: &str,
        path: &str,
    ) -> Result<T, ClientError> {
        let bytes = self.whole(self.request(method, path).await?).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, ClientError> {
        let limited = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
        let collected = limited.collect().await;
        collected
            .map(http_body_util::Collected::to_bytes)
            .map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn request(&self, method: &str, path: &str) -> Result<Incoming, ClientError> {
        let stream = self.connect(self.state.supervisor_socket()).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "supervisor")
            .body(Empty::<Bytes>::new())
            .map_err(|error| ClientError::Answer(error.to_string()))?;
        // The task ends with the connection, which the body holds.
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        let bytes = self.whole(response.into_body()).await?;
        let error = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let sentence = error.and_then(|error| Some(error.get("error")?.as_str()?.to_owned()));
        let text = || format!("HTTP status {status}: {}", String::from_utf8_lossy(&bytes));
        Err(ClientError::Refused(sentence.unwrap_or_else(text)))
    }

    async fn connect(&self, path: PathBuf) -> Result<UnixStream, ClientError> {
        match UnixStream::connect(path).await {
            Ok(stream) => Ok(stream),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Err(ClientError::NotRunning(self.state.root().to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A value of a query (RFC 3986 section 2.1).
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
