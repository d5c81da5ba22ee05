//! Requests over HTTP/1 that go on as HTTP/2, and what is spoken to applications.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use heddle_ir::http_route::{BackendTarget, Mirror, RetryOn, RetryPolicy};
use heddle_ir::protocol::Protocol;
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Message, Pair, Peer, application, mirror, pattern, run};
use crate::http2::{client, h2_application, receive_all, send_all};
use crate::resilience::plain;
use crate::support::{ClientSide, ServerSide, default_retries, origin, other_destination, pool};

/// Answers over HTTP/2 with what it got: the head's lines, then the body.
async fn h2_mirror() -> SocketAddr {
    h2_application(|mut request, mut respond| async move {
        let mut seen = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
        for (name, value) in request.headers() {
            seen.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        let body = receive_all(request.body_mut()).await;
        let mut response = Response::builder().header("x-length", body.len());
        if request.headers().contains_key("x-declare") {
            response = response.header("content-length", seen.len() + body.len());
        }
        let response = response.body(()).unwrap();
        let is_head = request.method() == "HEAD";
        let Ok(mut sink) = respond.send_response(response, is_head) else { return };
        if !is_head {
            send_all(&mut sink, Bytes::from(seen), false).await;
            send_all(&mut sink, Bytes::from(body), true).await;
        }
    })
    .await
}

fn upgrading(server: SocketAddr) -> impl FnOnce(&mut ClientSide) {
    move |client| {
        client.endpoints = vec![plain(server)];
        client.destination.connection_pool.upgrade_to_http2 = true;
    }
}

/// A message whose body is in chunks.
async fn chunked(peer: &mut Peer) -> Message {
    let head = peer.head().await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(peer.exactly(1).await);
        }
        let size = std::str::from_utf8(&line).unwrap().trim();
        let size = usize::from_str_radix(size, 16).unwrap();
        body.extend(peer.exactly(size).await);
        assert_eq!(peer.exactly(2).await, b"\r\n");
        if size == 0 {
            return Message { head, body };
        }
    }
}

#[test]
fn requests_are_upgraded_where_the_destination_asks() {
    run(async {
        let server = h2_mirror().await;
        let pair = Pair::with(mirror().await, upgrading(server), |_| {}).await;
        let mut peer = pair.connect().await;
        for round in 0..3 {
            let head = "Host: server\r\nX-Own: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1";
            peer.send(format!("GET /a?b={round} HTTP/1.1\r\n{head}\r\n\r\n")).await;
            let answer = chunked(&mut peer).await;
            assert_eq!(answer.status(), 200);
            let text = answer.text();
            assert!(
                text.starts_with(&format!("GET http://server/a?b={round} HTTP/2.0\n")),
                "{text}"
            );
            assert!(text.contains("x-own: 1\n") && text.contains("x-request-id: "), "{text}");
            assert!(!text.contains("connection") && !text.contains("x-hop"), "{text}");
        }
    });
}

#[test]
fn trailers_stand_behind_the_body_for_clients_that_take_them() {
    run(async {
        let server = h2_application(|_, mut respond| async move {
            let response = Response::builder().body(()).unwrap();
            let Ok(mut sink) = respond.send_response(response, false) else { return };
            send_all(&mut sink, Bytes::from_static(b"abc"), false).await;
            let trailers = [("grpc-status", "7"), ("content-length", "9")];
            let trailers =
                trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let _ = sink.send_trailers(http::HeaderMap::from_iter(trailers));
        })
        .await;
        let pair = Pair::with(mirror().await, upgrading(server), |_| {}).await;
        let head = "GET / HTTP/1.1\r\nHost: server\r\nConnection: close, te\r\n";
        for (takes, end) in [("TE: trailers\r\n", "0\r\ngrpc-status: 7\r\n\r\n"), ("", "0\r\n\r\n")]
        {
            let mut peer = pair.connect().await;
            peer.send(format!("{head}{takes}\r\n")).await;
            let rest = String::from_utf8(peer.rest().await).unwrap();
            assert!(rest.ends_with(&format!("3\r\nabc\r\n{end}")), "{rest}");
        }
    });
}

#[test]
fn bodies_of_any_framing_go_both_ways() {
    run(async {
        let server = h2_mirror().await;
        let pair = Pair::with(mirror().await, upgrading(server), |_| {}).await;
        let mut peer = pair.connect().await;
        let body = pattern(700_000);
        let head = "POST / HTTP/1.1\r\nHost: server\r\n";
        // By its length, answered by length.
        peer.send(format!("{head}X-Declare: 1\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        let (mut reader, mut writer) = peer.stream.into_split();
        let sent = body.clone();
        let sending = tokio::task::spawn_local(async move {
            tokio::io::AsyncWriteExt::write_all(&mut writer, &sent).await.unwrap();
            writer
        });
        let mut got = Vec::new();
        let declared = loop {
            tokio::io::AsyncReadExt::read_buf(&mut reader, &mut got).await.unwrap();
            let text = String::from_utf8_lossy(&got);
            if let Some(end) = text.find("\r\n\r\n") {
                let line = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                break end + 4 + line.unwrap().parse::<usize>().unwrap();
            }
        };
        while got.len() < declared {
            tokio::io::AsyncReadExt::read_buf(&mut reader, &mut got).await.unwrap();
        }
        assert!(got.ends_with(&body), "{} bytes", got.len());
        let stream = reader.reunite(sending.await.unwrap()).unwrap();
        let mut peer = Peer::new(stream);
        // In chunks, answered in chunks.
        peer.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")).await;
        peer.send("2;x=y\r\nde\r\n0\r\nTrailer: gone\r\n\r\n").await;
        let answer = chunked(&mut peer).await;
        assert_eq!(answer.header("x-length"), Some("5"));
        assert!(answer.text().ends_with("abcde"));
        assert!(!answer.text().contains("transfer-encoding"));
        // Without a body, and no body of the answer.
        peer.send("HEAD / HTTP/1.1\r\nHost: server\r\n\r\n").await;
        assert_eq!(peer.message().await.header("x-length"), Some("0"));
        // Whoever waits for leave gets it.
        peer.send(format!("{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")).await;
        assert_eq!(peer.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        peer.send("hi").await;
        let answer = chunked(&mut peer).await;
        assert!(answer.text().ends_with("hi") && !answer.text().contains("expect"));
        // HTTP/1.0 knows no chunks.
        peer.send("GET / HTTP/1.0\r\nHost: server\r\n\r\n").await;
        let rest = String::from_utf8(peer.rest().await).unwrap();
        assert!(rest.contains("connection: close\r\n") && rest.contains("GET http://"), "{rest}");
    });
}

#[test]
fn ports_declare_what_is_spoken_unless_the_clients_version_is_asked_for() {
    run(async {
        let server = h2_mirror().await;
        for declared in [Protocol::Http2, Protocol::Grpc] {
            let configure = |client: &mut ClientSide| {
                client.endpoints = vec![plain(server)];
                client.destination.protocol = declared;
            };
            let pair = Pair::with(mirror().await, configure, |_| {}).await;
            let mut peer = pair.connect().await;
            peer.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
            assert!(chunked(&mut peer).await.text().contains("HTTP/2.0"));
        }
        let own = mirror().await;
        let configure = |client: &mut ClientSide| {
            client.endpoints = vec![plain(own)];
            client.destination.protocol = Protocol::Http2;
            client.destination.connection_pool.use_client_protocol = true;
        };
        let pair = Pair::with(mirror().await, configure, |_| {}).await;
        let answer = pair.connect().await.get("/").await;
        assert!(answer.text().starts_with("GET / HTTP/1.1\r\n"));
    });
}

#[test]
fn a_switch_of_protocols_stays_http1() {
    run(async {
        let app = application(|mut peer: Peer| async move {
            let head = peer.head().await;
            assert!(head.contains("Upgrade: websocket\r\n"), "{head}");
            let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n";
            peer.send(format!("{switch}Connection: Upgrade\r\n\r\nhello")).await;
            assert_eq!(peer.rest().await, b"bye");
        })
        .await;
        let pair = Pair::with(mirror().await, upgrading(app), |_| {}).await;
        let mut peer = pair.connect().await;
        peer.send(
            "GET /ws HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
        assert!(peer.head().await.starts_with("HTTP/1.1 101 "));
        assert_eq!(peer.exactly(5).await, b"hello");
        peer.send("bye").await;
    });
}

#[test]
fn applications_get_the_version_that_their_port_declares() {
    run(async {
        // Upgraded between the proxies; the application knows HTTP/1 only.
        let upgrade = |client: &mut ClientSide| {
            client.destination.connection_pool.upgrade_to_http2 = true;
        };
        let pair = Pair::with(mirror().await, upgrade, |_| {}).await;
        let mut peer = pair.connect().await;
        for _ in 0..2 {
            let answer = peer.get("/x").await;
            assert!(answer.text().starts_with("GET /x HTTP/1.1\r\nhost: server\r\n"), "{answer:?}");
        }
        // Nothing declared: as it comes.
        let pair = Pair::with(
            h2_mirror().await,
            |_| {},
            |server| {
                server.protocol = Protocol::Detect;
            },
        )
        .await;
        let mut sender = client(&pair).await;
        let request = Request::get("http://server/").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let mut response = response.await.unwrap();
        let text = receive_all(response.body_mut()).await;
        assert!(String::from_utf8(text).unwrap().contains("HTTP/2.0"));
        // HTTP/2 declared: so it is spoken, whatever came.
        let pair = Pair::with(
            h2_mirror().await,
            |_| {},
            |server| {
                server.protocol = Protocol::Http2;
            },
        )
        .await;
        let mut peer = pair.connect().await;
        peer.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
        assert!(chunked(&mut peer).await.text().contains("HTTP/2.0"));
    });
}

#[test]
fn upgraded_requests_are_tried_again_with_their_body() {
    run(async {
        let tries = Rc::new(Cell::new(0));
        let counted = tries.clone();
        let server = h2_application(move |mut request, mut respond| {
            let counted = counted.clone();
            async move {
                counted.set(counted.get() + 1);
                let body = receive_all(request.body_mut()).await;
                let status = if counted.get() < 3 { 503 } else { 200 };
                let response = Response::builder().status(status).header("x-length", body.len());
                respond.send_response(response.body(()).unwrap(), true).unwrap();
            }
        })
        .await;
        let configure = |client: &mut ClientSide| {
            upgrading(server)(client);
            client.rules[0].retry = RetryPolicy {
                on: vec![RetryOn::ServerError],
                attempts: 2,
                backoff_base: Duration::ZERO,
                ..default_retries()
            };
        };
        let pair = Pair::with(mirror().await, configure, |_| {}).await;
        let mut peer = pair.connect().await;
        peer.send("PUT / HTTP/1.1\r\nHost: server\r\nContent-Length: 4\r\n\r\nbody").await;
        let answer = peer.message().await;
        assert_eq!((answer.status(), answer.header("x-length")), (200, Some("4")));
        assert_eq!((answer.header("content-length"), tries.get()), (Some("0"), 3));
        // What cannot be reached is answered, and the connection goes on.
        drop(pair);
        let nobody = crate::harness::listen().await.1;
        let pair = Pair::with(mirror().await, upgrading(nobody), |_| {}).await;
        let mut peer = pair.connect().await;
        assert_eq!(peer.get("/").await.status(), 503);
        assert_eq!(peer.get("/").await.status(), 503);
    });
}

#[test]
fn copies_are_of_the_version_of_their_destination() {
    run(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let noted = seen.clone();
        let shadow = h2_application(move |mut request, mut respond| {
            let noted = noted.clone();
            async move {
                let authority = request.uri().authority().unwrap().to_string();
                let body = receive_all(request.body_mut()).await;
                noted.borrow_mut().push((authority, body));
                respond.send_response(Response::new(()), true).unwrap();
            }
        })
        .await;
        let copy = Mirror {
            origin: origin(),
            target: BackendTarget::Destination(1),
            share_ppm: 1_000_000,
            authority_suffix: "-shadow".into(),
        };
        let (main, copies) = (mirror().await, copy.clone());
        let configure = move |client: &mut ClientSide| {
            client.endpoints = vec![plain(main)];
            let mut other = other_destination("shadow");
            other.protocol = Protocol::Http2;
            client.others.push((other, vec![plain(shadow)]));
            client.rules[0].mirrors = vec![copies];
        };
        let pair = Pair::with(mirror().await, configure, |_| {}).await;
        let mut peer = pair.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: server:80\r\nTransfer-Encoding: chunked\r\n\r\n";
        peer.send(format!("{head}3\r\nabc\r\n0\r\n\r\n")).await;
        while seen.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(*seen.borrow(), [("server-shadow:80".to_owned(), b"abc".to_vec())]);
    });
}

#[test]
fn an_application_may_listen_elsewhere_within_limits_of_its_port() {
    run(async {
        let (own, elsewhere) = (mirror().await, crate::harness::listen().await);
        let port = elsewhere.1;
        let configure = |server: &mut ServerSide| {
            server.application = Some(own);
            server.connection_pool.requests_max = 0;
            server.port_pool = Some(pool());
        };
        let pair = Pair::with(port, |_| {}, configure).await;
        assert_eq!(pair.connect().await.get("/").await.status(), 200);
        // The limits of the port, not those of the workload, and the other way round.
        let configure = |server: &mut ServerSide| {
            server.application = Some(SocketAddr::new("0.0.0.0".parse().unwrap(), own.port()));
            server.port_pool = Some(pool());
            server.port_pool.as_mut().unwrap().requests_max = 0;
        };
        let pair = Pair::with(port, |_| {}, configure).await;
        let answer = pair.connect().await.get("/").await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.header("x-envoy-overloaded"), Some("true"), "{answer:?}");
        // The unspecified address is that of the workload.
        let configure = |server: &mut ServerSide| {
            server.application = Some(SocketAddr::new("0.0.0.0".parse().unwrap(), own.port()));
        };
        let pair = Pair::with(port, |_| {}, configure).await;
        assert_eq!(pair.connect().await.get("/").await.status(), 200);
    });
}

#[test]
fn a_body_that_is_not_valid_is_refused_on_its_way_too() {
    run(async {
        let server = h2_mirror().await;
        let pair = Pair::with(mirror().await, upgrading(server), |_| {}).await;
        for late in ["X\r\n", "4\nbody", "0\r\nHost: b\r\n\r\n"] {
            let mut peer = pair.connect().await;
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            peer.send(format!("{head}4\r\nbody\r\n")).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            peer.send(late).await;
            assert_eq!(peer.message().await.status(), 400, "{late:?}");
            assert_eq!(peer.rest().await, b"", "{late:?}");
        }
    });
}

#[test]
fn a_body_of_a_response_that_has_none_is_not_the_next_response() {
    run(async {
        let server = h2_application(|request, mut respond| async move {
            let status = if request.uri().path() == "/next" { 200 } else { 204 };
            let response = Response::builder().status(status).body(()).unwrap();
            let Ok(mut sink) = respond.send_response(response, false) else { return };
            let body = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad";
            send_all(&mut sink, Bytes::from(if status == 200 { "next" } else { body }), true).await;
        })
        .await;
        let pair = Pair::with(mirror().await, upgrading(server), |_| {}).await;
        let mut peer = pair.connect().await;
        assert_eq!(peer.get("/").await.status(), 204);
        peer.send("GET /next HTTP/1.1\r\nHost: server\r\n\r\n").await;
        assert_eq!(chunked(&mut peer).await.text(), "next");
    });
}

#[test]
fn an_application_may_listen_on_an_abstract_socket() {
    run(async {
        let name = format!("heddle-proxy-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let socket = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::UnixListener::from_std(socket).unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            let mut seen = Vec::new();
            for _ in 0..2 {
                seen.clear();
                while !seen.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut seen).await.unwrap();
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
                stream.write_all(answer).await.unwrap();
            }
        });
        let configure = |server: &mut ServerSide| server.application_socket = Some(name.into());
        let pair = Pair::with(crate::harness::listen().await.1, |_| {}, configure).await;
        let mut peer = pair.connect().await;
        for _ in 0..2 {
            assert_eq!(peer.get("/").await.text(), "hi");
        }
    });
}
