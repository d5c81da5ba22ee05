//! How endpoints are connected to: who they must be, what connections begin with, tunnels.

use std::net::SocketAddr;
use std::time::Duration;

use heddle_ir::destination::{ProxyProtocolVersion, Tunnel, TunnelMethod};
use heddle_ir::http_route::RetryPolicy;
use heddle_ir::protocol::Protocol;
use heddle_ir::workload::MeshTransport;

use crate::harness::{Pair, Peer, application, mirror, run};
use crate::http2::{client, request};
use crate::resilience::plain;
use crate::support::{ClientSide, endpoint, identity};

fn publish(pair: &Pair, change: impl FnOnce(&mut ClientSide)) {
    let mut client = ClientSide::new(vec![endpoint(pair.inbound, MeshTransport::MutualTls)]);
    client.rules[0].retry = RetryPolicy::never();
    change(&mut client);
    let (next, _) = pair.client_publisher.current().with(&client.effects(), 1, 0);
    pair.client_publisher.publish(next);
}

#[test]
fn another_identity_at_the_same_address_is_asked_for_at_once() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        let mut client = pair.connect().await;
        assert_eq!(client.get("/").await.status(), 200);
        publish(&pair, |client| client.endpoints[0].identity = Some(identity("other")));
        // No kept connection speaks for the new one.
        assert_eq!(client.get("/").await.status(), 503);
        publish(&pair, |client| {
            client.endpoints[0].identity = Some(identity("other"));
            let names = &mut client.destination.subject_alt_names;
            names.push(identity("server").to_string().into());
        });
        assert_eq!(client.get("/").await.status(), 200);
        publish(&pair, |_| {});
        assert_eq!(client.get("/").await.status(), 200);
    });
}

#[test]
fn a_workload_that_was_out_of_reach_is_counted_by_its_name_later() {
    run(async {
        let nobody = application(|peer| async move { drop(peer) }).await;
        let pair = Pair::before(mirror().await).await;
        let lost = |client: &mut ClientSide| {
            client.endpoints = vec![endpoint(nobody, MeshTransport::MutualTls)];
        };
        publish(&pair, lost);
        let mut client = pair.connect().await;
        assert_eq!(client.get("/").await.status(), 503);
        publish(&pair, |_| {});
        assert_eq!(client.get("/").await.status(), 200);
        let principal = |side, name| format!("{side}_principal=\"{}\"", identity(name));
        let (source, target) = (principal("source", "client"), principal("destination", "server"));
        let parts = ["response_code=\"200\"", &source, &target];
        Pair::counts(&pair.client_registry, "istio_requests_total", &parts, 1).await;
    });
}

#[test]
fn other_limits_of_connections_hold_at_once() {
    run(async {
        let ended = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = ended.clone();
        let app = application(move |mut peer| {
            let counted = counted.clone();
            async move {
                while peer.try_head().await.is_some() {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
                counted.set(counted.get() + 1);
            }
        })
        .await;
        let pair = Pair::with(app, |client| client.endpoints = vec![plain(app)], |_| {}).await;
        let mut client = pair.connect().await;
        assert_eq!(client.get("/").await.status(), 200);
        assert_eq!(client.get("/").await.status(), 200);
        publish(&pair, |client| {
            client.endpoints = vec![plain(app)];
            client.destination.connection_pool.http_idle_timeout = Some(Duration::from_millis(20));
        });
        assert_eq!(client.get("/").await.status(), 200);
        // The one that the former limits kept, and the one that the new ones did not.
        while ended.get() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// A server that tells what came before the request, up to its last line feed, and in which order connections came.
async fn telling() -> SocketAddr {
    application(|mut peer| async move {
        let first = peer.try_head().await.unwrap_or_default();
        let (header, _) = first.split_once("GET ").unwrap_or_default();
        loop {
            let length = header.len();
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{header}")).await;
            if peer.try_head().await.is_none() {
                break;
            }
        }
    })
    .await
}

fn told(version: ProxyProtocolVersion, app: SocketAddr) -> impl FnOnce(&mut ClientSide) {
    move |client| {
        client.endpoints = vec![plain(app)];
        client.destination.proxy_protocol = Some(version);
    }
}

#[test]
fn an_endpoint_is_told_of_each_client_by_a_line() {
    run(async {
        let app = telling().await;
        let pair = Pair::with(app, told(ProxyProtocolVersion::V1, app), |_| {}).await;
        let (mut first, mut second) = (pair.connect().await, pair.connect().await);
        for client in [&mut first, &mut second] {
            for _ in 0..2 {
                let own = client.stream.local_addr().unwrap();
                let (ip, port) = (own.ip(), own.port());
                let expected = format!("PROXY TCP4 {ip} 10.96.0.1 {port} 8080\r\n");
                // A kept connection would tell of another client, or of none.
                assert_eq!(client.get("/").await.text(), expected);
            }
        }
    });
}

#[test]
fn an_endpoint_of_http2_is_told_too() {
    run(async {
        let app = application(|mut peer: Peer| async move {
            let header = peer.exactly(28).await;
            assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
            assert_eq!(header[20..24], [10, 96, 0, 1]);
            assert!(peer.buffer.is_empty() || peer.buffer.starts_with(b"PRI"));
            // The bytes after it are HTTP/2, which this server plays only so far as to refuse it.
        })
        .await;
        let pair = Pair::with(app, told(ProxyProtocolVersion::V2, app), |_| {}).await;
        let mut sender = client(&pair).await;
        for _ in 0..2 {
            let (response, _) = sender.send_request(request("/s.S/M"), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.headers().get("grpc-status").unwrap(), "14");
        }
    });
}

#[test]
fn a_stream_begins_with_what_the_endpoint_is_told() {
    run(async {
        let app = application(|mut peer| async move {
            let header = peer.exactly(28).await;
            peer.send(&header[16..]).await;
            assert_eq!(peer.exactly(4).await, b"ping");
            peer.send("pong").await;
        })
        .await;
        let pair = Pair::with(
            app,
            |client| {
                client.protocol = Protocol::Tcp;
                told(ProxyProtocolVersion::V2, app)(client);
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        let own = client.stream.local_addr().unwrap();
        let addresses = client.exactly(12).await;
        assert_eq!(addresses[..8], [127, 0, 0, 1, 10, 96, 0, 1]);
        assert_eq!(addresses[8..10], own.port().to_be_bytes());
        assert_eq!(addresses[10..], 8080_u16.to_be_bytes());
        client.send("ping").await;
        assert_eq!(client.rest().await, b"pong");
    });
}

/// A pair whose streams go through a tunnel of a proxy that answers this.
async fn tunneled(answer: &'static str) -> Pair {
    let app = application(move |mut peer| async move {
        let head = peer.try_head().await.unwrap_or_default();
        let expected = "CONNECT behind.example:443 HTTP/1.1\r\nHost: behind.example:443\r\n\r\n";
        if head != expected {
            return peer.send(format!("unexpected: {head}")).await;
        }
        peer.send(answer).await;
        if peer.fill().await {
            assert_eq!(peer.exactly(4).await, b"ping");
            peer.send("pong").await;
        }
    })
    .await;
    let host = "behind.example".into();
    Pair::with(
        app,
        |client| {
            client.protocol = Protocol::Tcp;
            client.endpoints = vec![plain(app)];
            client.destination.tunnel =
                Some(Tunnel { method: TunnelMethod::Connect, host, port: 443 });
            client.destination.connection_pool.connect_timeout = Duration::from_millis(200);
        },
        |_| {},
    )
    .await
}

#[test]
fn a_stream_goes_through_a_tunnel() {
    run(async {
        for answer in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 Fine\r\nVia: somebody\r\n\r\n",
        ] {
            let pair = tunneled(answer).await;
            let mut client = pair.connect().await;
            client.send("ping").await;
            assert_eq!(client.rest().await, b"pong");
        }
        // What the server behind says first is not lost.
        let greeting = "HTTP/1.1 200 OK\r\n\r\n220 hello";
        let pair = tunneled(greeting).await;
        let mut client = pair.connect().await;
        assert_eq!(client.exactly(9).await, b"220 hello");
        client.send("ping").await;
        assert_eq!(client.rest().await, b"pong");
    });
}

#[test]
fn a_tunnel_that_is_not_opened_closes_the_stream() {
    run(async {
        for answer in ["HTTP/1.1 403 Forbidden\r\n\r\n", "", "SSH-2.0-OpenSSH\r\n\r\n"] {
            let pair = tunneled(answer).await;
            let mut client = pair.connect().await;
            client.send("ping").await;
            assert_eq!(client.rest().await, b"", "{answer}");
            let counted = "heddle_connections_failed_total";
            Pair::counts(&pair.client_registry, counted, &["outbound"], 1).await;
        }
    });
}
