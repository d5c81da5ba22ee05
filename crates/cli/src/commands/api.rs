//! Asking the control plane of a mesh over its Unix socket: HTTP and JSON.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::failure::hinted;

/// The largest answer; a list of ten thousand objects is far below it.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long a control plane that is being started again is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_PERIOD: Duration = Duration::from_millis(50);

/// The object API of a mesh's control plane.
#[derive(Clone, Debug)]
pub(crate) struct ControlApi {
    socket: PathBuf,
    /// Whether a supervisor is there that starts the control plane again.
    supervised: bool,
}

impl ControlApi {
    pub(crate) fn of(client: &heddle_standalone::Client) -> Self {
        let supervised = client.state().running().is_some();
        Self { socket: client.state().control_socket(), supervised }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.request("POST", path, Some(body)).await
    }

    /// Whether what a path waits for was reached in its time.
    pub(crate) async fn reached(&self, path: &str) -> Result<bool> {
        match self.answer("GET", path, None).await? {
            (StatusCode::REQUEST_TIMEOUT, _) => Ok(false),
            (status, _) if status.is_success() => Ok(true),
            (_, value) => Err(refused(&value)),
        }
    }

    async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, value) = self.answer(method, path, body).await?;
        if status.is_success() { Ok(value) } else { Err(refused(&value)) }
    }

    async fn answer(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .context("the control plane does not speak HTTP")?;
        // It ends with the sender; its error is the request's.
        tokio::spawn(connection);
        let body = match body {
            Some(body) => Bytes::from(serde_json::to_vec(body)?),
            None => Bytes::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "control")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .context("cannot make the request")?;
        let response =
            sender.send_request(request).await.context("the control plane gave no answer")?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow!(error).context("the control plane's answer broke off"))?
            .to_bytes();
        let value: Value = serde_json::from_slice(&body).with_context(|| {
            let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            format!("unexpected answer of the control plane ({status}): {text}")
        })?;
        Ok((status, value))
    }

    /// A control plane that is being started again is waited for.
    async fn connect(&self) -> Result<UnixStream> {
        let begun = tokio::time::Instant::now();
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error)
                    if self.supervised
                        && begun.elapsed() < CONNECT_TIMEOUT
                        && matches!(
                            error.kind(),
                            ErrorKind::NotFound | ErrorKind::ConnectionRefused
                        ) =>
                {
                    tokio::time::sleep(CONNECT_PERIOD).await;
                }
                Err(error) if !self.supervised => {
                    let error = anyhow!(error).context("no mesh runs");
                    return Err(hinted(error, "start one with `heddle up`"));
                }
                Err(error) => {
                    return Err(anyhow!(error).context("cannot reach the control plane"));
                }
            }
        }
    }
}

/// What the control plane says went wrong, with its hint.
fn refused(answer: &Value) -> anyhow::Error {
    let text = answer["error"].as_str().unwrap_or("the control plane refuses");
    let mut text = text.to_owned();
    if let Some(waiting) = answer["waiting_for"].as_array() {
        for line in waiting.iter().filter_map(Value::as_str).take(10) {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    match answer["hint"].as_str() {
        Some(hint) => hinted(anyhow!(text), hint),
        None => anyhow!(text),
    }
}

/// A text inside a query.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
