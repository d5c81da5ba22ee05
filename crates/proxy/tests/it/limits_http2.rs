//! Every limit of HTTP/2, hit.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use heddle_ir::destination::{ConnectionPool, Http2Keepalive};
use heddle_ir::http_route::{RetryOn, RetryPolicy};
use heddle_ir::proxy::Limits;
use http::{HeaderValue, Request, Response};
use tokio::task::spawn_local;

use crate::harness::{Pair, Peer, application, run};
use crate::http2::{client, echo, h2_application, receive, request, send_all, trailers};
use crate::limits::limits;
use crate::raw_http2::preface;
use crate::resilience::plain;
use crate::support::default_retries;

async fn with_limits(change: impl FnOnce(&mut Limits)) -> Pair {
    let app = h2_application(echo).await;
    Pair::with(app, |client| client.limits = limits(change), |_| {}).await
}

/// A server whose connections are counted as they come and as they go, and the pair of which only the client's side is used.
async fn counted(
    change: impl FnOnce(&mut ConnectionPool),
) -> (Pair, Rc<Cell<usize>>, Rc<Cell<usize>>) {
    let (came, went) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (coming, going) = (came.clone(), went.clone());
    let app = application(move |Peer { stream, .. }| {
        coming.set(coming.get() + 1);
        let going = going.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                spawn_local(echo(request, respond));
            }
            going.set(going.get() + 1);
        }
    })
    .await;
    (before(app, change).await, came, went)
}

async fn before(app: SocketAddr, change: impl FnOnce(&mut ConnectionPool)) -> Pair {
    Pair::with(
        app,
        |client| {
            client.endpoints = vec![plain(app)];
            change(&mut client.destination.connection_pool);
        },
        |_| {},
    )
    .await
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// One whole call.
async fn call(sender: &mut h2::client::SendRequest<Bytes>) {
    let (response, mut sink) = sender.send_request(request("/s.S/M"), false).unwrap();
    send_all(&mut sink, Bytes::from_static(b"hello"), true).await;
    let mut body = response.await.unwrap().into_body();
    assert_eq!(receive(&mut body).await.unwrap(), "hello");
    assert_eq!(receive(&mut body).await, None);
    assert_eq!(body.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
}

#[test]
fn a_client_has_so_many_streams_and_no_more() {
    run(async {
        let pair = with_limits(|limits| limits.concurrent_streams_max = 2).await;
        let mut sender = client(&pair).await;
        call(&mut sender).await;
        assert_eq!(sender.current_max_send_streams(), 2);
        let (first, mut first_sink) = sender.send_request(request("/1"), false).unwrap();
        let (second, _second_sink) = sender.send_request(request("/2"), false).unwrap();
        first.await.unwrap();
        second.await.unwrap();
        // The third waits until one of them has ended.
        let mut third = sender.ready().await.unwrap().send_request(request("/3"), true).unwrap().0;
        let early = tokio::time::timeout(Duration::from_millis(50), &mut third).await;
        assert!(early.is_err(), "a third stream at once");
        send_all(&mut first_sink, Bytes::new(), true).await;
        third.await.unwrap();
    });
}

#[test]
fn a_destination_gets_so_many_streams_on_a_connection_and_no_more() {
    run(async {
        let (pair, came, _) = counted(|pool| pool.concurrent_streams_max = 2).await;
        let mut sender = client(&pair).await;
        let mut under_way = Vec::new();
        for _ in 0..5 {
            let (response, sink) = sender.send_request(request("/s.S/M"), false).unwrap();
            under_way.push((response.await.unwrap(), sink));
        }
        assert_eq!(came.get(), 3);
    });
}

#[test]
fn a_connection_that_is_full_of_streams_counts_against_the_limit_of_connections() {
    run(async {
        let (pair, came, _) = counted(|pool| {
            pool.concurrent_streams_max = 1;
            pool.connections_max = 1;
        })
        .await;
        let mut sender = client(&pair).await;
        let (response, _sink) = sender.send_request(request("/s.S/M"), false).unwrap();
        response.await.unwrap();
        let (response, _) = sender.send_request(request("/s.S/M"), true).unwrap();
        assert_eq!(response.await.unwrap().headers().get("grpc-status").unwrap(), "14");
        assert_eq!(came.get(), 1);
    });
}

#[test]
fn a_connection_takes_so_many_requests_and_no_more() {
    run(async {
        let (pair, came, went) = counted(|pool| pool.requests_per_connection_max = 2).await;
        let mut sender = client(&pair).await;
        for _ in 0..4 {
            call(&mut sender).await;
        }
        assert_eq!(came.get(), 2);
        call(&mut sender).await;
        until(|| went.get() == 2).await;
    });
}

#[test]
fn a_connection_is_closed_when_it_is_idle_for_too_long() {
    run(async {
        let (pair, came, went) =
            counted(|pool| pool.http_idle_timeout = Some(Duration::from_millis(50))).await;
        let mut sender = client(&pair).await;
        for count in 1..3 {
            call(&mut sender).await;
            until(|| went.get() == count).await;
            assert_eq!(came.get(), count);
        }
        // A stream on which nothing moves is not an idle connection.
        let (response, mut sink) = sender.send_request(request("/s.S/M"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        tokio::time::sleep(Duration::from_millis(120)).await;
        send_all(&mut sink, Bytes::from_static(b"late"), true).await;
        assert_eq!(receive(&mut body).await.unwrap(), "late");
    });
}

#[test]
fn a_connection_that_grows_too_old_finishes_its_requests() {
    run(async {
        let (pair, came, went) =
            counted(|pool| pool.connection_duration_max = Some(Duration::from_millis(80))).await;
        let mut sender = client(&pair).await;
        let (response, mut sink) = sender.send_request(request("/s.S/M"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Others go on a new one, and this one goes on as long as it likes.
        call(&mut sender).await;
        assert_eq!((came.get(), went.get()), (2, 0));
        send_all(&mut sink, Bytes::from_static(b"late"), true).await;
        assert_eq!(receive(&mut body).await.unwrap(), "late");
        assert_eq!(receive(&mut body).await, None);
        until(|| went.get() == 2).await;
    });
}

#[test]
fn a_server_that_goes_away_costs_no_request() {
    run(async {
        let came = Rc::new(Cell::new(0));
        let coming = came.clone();
        let app = application(move |Peer { stream, .. }| {
            coming.set(coming.get() + 1);
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                // Each connection takes one request, is not closed before that has ended, and says so at once.
                if let Some(Ok((request, respond))) = connection.accept().await {
                    connection.graceful_shutdown();
                    spawn_local(echo(request, respond));
                }
                while connection.accept().await.is_some() {}
            }
        })
        .await;
        let pair = Pair::with(
            app,
            |client| {
                client.endpoints = vec![plain(app)];
                client.rules[0].retry = RetryPolicy::never();
            },
            |_| {},
        )
        .await;
        let mut sender = client(&pair).await;
        let mut under_way = Vec::new();
        for count in 1..4 {
            let (response, mut sink) = sender.send_request(request("/s.S/M"), false).unwrap();
            let mut body = response.await.unwrap().into_body();
            send_all(&mut sink, Bytes::from_static(b"hello"), false).await;
            assert_eq!(receive(&mut body).await.unwrap(), "hello");
            assert_eq!(came.get(), count);
            under_way.push((sink, body));
        }
    });
}

#[test]
fn a_server_that_does_not_answer_pings_is_given_up() {
    run(async {
        let went = Rc::new(Cell::new(false));
        let going = went.clone();
        // Takes one request and then reads without ever answering.
        let app = application(move |Peer { stream, .. }| {
            let going = going.clone();
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let (request, respond) = connection.accept().await.unwrap().unwrap();
                let call = spawn_local(echo(request, respond));
                tokio::time::timeout(Duration::from_millis(30), connection.accept()).await.ok();
                tokio::time::sleep(Duration::from_millis(300)).await;
                going.set(connection.accept().await.is_none_or(|next| next.is_err()));
                drop(call);
            }
        })
        .await;
        let pair = before(app, |pool| {
            let (interval, timeout) = (Duration::from_millis(50), Duration::from_millis(50));
            pool.http2_keepalive = Some(Http2Keepalive { interval, timeout });
        })
        .await;
        let mut sender = client(&pair).await;
        let (response, _sink) = sender.send_request(request("/s.S/M"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert!(body.data().await.unwrap().is_err(), "the call ends with the connection");
        until(|| went.get()).await;
        // One that answers is kept.
        let (pair, came, went) = counted(|pool| {
            let (interval, timeout) = (Duration::from_millis(10), Duration::from_millis(500));
            pool.http2_keepalive = Some(Http2Keepalive { interval, timeout });
        })
        .await;
        let mut sender = client(&pair).await;
        call(&mut sender).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        call(&mut sender).await;
        assert_eq!((came.get(), went.get()), (1, 0));
    });
}

#[test]
fn a_head_that_is_too_large_gets_431() {
    run(async {
        let pair = with_limits(|limits| limits.head_bytes_max = 1000).await;
        let mut sender = client(&pair).await;
        let mut asked = request("/s.S/M");
        asked.headers_mut().insert("x", HeaderValue::from_str(&"y".repeat(2000)).unwrap());
        let (response, _) = sender.send_request(asked, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 431);
    });
}

#[test]
fn a_connection_of_a_client_is_closed_when_it_is_idle_for_too_long() {
    run(async {
        let pair = with_limits(|limits| limits.idle_timeout = Duration::from_millis(50)).await;
        let Peer { stream, .. } = pair.connect().await;
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driving = spawn_local(connection);
        call(&mut sender).await;
        let _ = driving.await.unwrap();
        assert!(sender.ready().await.is_err());
    });
}

#[test]
fn a_client_that_does_not_begin_is_closed() {
    run(async {
        let pair = with_limits(|limits| limits.head_timeout = Duration::from_millis(50)).await;
        let mut peer = pair.connect().await;
        // The preface, and nothing after it.
        peer.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r").await;
        peer.rest().await;
    });
}

#[test]
fn a_client_that_resets_without_end_is_cut_off() {
    run(async {
        let pair = with_limits(|_| {}).await;
        let mut peer = pair.connect().await;
        let frame = |kind: u8, flags: u8, stream: u32, content: &[u8]| {
            let length = u32::try_from(content.len()).unwrap().to_be_bytes();
            [&length[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
        };
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        for stream in (1..2000).step_by(2) {
            // GET http://a/, then RST_STREAM with CANCEL.
            bytes.extend(frame(1, 5, stream, &[0x82, 0x86, 0x84, 0x41, 1, b'a']));
            bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
        }
        let _ = tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &bytes).await;
        let answer = peer.rest().await;
        let mut rest = &answer[..];
        let mut last = None;
        while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            last = Some((*kind, after[..length].to_vec()));
            rest = &after[length..];
        }
        // GOAWAY with ENHANCE_YOUR_CALM.
        let (kind, content) = last.unwrap();
        assert_eq!((kind, content[4..8].to_vec()), (7, 11_u32.to_be_bytes().to_vec()));
    });
}

#[test]
fn a_body_is_kept_for_a_retry_up_to_its_limit() {
    run(async {
        for (bytes, expected) in [(1000, "0"), (100_000, "14")] {
            let calls = Rc::new(Cell::new(0));
            let counted = calls.clone();
            let app = h2_application(
                move |mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
                    let counted = counted.clone();
                    async move {
                        while receive(request.body_mut()).await.is_some() {}
                        counted.set(counted.get() + 1);
                        let status = if counted.get() == 1 { 14 } else { 0 };
                        let mut response = Response::new(());
                        *response.headers_mut() = trailers(status);
                        respond.send_response(response, true).unwrap();
                    }
                },
            )
            .await;
            let pair = Pair::with(
                app,
                |client| {
                    client.rules[0].retry = RetryPolicy {
                        on: vec![RetryOn::GrpcStatus(14)],
                        backoff_base: Duration::from_millis(1),
                        ..default_retries()
                    };
                    client.limits = limits(|limits| limits.retry_body_bytes_max = 10_000);
                },
                |_| {},
            )
            .await;
            let mut sender = client(&pair).await;
            let (response, mut sink) = sender.send_request(request("/s.S/M"), false).unwrap();
            send_all(&mut sink, Bytes::from(vec![7; bytes]), true).await;
            let response = response.await.unwrap();
            assert_eq!(response.headers().get("grpc-status").unwrap(), expected, "{bytes}");
        }
    });
}

#[test]
fn an_idle_client_that_does_not_say_goodbye_is_cut_off() {
    run(async {
        let pair = with_limits(|limits| limits.idle_timeout = Duration::from_millis(50)).await;
        let mut peer = pair.connect().await;
        // Never answers a frame.
        peer.send(preface()).await;
        peer.rest().await;
    });
}

#[test]
fn requests_that_wait_for_a_connection_do_not_try_in_turn() {
    run(async {
        let silent = application(|mut peer| async move {
            peer.rest().await;
        })
        .await;
        let timeout = Duration::from_millis(200);
        let pair = Pair::with(
            silent,
            |client| {
                client.endpoints[0].address = heddle_ir::endpoint::EndpointAddress::Address(silent);
                client.destination.connection_pool.connect_timeout = timeout;
                client.rules[0].retry = RetryPolicy::never();
            },
            |_| {},
        )
        .await;
        let mut sender = client(&pair).await;
        let begun = std::time::Instant::now();
        let mut calls = Vec::new();
        for _ in 0..20 {
            sender = sender.ready().await.unwrap();
            calls.push(sender.send_request(request("/s.S/M"), true).unwrap().0);
        }
        for call in calls {
            let response = call.await.unwrap();
            assert_eq!(response.headers().get("grpc-status").unwrap(), "14");
        }
        let took = begun.elapsed();
        assert!(took < timeout * 10, "{took:?}");
    });
}
