//! The supervisor's HTTP API on its Unix socket: what runs, logs, and the few commands that are no object.
//!
//! The socket's permissions are its authorisation (0600, below a directory of 0700 that workloads do not see).

mod logs;

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use heddle_net::capture::Capture;
use heddle_net::socket::listen_unix;

use super::{Command, Services, fabric, probes, probes::chain, select};
use crate::status::MeshStatus;

/// The longest capture, and how much of it is kept.
const CAPTURE_MAX: Duration = Duration::from_mins(5);
const CAPTURE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Where a proxy shows what it counts.
const METRICS_PORT: u16 = 15020;
const METRICS_PATH: &str = "/stats/prometheus";
/// So much of each direction of a connection is shown.
const HEAD_BYTES_MAX: usize = 256;

/// Begins to listen, and gives the future that answers.
pub(super) fn listen(services: Arc<Services>) -> io::Result<impl Future<Output = ()>> {
    let listener = listen_unix(&services.state.supervisor_socket())?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/logs", get(logs::logs))
        .route("/v1/capture", get(capture))
        .route("/v1/metrics", get(metrics))
        .route("/v1/restart", post(restart))
        .route("/v1/kill", post(kill))
        .route("/v1/stop", post(stop))
        .with_state(services);
    Ok(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the supervisor's API failed");
        }
    })
}

/// Why a request is not fulfilled: a status, and a sentence as `{"error": …}`.
pub(super) struct ApiError(StatusCode, String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

async fn status(State(services): State<Arc<Services>>) -> Json<MeshStatus> {
    Json(services.board.snapshot())
}

#[derive(Deserialize)]
struct Whose {
    workload: String,
}

async fn restart(
    State(services): State<Arc<Services>>,
    Query(whose): Query<Whose>,
) -> Result<StatusCode, ApiError> {
    let id = find(&services, &whose.workload)?;
    tell(&services, Command::RestartWorkload(id)).await
}

/// The page of the proxy, which its workload's network has and this machine's has not.
async fn metrics(
    State(services): State<Arc<Services>>,
    Query(whose): Query<Whose>,
) -> Result<Response, ApiError> {
    let status = services.board.snapshot();
    let workload = select::workload(&status.workloads, &whose.workload)
        .map_err(|message| ApiError(StatusCode::NOT_FOUND, message))?;
    let name = format!("{}/{}", workload.namespace, workload.name);
    if !workload.meshed {
        return Err(ApiError(StatusCode::NOT_FOUND, format!("{name} has no proxy")));
    }
    let address = workload.addresses.first().copied();
    let address = address.ok_or_else(|| format!("{name} has no address"));
    let page = match address {
        Ok(address) => probes::page(SocketAddr::new(address, METRICS_PORT), METRICS_PATH).await,
        Err(message) => Err(message),
    };
    let failed = |message| {
        let message = format!("the proxy of {name} gives no metrics: {message}");
        ApiError(StatusCode::BAD_GATEWAY, message)
    };
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page.map_err(failed)?)
        .into_response())
}

#[derive(Deserialize)]
struct Kill {
    /// The workload whose proxy is killed; none is the control plane.
    proxy_of: Option<String>,
}

async fn kill(
    State(services): State<Arc<Services>>,
    Query(kill): Query<Kill>,
) -> Result<StatusCode, ApiError> {
    let command = match kill.proxy_of {
        Some(workload) => Command::KillProxy(find(&services, &workload)?),
        None => Command::KillControl,
    };
    tell(&services, command).await
}

async fn stop(State(services): State<Arc<Services>>) -> Result<StatusCode, ApiError> {
    tell(&services, Command::Stop).await
}

async fn tell(services: &Services, command: Command) -> Result<StatusCode, ApiError> {
    let sent = services.commands.send(command).await;
    sent.map(|()| StatusCode::ACCEPTED)
        .map_err(|_| ApiError(StatusCode::SERVICE_UNAVAILABLE, "the mesh is stopping".to_owned()))
}

fn find(services: &Services, wanted: &str) -> Result<String, ApiError> {
    let status = services.board.snapshot();
    select::workload(&status.workloads, wanted)
        .map(|workload| workload.id.clone())
        .map_err(|message| ApiError(StatusCode::NOT_FOUND, message))
}

#[derive(Deserialize)]
struct CaptureWish {
    milliseconds: u64,
}

/// What went over the bridge between workloads for a while.
#[derive(Serialize)]
struct CaptureResult {
    /// Frames that found no room; with any, an absence proves nothing.
    dropped: u64,
    frames: usize,
    connections: Vec<CapturedDirection>,
}

/// One direction of one TCP connection.
#[derive(Serialize)]
struct CapturedDirection {
    source: String,
    destination: String,
    bytes: usize,
    /// Whether it begins as a TLS record does.
    tls: bool,
    /// The first bytes, in hexadecimal.
    head: String,
}

async fn capture(
    State(services): State<Arc<Services>>,
    Query(wish): Query<CaptureWish>,
) -> Result<Json<CaptureResult>, ApiError> {
    let failed =
        |error: &dyn std::error::Error| ApiError(StatusCode::INTERNAL_SERVER_ERROR, chain(error));
    let time = Duration::from_millis(wish.milliseconds).min(CAPTURE_MAX);
    let capture = Capture::start(services.fabric.namespace(), fabric::BRIDGE, CAPTURE_BYTES_MAX)
        .map_err(|error| failed(&error))?;
    tokio::time::sleep(time).await;
    let captured = tokio::task::spawn_blocking(|| capture.finish()).await;
    let captured = captured.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let streams = captured.streams().streams;
    let connections = streams.iter().filter(|(_, bytes)| !bytes.is_empty());
    let connections = connections.map(|((source, destination), bytes)| CapturedDirection {
        source: source.to_string(),
        destination: destination.to_string(),
        bytes: bytes.len(),
        tls: looks_like_tls(bytes),
        head: hexadecimal(&bytes[..bytes.len().min(HEAD_BYTES_MAX)]),
    });
    Ok(Json(CaptureResult {
        dropped: captured.dropped,
        frames: captured.frames.len(),
        connections: connections.collect(),
    }))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether bytes begin with a TLS record: a known content type and version 3.x (RFC 8446 section 5.1).
fn looks_like_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=23, 3, 0..=4, ..])
}
