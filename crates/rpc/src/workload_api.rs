//! The SPIFFE Workload API over a Unix socket, both sides.
//!
//! Who is at the other end is told by the socket alone: whoever can open it is the workload. The server hands out what
//! it is given in a channel and sees no key otherwise.

mod authority;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use heddle_proto::workload_api::{
    FETCH_JWT_BUNDLES_PATH, FETCH_JWT_SVID_PATH, FETCH_X509_BUNDLES_PATH, FETCH_X509_SVID_PATH,
    JwtBundlesRequest, JwtBundlesResponse, JwtSvid, JwtSvidRequest, JwtSvidResponse,
    SECURITY_HEADER, VALIDATE_JWT_SVID_PATH, ValidateJwtSvidRequest, ValidateJwtSvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509SvidRequest, X509SvidResponse,
};
use http::uri::PathAndQuery;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use self::authority::Forgiving;
use crate::client::{ConnectError, Connection};
use crate::server::{Accepted, CallFn, grpc};

/// Connections of one workload at a time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 16;

/// What a workload is told now; none: it has no identity yet, or none any more.
pub type View = Option<Arc<Answers>>;

/// The answers of the present moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Answers {
    /// Of `FetchX509SVID`. It holds the private key.
    pub svids: X509SvidResponse,
    /// Of `FetchX509Bundles`.
    pub bundles: X509BundlesResponse,
}

/// Where views come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The present view and every later one.
    pub views: watch::Receiver<View>,
    /// Told of every call: whoever makes identities begins when the first is asked for.
    pub asked: mpsc::Sender<()>,
    /// Whoever has tokens signed, and validates them.
    pub tokens: mpsc::Sender<TokenCall>,
}

/// What is asked about tokens. An answer that does not come means that nobody can answer now.
#[derive(Debug)]
pub enum TokenCall {
    /// The keys of each trust domain, as JWK sets.
    Keys(Answer<BTreeMap<String, String>>),
    /// A token for these audiences.
    Mint(Vec<String>, Answer<JwtSvid>),
    /// Whom a token proves to be.
    Validate(ValidateJwtSvidRequest, Answer<ValidateJwtSvidResponse>),
}

/// Where an answer goes.
pub type Answer<T> = oneshot::Sender<Result<T, Status>>;

/// How often keys are asked for, while somebody follows them.
const KEYS_PERIOD: Duration = Duration::from_mins(1);
/// The audiences of one token, and the longest of them in bytes.
const AUDIENCES_MAX: usize = 64;
const AUDIENCE_BYTES_MAX: usize = 1024;
/// The largest request in bytes: a token is at most half as long.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Asks about tokens.
async fn ask<T>(
    tokens: &mpsc::Sender<TokenCall>,
    call: impl FnOnce(Answer<T>) -> TokenCall,
) -> Result<T, Status> {
    let gone = || Status::unavailable("nobody signs tokens at the moment");
    let (answer, answered) = oneshot::channel();
    tokens.send(call(answer)).await.map_err(|_| gone())?;
    answered.await.unwrap_or_else(|_| Err(gone()))
}

async fn mint(source: Source, request: JwtSvidRequest) -> Result<JwtSvidResponse, Status> {
    let audiences = request.audience;
    let fits = |audience: &String| !audience.is_empty() && audience.len() <= AUDIENCE_BYTES_MAX;
    if audiences.is_empty() || audiences.len() > AUDIENCES_MAX || !audiences.iter().all(fits) {
        return Err(Status::invalid_argument("audience must be specified, none of them empty"));
    }
    let svid = ask(&source.tokens, |answer| TokenCall::Mint(audiences, answer)).await?;
    if !request.spiffe_id.is_empty() && request.spiffe_id != svid.spiffe_id {
        // Section 6.2.2: in this case exactly this status.
        return Err(Status::permission_denied("the workload does not have this identity"));
    }
    Ok(JwtSvidResponse { svids: vec![svid] })
}

async fn validate(
    source: Source,
    request: ValidateJwtSvidRequest,
) -> Result<ValidateJwtSvidResponse, Status> {
    if request.audience.is_empty() || request.svid.is_empty() {
        return Err(Status::invalid_argument("audience and svid must be specified"));
    }
    ask(&source.tokens, |answer| TokenCall::Validate(request, answer)).await
}

/// The keys now, and again whenever they are others.
fn bundles(
    source: Source,
) -> Pin<Box<dyn tokio_stream::Stream<Item = Result<JwtBundlesResponse, Status>> + Send>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut last = None;
        loop {
            let next = match ask(&source.tokens, TokenCall::Keys).await {
                Ok(sets) => {
                    let bundles = sets
                        .into_iter()
                        .map(|(domain, set)| (format!("spiffe://{domain}"), set.into_bytes()));
                    Some(JwtBundlesResponse { bundles: bundles.collect() })
                }
                // What was said before stays; somebody who has heard nothing yet is told why.
                Err(status) if last.is_none() => {
                    let _ = sender.send(Err(status)).await;
                    return;
                }
                Err(_) => None,
            };
            if next.is_some() && next != last {
                last.clone_from(&next);
                let Some(next) = next else { continue };
                if sender.send(Ok(next)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(KEYS_PERIOD) => {}
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Serves one workload until `shutdown` ends.
pub async fn serve(
    source: Source,
    listener: UnixListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (accepted, incoming) = mpsc::channel(8);
    let accept = async move {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let stream = tokio::select! {
                () = accepted.closed() => return,
                stream = listener.accept() => stream,
            };
            let Ok((stream, _)) = stream else {
                // Out of descriptors, most likely: connections that end make room.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(permit) = slots.clone().try_acquire_owned() else { continue };
            // Fails only when the server is going.
            let stream = Forgiving::new(stream);
            let _ = accepted.send(Ok::<_, Infallible>(Accepted::guest(stream, permit))).await;
        }
    };
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .serve_with_incoming_shutdown(Dispatch(source), ReceiverStream::new(incoming), shutdown);
    let ((), outcome) = tokio::join!(accept, server);
    outcome
}

#[derive(Clone)]
struct Dispatch(Source);

impl tower_service::Service<http::Request<Body>> for Dispatch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let source = self.0.clone();
        Box::pin(async move { Ok(dispatch(source, request).await) })
    }
}

async fn dispatch(source: Source, request: http::Request<Body>) -> http::Response<Body> {
    let header = request.headers().get(SECURITY_HEADER);
    if header.is_none_or(|value| value.as_bytes() != b"true") {
        // Section 4.2: in this case exactly this status.
        let text = format!("security header missing from request: {SECURITY_HEADER}: true");
        return Status::invalid_argument(text).into_http();
    }
    match request.uri().path() {
        FETCH_X509_SVID_PATH => {
            let call = move |_: X509SvidRequest| async move {
                Ok(answers(source, |answers| answers.svids.clone()))
            };
            grpc().server_streaming(CallFn(call), request).await
        }
        FETCH_X509_BUNDLES_PATH => {
            let call = move |_: X509BundlesRequest| async move {
                Ok(answers(source, |answers| answers.bundles.clone()))
            };
            grpc().server_streaming(CallFn(call), request).await
        }
        FETCH_JWT_SVID_PATH => {
            let call = move |message: JwtSvidRequest| mint(source, message);
            grpc().max_decoding_message_size(REQUEST_BYTES_MAX).unary(CallFn(call), request).await
        }
        FETCH_JWT_BUNDLES_PATH => {
            let call = move |_: JwtBundlesRequest| async move { Ok(bundles(source)) };
            grpc().server_streaming(CallFn(call), request).await
        }
        VALIDATE_JWT_SVID_PATH => {
            let call = move |message: ValidateJwtSvidRequest| validate(source, message);
            grpc().max_decoding_message_size(REQUEST_BYTES_MAX).unary(CallFn(call), request).await
        }
        path => Status::unimplemented(format!("{path} is not a call of this server")).into_http(),
    }
}

/// The present answer as soon as there is one, and a new one whenever it changes.
fn answers<T: Clone + PartialEq + Send + 'static>(
    source: Source,
    part: impl Fn(&Answers) -> T + Send + 'static,
) -> Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>> {
    // Full: somebody has asked already.
    let _ = source.asked.try_send(());
    let mut last: Option<T> = None;
    let views = WatchStream::new(source.views).filter_map(move |view| {
        let next = part(view.as_deref()?);
        if last.as_ref() == Some(&next) {
            return None;
        }
        last = Some(next.clone());
        Some(Ok(next))
    });
    Box::pin(views)
}

/// The calling side.
#[derive(Clone, Debug)]
pub struct Client(Connection);

impl Client {
    /// Connects to the socket of a Workload API.
    pub async fn open(socket: &Path) -> Result<Self, ConnectError> {
        let failed = |source| ConnectError::Socket { path: socket.display().to_string(), source };
        let stream = UnixStream::connect(socket).await.map_err(failed)?;
        Connection::over(stream).await.map(Self)
    }

    /// `FetchX509SVID`.
    pub async fn fetch_x509_svid(&self) -> Result<Streaming<X509SvidResponse>, Status> {
        self.stream(X509SvidRequest {}, FETCH_X509_SVID_PATH).await
    }

    /// `FetchX509Bundles`.
    pub async fn fetch_x509_bundles(&self) -> Result<Streaming<X509BundlesResponse>, Status> {
        self.stream(X509BundlesRequest {}, FETCH_X509_BUNDLES_PATH).await
    }

    /// `FetchJWTSVID`.
    pub async fn fetch_jwt_svid(&self, request: JwtSvidRequest) -> Result<JwtSvidResponse, Status> {
        self.unary(request, FETCH_JWT_SVID_PATH).await
    }

    /// `FetchJWTBundles`.
    pub async fn fetch_jwt_bundles(&self) -> Result<Streaming<JwtBundlesResponse>, Status> {
        self.stream(JwtBundlesRequest {}, FETCH_JWT_BUNDLES_PATH).await
    }

    /// `ValidateJWTSVID`.
    pub async fn validate_jwt_svid(
        &self,
        request: ValidateJwtSvidRequest,
    ) -> Result<ValidateJwtSvidResponse, Status> {
        self.unary(request, VALIDATE_JWT_SVID_PATH).await
    }

    async fn unary<T, U>(&self, message: T, path: &'static str) -> Result<U, Status>
    where
        T: prost::Message + Send + Sync + 'static,
        U: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.0.ready().await?;
        let mut request = Request::new(message);
        request.metadata_mut().insert(SECURITY_HEADER, MetadataValue::from_static("true"));
        let path = PathAndQuery::from_static(path);
        Ok(grpc.unary(request, path, ProstCodec::default()).await?.into_inner())
    }

    async fn stream<T, U>(&self, message: T, path: &'static str) -> Result<Streaming<U>, Status>
    where
        T: prost::Message + Send + Sync + 'static,
        U: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.0.ready().await?;
        let mut request = Request::new(message);
        request.metadata_mut().insert(SECURITY_HEADER, MetadataValue::from_static("true"));
        let path = PathAndQuery::from_static(path);
        let response = grpc.server_streaming(request, path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }
}
