//! Every limit, hit.

use std::time::Duration;

use heddle_ir::http_route::{RetryOn, RetryPolicy};
use heddle_ir::proxy::Limits;

use crate::harness::{Pair, application, mirror, run};
use crate::support::default_retries;

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[test]
fn a_head_that_is_too_large_gets_431() {
    run(async {
        let pair = Pair::with(
            mirror().await,
            |client| {
                client.limits = limits(|limits| limits.head_bytes_max = 1000);
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(2000))).await;
        assert_eq!(client.message().await.status(), 431);
        let mut client = pair.connect().await;
        client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(2000))).await;
        assert_eq!(client.message().await.status(), 414);
    });
}

#[test]
fn too_many_headers_get_431() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        let mut client = pair.connect().await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100))).await;
        assert_eq!(client.message().await.status(), 431);
    });
}

#[test]
fn a_head_that_never_ends_gets_408() {
    run(async {
        let pair = Pair::with(
            mirror().await,
            |client| {
                client.limits = limits(|limits| limits.head_timeout = Duration::from_millis(50));
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
        assert_eq!(client.message().await.status(), 408);
        // A connection that is merely idle is not timed by that.
        let mut client = pair.connect().await;
        assert_eq!(client.get("/").await.status(), 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(client.get("/").await.status(), 200);
    });
}

#[test]
fn an_idle_connection_is_closed() {
    run(async {
        let pair = Pair::with(
            mirror().await,
            |client| {
                client.limits = limits(|limits| limits.idle_timeout = Duration::from_millis(50));
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        assert_eq!(client.get("/").await.status(), 200);
        assert_eq!(client.rest().await, b"");
    });
}

#[test]
fn connections_beyond_the_limit_wait() {
    run(async {
        let pair = Pair::with(
            mirror().await,
            |client| {
                client.limits = limits(|limits| limits.connections_max = 2);
            },
            |_| {},
        )
        .await;
        let (mut first, mut second) = (pair.connect().await, pair.connect().await);
        assert_eq!(first.get("/").await.status(), 200);
        assert_eq!(second.get("/").await.status(), 200);
        let mut third = pair.connect().await;
        third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let early = tokio::time::timeout(Duration::from_millis(50), third.head()).await;
        assert!(early.is_err(), "served beyond the limit");
        drop(first);
        assert_eq!(third.message().await.status(), 200);
    });
}

#[test]
fn a_destination_that_is_full_gives_503_overflow() {
    run(async {
        let (release, wait) = tokio::sync::watch::channel(false);
        let app = application(move |mut peer| {
            let mut wait = wait.clone();
            async move {
                while peer.try_head().await.is_some() {
                    wait.wait_for(|released| *released).await.unwrap();
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
            }
        })
        .await;
        let pair = Pair::with(
            app,
            |client| {
                client.destination.connection_pool.connections_max = 1;
                client.destination.connection_pool.pending_requests_max = 1;
            },
            |_| {},
        )
        .await;
        // One under way, one waits for its connection, one is too many.
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = pair.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            // Until it has taken its place.
            tokio::time::sleep(Duration::from_millis(30)).await;
            clients.push(client);
        }
        let answer = clients.pop().unwrap().message().await;
        assert_eq!(answer.status(), 503);
        assert!(answer.text().ends_with("reset reason: overflow"), "{}", answer.text());
        release.send(true).unwrap();
        for mut client in clients {
            assert_eq!(client.message().await.status(), 200);
        }
    });
}

#[test]
fn requests_beyond_their_limit_give_503_overflow() {
    run(async {
        let pair = Pair::with(
            mirror().await,
            |client| {
                client.destination.connection_pool.requests_max = 0;
            },
            |_| {},
        )
        .await;
        assert_eq!(pair.connect().await.get("/").await.status(), 503);
    });
}

#[test]
fn a_connection_takes_so_many_requests_and_no_more() {
    run(async {
        let connections = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = connections.clone();
        let app = application(move |mut peer| {
            counted.set(counted.get() + 1);
            async move {
                while peer.try_head().await.is_some() {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
            }
        })
        .await;
        let pair = Pair::with(
            app,
            |_| {},
            |server| {
                server.connection_pool.requests_per_connection_max = 2;
            },
        )
        .await;
        let mut client = pair.connect().await;
        for _ in 0..4 {
            assert_eq!(client.get("/").await.status(), 200);
        }
        assert_eq!(connections.get(), 2);
    });
}

#[test]
fn a_request_that_takes_too_long_gets_504() {
    run(async {
        let app = application(|mut peer| async move {
            peer.head().await;
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
        let answer = pair.connect().await.get("/").await;
        assert_eq!((answer.status(), answer.text()), (504, "upstream request timeout"));
    });
}

/// A server that answers 503 for so many requests and 200 then, and how many requests it got.
async fn flaky(failures: u32) -> (std::net::SocketAddr, std::rc::Rc<std::cell::Cell<u32>>) {
    let requests = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = requests.clone();
    let address = application(move |mut peer| {
        let counted = counted.clone();
        async move {
            while let Some(head) = peer.try_head().await {
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                peer.exactly(length.map_or(0, |length| length.parse().unwrap())).await;
                counted.set(counted.get() + 1);
                let status = if counted.get() <= failures { "503 Busy" } else { "200 OK" };
                peer.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
            }
        }
    })
    .await;
    (address, requests)
}

fn retries(attempts: u32) -> RetryPolicy {
    RetryPolicy {
        attempts,
        on: vec![RetryOn::ServerError],
        backoff_base: Duration::from_millis(1),
        ..default_retries()
    }
}

#[test]
fn a_failed_request_is_tried_as_often_as_the_policy_says() {
    run(async {
        for (failures, expected) in [(2, 200), (3, 503)] {
            let (app, requests) = flaky(failures).await;
            let pair = Pair::with(app, |client| client.rules[0].retry = retries(2), |_| {}).await;
            assert_eq!(pair.connect().await.get("/").await.status(), expected);
            assert_eq!(requests.get(), 3);
        }
    });
}

#[test]
fn a_body_is_kept_for_a_retry_up_to_its_limit() {
    run(async {
        for (bytes, expected) in [(1000, 200), (100_000, 503)] {
            let (app, _) = flaky(1).await;
            let pair = Pair::with(
                app,
                |client| {
                    client.rules[0].retry = retries(2);
                    client.limits = limits(|limits| limits.retry_body_bytes_max = 10_000);
                },
                |_| {},
            )
            .await;
            let mut client = pair.connect().await;
            let body = "x".repeat(bytes);
            client
                .send(format!(
                    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{body}"
                ))
                .await;
            assert_eq!(client.message().await.status(), expected, "{bytes}");
        }
    });
}
