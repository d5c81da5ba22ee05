//! A plain HTTP/1.1 client on one connection.
//!
//! It never retries and never hides a failure: the load generator must count what the network did.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Answers longer than this are an error; the samples' are a few hundred bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Where requests go: the parts of a URL.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host as written, also sent as `Host`.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Endpoint {
    /// Takes an `http` URL apart.
    pub fn parse(url: &str) -> Result<Self, RequestError> {
        let uri: Uri = url.parse().map_err(|_| RequestError::Url(url.to_owned()))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) => Ok(Self {
                host: host.to_owned(),
                port: uri.port_u16().unwrap_or(80),
                path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            }),
            _ => Err(RequestError::Url(url.to_owned())),
        }
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Name not found, or nobody listens.
    #[error("cannot connect to {0}")]
    Connect(String, #[source] std::io::Error),
    /// The connection broke, or what came was not HTTP.
    #[error("request failed")]
    Http(#[source] hyper::Error),
    /// The body broke off or is too long.
    #[error("body of the response failed")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Not an `http` URL.
    #[error("{0:?} is not an http URL")]
    Url(String),
    /// A header is not valid.
    #[error("not a valid request")]
    Request(#[source] http::Error),
}

/// One connection, made when first needed.
pub struct Connection {
    endpoint: Endpoint,
    timeout: Duration,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// A connection to `endpoint`, whose answers must come within `timeout`.
    pub fn new(endpoint: Endpoint, timeout: Duration) -> Self {
        Self { endpoint, timeout, sender: None }
    }

    /// Sends a request and reads the whole answer. The connection is kept where both sides allow it.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Response<Bytes>, RequestError> {
        let limit = self.timeout;
        match timeout(limit, self.exchange(method, path, headers, body)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                self.sender = None;
                Err(error)
            }
            Err(_) => {
                self.sender = None;
                Err(RequestError::Timeout(limit))
            }
        }
    }

    /// `GET` of the endpoint's own path.
    pub async fn get(
        &mut self,
        headers: &[(String, String)],
    ) -> Result<Response<Bytes>, RequestError> {
        let path = self.endpoint.path.clone();
        self.request(Method::GET, &path, headers, Bytes::new()).await
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Response<Bytes>, RequestError> {
        // The server may have said `Connection: close` with its last answer.
        let mut kept = self.sender.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header(http::header::HOST, self.endpoint.authority());
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(RequestError::Request)?;
        let (parts, body) =
            sender.send_request(request).await.map_err(RequestError::Http)?.into_parts();
        let body =
            Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(RequestError::Body)?;
        self.sender = Some(sender);
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, RequestError> {
        let authority = self.endpoint.authority();
        let stream = TcpStream::connect(&authority)
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|error| RequestError::Connect(authority, error))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(RequestError::Http)?;
        // The driver ends with the connection; its error is seen by the sender as well.
        tokio::spawn(connection);
        Ok(sender)
    }
}
