//! The requests that are answered at once.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use heddle_translate::ObjectKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::explain::{Moment, REQUESTS_MAX};
use crate::objects::{File, read};
use crate::state::apply::{Along, OnErrors};
use crate::state::describe::{Selection, describe_findings};
use crate::state::rollback::RollbackError;
use crate::timestamp::text;
use crate::{Applied, ControlError, Shared};

/// Files of one request.
const FILES_MAX: usize = 10_000;

/// An answer that says what went wrong.
pub(super) struct Failure {
    status: StatusCode,
    error: String,
    hint: Option<String>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: None }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "hint": self.hint});
        (self.status, Json(body)).into_response()
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        let hint = error.hint().map(str::to_owned);
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, error: text, hint }
    }
}

pub(super) type Answer = Result<Json<Value>, Failure>;

/// `POST /v1/objects`.
#[derive(Deserialize)]
pub(super) struct ApplyRequest {
    files: Vec<File>,
    /// Take objects with errors in their safe meaning.
    #[serde(default)]
    keep_broken: bool,
    #[serde(default)]
    dry_run: bool,
    /// Who asks, as they call themselves.
    #[serde(default)]
    by: String,
}

/// `POST /v1/delete`.
#[derive(Deserialize)]
pub(super) struct DeleteRequest {
    #[serde(default)]
    files: Vec<File>,
    #[serde(default)]
    objects: Vec<Selection>,
    #[serde(default)]
    dry_run: bool,
    /// Who asks, as they call themselves.
    #[serde(default)]
    by: String,
}

/// `POST /v1/rollback`.
#[derive(Deserialize)]
pub(super) struct RollbackRequest {
    revision: u64,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    by: String,
}

/// So much of a name is kept.
const NAME_CHARS_MAX: usize = 100;

fn name_of(by: &str) -> String {
    by.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

/// `POST /v1/explain`.
#[derive(Deserialize)]
pub(super) struct ExplainRequest {
    requests: Vec<Value>,
}

/// `GET /v1/history`.
#[derive(Deserialize)]
pub(super) struct HistoryRequest {
    #[serde(default = "default_history")]
    limit: usize,
}

fn default_history() -> usize {
    20
}

pub(super) async fn apply(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<ApplyRequest>,
) -> Answer {
    within(&request.files)?;
    let ApplyRequest { files, keep_broken, dry_run, by } = request;
    let along = Along { by: name_of(&by), ..Along::default() };
    let errors = if keep_broken { OnErrors::SafeMeaning } else { OnErrors::Reject };
    // Reading is work; meanwhile streams go on.
    let (files, read) = read_aside(files).await?;
    let applied = shared.state().apply(&files, read, errors, along, dry_run, SystemTime::now())?;
    Ok(Json(describe(&applied)))
}

pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<DeleteRequest>,
) -> Answer {
    within(&request.files)?;
    let (_, read) = read_aside(request.files).await?;
    let named = request.objects.into_iter().map(|object| {
        let group = object.group.unwrap_or_default();
        ObjectKey::new(&group, &object.kind, &object.namespace, &object.name)
    });
    let keys: Vec<_> = read.candidates.into_iter().map(|c| c.key).chain(named).collect();
    let by = name_of(&request.by);
    let deleted = shared.state().delete(keys, &by, request.dry_run, SystemTime::now())?;
    Ok(Json(describe(&deleted)))
}

pub(super) async fn delete_selected(
    State(shared): State<Arc<Shared>>,
    Query(selection): Query<Selection>,
) -> Answer {
    if selection.kind.is_empty() || selection.name.is_empty() {
        let text = "`kind` and `name` must say what to delete";
        return Err(Failure::new(StatusCode::BAD_REQUEST, text));
    }
    let mut state = shared.state();
    let keys: Vec<_> = state.selected(&selection);
    let deleted = state.delete(keys, "", false, SystemTime::now())?;
    Ok(Json(describe(&deleted)))
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(selection): Query<Selection>,
) -> Json<Value> {
    let state = shared.state();
    Json(json!({"revision": state.revision(), "items": state.list(&selection)}))
}

pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    Json(ExplainRequest { requests }): Json<ExplainRequest>,
) -> Answer {
    if requests.len() > REQUESTS_MAX {
        let text = format!("{} requests, at most {REQUESTS_MAX} are taken", requests.len());
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let moment = Moment::of(&shared.state());
    // Translating is work; meanwhile streams go on.
    let explaining = tokio::task::spawn_blocking(move || moment.explain(&requests));
    let failed = |_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "explaining failed");
    explaining.await.map(Json).map_err(failed)
}

pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    Query(request): Query<HistoryRequest>,
) -> Answer {
    let steps = shared.state().history(request.limit)?;
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| {
            let mut json = json!(step);
            json["time"] = text(step.at_ms).into();
            json
        })
        .collect();
    Ok(Json(json!({"revisions": steps})))
}

pub(super) async fn rollback(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<RollbackRequest>,
) -> Answer {
    let RollbackRequest { revision, dry_run, by } = request;
    let done = shared.state().rollback(revision, name_of(&by), dry_run, SystemTime::now());
    match done {
        Ok(applied) => Ok(Json(describe(&applied))),
        Err(RollbackError::Control(error)) => Err(error.into()),
        Err(error) => Err(Failure::new(StatusCode::NOT_FOUND, error.to_string())),
    }
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.state().status(SystemTime::now()))
}

pub(super) async fn certificates(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.state().certificates(SystemTime::now()))
}

pub(super) async fn rotate(State(shared): State<Arc<Shared>>) -> Answer {
    let rotated = shared.state().rotate(SystemTime::now());
    let root = rotated.map_err(ControlError::from)?;
    Ok(Json(json!({"root": root})))
}

/// `POST /v1/authority/retire`.
#[derive(Deserialize)]
pub(super) struct RetireRequest {
    root: String,
}

pub(super) async fn retire(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<RetireRequest>,
) -> Answer {
    let retired = shared.state().retire(&request.root, SystemTime::now());
    retired.map_err(ControlError::from)?;
    Ok(Json(json!({"root": request.root})))
}

fn within(files: &[File]) -> Result<(), Failure> {
    if files.len() <= FILES_MAX {
        return Ok(());
    }
    let text = format!("{} files in one request, at most {FILES_MAX} are taken", files.len());
    Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, text))
}

async fn read_aside(files: Vec<File>) -> Result<(Vec<File>, crate::objects::Read), Failure> {
    let reading = tokio::task::spawn_blocking(move || {
        let read = read(&files);
        (files, read)
    });
    let failed = |_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "reading the files failed");
    reading.await.map_err(failed)
}

fn describe(applied: &Applied) -> Value {
    let results: Vec<Value> = applied
        .results
        .iter()
        .map(|result| {
            json!({
                "group": &*result.key.group,
                "kind": &*result.key.kind,
                "namespace": &*result.key.name.namespace,
                "name": &*result.key.name.name,
                "action": result.action,
            })
        })
        .collect();
    let mut json = describe_findings(&applied.findings, &applied.outcomes);
    json["revision"] = applied.revision.into();
    json["results"] = results.into();
    json
}
