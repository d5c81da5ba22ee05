//! The Workload API over a real socket.

use std::sync::Arc;
use std::task::{Context, Poll};

use heddle_proto::workload_api::{
    JwtSvid, JwtSvidRequest, PATH_PREFIX, ValidateJwtSvidRequest, X509BundlesResponse, X509Svid,
    X509SvidRequest, X509SvidResponse,
};
use heddle_rpc::workload_api::{Answers, Client, Source, TokenCall, serve};
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
    let source = Source { views: receiver, asked, tokens: mpsc::channel(1).0 };
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
async fn without_the_security_header_nothing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (_views, receiver) = watch::channel(Some(answers("spiffe://td/a")));
    let (asked, _is_asked) = mpsc::channel(1);
    let source = Source { views: receiver, asked, tokens: mpsc::channel(1).0 };
    tokio::spawn(serve(source, listener, std::future::pending()));
    for name in
        ["FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"]
    {
        for header in [None, Some("false"), Some("TRUE")] {
            let status = call(&socket, &format!("{PATH_PREFIX}{name}"), header).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{name} {header:?}");
        }
    }
    let other = call(&socket, "/else/Where", Some("true")).await;
    assert_eq!(other.code(), Code::Unimplemented);
}

#[tokio::test]
async fn tokens_are_asked_for_by_audience_and_for_the_own_identity() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (_views, receiver) = watch::channel(None);
    let (asked, _is_asked) = mpsc::channel(1);
    let (tokens, mut calls) = mpsc::channel(1);
    let source = Source { views: receiver, asked, tokens };
    tokio::spawn(serve(source, listener, std::future::pending()));
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            match call {
                TokenCall::Keys(answer) => {
                    answer.send(Ok([("td".to_owned(), "{}".to_owned())].into())).unwrap();
                }
                TokenCall::Mint(audiences, answer) => {
                    let svid = JwtSvid {
                        spiffe_id: "spiffe://td/a".into(),
                        svid: audiences.join(","),
                        hint: String::new(),
                    };
                    answer.send(Ok(svid)).unwrap();
                }
                // Nobody answers.
                TokenCall::Validate(..) => {}
            }
        }
    });
    let client = Client::open(&socket).await.unwrap();
    let ask = async |audience: &[&str], id: &str| {
        let audience = audience.iter().map(ToString::to_string).collect();
        client.fetch_jwt_svid(JwtSvidRequest { audience, spiffe_id: id.to_owned() }).await
    };
    for id in ["", "spiffe://td/a"] {
        let answer = ask(&["db", "cache"], id).await.unwrap();
        assert_eq!(answer.svids[0].svid, "db,cache");
    }
    let long = "x".repeat(2000);
    for audience in [&[][..], &[""], &[&*long]] {
        assert_eq!(ask(audience, "").await.unwrap_err().code(), Code::InvalidArgument);
    }
    let other = ask(&["db"], "spiffe://td/b").await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);
    let mut bundles = client.fetch_jwt_bundles().await.unwrap();
    let message = tokio::time::timeout(PATIENCE, bundles.message()).await.unwrap();
    assert_eq!(message.unwrap().unwrap().bundles["spiffe://td"], b"{}");
    let request = ValidateJwtSvidRequest { audience: "db".into(), svid: "t".into() };
    let away = client.validate_jwt_svid(request.clone()).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable);
    let nobody = ValidateJwtSvidRequest { audience: String::new(), ..request };
    let nobody = client.validate_jwt_svid(nobody).await.unwrap_err();
    assert_eq!(nobody.code(), Code::InvalidArgument);
}
