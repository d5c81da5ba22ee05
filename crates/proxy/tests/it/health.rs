//! Endpoints that the proxy asks itself whether they are well, over real sockets.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use heddle_ir::endpoint::{HealthCheck, HealthProbe};
use http::{HeaderMap, Response};
use tokio::task::spawn_local;

use crate::harness::{Pair, Peer, application, mirror, run};
use crate::http2;
use crate::resilience::plain;
use crate::support::origin;

/// Asked every few milliseconds, on the port of somebody who tells.
fn check(probe: HealthProbe, port: u16) -> Arc<HealthCheck> {
    Arc::new(HealthCheck {
        origin: origin(),
        probe,
        interval: Duration::from_millis(5),
        timeout: Duration::from_secs(5),
        healthy_threshold: 1,
        unhealthy_threshold: 2,
        port: Some(port),
    })
}

async fn pair(app: SocketAddr, probe: HealthProbe, port: u16) -> Pair {
    let endpoint =
        heddle_ir::endpoint::Endpoint { health_check: Some(check(probe, port)), ..plain(app) };
    let pair = Pair::with(app, |client| client.endpoints = vec![endpoint], |_| {}).await;
    spawn_local(heddle_proxy::health::run(pair.client_worker.clone()));
    pair
}

/// Asks until the answer has the status.
async fn until(peer: &mut Peer, status: u16) {
    while peer.get("/").await.status() != status {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn what_takes_no_connection_gets_no_requests() {
    run(async {
        let app = mirror().await;
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let pair = pair(app, HealthProbe::Tcp, port).await;
        let mut client = pair.connect().await;
        until(&mut client, 503).await;
        let open = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        until(&mut client, 200).await;
        drop(open);
        until(&mut client, 503).await;
    });
}

#[test]
fn pages_and_services_say_whether_they_are_well() {
    run(async {
        let well = Rc::new(Cell::new(true));
        let told = well.clone();
        let page = application(move |mut peer: Peer| {
            let told = told.clone();
            async move {
                let head = peer.try_head().await.unwrap_or_default();
                assert!(head.starts_with("GET /ready?full HTTP/1.1\r\n"), "{head}");
                assert!(
                    head.contains("host: own.example\r\n") && head.contains("x-who: probe\r\n")
                );
                let status = if told.get() { "302 Found" } else { "404 Not Found" };
                peer.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
            }
        })
        .await;
        let told = well.clone();
        let service = http2::h2_application(move |request, mut respond| {
            let told = told.clone();
            async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let body = http2::receive_all(&mut request.into_body()).await;
                assert_eq!(body, b"\x00\x00\x00\x00\x03\x0a\x01s");
                let response = Response::builder().header("content-type", "application/grpc");
                let mut sink = respond.send_response(response.body(()).unwrap(), false).unwrap();
                let status = if told.get() { 1 } else { 2 };
                let answer = vec![0, 0, 0, 0, 2, 8, status];
                sink.send_data(answer.into(), false).unwrap();
                let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
                sink.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
            }
        })
        .await;
        let http = HealthProbe::Http {
            host: "own.example".into(),
            path: "/ready?full".into(),
            headers: vec![("x-who".into(), "probe".into())],
        };
        for (probe, address) in [(http, page), (HealthProbe::Grpc { service: "s".into() }, service)]
        {
            let pair = pair(mirror().await, probe, address.port()).await;
            let mut client = pair.connect().await;
            assert_eq!(client.get("/").await.status(), 200, "well until it is not");
            well.set(false);
            until(&mut client, 503).await;
            well.set(true);
            until(&mut client, 200).await;
        }
    });
}
