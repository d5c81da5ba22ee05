//! HTTP/1.1 through a pair of proxies.

use std::cell::Cell;
use std::rc::Rc;

use heddle_ir::authorization::{
    Attribute, Authorization, Clause, Condition, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies, ValueMatch,
};
use heddle_ir::matching::TextMatch;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Pair, Peer, application, mirror, pattern, run};
use crate::support::identity;

#[test]
fn a_request_arrives_as_it_was_sent_and_says_who_sent_it() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        let mut client = pair.connect().await;
        client.send("GET /a/../b?q=1 HTTP/1.1\r\nHOST: server\r\nX-Odd-Case:  kept \r\n\r\n").await;
        let answer = client.message().await;
        assert_eq!(answer.status(), 200);
        let seen = answer.text();
        assert!(
            seen.starts_with("GET /b?q=1 HTTP/1.1\r\nHOST: server\r\nX-Odd-Case:  kept \r\n"),
            "{seen}"
        );
        assert!(seen.contains("\r\nx-request-id: "), "{seen}");
        let (own, peer) = (identity("server"), identity("client"));
        assert!(seen.contains(&format!("x-forwarded-client-cert: By={own};Hash=")), "{seen}");
        assert!(seen.contains(&format!(";URI={peer}\r\n")), "{seen}");
    });
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        let mut client = pair.connect().await;
        let one = |i| format!("POST /{i} HTTP/1.1\r\nHost: server\r\nContent-Length: 3\r\n\r\nabc");
        let requests = (0..20).map(one).collect::<Vec<_>>().concat();
        client.send(requests).await;
        for i in 0..20 {
            let answer = client.message().await;
            assert!(answer.text().starts_with(&format!("POST /{i} ")), "{}", answer.text());
        }
    });
}

#[test]
fn chunks_and_trailers_pass_as_they_are() {
    run(async {
        let body = "5;name=value\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n";
        let app = application(move |mut peer| async move {
            let head = peer.head().await;
            assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
            assert_eq!(peer.exactly(body.len()).await, body.as_bytes());
            peer.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: server\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for byte in body.as_bytes() {
            client.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        let head = client.head().await;
        assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
        assert_eq!(client.exactly(body.len()).await, body.as_bytes());
    });
}

#[test]
fn large_bodies_pass_in_both_directions_at_once() {
    const BYTES: usize = 8 << 20;
    run(async {
        // Echoes while it reads: neither direction can be finished before the other has begun.
        let app = application(|mut peer| async move {
            peer.head().await;
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n")).await;
            let mut left = BYTES;
            while left > 0 {
                if peer.buffer.is_empty() {
                    assert!(peer.fill().await);
                }
                let bytes = std::mem::take(&mut peer.buffer);
                left -= bytes.len();
                peer.send(bytes).await;
            }
        })
        .await;
        let pair = Pair::before(app).await;
        let Peer { stream, .. } = pair.connect().await;
        let (read, mut write) = stream.into_split();
        let body = pattern(BYTES);
        let sent = body.clone();
        tokio::task::spawn_local(async move {
            let head =
                format!("POST / HTTP/1.1\r\nHost: server\r\nContent-Length: {BYTES}\r\n\r\n");
            write.write_all(head.as_bytes()).await.unwrap();
            write.write_all(&sent).await.unwrap();
            // Kept open until the answer is there: closing would be taken for giving up.
            std::future::pending::<()>().await;
        });
        let mut client = Reader { read, buffer: Vec::new() };
        let head = client.until(b"\r\n\r\n").await;
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(client.exactly(BYTES).await == body, "the body was changed on the way");
    });
}

struct Reader {
    read: tokio::net::tcp::OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Reader {
    async fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            if let Some(end) = self.buffer.windows(mark.len()).position(|w| w == mark) {
                let rest = self.buffer.split_off(end + mark.len());
                return std::mem::replace(&mut self.buffer, rest);
            }
            self.fill().await;
        }
    }

    async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            self.fill().await;
        }
        std::mem::take(&mut self.buffer)
    }

    async fn fill(&mut self) {
        use tokio::io::AsyncReadExt;
        assert!(self.read.read_buf(&mut self.buffer).await.unwrap() > 0);
    }
}

#[test]
fn a_client_may_wait_for_leave_to_send_its_body() {
    run(async {
        let app = application(|mut peer| async move {
            let head = peer.head().await;
            assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
            peer.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            assert_eq!(peer.exactly(4).await, b"body");
            peer.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        let head =
            "POST / HTTP/1.1\r\nHost: server\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        client.send(head).await;
        assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("body").await;
        assert_eq!(client.message().await.status(), 201);
    });
}

#[test]
fn an_early_answer_ends_an_upload() {
    run(async {
        let app = application(|mut peer| async move {
            peer.head().await;
            peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
                .await;
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: server\r\nContent-Length: 100000\r\n\r\nbegin").await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.text()), (413, "no"));
        assert_eq!(client.rest().await, b"");
    });
}

#[test]
fn an_upgraded_connection_becomes_a_tunnel() {
    run(async {
        let app = application(|mut peer| async move {
            let head = peer.head().await;
            assert!(head.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"), "{head}");
            peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello").await;
            assert_eq!(peer.exactly(4).await, b"ping");
            peer.send("pong").await;
            assert_eq!(peer.rest().await, b"end");
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        client.send("GET /ws HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(client.exactly(5).await, b"hello");
        client.send("ping").await;
        assert_eq!(client.exactly(4).await, b"pong");
        client.send("end").await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.rest().await, b"");
    });
}

#[test]
fn a_switch_that_nobody_asked_for_is_an_error() {
    run(async {
        let app = application(|mut peer| async move {
            peer.head().await;
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
            )
            .await;
            peer.rest().await;
        })
        .await;
        let pair = Pair::before(app).await;
        assert_eq!(pair.connect().await.get("/").await.status(), 502);
    });
}

#[test]
fn old_clients_get_bodies_without_chunks() {
    run(async {
        let app = application(|mut peer| async move {
            while let Some(head) = peer.try_head().await {
                assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
            }
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.0\r\nHost: server\r\n\r\n").await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nabcde"),
            "{answer}"
        );
        assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
    });
}

#[test]
fn a_body_until_the_end_ends_the_clients_connection_too() {
    run(async {
        let app = application(|mut peer| async move {
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\n\r\nall there is").await;
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nall there is"), "{answer}");
    });
}

#[test]
fn a_truncated_response_is_not_completed() {
    run(async {
        let app = application(|mut peer| async move {
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
        let answer = client.rest().await;
        assert!(answer.ends_with(b"half"), "{}", String::from_utf8_lossy(&answer));
    });
}

#[test]
fn head_and_empty_responses_have_no_body() {
    run(async {
        let app = application(|mut peer| async move {
            while let Some(head) = peer.try_head().await {
                let answer = match &head[..4] {
                    "HEAD" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                    "GET " => "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
                    _ => "HTTP/1.1 204 No Content\r\n\r\n",
                };
                peer.send(answer).await;
            }
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        for (method, status) in [("HEAD", "200"), ("GET", "304"), ("PUT", "204"), ("HEAD", "200")] {
            client.send(format!("{method} / HTTP/1.1\r\nHost: server\r\n\r\n")).await;
            let head = client.head().await;
            assert_eq!(&head[9..12], status, "{head}");
        }
    });
}

#[test]
fn what_is_not_http_is_refused_and_the_connection_closed() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        let cases = [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
            ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ];
        for (request, status) in cases {
            let mut client = pair.connect().await;
            client.send(request).await;
            let answer = client.message().await;
            assert_eq!(answer.status(), status, "{request:?}");
            assert_eq!(answer.header("connection"), Some("close"), "{request:?}");
            client.stream.shutdown().await.unwrap();
            assert_eq!(client.rest().await, b"", "{request:?}");
        }
    });
}

#[test]
fn connect_is_refused() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        let mut client = pair.connect().await;
        client.send("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 405);
    });
}

#[test]
fn a_denied_request_gets_403_and_the_connection_goes_on() {
    run(async {
        let app = mirror().await;
        let pair = Pair::with(
            app,
            |_| {},
            |server| {
                server.authorization = allow_path("/open");
            },
        )
        .await;
        let mut client = pair.connect().await;
        for _ in 0..2 {
            let denied = client.get("/shut").await;
            assert_eq!((denied.status(), denied.text()), (403, "RBAC: access denied"));
            assert_eq!(client.get("/open").await.status(), 200);
            // What the policy sees is what the application would get.
            assert_eq!(client.get("/open/../shut").await.status(), 403);
        }
    });
}

pub(crate) fn allow_path(path: &str) -> Authorization {
    let values = vec![ValueMatch::Text(TextMatch::Exact(path.into()))];
    allow(Condition { attribute: Attribute::Path, values, negate: false })
}

pub(crate) fn allow(condition: Condition) -> Authorization {
    let origin = heddle_diag::Origin::built_in("test");
    let rule = Rule {
        origin: origin.clone(),
        clauses: vec![Clause { alternatives: vec![vec![condition]] }],
    };
    let policy = Policy {
        origin: origin.clone(),
        action: PolicyAction::Allow,
        dry_run: false,
        authorizer: None,
        rules: vec![rule],
    };
    Authorization {
        systems: vec![SystemPolicies::new(Fallback::Allow, vec![std::sync::Arc::new(policy)])],
        authorizers: Vec::new(),
    }
}

#[test]
fn plaintext_is_refused_without_a_byte_where_mutual_tls_is_required() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        let mut outsider = Peer::new(TcpStream::connect(pair.inbound).await.unwrap());
        outsider.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
        assert_eq!(outsider.rest().await, b"");
    });
}

#[test]
fn a_plaintext_client_cannot_say_who_it_is() {
    use heddle_ir::inbound::MutualTlsMode::Permissive;
    run(async {
        let pair = Pair::with(mirror().await, |_| {}, |server| server.mode = Permissive).await;
        let mut outsider = Peer::new(TcpStream::connect(pair.inbound).await.unwrap());
        outsider
            .send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: URI=spiffe://evil\r\n\r\n")
            .await;
        let answer = outsider.message().await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.text().contains("evil"), "{}", answer.text());
    });
}

#[test]
fn a_connection_that_the_server_closes_when_idle_costs_no_request() {
    run(async {
        let connections = Rc::new(Cell::new(0));
        let counted = connections.clone();
        // Closes after each answer, without saying so.
        let app = application(move |mut peer| {
            counted.set(counted.get() + 1);
            async move {
                if peer.try_head().await.is_some() {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
            }
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        for _ in 0..50 {
            assert_eq!(client.get("/").await.status(), 200);
        }
        assert_eq!(connections.get(), 50);
    });
}

#[test]
fn connections_are_kept_and_shared_by_clients() {
    run(async {
        let connections = Rc::new(Cell::new(0));
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
        let pair = Pair::before(app).await;
        for _ in 0..10 {
            let mut client = pair.connect().await;
            for _ in 0..3 {
                assert_eq!(client.get("/").await.status(), 200);
            }
        }
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn a_server_that_cannot_be_reached_gives_503() {
    run(async {
        let (listener, address) = crate::harness::listen().await;
        drop(listener);
        let pair = Pair::before(address).await;
        let mut client = pair.connect().await;
        let answer = client.get("/").await;
        assert_eq!(answer.status(), 503);
        assert!(answer.text().starts_with("upstream connect error"), "{}", answer.text());
        // The connection to the client stays.
        assert_eq!(client.get("/").await.status(), 503);
    });
}

#[test]
fn no_endpoint_gives_503() {
    run(async {
        let pair = Pair::with(mirror().await, |client| client.endpoints.clear(), |_| {}).await;
        let answer = pair.connect().await.get("/").await;
        assert_eq!((answer.status(), answer.text()), (503, "no healthy upstream"));
    });
}

#[test]
fn a_client_that_goes_away_ends_its_request() {
    run(async {
        let (seen, mut ended) = tokio::sync::mpsc::channel(1);
        let app = application(move |mut peer| {
            let seen = seen.clone();
            async move {
                peer.head().await;
                seen.send("request").await.unwrap();
                assert_eq!(peer.rest().await, b"");
                seen.send("end").await.unwrap();
            }
        })
        .await;
        let pair = Pair::before(app).await;
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
        assert_eq!(ended.recv().await, Some("request"));
        drop(client);
        assert_eq!(ended.recv().await, Some("end"));
    });
}

#[test]
fn a_draining_proxy_finishes_requests_and_closes_the_rest() {
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
        let pair = Pair::before(app).await;
        let mut idle = pair.connect().await;
        let mut busy = pair.connect().await;
        busy.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
        while pair.client_worker.drain().live() < 2 || pair.server_worker.drain().live() < 1 {
            tokio::task::yield_now().await;
        }
        pair.client_worker.drain().begin();
        assert_eq!(idle.rest().await, b"");
        release.send(true).unwrap();
        let answer = busy.message().await;
        assert_eq!((answer.status(), answer.header("Connection")), (200, Some("close")));
        assert_eq!(busy.rest().await, b"");
        pair.client_worker.drain().finished().await;
        assert!(TcpStream::connect(pair.outbound).await.is_err(), "it still listens");
    });
}
