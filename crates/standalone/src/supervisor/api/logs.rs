//! Logs over the API: what is stored, and, where asked for, what comes after.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;

use super::ApiError;
use crate::log::{Directory, Follower, ReadOptions};
use crate::supervisor::logs::LogSink;
use crate::supervisor::{Services, control, select};

/// Which log, and how much of it.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    /// None is the control plane.
    workload: Option<String>,
    container: Option<String>,
    #[serde(default)]
    previous: bool,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    timestamps: bool,
    tail: Option<usize>,
}

pub(super) async fn logs(
    State(services): State<Arc<Services>>,
    Query(wish): Query<Wish>,
) -> Result<Response, ApiError> {
    let sink = find(&services, &wish)?;
    let options =
        ReadOptions { previous: wish.previous, tail: wish.tail, timestamps: wish.timestamps };
    // Before reading, so that nothing comes between the two unseen.
    let appended = sink.appended();
    let directory = sink.directory().clone();
    let run = directory.runs().last().copied();
    let read = tokio::task::spawn_blocking({
        let directory = directory.clone();
        move || directory.read(options)
    });
    let internal = |error: String| ApiError(StatusCode::INTERNAL_SERVER_ERROR, error);
    let read = read.await.map_err(|error| internal(error.to_string()))?;
    let read = read.map_err(|error| internal(format!("cannot read the log: {error}")))?;
    let (stored, follower) = match read {
        Some((stored, follower)) => (stored, Some(follower)),
        None if wish.follow && !wish.previous => (Vec::new(), None),
        None => {
            let text = if wish.previous { "it has not run before" } else { "it has not run yet" };
            return Err(ApiError(StatusCode::NOT_FOUND, format!("there is no log: {text}")));
        }
    };
    let content_type = [("content-type", "text/plain; charset=utf-8")];
    if !wish.follow || wish.previous {
        return Ok((content_type, stored).into_response());
    }
    let follow =
        Follow { directory, run, follower, appended, timestamps: wish.timestamps, first: stored };
    Ok((content_type, Body::from_stream(stream::unfold(follow, Follow::next))).into_response())
}

fn find(services: &Services, wish: &Wish) -> Result<LogSink, ApiError> {
    let Some(wanted) = &wish.workload else {
        return Ok(services.logs.sink(&[control::LOG_NAME]));
    };
    let not_found = |message| ApiError(StatusCode::NOT_FOUND, message);
    let status = services.board.snapshot();
    let workload = select::workload(&status.workloads, wanted).map_err(not_found)?;
    let container = select::container(workload, wish.container.as_deref()).map_err(not_found)?;
    Ok(services.logs.sink(&[&workload.namespace, &workload.name, &container]))
}

/// A log that is being followed, also from one run of its container to the next.
struct Follow {
    directory: Directory,
    run: Option<u32>,
    follower: Option<Follower>,
    appended: watch::Receiver<u64>,
    timestamps: bool,
    first: Vec<u8>,
}

impl Follow {
    /// The next bytes; ends when the supervisor does.
    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Self)> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            return Some((Ok(first.into()), self));
        }
        loop {
            self.appended.mark_unchanged();
            match self.read() {
                Ok(bytes) if !bytes.is_empty() => return Some((Ok(bytes.into()), self)),
                Ok(_) => {}
                Err(error) => return Some((Err(error), self)),
            }
            self.appended.changed().await.ok()?;
        }
    }

    fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = match &mut self.follower {
            Some(follower) => follower.read_more()?,
            None => Vec::new(),
        };
        let last = self.directory.runs().last().copied();
        if last != self.run {
            let options = ReadOptions { timestamps: self.timestamps, ..ReadOptions::default() };
            if let Some((stored, follower)) = self.directory.read(options)? {
                bytes.extend_from_slice(&stored);
                self.follower = Some(follower);
            }
            self.run = last;
        }
        Ok(bytes)
    }
}
