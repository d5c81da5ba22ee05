//! What is under way when the policy changes: ended if it is newly denied, else not touched.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use heddle_ir::authorization::Authorization;
use heddle_ir::protocol::Protocol;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_sync::Effect;
use http::Request;

use crate::harness::{Pair, Peer, application, run};
use crate::http1::allow_path;
use crate::http2::{client, echo, h2_application, receive, request, send_all};
use crate::support::{ServerSide, workload};

fn publish(pair: &Pair, application: SocketAddr, authorization: Authorization) {
    let mut server = ServerSide::new(application.port());
    server.authorization = authorization;
    let (next, _) = pair.server_publisher.current().with(&server.effects(), 1, 0);
    pair.server_publisher.publish(next);
}

async fn counts_denied(pair: &Pair, count: u64) {
    let parts = ["inbound", "reason=\"authorization_denied\""];
    Pair::counts(&pair.server_registry, "heddle_connections_failed_total", &parts, count).await;
}

/// A server that switches protocols on `/…ws`, never answers on `/…late`, and begins an answer without end elsewhere; each
/// goes on by sending back what it gets.
pub(crate) async fn endless() -> SocketAddr {
    application(|mut peer| async move {
        let Some(head) = peer.try_head().await else { return };
        let target = head.split(' ').nth(1).unwrap();
        if target.ends_with("ws") {
            let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            peer.send(switch).await;
        } else if !target.ends_with("late") {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello").await;
        }
        while peer.fill().await {
            let bytes = std::mem::take(&mut peer.buffer);
            peer.send(bytes).await;
        }
    })
    .await
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

async fn begin(pair: &Pair, path: &str, headers: &str) -> Peer {
    let mut client = pair.connect().await;
    client.send(format!("POST {path} HTTP/1.1\r\nHost: server\r\n{headers}\r\n")).await;
    client
}

#[test]
fn an_upgraded_connection_is_cut_when_it_is_newly_denied_and_not_before() {
    run(async {
        let app = endless().await;
        let pair = Pair::before(app).await;
        let mut cut = begin(&pair, "/cut/../cut/ws", UPGRADE).await;
        let mut kept = begin(&pair, "/kept/ws", UPGRADE).await;
        for client in [&mut cut, &mut kept] {
            assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        }
        // What is compared is the path that the policy saw when the request came.
        publish(&pair, app, allow_path("/cut/ws"));
        cut.send("one").await;
        assert_eq!(cut.exactly(3).await, b"one");
        assert_eq!(kept.rest().await, b"");
        counts_denied(&pair, 1).await;
        publish(&pair, app, allow_path("/kept/ws"));
        assert_eq!(cut.rest().await, b"");
        counts_denied(&pair, 2).await;
    });
}

#[test]
fn a_long_response_is_cut_when_it_is_newly_denied_and_others_go_on() {
    run(async {
        let app = endless().await;
        let pair = Pair::before(app).await;
        let body = "Content-Length: 1000\r\n";
        let mut cut = begin(&pair, "/cut", body).await;
        let mut kept = begin(&pair, "/kept", body).await;
        for client in [&mut cut, &mut kept] {
            assert!(client.head().await.starts_with("HTTP/1.1 200 "));
            assert_eq!(client.exactly(5).await, b"hello");
        }
        publish(&pair, app, allow_path("/kept"));
        assert_eq!(cut.rest().await, b"");
        counts_denied(&pair, 1).await;
        for _ in 0..2 {
            kept.send("more").await;
            assert_eq!(kept.exactly(4).await, b"more");
            publish(&pair, app, Authorization::default());
        }
        counts_denied(&pair, 1).await;
    });
}

#[test]
fn a_request_that_waits_for_its_response_is_answered_when_it_is_newly_denied() {
    run(async {
        let app = endless().await;
        let pair = Pair::before(app).await;
        let mut client = begin(&pair, "/late", "Content-Length: 5\r\n").await;
        // It has come as far as to the application: what follows is no race with its first decision.
        let mut witness = begin(&pair, "/kept", "Content-Length: 0\r\n").await;
        witness.head().await;
        publish(&pair, app, allow_path("/kept"));
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.text()), (403, "RBAC: access denied"));
        counts_denied(&pair, 1).await;
    });
}

#[test]
fn a_call_is_ended_with_its_status_when_it_is_newly_denied() {
    run(async {
        let app = h2_application(echo).await;
        // The port declares nothing, so that each request keeps its version.
        let undeclared = |server: &mut ServerSide| server.protocol = Protocol::Detect;
        let pair = Pair::with(app, |_| {}, undeclared).await;
        let mut sender = client(&pair).await;
        let (cut, mut cut_sink) = sender.send_request(request("/s.S/Cut"), false).unwrap();
        let (kept, mut kept_sink) = sender.send_request(request("/s.S/Kept"), false).unwrap();
        let plain = Request::post("http://server:8080/plain").body(()).unwrap();
        let (plain, _plain_sink) = sender.send_request(plain, false).unwrap();
        let mut cut = cut.await.unwrap().into_body();
        let mut kept = kept.await.unwrap().into_body();
        let mut plain = plain.await.unwrap().into_body();
        send_all(&mut cut_sink, Bytes::from_static(b"one"), false).await;
        assert_eq!(receive(&mut cut).await.unwrap(), "one");
        publish(&pair, app, allow_path("/s.S/Kept"));
        assert_eq!(receive(&mut cut).await, None);
        let trailers = cut.trailers().await.unwrap().unwrap();
        assert_eq!(trailers.get("grpc-status").unwrap(), "7");
        assert_eq!(trailers.get("grpc-message").unwrap(), "RBAC: access denied");
        // Without gRPC there is nothing to say it with but the reset.
        let error = plain.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL));
        counts_denied(&pair, 2).await;
        send_all(&mut kept_sink, Bytes::from_static(b"two"), true).await;
        assert_eq!(receive(&mut kept).await.unwrap(), "two");
        assert_eq!(receive(&mut kept).await, None);
        assert_eq!(kept.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
    });
}

#[test]
fn a_workload_is_held_by_the_address_that_it_was_asked_for_under() {
    let addresses = ["10.1.0.1", "fd00::1"].map(|text| text.parse().unwrap());
    let of = Arc::new(heddle_ir::workload::Workload {
        addresses: addresses.to_vec(),
        ..workload("client")
    });
    let name = ResourceName::Workload(of.network.clone(), addresses[0]);
    let set = [Effect::Set(name.clone(), Resource::Workload(of))];
    let (held, _) = heddle_proxy::snapshot::Snapshot::default().with(&set, 1, 0);
    assert!(held.workloads.contains_key(&addresses[0]));
    let (gone, _) = held.with(&[Effect::Unset(name)], 1, 0);
    assert_eq!(gone.workloads.len(), 0);
}
