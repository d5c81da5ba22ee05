//! The Workload API over a real socket.

use std::sync::Arc;
use std::task::{Context, Poll};

use heddle_proto::workload_api::{
    PATH_PREFIX, X509BundlesResponse, X509Svid, X509SvidRequest, X509SvidResponse,
};
use heddle_rpc::workload_api::{Answers, Client, Source, serve};
use heddle_rpc::{Code, Status};
use http::uri::PathAndQuery;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tonic::Request;
use tonic_prost::ProstCodec;

use crate::PATIENCE;

fn answers(id: &str) -> Arc<Answers> {
    let svid = X509Svid { spiffe_id: id.to_owned(), ..X509Svid::default() };
    Arc::new(Answers {
        svids: X509SvidResponse { svids: vec![svid], ..X509SvidResponse::default() },
        bundles: X509BundlesResponse {
            bundles: [("spiffe://td".to_owned(), vec![1])].into(),
            ..X509BundlesResponse::default()
        },
    })
}

#[tokio::test]
async fn an_identity_comes_when_there_is_one_and_again_when_it_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (views, receiver) = watch::channel(None);
    let (asked, mut is_asked) = mpsc::channel(1);
    let source = Source { views: receiver, asked };
    tokio::spawn(serve(source, listener, std::future::pending()));
    let client = Client::open(&socket).await.unwrap();
    // The response's head comes before the first identity does.
    let mut svids = client.fetch_x509_svid().await.unwrap();
    is_asked.recv().await.unwrap();
    let mut next = async || {
        let message = tokio::time::timeout(PATIENCE, svids.message()).await.unwrap();
        message.unwrap().unwrap().svids[0].spiffe_id.clone()
    };
    views.send_replace(Some(answers("spiffe://td/a")));
    assert_eq!(next().await, "spiffe://td/a");
    // What is the same is not said again.
    views.send_replace(Some(answers("spiffe://td/a")));
    views.send_replace(Some(answers("spiffe://td/b")));
    assert_eq!(next().await, "spiffe://td/b");
    let mut bundles = client.fetch_x509_bundles().await.unwrap();
    let message = tokio::time::timeout(PATIENCE, bundles.message()).await.unwrap();
    assert_eq!(message.unwrap().unwrap().bundles["spiffe://td"], [1]);
}

/// Gives its stream away once.
struct Once(Option<hyper_util::rt::TokioIo<tokio::net::UnixStream>>);

impl tower_service::Service<http::Uri> for Once {
    type Response = hyper_util::rt::TokioIo<tokio::net::UnixStream>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        std::future::ready(self.0.take().ok_or_else(|| std::io::Error::other("once")))
    }
}

/// Calls without what the client adds.
async fn call(socket: &std::path::Path, path: &str, header: Option<&'static str>) -> Status {
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let connect = Once(Some(hyper_util::rt::TokioIo::new(stream)));
    let endpoint = tonic::transport::Endpoint::from_static("http://workload");
    let channel = endpoint.connect_with_connector(connect).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = Request::new(X509SvidRequest {});
    if let Some(value) = header {
        request.metadata_mut().insert("workload.spiffe.io", value.parse().unwrap());
    }
    let path: PathAndQuery = path.parse().unwrap();
    let codec = ProstCodec::<X509SvidRequest, X509SvidResponse>::default();
    let answer = grpc.server_streaming(request, path, codec).await;
    match answer {
        Err(status) => status,
        Ok(response) => response.into_inner().message().await.unwrap_err(),
    }
}

#[tokio::test]
async fn without_the_security_header_nothing_is_said_and_tokens_are_not_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (_views, receiver) = watch::channel(Some(answers("spiffe://td/a")));
    let (asked, _is_asked) = mpsc::channel(1);
    tokio::spawn(serve(Source { views: receiver, asked }, listener, std::future::pending()));
    let svid = format!("{PATH_PREFIX}FetchX509SVID");
    for header in [None, Some("false"), Some("TRUE")] {
        assert_eq!(call(&socket, &svid, header).await.code(), Code::InvalidArgument, "{header:?}");
    }
    for name in ["FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"] {
        let status = call(&socket, &format!("{PATH_PREFIX}{name}"), Some("true")).await;
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("JWT-SVID"), "{status}");
    }
    let other = call(&socket, "/else/Where", Some("true")).await;
    assert_eq!(other.code(), Code::Unimplemented);
}
