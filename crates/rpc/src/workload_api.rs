//! The SPIFFE Workload API over a Unix socket, both sides.
//!
//! Who is at the other end is told by the socket alone: whoever can open it is the workload. The server hands out what
//! it is given in a channel and sees no key otherwise.

use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use heddle_proto::workload_api::{
    FETCH_X509_BUNDLES_PATH, FETCH_X509_SVID_PATH, PATH_PREFIX, SECURITY_HEADER,
    X509BundlesRequest, X509BundlesResponse, X509SvidRequest, X509SvidResponse,
};
use http::uri::PathAndQuery;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

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
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let Ok(permit) = slots.clone().try_acquire_owned() else { continue };
            // Fails only when the server is going.
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
        path if path.starts_with(PATH_PREFIX) => {
            let text = "heddle gives out X.509 identities; tokens (JWT-SVID) it does not";
            Status::unimplemented(text).into_http()
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
