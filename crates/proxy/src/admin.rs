//! What the proxy answers about itself on the network: health and metrics, nothing that changes or dumps state.
//!
//! | port | path | answers |
//! |---|---|---|
//! | 15020 | `/healthz/ready`, `/stats/prometheus` | readiness; metrics |
//! | 15021 | `/healthz/ready` | readiness |
//! | 15090 | `/stats/prometheus` | metrics |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use heddle_telemetry::metrics::Registry;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at a time; a scraper and a few probes need no more.
const CONNECTIONS_MAX: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whether traffic can be served; an error says what is missing.
pub(crate) type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a listener answers.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) readiness: Readiness,
    pub(crate) registry: Registry,
}

impl Admin {
    /// Serves for as long as the process.
    pub(crate) async fn serve(self, listener: TcpListener, metrics: bool) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let admin = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let response = admin.answer(&request, metrics);
                    async move { Ok::<_, Infallible>(response) }
                });
                // Whatever breaks the connection is the client's to see.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                drop(permit);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>, metrics: bool) -> Response<Full<Bytes>> {
        let text = |status, body: String| {
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = status;
            response
        };
        match request.uri().path() {
            "/healthz/ready" => match (self.readiness)() {
                Ok(()) => text(StatusCode::OK, "ready\n".to_owned()),
                Err(missing) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
            },
            "/stats/prometheus" | "/metrics" if metrics => {
                let mut page = String::new();
                self.registry.encode(Instant::now(), &mut page);
                self.registry.encode_self(&mut page);
                let mut response = text(StatusCode::OK, page);
                let plain = http::HeaderValue::from_static("text/plain; version=0.0.4");
                response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
                response
            }
            _ => text(StatusCode::NOT_FOUND, "no such page\n".to_owned()),
        }
    }
}
