//! The answering side.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use heddle_proto::certificate::{
    CREATE_CERTIFICATE_PATH, CREATE_TOKEN_PATH, CertificateRequest, CertificateResponse,
    INSTALLED_PATH, InstalledCertificate, InstalledResponse, JOIN_PATH, JoinRequest, JoinResponse,
    REFRESH_PATH, RefreshRequest, TokenRequest, TokenResponse,
};
use heddle_proto::discovery::{DELTA_PATH, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use heddle_proto::node::{
    DesiredState, NodeReport, REPORT_PATH, ReportResponse, WATCH_PATH, WatchRequest,
};
use heddle_proto::rate_limit_service::{
    RateLimitRequest, RateLimitResponse, SHOULD_RATE_LIMIT_PATH,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::{MESSAGE_BYTES_MAX, Peer};

/// The largest request of a machine that joins, in bytes: a token, a signing request and some names.
const JOIN_BYTES_MAX: usize = 32 * 1024;

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones are closed at once.
    pub connections_max: usize,
    /// Calls at a time on one connection.
    pub streams_max: u32,
    /// From accepting a connection to its preamble.
    pub preamble_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 4096, streams_max: 16, preamble_timeout: Duration::from_secs(5) }
    }
}

/// What answers the calls. Each gets the peer of its connection.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Responses of a config stream.
    type Delta: Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send + 'static;
    /// States of a watch.
    type Desired: Stream<Item = Result<DesiredState, Status>> + Send + 'static;

    /// `DeltaAggregatedResources`.
    fn delta(
        &self,
        peer: Peer,
        requests: Streaming<DeltaDiscoveryRequest>,
    ) -> impl Future<Output = Result<Self::Delta, Status>> + Send;

    /// `CreateCertificate`.
    fn create_certificate(
        &self,
        peer: Peer,
        request: CertificateRequest,
    ) -> impl Future<Output = Result<CertificateResponse, Status>> + Send;

    /// `Installed`.
    fn installed(
        &self,
        peer: Peer,
        installed: InstalledCertificate,
    ) -> impl Future<Output = Result<InstalledResponse, Status>> + Send {
        let _ = (peer, installed);
        async { Err(Status::unimplemented("certificates are not followed here")) }
    }

    /// `CreateToken`.
    fn create_token(
        &self,
        peer: Peer,
        request: TokenRequest,
    ) -> impl Future<Output = Result<TokenResponse, Status>> + Send {
        let _ = (peer, request);
        async { Err(Status::unimplemented("no tokens are signed here")) }
    }

    /// `Join`. The peer may be anybody: the token in the request is what counts.
    fn join(
        &self,
        request: JoinRequest,
    ) -> impl Future<Output = Result<JoinResponse, Status>> + Send {
        let _ = request;
        async { Err(Status::unimplemented("no machine can join here")) }
    }

    /// `ShouldRateLimit`.
    fn should_rate_limit(
        &self,
        peer: Peer,
        request: RateLimitRequest,
    ) -> impl Future<Output = Result<RateLimitResponse, Status>> + Send {
        let _ = (peer, request);
        async { Err(Status::unimplemented("no rates are limited here")) }
    }

    /// `Refresh`. The peer is a machine.
    fn refresh(
        &self,
        peer: Peer,
        request: RefreshRequest,
    ) -> impl Future<Output = Result<JoinResponse, Status>> + Send {
        let _ = (peer, request);
        async { Err(Status::unimplemented("no machine can join here")) }
    }

    /// `Watch`.
    fn watch(
        &self,
        peer: Peer,
        request: WatchRequest,
    ) -> impl Future<Output = Result<Self::Desired, Status>> + Send;

    /// `Report`.
    fn report(
        &self,
        peer: Peer,
        report: NodeReport,
    ) -> impl Future<Output = Result<ReportResponse, Status>> + Send;
}

/// Serves until `shutdown` ends, then lets calls under way end. Streams must be ended by their handler.
pub async fn serve(
    handler: impl Handler,
    listener: UnixListener,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    // Connections that said who they are; the HTTP/2 server takes them at once.
    let (accepted, incoming) = mpsc::channel(64);
    let accept = accept(listener, limits, accepted);
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .serve_with_incoming_shutdown(Dispatch(handler), ReceiverStream::new(incoming), shutdown);
    // `accept` ends when the server has dropped its end of the channel.
    let ((), outcome) = tokio::join!(accept, server);
    outcome
}

/// How often a machine's connection is asked for a sign of life, and how long that may take.
const SIGN_OF_LIFE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));

/// Serves connections whose peers the caller has found out, as long as it brings some.
pub async fn serve_accepted<S>(
    handler: impl Handler,
    incoming: mpsc::Receiver<Accepted<S>>,
    streams_max: u32,
) -> Result<(), tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    tonic::transport::Server::builder()
        .max_concurrent_streams(streams_max)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .http2_keepalive_interval(Some(SIGN_OF_LIFE.0))
        .http2_keepalive_timeout(Some(SIGN_OF_LIFE.1))
        .serve_with_incoming(
            Dispatch(handler),
            ReceiverStream::new(incoming).map(Ok::<_, Infallible>),
        )
        .await
}

async fn accept(
    listener: UnixListener,
    limits: Limits,
    accepted: mpsc::Sender<Result<Accepted<UnixStream>, Infallible>>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let mut preambles = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = accepted.closed() => return,
            Some(_) = preambles.join_next() => continue,
            stream = listener.accept() => stream,
        };
        let Ok((mut stream, _)) = stream else {
            // Out of descriptors, most likely: connections that end make room.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Over the limit the connection is dropped here, which closes it.
        let Ok(permit) = slots.clone().try_acquire_owned() else { continue };
        let accepted = accepted.clone();
        preambles.spawn(async move {
            let preamble = Peer::read_preamble(&mut stream);
            if let Ok(Ok(peer)) = tokio::time::timeout(limits.preamble_timeout, preamble).await {
                // Fails only when the server is going.
                let _ = accepted.send(Ok(Accepted { stream, peer, _permit: permit })).await;
            }
        });
    }
}

/// A connection whose peer is known.
#[derive(Debug)]
pub struct Accepted<S> {
    stream: S,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

impl<S> Accepted<S> {
    /// A connection of that peer; the permit is given back when it is over.
    pub fn new(stream: S, peer: Peer, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, peer, _permit: permit }
    }

    /// A connection of which only its socket says whose it is.
    pub(crate) fn guest(stream: S, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, peer: Peer::Guest, _permit: permit }
    }
}

impl<S> Connected for Accepted<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Accepted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Accepted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Finds the call by its path.
#[derive(Clone)]
struct Dispatch<H>(H);

impl<H: Handler> tower_service::Service<http::Request<Body>> for Dispatch<H> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let handler = self.0.clone();
        Box::pin(async move { Ok(dispatch(handler, request).await) })
    }
}

async fn dispatch<H: Handler>(handler: H, request: http::Request<Body>) -> http::Response<Body> {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return Status::unauthenticated("connection has no peer").into_http();
    };
    if peer == Peer::Guest && request.uri().path() != JOIN_PATH {
        return Status::unauthenticated("whoever has a join token only may call Join only")
            .into_http();
    }
    match request.uri().path() {
        JOIN_PATH => {
            let call = move |message: JoinRequest| async move { handler.join(message).await };
            // From anybody: no more than a token and a signing request is read.
            grpc().max_decoding_message_size(JOIN_BYTES_MAX).unary(CallFn(call), request).await
        }
        REFRESH_PATH => {
            let call =
                move |message: RefreshRequest| async move { handler.refresh(peer, message).await };
            grpc().max_decoding_message_size(JOIN_BYTES_MAX).unary(CallFn(call), request).await
        }
        DELTA_PATH => {
            let call = move |requests| async move { handler.delta(peer, requests).await };
            grpc().streaming(CallFn(call), request).await
        }
        CREATE_CERTIFICATE_PATH => {
            let call = move |message: CertificateRequest| async move {
                handler.create_certificate(peer, message).await
            };
            grpc().unary(CallFn(call), request).await
        }
        CREATE_TOKEN_PATH => {
            let call = move |message: TokenRequest| async move {
                handler.create_token(peer, message).await
            };
            grpc().max_decoding_message_size(JOIN_BYTES_MAX).unary(CallFn(call), request).await
        }
        INSTALLED_PATH => {
            let call = move |message: InstalledCertificate| async move {
                handler.installed(peer, message).await
            };
            grpc().unary(CallFn(call), request).await
        }
        SHOULD_RATE_LIMIT_PATH => {
            let call = move |message: RateLimitRequest| async move {
                handler.should_rate_limit(peer, message).await
            };
            grpc().unary(CallFn(call), request).await
        }
        WATCH_PATH => {
            let call =
                move |message: WatchRequest| async move { handler.watch(peer, message).await };
            grpc().server_streaming(CallFn(call), request).await
        }
        REPORT_PATH => {
            let call =
                move |message: NodeReport| async move { handler.report(peer, message).await };
            grpc().unary(CallFn(call), request).await
        }
        path => Status::unimplemented(format!("{path} is not a call of this server")).into_http(),
    }
}

pub(crate) fn grpc<T, U>() -> Grpc<ProstCodec<T, U>>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// A function as a service that is called once.
pub(crate) struct CallFn<F>(pub(crate) F);

impl<F, R, T, Fut> tower_service::Service<Request<R>> for CallFn<F>
where
    F: FnOnce(R) -> Fut + Clone,
    Fut: Future<Output = Result<T, Status>> + Send + 'static,
{
    type Response = Response<T>;
    type Error = Status;
    type Future = BoxFuture<Response<T>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let answer = (self.0.clone())(request.into_inner());
        Box::pin(async move { answer.await.map(Response::new) })
    }
}
