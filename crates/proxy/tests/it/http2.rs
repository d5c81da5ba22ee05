//! HTTP/2 and gRPC through a pair of proxies.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use heddle_ir::authorization::{Authorization, Fallback, SystemPolicies};
use heddle_ir::protocol::Protocol;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::task::spawn_local;

use crate::harness::{Pair, Peer, application, pattern, run};

/// A server: `serve` plays each request.
pub(crate) async fn h2_application<F: Future<Output = ()> + 'static>(
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + 'static,
) -> SocketAddr {
    application(move |Peer { stream, .. }| {
        let serve = serve.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
            let Ok(mut connection) = builder.handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                spawn_local(serve(request, respond));
            }
        }
    })
    .await
}

pub(crate) async fn client(pair: &Pair) -> SendRequest<Bytes> {
    let Peer { stream, .. } = pair.connect().await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    sender.ready().await.unwrap()
}

pub(crate) fn request(path: &str) -> Request<()> {
    let uri = format!("http://server:8080{path}");
    Request::builder()
        .method("POST")
        .uri(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

pub(crate) async fn send_all(sink: &mut SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        sink.reserve_capacity(data.len());
        while sink.capacity() == 0 {
            poll_fn(|cx| sink.poll_capacity(cx)).await.unwrap().unwrap();
        }
        let part = data.split_to(sink.capacity().min(data.len()));
        sink.send_data(part, false).unwrap();
    }
    if end {
        sink.send_data(Bytes::new(), true).unwrap();
    }
}

/// Some bytes of a body; none at its end.
pub(crate) async fn receive(body: &mut RecvStream) -> Option<Bytes> {
    let data = body.data().await?.unwrap();
    body.flow_control().release_capacity(data.len()).unwrap();
    Some(data)
}

/// All of a body; none where it breaks.
pub(crate) async fn receive_all_there_is(body: &mut RecvStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        all.extend_from_slice(&data.ok()?);
    }
    Some(all)
}

pub(crate) async fn receive_all(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = receive(body).await {
        all.extend_from_slice(&data);
    }
    all
}

pub(crate) fn trailers(status: u16) -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from(status),
    )])
}

/// Sends back what it gets while it gets it, and status 0 at the end.
pub(crate) async fn echo(mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let response = Response::builder().header("x-path", request.uri().path()).body(()).unwrap();
    let mut sink = respond.send_response(response, false).unwrap();
    while let Some(data) = receive(request.body_mut()).await {
        send_all(&mut sink, data, false).await;
    }
    let _ = sink.send_trailers(trailers(0));
}

#[test]
fn a_call_gets_head_messages_and_trailers() {
    run(async {
        let app = h2_application(|request, respond| async move {
            let headers = request.headers();
            assert_eq!(headers.get("te").unwrap(), "trailers");
            assert_eq!(headers.get("grpc-timeout").unwrap(), "5S");
            assert_eq!(request.uri().authority().unwrap(), "server:8080");
            assert!(headers.get("x-forwarded-client-cert").is_some());
            assert!(headers.get("x-request-id").is_some());
            echo(request, respond).await;
        })
        .await;
        let pair = Pair::before(app).await;
        let mut sender = client(&pair).await;
        let mut asked = request("/shop.Cart/../shop.Cart/Add");
        asked.headers_mut().insert("grpc-timeout", HeaderValue::from_static("5S"));
        let (response, mut sink) = sender.send_request(asked, false).unwrap();
        send_all(&mut sink, Bytes::from_static(b"message"), true).await;
        let mut response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("x-path").unwrap(), "/shop.Cart/Add");
        assert_eq!(receive_all(response.body_mut()).await, b"message");
        let trailers = response.body_mut().trailers().await.unwrap().unwrap();
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    });
}

#[test]
fn both_sides_may_talk_in_turns() {
    run(async {
        let pair = Pair::before(h2_application(echo).await).await;
        let mut sender = client(&pair).await;
        let (response, mut sink) = sender.send_request(request("/s.S/Bidi"), false).unwrap();
        let mut response = response.await.unwrap();
        for i in 0..20_u8 {
            send_all(&mut sink, Bytes::from(vec![i; 100]), false).await;
            let mut got = Vec::new();
            while got.len() < 100 {
                got.extend_from_slice(&receive(response.body_mut()).await.unwrap());
            }
            assert_eq!(got, vec![i; 100]);
        }
        sink.send_data(Bytes::new(), true).unwrap();
        assert_eq!(receive_all(response.body_mut()).await, b"");
        assert!(response.body_mut().trailers().await.unwrap().is_some());
    });
}

#[test]
fn large_messages_pass_in_both_directions_at_once() {
    const BYTES: usize = 8 << 20;
    run(async {
        let pair = Pair::before(h2_application(echo).await).await;
        let mut sender = client(&pair).await;
        let (response, mut sink) = sender.send_request(request("/s.S/Bulk"), false).unwrap();
        let body = pattern(BYTES);
        let sent = Bytes::from(body.clone());
        spawn_local(async move { send_all(&mut sink, sent, true).await });
        let mut response = response.await.unwrap();
        assert!(receive_all(response.body_mut()).await == body, "the body was changed");
    });
}

#[test]
fn requests_of_many_clients_share_a_connection() {
    run(async {
        let app = h2_application(echo).await;
        let pair = Pair::before(app).await;
        let mut calls = Vec::new();
        for _ in 0..5 {
            let mut sender = client(&pair).await;
            for _ in 0..20 {
                sender = sender.ready().await.unwrap();
                let (response, mut sink) = sender.send_request(request("/s.S/M"), false).unwrap();
                send_all(&mut sink, Bytes::from_static(b"x"), true).await;
                calls.push(response);
            }
        }
        for call in calls {
            let mut response = call.await.unwrap();
            assert_eq!(receive_all(response.body_mut()).await, b"x");
        }
        // One for the listener of the second proxy: all calls came over one connection.
        assert_eq!(pair.server_worker.drain().live(), 1);
    });
}

#[test]
fn a_denied_call_gets_a_grpc_status() {
    run(async {
        let app = h2_application(echo).await;
        let pair = Pair::with(
            app,
            |_| {},
            |server| {
                let denial = Fallback::Deny(heddle_diag::Origin::built_in("test"));
                let deny = SystemPolicies::new(denial, Vec::new());
                server.authorization =
                    Authorization { systems: vec![deny], authorizers: Vec::new() };
            },
        )
        .await;
        let mut sender = client(&pair).await;
        let (response, _) = sender.send_request(request("/s.S/M"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("grpc-status").unwrap(), "7");
        assert_eq!(response.headers().get("grpc-message").unwrap(), "RBAC: access denied");
        // And what is not gRPC gets its status.
        let plain = Request::get("http://server:8080/").body(()).unwrap();
        let (response, _) = sender.send_request(plain, true).unwrap();
        let mut response = response.await.unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(receive_all(response.body_mut()).await, b"RBAC: access denied");
    });
}

#[test]
fn an_unavailable_call_is_tried_again_with_its_body() {
    run(async {
        let calls = Rc::new(Cell::new(0));
        let counted = calls.clone();
        let app = h2_application(move |mut request, mut respond| {
            let counted = counted.clone();
            async move {
                counted.set(counted.get() + 1);
                assert_eq!(receive_all(request.body_mut()).await, b"again");
                let status = if counted.get() < 3 { 14 } else { 0 };
                let response = Response::builder().header("grpc-status", status).body(()).unwrap();
                respond.send_response(response, true).unwrap();
            }
        })
        .await;
        let pair = Pair::before(app).await;
        let mut sender = client(&pair).await;
        let (response, mut sink) = sender.send_request(request("/s.S/M"), false).unwrap();
        send_all(&mut sink, Bytes::from_static(b"again"), true).await;
        let response = response.await.unwrap();
        assert_eq!(response.headers().get("grpc-status").unwrap(), "0");
        assert_eq!(calls.get(), 3);
    });
}

#[test]
fn a_reset_passes_in_both_directions() {
    run(async {
        let (seen, mut ended) = tokio::sync::mpsc::channel(1);
        let app = h2_application(move |request, mut respond| {
            let seen = seen.clone();
            async move {
                if request.uri().path() == "/s.S/Refuse" {
                    let mut sink = respond.send_response(Response::new(()), false).unwrap();
                    sink.send_data(Bytes::from_static(b"part"), false).unwrap();
                    tokio::task::yield_now().await;
                    sink.send_reset(Reason::ENHANCE_YOUR_CALM);
                    return;
                }
                let mut sink = respond.send_response(Response::new(()), false).unwrap();
                let reason = poll_fn(|cx| sink.poll_reset(cx)).await.unwrap();
                seen.send(reason).await.unwrap();
            }
        })
        .await;
        let pair = Pair::before(app).await;
        let mut sender = client(&pair).await;
        let (response, mut sink) = sender.send_request(request("/s.S/Wait"), false).unwrap();
        let response = response.await.unwrap();
        sink.send_reset(Reason::CANCEL);
        drop(response);
        assert_eq!(ended.recv().await, Some(Reason::CANCEL));

        let (response, _) = sender.send_request(request("/s.S/Refuse"), true).unwrap();
        let mut response = response.await.unwrap();
        let error = loop {
            match response.body_mut().data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("the response ended in order"),
            }
        };
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    });
}

#[test]
fn a_call_that_takes_too_long_gets_deadline_exceeded() {
    run(async {
        let app = h2_application(|request, respond| async move {
            let _held = (request, respond);
            std::future::pending::<()>().await;
        })
        .await;
        let pair = Pair::with(
            app,
            |client| {
                client.rules[0].timeout = Some(Duration::from_millis(50));
            },
            |_| {},
        )
        .await;
        let mut sender = client(&pair).await;
        let (response, _) = sender.send_request(request("/s.S/M"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers().get("grpc-status").unwrap(), "4");
    });
}

#[test]
fn a_server_that_cannot_be_reached_is_unavailable() {
    run(async {
        let (listener, address) = crate::harness::listen().await;
        drop(listener);
        let pair = Pair::before(address).await;
        let mut sender = client(&pair).await;
        let (response, _) = sender.send_request(request("/s.S/M"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers().get("grpc-status").unwrap(), "14");
    });
}

#[test]
fn http2_is_found_on_an_undeclared_port() {
    run(async {
        let app = h2_application(echo).await;
        let pair = Pair::with(
            app,
            |client| client.protocol = Protocol::Detect,
            |server| server.protocol = Protocol::Detect,
        )
        .await;
        let mut sender = client(&pair).await;
        let (response, _) = sender.send_request(request("/s.S/M"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn a_draining_proxy_says_goaway_and_finishes_what_runs() {
    run(async {
        let (release, wait) = tokio::sync::watch::channel(false);
        let app = h2_application(move |_request, mut respond| {
            let mut wait = wait.clone();
            async move {
                wait.wait_for(|released| *released).await.unwrap();
                respond.send_response(Response::new(()), true).unwrap();
            }
        })
        .await;
        let pair = Pair::before(app).await;
        let mut sender = client(&pair).await;
        let (response, _) = sender.send_request(request("/s.S/M"), true).unwrap();
        while pair.server_worker.drain().live() < 1 {
            tokio::task::yield_now().await;
        }
        pair.client_worker.drain().begin();
        // Until the client has been told.
        while poll_fn(|cx| sender.poll_ready(cx)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        release.send(true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        pair.client_worker.drain().finished().await;
    });
}
