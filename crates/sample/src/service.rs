//! The services: productpage → details, reviews → ratings.
//!
//! Every service also answers `/health`, `/status/{code}` and `/delay/{milliseconds}`, and can be told by
//! `PUT /failing/{code}` (0: stop) to fail every request, so that ejection can be watched on a real process.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::{Connection, Endpoint, RequestError};

/// What the caller's request passes on to the services it leads to: the user and the trace.
const PASSED_ON: [&str; 6] =
    ["end-user", "x-request-id", "traceparent", "tracestate", "b3", "user-agent"];
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(10);
const DELAY_MAX: Duration = Duration::from_mins(1);

/// Which service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Facts about a book.
    Details,
    /// The front: asks details and reviews.
    Productpage,
    /// Stars.
    Ratings,
    /// Texts, with stars from ratings in v2 and v3.
    Reviews,
}

impl Kind {
    /// The name of the service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Details => "details",
            Self::Productpage => "productpage",
            Self::Ratings => "ratings",
            Self::Reviews => "reviews",
        }
    }
}

/// How a service is run.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Which service.
    pub kind: Kind,
    /// The version it answers with, for example `v2`.
    pub version: String,
    /// The port it listens on, on every address.
    pub port: u16,
    /// The name of this replica in its answers.
    pub replica: String,
    /// URL of details; productpage asks it.
    pub details_url: String,
    /// URL of reviews; productpage asks it.
    pub reviews_url: String,
    /// URL of ratings; reviews v2 and v3 ask it.
    pub ratings_url: String,
}

/// Why a service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken, or may not be used.
    #[error("cannot listen on port {0}")]
    Listen(u16, #[source] std::io::Error),
    /// A URL is not one.
    #[error("bad upstream")]
    Upstream(#[source] RequestError),
}

struct Service {
    options: ServeOptions,
    details: Endpoint,
    reviews: Endpoint,
    ratings: Endpoint,
    /// The status that every request fails with; 0: none.
    failing: AtomicU16,
}

/// Serves until `stop` is done, then finishes the requests under way.
pub async fn serve(
    options: ServeOptions,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let port = options.port;
    let upstream = |url: &str| Endpoint::parse(url).map_err(ServeError::Upstream);
    let service = Arc::new(Service {
        details: upstream(&options.details_url)?,
        reviews: upstream(&options.reviews_url)?,
        ratings: upstream(&options.ratings_url)?,
        failing: AtomicU16::new(0),
        options,
    });
    let listener = listen(port).await.map_err(|error| ServeError::Listen(port, error))?;
    let answers = match service.options.kind {
        Kind::Details => Router::new().route("/details/{id}", get(details)),
        Kind::Productpage => Router::new().route("/productpage", get(productpage)),
        Kind::Ratings => Router::new().route("/ratings/{id}", get(ratings)),
        Kind::Reviews => Router::new().route("/reviews/{id}", get(reviews)),
    };
    let router = answers
        .route("/status/{code}", get(status).post(status))
        .route("/delay/{milliseconds}", get(delay))
        .layer(from_fn_with_state(service.clone(), fail_if_told))
        .route("/health", get(|| async { "ok" }))
        .route("/failing/{code}", put(set_failing))
        .with_state(service);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
        .map_err(|error| ServeError::Listen(port, error))
}

/// Both families where the host has IPv6, else IPv4.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await
        }
        listener => listener,
    }
}

async fn fail_if_told(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    match service.failing.load(Ordering::Relaxed) {
        0 => next.run(request).await,
        code => answer(&service, code, json!({"failing": code})),
    }
}

async fn set_failing(
    State(service): State<Arc<Service>>,
    Path(code): Path<u16>,
) -> Result<&'static str, StatusCode> {
    if code != 0 && StatusCode::from_u16(code).is_err() {
        return Err(StatusCode::BAD_REQUEST);
    }
    service.failing.store(code, Ordering::Relaxed);
    Ok("ok")
}

async fn status(State(service): State<Arc<Service>>, Path(code): Path<u16>) -> Response {
    answer(&service, code, json!({}))
}

async fn delay(State(service): State<Arc<Service>>, Path(milliseconds): Path<u64>) -> Response {
    tokio::time::sleep(Duration::from_millis(milliseconds).min(DELAY_MAX)).await;
    answer(&service, 200, json!({"delay_ms": milliseconds}))
}

async fn details(State(service): State<Arc<Service>>, Path(id): Path<u32>) -> Response {
    let book = json!({"id": id, "author": "William Shakespeare", "year": 1595, "pages": 200, "language": "English"});
    answer(&service, 200, book)
}

async fn ratings(State(service): State<Arc<Service>>, Path(id): Path<u32>) -> Response {
    answer(&service, 200, json!({"id": id, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}))
}

async fn reviews(
    State(service): State<Arc<Service>>,
    Path(id): Path<u32>,
    headers: HeaderMap,
) -> Response {
    let colour = match service.options.version.as_str() {
        "v1" => None,
        "v2" => Some("black"),
        _ => Some("red"),
    };
    let mut body = json!({"id": id, "reviews": [
        {"reviewer": "Reviewer1", "text": "An extremely entertaining play."},
        {"reviewer": "Reviewer2", "text": "Absolutely fun and entertaining."},
    ]});
    if let Some(colour) = colour {
        let stars = fetch(&service.ratings, &format!("/ratings/{id}"), &headers).await;
        body["stars"] = json!({"colour": colour, "ratings": stars});
    }
    answer(&service, 200, body)
}

async fn productpage(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    let details = fetch(&service.details, "/details/0", &headers);
    let reviews = fetch(&service.reviews, "/reviews/0", &headers);
    let (details, reviews) = tokio::join!(details, reviews);
    let failed = details.get("error").is_some() || reviews.get("error").is_some();
    let code = if failed { 503 } else { 200 };
    answer(&service, code, json!({"details": details, "reviews": reviews}))
}

/// The answer of an upstream as JSON; what went wrong stands under `error`.
async fn fetch(endpoint: &Endpoint, path: &str, headers: &HeaderMap) -> Value {
    let passed_on: Vec<_> = PASSED_ON
        .iter()
        .filter_map(|name| {
            Some(((*name).to_owned(), headers.get(*name)?.to_str().ok()?.to_owned()))
        })
        .collect();
    let mut connection = Connection::new(endpoint.clone(), UPSTREAM_TIMEOUT);
    match connection.request(http::Method::GET, path, &passed_on, Bytes::new()).await {
        Ok(response) if response.status().is_success() => serde_json::from_slice(response.body())
            .unwrap_or_else(
                |error| json!({"error": format!("{} answered no JSON: {error}", endpoint.host)}),
            ),
        Ok(response) => {
            let body = String::from_utf8_lossy(response.body());
            json!({"error": format!("{} answered {}: {body}", endpoint.host, response.status())})
        }
        Err(error) => json!({"error": error.to_string()}),
    }
}

fn answer(service: &Service, code: u16, mut body: Value) -> Response {
    let ServeOptions { kind, version, replica, .. } = &service.options;
    body["service"] = json!(kind.as_str());
    body["version"] = json!(version);
    body["replica"] = json!(replica);
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = [("x-service-version", format!("{}-{version}", kind.as_str()))];
    (code, headers, Json(body)).into_response()
}
