//! Every limit, hit.

use std::time::Duration;

use heddle_ir::destination::LoadBalancing;
use heddle_ir::http_route::{RetryOn, RetryPolicy};
use heddle_ir::proxy::Limits;

use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::protocol::Protocol;
use heddle_ir::resource::ResourceName;
use heddle_sync::Effect;

use crate::harness::{Pair, application, mirror, pattern, run};
use crate::resilience::plain;
use crate::support::{PORT, default_retries};

pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
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
fn a_limit_of_connections_leaves_every_endpoint_one() {
    run(async {
        let (one, two) = (mirror().await, mirror().await);
        let pair = Pair::with(
            one,
            |client| {
                client.endpoints = vec![plain(one), plain(two)];
                client.destination.load_balancing = LoadBalancing::RoundRobin;
                client.destination.connection_pool.connections_max = 1;
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        for _ in 0..4 {
            assert_eq!(client.get("/").await.status(), 200);
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

#[test]
fn retries_beyond_their_limit_are_not_made() {
    run(async {
        let (release, wait) = tokio::sync::watch::channel(false);
        let requests = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = requests.clone();
        let app = application(move |mut peer| {
            let (mut wait, counted) = (wait.clone(), counted.clone());
            async move {
                while peer.try_head().await.is_some() {
                    counted.set(counted.get() + 1);
                    // The second one is the first one tried again.
                    let status = if counted.get() == 2 { "200 OK" } else { "503 Busy" };
                    if counted.get() == 2 {
                        wait.wait_for(|released| *released).await.unwrap();
                    }
                    peer.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
                }
            }
        })
        .await;
        let pair = Pair::with(
            app,
            |client| {
                client.rules[0].retry = retries(1);
                client.destination.connection_pool.retries_max = 1;
            },
            |_| {},
        )
        .await;
        let mut first = pair.connect().await;
        first.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
        while requests.get() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut second = pair.connect().await;
        assert_eq!(second.get("/").await.status(), 503);
        assert_eq!(requests.get(), 3);
        // And it is counted as what a limit has stopped.
        let parts = ["response_code=\"503\"", "response_flags=\"UO\""];
        Pair::counts(&pair.client_registry, "istio_requests_total", &parts, 1).await;
        release.send(true).unwrap();
        assert_eq!(first.message().await.status(), 200);
    });
}

#[test]
fn a_connection_that_takes_too_long_gives_503() {
    run(async {
        // Takes connections, and does not answer the handshake.
        let silent = application(|mut peer| async move {
            peer.rest().await;
        })
        .await;
        let pair = Pair::with(
            silent,
            |client| {
                client.endpoints[0].address = heddle_ir::endpoint::EndpointAddress::Address(silent);
                client.destination.connection_pool.connect_timeout = Duration::from_millis(50);
                client.rules[0].retry = RetryPolicy::never();
            },
            |_| {},
        )
        .await;
        assert_eq!(pair.connect().await.get("/").await.status(), 503);
        let parts = ["outbound", "reason=\"connect_timeout\""];
        Pair::counts(&pair.client_registry, "heddle_connections_failed_total", &parts, 1).await;
    });
}

#[test]
fn a_destination_whose_policy_does_not_come_gives_503() {
    run(async {
        let pair = Pair::with(
            mirror().await,
            |client| {
                client.limits = limits(|limits| limits.config_wait_max = Duration::from_millis(50));
            },
            |_| {},
        )
        .await;
        let host = "server.default.svc.cluster.local".into();
        let key = OutboundKey { scope: ScopeId("default".into()), host, port: PORT };
        let gone = [Effect::Unset(ResourceName::Outbound(key))];
        pair.client_publisher.publish(pair.client_publisher.current().with(&gone, 1, 0).0);
        assert_eq!(pair.connect().await.get("/").await.status(), 503);
    });
}

#[test]
fn a_kept_connection_is_closed_when_it_is_idle_or_old() {
    run(async {
        for is_old in [false, true] {
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
            let pair = Pair::with(
                app,
                |_| {},
                |server| {
                    let after = Some(Duration::from_millis(50));
                    let pool = &mut server.connection_pool;
                    if is_old {
                        pool.connection_duration_max = after;
                    } else {
                        pool.http_idle_timeout = after;
                    }
                },
            )
            .await;
            let mut client = pair.connect().await;
            for count in 1..3 {
                assert_eq!(client.get("/").await.status(), 200);
                while ended.get() < count {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    });
}

#[test]
fn a_connection_that_grows_too_old_finishes_its_request() {
    run(async {
        let connections = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = connections.clone();
        let app = application(move |mut peer| {
            counted.set(counted.get() + 1);
            async move {
                while peer.try_head().await.is_some() {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
                    tokio::time::sleep(Duration::from_millis(60)).await;
                    peer.send("hello").await;
                }
            }
        })
        .await;
        let pair = Pair::with(
            app,
            |_| {},
            |server| {
                server.connection_pool.connection_duration_max = Some(Duration::from_millis(50));
            },
        )
        .await;
        let mut client = pair.connect().await;
        for count in 1..3 {
            assert_eq!(client.get("/").await.text(), "hellohello");
            assert_eq!(connections.get(), count);
        }
    });
}

#[test]
fn a_stream_ends_after_its_longest_duration() {
    run(async {
        let app = application(|mut peer| async move {
            while peer.fill().await {
                let bytes = std::mem::take(&mut peer.buffer);
                peer.send(bytes).await;
            }
        })
        .await;
        let pair = Pair::with(
            app,
            |client| {
                client.protocol = Protocol::Tcp;
                client.destination.connection_pool.connection_duration_max =
                    Some(Duration::from_millis(80));
            },
            |server| server.protocol = Protocol::Tcp,
        )
        .await;
        let mut client = pair.connect().await;
        // Though it is busy.
        let mut sent = 0;
        loop {
            use tokio::io::AsyncWriteExt as _;
            if client.stream.write_all(&pattern(10)).await.is_err() || !client.fill().await {
                break;
            }
            sent += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(sent > 0);
        let parts = ["response_flags=\"DT\""];
        Pair::counts(&pair.client_registry, "istio_tcp_connections_closed_total", &parts, 1).await;
    });
}

#[test]
fn interim_responses_without_end_are_a_protocol_error() {
    run(async {
        for (interim, status) in [(16, 200), (17, 502)] {
            let app = application(move |mut peer| async move {
                if peer.try_head().await.is_some() {
                    peer.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(interim)).await;
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    peer.rest().await;
                }
            })
            .await;
            let pair = Pair::before(app).await;
            let mut client = pair.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
            loop {
                let answer = client.message().await;
                if answer.status() != 103 {
                    break assert_eq!(answer.status(), status, "{interim}");
                }
            }
        }
    });
}
