//! The calling side.

use std::future::{Ready, ready};
use std::path::Path;
use std::task::{Context, Poll};

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
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::{MESSAGE_BYTES_MAX, Peer};

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens, or this process may not connect.
    #[error("cannot connect to the control plane at {path}")]
    Socket {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The other end did not speak HTTP/2.
    #[error("control plane did not answer as HTTP/2")]
    Handshake(#[from] tonic::transport::Error),
}

/// One connection to a control plane. When it fails, all further calls fail: the owner makes a new one.
#[derive(Clone, Debug)]
pub struct Connection(Channel);

impl Connection {
    /// Speaks over a stream whose preamble was written already, or that needs none.
    pub async fn over<S>(stream: S) -> Result<Self, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // The name is for the `:authority` header only.
        let endpoint = Endpoint::from_static("http://control.heddle.internal")
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(4 << 20);
        let channel = endpoint.connect_with_connector(Once(Some(stream))).await?;
        Ok(Self(channel))
    }

    /// Connects to a Unix socket and says who is calling.
    pub async fn open(path: &Path, peer: &Peer) -> Result<Self, ConnectError> {
        let failed = |source| ConnectError::Socket { path: path.display().to_string(), source };
        let mut stream = UnixStream::connect(path).await.map_err(failed)?;
        stream.write_all(&peer.preamble()).await.map_err(failed)?;
        Self::over(stream).await
    }

    /// `DeltaAggregatedResources`: the config stream. It ends when `requests` does, or with the connection.
    pub async fn delta(
        &self,
        requests: impl Stream<Item = DeltaDiscoveryRequest> + Send + 'static,
    ) -> Result<Streaming<DeltaDiscoveryResponse>, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(DELTA_PATH);
        let response = grpc.streaming(Request::new(requests), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }

    /// `CreateCertificate`.
    pub async fn create_certificate(
        &self,
        request: CertificateRequest,
    ) -> Result<CertificateResponse, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(CREATE_CERTIFICATE_PATH);
        let response = grpc.unary(Request::new(request), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }

    /// `Join`: a machine's first certificate, for a token.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinResponse, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(JOIN_PATH);
        let response = grpc.unary(Request::new(request), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }

    /// `CreateToken`: a token for the application, and the keys of tokens.
    pub async fn create_token(&self, request: TokenRequest) -> Result<TokenResponse, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(CREATE_TOKEN_PATH);
        let response = grpc.unary(Request::new(request), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }

    /// `Refresh`: whom a machine that has joined trusts, and its next certificate.
    pub async fn refresh(&self, request: RefreshRequest) -> Result<JoinResponse, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(REFRESH_PATH);
        let response = grpc.unary(Request::new(request), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }

    /// `Installed`: which certificate is in use from now on.
    pub async fn installed(
        &self,
        installed: InstalledCertificate,
    ) -> Result<InstalledResponse, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(INSTALLED_PATH);
        let response = grpc.unary(Request::new(installed), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }

    /// `Watch`: what shall run on a node, now and after every change.
    pub async fn watch(&self, request: WatchRequest) -> Result<Streaming<DesiredState>, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(WATCH_PATH);
        let response =
            grpc.server_streaming(Request::new(request), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }

    /// `Report`: what became of it.
    pub async fn report(&self, report: NodeReport) -> Result<ReportResponse, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(REPORT_PATH);
        let response = grpc.unary(Request::new(report), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }

    /// `ShouldRateLimit`, which the control plane answers where no other service does.
    pub async fn should_rate_limit(
        &self,
        request: RateLimitRequest,
    ) -> Result<RateLimitResponse, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(SHOULD_RATE_LIMIT_PATH);
        let response = grpc.unary(Request::new(request), path, ProstCodec::default()).await?;
        Ok(response.into_inner())
    }

    pub(crate) async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.0.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let lost = |error| Status::unavailable(format!("connection to the control plane: {error}"));
        grpc.ready().await.map_err(lost)?;
        Ok(grpc)
    }
}

/// Gives its stream away once.
struct Once<S>(Option<S>);

impl<S> tower_service::Service<Uri> for Once<S> {
    type Response = TokioIo<S>;
    type Error = std::io::Error;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        ready(self.0.take().map(TokioIo::new).ok_or_else(gone))
    }
}
