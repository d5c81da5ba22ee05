//! Retry budgets, failure accrual, sessions, copies, limits on rates and timeouts of streams, through proxies.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use heddle_ir::destination::{FailureAccrual, LoadBalancing, RetryBudget, Tunnel, TunnelMethod};
use heddle_ir::endpoint::Endpoint;
use heddle_ir::http_route::{
    BackendTarget, HeaderEdits, Mirror, RetryOn, RetryPolicy, SessionLocation, SessionPersistence,
    StreamTimeouts,
};
use heddle_ir::rate_limit::{LocalRateLimit, RateLimitScope, RateLimits, TokenBucket};
use heddle_ir::workload::MeshTransport;
use heddle_proxy::snapshot::Snapshot;

use crate::harness::{Pair, Peer, application, mirror, run};
use crate::support::{ClientSide, default_retries, endpoint, origin, other_destination, rule};

/// An application that answers with this head and counts requests.
async fn answering(answer: &'static str) -> (SocketAddr, Rc<Cell<u32>>) {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let address = application(move |mut peer: Peer| {
        let count = counted.clone();
        async move {
            while peer.try_head().await.is_some() {
                count.set(count.get() + 1);
                peer.send(answer).await;
            }
        }
    });
    (address.await, count)
}

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Reached without a proxy of its own.
pub(crate) fn plain(address: SocketAddr) -> Endpoint {
    endpoint(address, MeshTransport::None)
}

fn retrying(client: &mut ClientSide) {
    client.rules[0].retry = RetryPolicy {
        on: vec![RetryOn::ServerError],
        attempts: 2,
        backoff_base: Duration::ZERO,
        ..default_retries()
    };
}

#[test]
fn without_configuration_retries_are_a_share_of_the_requests() {
    run(async {
        let (failing, count) = answering(UNAVAILABLE).await;
        let pair = Pair::with(
            failing,
            |client| {
                client.endpoints = vec![plain(failing)];
                retrying(client);
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        for _ in 0..300 {
            assert_eq!(client.get("/").await.status(), 503);
        }
        // A hundred in ten seconds, and a fifth of 300.
        let retries = count.get() - 300;
        assert!((100..=165).contains(&retries), "{retries}");
    });
}

#[test]
fn budgets_that_are_configured_count_instead() {
    run(async {
        let (failing, count) = answering(UNAVAILABLE).await;
        let none =
            RetryBudget::Concurrency { share_ppm: 200_000, retries_min: 0, window: Duration::ZERO };
        let plenty = RetryBudget::Rate {
            share_ppm: 2_000_000,
            retries_per_second_min: 0,
            window: Duration::from_secs(10),
        };
        for (budget, tries) in [(none, 1), (plenty, 3)] {
            count.set(0);
            let pair = Pair::with(
                failing,
                |client| {
                    client.endpoints = vec![plain(failing)];
                    client.destination.retry_budget = Some(budget);
                    retrying(client);
                },
                |_| {},
            )
            .await;
            let mut client = pair.connect().await;
            for _ in 0..200 {
                assert_eq!(client.get("/").await.status(), 503);
            }
            assert_eq!(count.get(), tries * 200, "{budget:?}");
        }
    });
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_left_alone() {
    run(async {
        let (failing, count) = answering(UNAVAILABLE).await;
        let pair = Pair::with(
            failing,
            |client| {
                client.endpoints = vec![plain(failing)];
                client.rules[0].retry = RetryPolicy::never();
                client.destination.failure_accrual = Some(FailureAccrual {
                    origin: origin(),
                    failures_max: 3,
                    pause_min: Duration::from_millis(200),
                    pause_max: Duration::from_mins(1),
                    jitter_percent: 0,
                });
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.status(), 503);
        }
        assert_eq!(count.get(), 3);
        tokio::time::sleep(Duration::from_millis(250)).await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.status(), 503);
        }
        assert_eq!(count.get(), 4, "one on probation");
    });
}

#[test]
fn a_session_stays_at_its_endpoint() {
    run(async {
        let (one, one_count) = answering(OK).await;
        let (two, two_count) = answering(OK).await;
        let pair = Pair::with(
            one,
            |client| {
                client.endpoints = vec![plain(one), plain(two)];
                client.destination.load_balancing = LoadBalancing::RoundRobin;
                client.rules[0].session = Some(SessionPersistence {
                    origin: origin(),
                    name: "stay".into(),
                    location: SessionLocation::Cookie { path: "".into(), permanent: false },
                    absolute_timeout: None,
                    idle_timeout: None,
                });
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        let first = client.get("/").await;
        let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("stay="), "{cookie}");
        let (before_one, before_two) = (one_count.get(), two_count.get());
        for _ in 0..20 {
            client
                .send(format!("GET / HTTP/1.1\r\nHost: server\r\nCookie: {cookie}\r\n\r\n"))
                .await;
            let answer = client.message().await;
            assert_eq!(answer.header("set-cookie"), None, "it knows already");
        }
        let counts = [one_count.get() - before_one, two_count.get() - before_two];
        assert!(counts == [20, 0] || counts == [0, 20], "{counts:?}");
        // Without the cookie everybody takes turns.
        for _ in 0..20 {
            client.get("/").await;
        }
        assert!((19..=21).contains(&one_count.get().abs_diff(two_count.get())));
    });
}

pub(crate) fn copy_to(destination: usize, share_ppm: u32) -> Mirror {
    Mirror {
        origin: origin(),
        target: BackendTarget::Destination(destination),
        share_ppm,
        authority_suffix: "-shadow".into(),
    }
}

/// An application that keeps what it gets and never answers.
async fn swallowing() -> (SocketAddr, Rc<RefCell<Vec<u8>>>) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let kept = seen.clone();
    let address = application(move |mut peer: Peer| {
        let seen = kept.clone();
        async move {
            while peer.fill().await {
                seen.borrow_mut().append(&mut peer.buffer);
            }
        }
    });
    (address.await, seen)
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn copies_have_the_body_and_another_authority_and_hold_nothing_up() {
    run(async {
        let (shadow, seen) = swallowing().await;
        // One that nobody listens at.
        let gone = crate::harness::listen().await.1;
        let pair = Pair::with(
            mirror().await,
            |client| {
                client.others = vec![
                    (other_destination("shadow"), vec![plain(shadow)]),
                    (other_destination("gone"), vec![plain(gone)]),
                ];
                client.rules[0].mirrors = vec![copy_to(1, 1_000_000), copy_to(2, 1_000_000)];
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        client.send("POST /p?q=1 HTTP/1.1\r\nHost: server:8080\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!(client.message().await.status(), 200);
        until(|| seen.borrow().ends_with(b"hello")).await;
        let text = String::from_utf8(seen.borrow().clone()).unwrap();
        assert!(text.starts_with("POST /p?q=1 HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("Host: server-shadow:8080\r\n"), "{text}");
        assert!(text.contains("X-A: b\r\n") && text.ends_with("\r\n\r\nhello"), "{text}");
    });
}

#[test]
fn a_body_that_comes_in_pieces_is_copied_when_it_is_whole() {
    run(async {
        let (shadow, seen) = swallowing().await;
        let app = application(|mut peer: Peer| async move {
            while peer.try_head().await.is_some() {
                while !peer.buffer.ends_with(b"0\r\n\r\n") && peer.fill().await {}
                peer.buffer.clear();
                peer.send(OK).await;
            }
        })
        .await;
        let pair = Pair::with(
            app,
            |client| {
                client.others = vec![(other_destination("shadow"), vec![plain(shadow)])];
                client.rules[0].mirrors = vec![copy_to(1, 1_000_000)];
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        client
            .send("POST /c HTTP/1.1\r\nHost: server\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            .await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(seen.borrow().is_empty());
        client.send("2\r\nde\r\n0\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 200);
        until(|| seen.borrow().ends_with(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
    });
}

#[test]
fn a_share_is_copied_and_what_is_too_long_is_not() {
    run(async {
        let (shadow, count) = answering(OK).await;
        let pair = Pair::with(
            mirror().await,
            |client| {
                client.others = vec![(other_destination("shadow"), vec![plain(shadow)])];
                client.rules[0].mirrors = vec![copy_to(1, 250_000)];
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        for _ in 0..400 {
            assert_eq!(client.get("/").await.status(), 200);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(count.get().abs_diff(100) < 40, "{}", count.get());
        let before = count.get();
        for _ in 0..8 {
            let length = 2 << 20;
            client
                .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"))
                .await;
            client.send(vec![b'x'; length]).await;
            assert_eq!(client.message().await.status(), 200);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(count.get(), before);
    });
}

fn limit(scope: RateLimitScope, capacity: u32) -> RateLimits {
    let interval = Duration::from_secs(100);
    RateLimits {
        local: vec![LocalRateLimit {
            origin: origin(),
            port: None,
            matches: Vec::new(),
            scope,
            bucket: Some(TokenBucket { capacity, refill: 1, interval }),
            overrides: Vec::new(),
            enforced_ppm: 1_000_000,
            status: 429,
            response_headers: HeaderEdits {
                add: vec![("x-local-rate-limit".into(), "true".into())],
                ..HeaderEdits::default()
            },
        }],
        global: Vec::new(),
    }
}

#[test]
fn requests_over_the_rate_get_429_and_the_connection_goes_on() {
    run(async {
        for scope in [RateLimitScope::Total, RateLimitScope::Identity, RateLimitScope::Connection] {
            let app = mirror().await;
            let pair = Pair::with(app, |_| {}, |server| server.rate_limits = limit(scope, 2)).await;
            let mut client = pair.connect().await;
            assert_eq!(client.get("/").await.status(), 200);
            assert_eq!(client.get("/").await.status(), 200);
            let refused = client.get("/").await;
            assert_eq!(
                (refused.status(), refused.text()),
                (429, "local_rate_limited"),
                "{scope:?}"
            );
            assert_eq!(refused.header("x-envoy-ratelimited"), Some("true"));
            assert_eq!(refused.header("x-local-rate-limit"), Some("true"));
            assert_eq!(client.get("/").await.status(), 429);
        }
    });
}

#[test]
fn silence_and_late_responses_end_a_request() {
    run(async {
        let app = application(|mut peer: Peer| async move {
            while let Some(head) = peer.try_head().await {
                if head.starts_with("GET /half") {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
                }
            }
        })
        .await;
        for (timeouts, flag) in [
            (
                StreamTimeouts { response: Some(Duration::from_millis(100)), idle: None },
                "upstream request timeout",
            ),
            (
                StreamTimeouts { response: None, idle: Some(Duration::from_millis(100)) },
                "stream timeout",
            ),
        ] {
            let pair = Pair::with(
                app,
                |client| {
                    let mut own = rule();
                    own.stream_timeouts = timeouts;
                    client.rules = vec![own];
                },
                |_| {},
            )
            .await;
            let mut client = pair.connect().await;
            let answer = client.get("/never").await;
            assert_eq!((answer.status(), answer.text()), (504, flag));
            let mut client = pair.connect().await;
            client.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(client.head().await.starts_with("HTTP/1.1 200"));
            assert_eq!(client.rest().await, b"half", "cut");
        }
    });
}

#[test]
fn what_a_destination_asks_for_in_vain_is_said() {
    let mut client = ClientSide::new(Vec::new());
    let (method, host) = (TunnelMethod::Post, "behind.example".into());
    client.destination.tunnel = Some(Tunnel { method, host, port: 443 });
    let (_, problems) = Snapshot::default().with(&client.effects(), 1, 0);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("`POST`"), "{problems:?}");
}
