//! The object API: HTTP and JSON on a Unix socket that only the mesh's owner may open.
//!
//! | request | does |
//! |---|---|
//! | `POST /v1/objects` `{files: [{path, folder, text}], dry_run}` | applies what the files hold |
//! | `POST /v1/delete` `{files, objects: [{group, kind, namespace, name}], dry_run}` | deletes what the files hold, and the named objects |
//! | `GET /v1/objects?group=&kind=&namespace=&name=` | objects with content, original text and status |
//! | `DELETE /v1/objects?group=&kind=&namespace=&name=` | deletes what matches; `kind` and `name` must be given |
//! | `POST /v1/explain` `{requests: [{from, to, …}]}` | what happens to each request, and why |
//! | `GET /v1/history?limit=` | steps of history, the newest first |
//! | `POST /v1/rollback` `{revision, dry_run, by}` | undoes what changed since a revision, in a new step |
//! | `GET /v1/status` | the control plane, proxies with acknowledged versions, workloads |
//! | `GET /v1/wait?for=applied\|ready\|delete&namespace=&name=&timeout_ms=` | waits; 408 says what it still waits for |
//! | `GET /v1/watch?for=status\|certs` | JSON lines: now and after every change |
//! | `GET /v1/certs` | roots, rotation, and every workload's certificate |
//! | `POST /v1/authority/rotate` | begins to replace the root |
//! | `POST /v1/authority/retire` `{root}` | removes a root that nobody needs any more; 500 says who does |
//! | `POST /v1/authority/revoke` `{serial}` or `{workload}` | nobody accepts those certificates any more |
//! | `POST /v1/authority/federate` `{domain, pem}` | trusts another trust domain by these roots; an empty `pem` ends it |
//! | `POST /v1/authority/token` `{for, lifetime_ms}` | a one-time token for a machine's first certificate |
//!
//! An error is `{"error": …, "hint": …}` with a status of 400 or above.

mod certificates;
mod routes;
mod wait;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::UnixListener;

use crate::Shared;

/// The largest request: files of 100 MB are read, and refused by their own bounds with a finding.
const BODY_BYTES_MAX: usize = 160 << 20;

/// Serves until the listener fails.
pub(crate) async fn serve(shared: Arc<Shared>, listener: UnixListener) -> std::io::Result<()> {
    let router = Router::new()
        .route("/v1/objects", get(routes::list).post(routes::apply).delete(routes::delete_selected))
        .route("/v1/delete", post(routes::delete))
        .route("/v1/explain", post(routes::explain))
        .route("/v1/history", get(routes::history))
        .route("/v1/rollback", post(routes::rollback))
        .route("/v1/status", get(routes::status))
        .route("/v1/certs", get(routes::certificates))
        .route("/v1/authority/rotate", post(routes::rotate))
        .route("/v1/authority/retire", post(routes::retire))
        .route("/v1/authority/revoke", post(certificates::revoke))
        .route("/v1/authority/federate", post(certificates::federate))
        .route("/v1/authority/token", post(certificates::token))
        .route("/v1/wait", get(wait::wait))
        .route("/v1/watch", get(wait::watch))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared);
    axum::serve(listener, router).await
}
