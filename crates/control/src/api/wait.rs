//! Waiting for a state, and watching it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;

use super::routes::Failure;
use crate::Shared;

/// The longest wait of one request; who wants more asks again.
const WAIT_MAX: Duration = Duration::from_mins(10);

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Goal {
    /// Every proxy concerned has everything.
    Applied,
    /// Nothing of the workload runs any more.
    Delete,
    /// Every pod is ready.
    Ready,
}

/// `GET /v1/wait`.
#[derive(Deserialize)]
pub(super) struct WaitRequest {
    #[serde(rename = "for")]
    goal: Goal,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    30_000
}

/// What is watched.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Subject {
    Certs,
    Status,
}

/// `GET /v1/watch`.
#[derive(Deserialize)]
pub(super) struct WatchRequest {
    #[serde(rename = "for", default = "default_subject")]
    subject: Subject,
}

fn default_subject() -> Subject {
    Subject::Status
}

pub(super) async fn wait(
    State(shared): State<Arc<Shared>>,
    Query(request): Query<WaitRequest>,
) -> Result<Json<Value>, Response> {
    let timeout = Duration::from_millis(request.timeout_ms).min(WAIT_MAX);
    let deadline = tokio::time::Instant::now() + timeout;
    let mut progress = shared.progress.clone();
    loop {
        progress.mark_unchanged();
        let (missing, rejections, revision) = look(&shared, &request);
        if missing.is_empty() {
            return Ok(Json(json!({"revision": revision, "rejections": rejections})));
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() {
                let text = "the control plane is stopping";
                return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response());
            },
            () = tokio::time::sleep_until(deadline) => {
                let body = json!({
                    "error": format!("not reached within {} ms", timeout.as_millis()),
                    "hint": Value::Null,
                    "waiting_for": missing,
                    "rejections": rejections,
                });
                return Err((StatusCode::REQUEST_TIMEOUT, Json(body)).into_response());
            }
        }
    }
}

/// What is still missing.
fn look(shared: &Shared, request: &WaitRequest) -> (Vec<String>, Vec<String>, u64) {
    let state = shared.state();
    let missing = match request.goal {
        Goal::Applied => state.unsettled_proxies(),
        Goal::Delete => state.running_pods(&request.namespace, &request.name),
        Goal::Ready => state.unready_pods(&request.namespace, &request.name),
    };
    (missing, state.rejections(), state.revision())
}

pub(super) async fn watch(
    State(shared): State<Arc<Shared>>,
    Query(request): Query<WatchRequest>,
) -> Response {
    let changes = WatchStream::new(shared.progress.clone());
    let lines = changes.map(move |_| {
        let now = SystemTime::now();
        let value = match request.subject {
            Subject::Certs => shared.state().certificates(now),
            Subject::Status => shared.state().status(now),
        };
        Ok::<_, Infallible>(format!("{value}\n"))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(lines)).into_response()
}
