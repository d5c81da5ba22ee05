//! Whoever lies about who it is, or about what a request is, gets nothing through. Tokens are lied about in `tokens`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_cert::Validity;
use heddle_ident::{Cidr, SpiffeId, TrustDomain};
use heddle_ir::authorization::{
    Attribute, Authorization, Clause, Condition, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies, ValueMatch,
};
use heddle_ir::inbound::MutualTlsMode::Permissive;
use heddle_ir::inbound::PathNormalization;
use heddle_ir::matching::TextMatch;
use heddle_ir::protocol::Protocol;
use heddle_tls::{Clock, Identity, ManualClock, SystemClock};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Pair, Peer, application, mirror, run};
use crate::http2;
use crate::raw_http2::{DATA, END_HEADERS, END_STREAM, HEADERS, Reply, frame, literals, preface};
use crate::support::{Mesh, ServerSide, identity, origin};

fn rule(action: PolicyAction, attribute: Attribute, value: ValueMatch) -> Authorization {
    let condition = Condition { attribute, values: vec![value], negate: false };
    let clauses = vec![Clause { alternatives: vec![vec![condition]] }];
    let policy = Arc::new(Policy {
        origin: origin(),
        action,
        dry_run: false,
        authorizer: None,
        rules: vec![Rule { origin: origin(), clauses }],
    });
    let systems = vec![SystemPolicies::new(Fallback::Allow, vec![policy])];
    Authorization { systems, authorizers: Vec::new() }
}

fn deny_admin() -> Authorization {
    let admin = ValueMatch::Text(TextMatch::Prefix("/admin".into()));
    rule(PolicyAction::Deny, Attribute::Path, admin)
}

fn around(now: SystemTime, before: i64, after: i64) -> Validity {
    let at = |seconds: i64| {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { now - by } else { now + by }
    };
    Validity { not_before: at(before), not_after: at(after) }
}

/// A request of a client of this identity, which must not arrive; the word that the server's metrics have for it.
async fn refused(mesh: &Mesh, client: Arc<Identity>, who: &str) {
    let arrived = Rc::new(RefCell::new(0));
    let count = arrived.clone();
    let app = application(move |mut peer| {
        let count = count.clone();
        async move {
            while peer.fill().await {
                *count.borrow_mut() += 1;
            }
        }
    })
    .await;
    let pair = Pair::of(mesh, client, app, |_| {}, |_| {}).await;
    let answer = pair.connect().await.get("/").await;
    assert_eq!(answer.status(), 503, "{who}");
    assert_eq!(*arrived.borrow(), 0, "{who}");
    let record = pair.server_audit.records(1).await.remove(0);
    assert_eq!(record["by"], "mutual-tls", "{who}: {record}");
    assert_eq!(record["decision"], "deny", "{who}: {record}");
}

#[test]
fn a_certificate_that_proves_nothing_here_opens_nothing() {
    run(async {
        let mesh = Mesh::new();
        let now = SystemTime::now();
        let own = |validity, clock: Arc<dyn Clock>| {
            mesh.identity_of(identity("client"), validity, clock, &mesh)
        };
        // As far as their holders' clocks go these are valid, and so is the server's.
        let late = Arc::new(ManualClock::new(now - Duration::from_secs(30)));
        refused(&mesh, own(around(now, -600, -5), late), "expired").await;
        let early = Arc::new(ManualClock::new(now + Duration::from_mins(2)));
        refused(&mesh, own(around(now, 60, 600), early), "not yet valid").await;

        let valid = || around(now, -60, 600);
        let impostor = Mesh::new();
        let same_name = identity("client");
        let forged = impostor.identity_of(same_name, valid(), Arc::new(SystemClock), &mesh);
        refused(&mesh, forged, "of a root that nobody trusts").await;

        let domain = TrustDomain::parse("evil.local").unwrap();
        let id = SpiffeId::for_service_account(&domain, "default", "client").unwrap();
        let evil = Mesh::of(&domain);
        let stranger = evil.identity_of(id.clone(), valid(), Arc::new(SystemClock), &mesh);
        refused(&mesh, stranger, "of another trust domain").await;
        let strayed = mesh.identity_of(id, valid(), Arc::new(SystemClock), &mesh);
        refused(&mesh, strayed, "of another trust domain, signed by our root").await;
    });
}

#[test]
fn a_certificate_of_another_service_is_only_that_services() {
    run(async {
        let mesh = Mesh::new();
        let principal = "cluster.local/ns/default/sa/client".into();
        let client = ValueMatch::Text(TextMatch::Exact(principal));
        let allow = || rule(PolicyAction::Allow, Attribute::SourcePrincipal, client.clone());
        for (name, status) in [("client", 200), ("other", 403)] {
            let server = |server: &mut ServerSide| server.authorization = allow();
            let own = mesh.identity(name);
            let pair = Pair::of(&mesh, own, mirror().await, |_| {}, server).await;
            let mut peer = pair.connect().await;
            // Whatever it says about itself.
            let claim = "X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/default/sa/client";
            peer.send(format!("GET / HTTP/1.1\r\nHost: server\r\n{claim}\r\n\r\n")).await;
            let answer = peer.message().await;
            assert_eq!(answer.status(), status, "{name}");
            if status == 200 {
                let seen = answer.text().to_ascii_lowercase();
                assert_eq!(seen.matches("x-forwarded-client-cert").count(), 1, "{seen}");
                assert!(seen.contains("by=spiffe://cluster.local/ns/default/sa/server"), "{seen}");
            }
        }
    });
}

#[test]
fn where_a_request_comes_from_is_not_for_the_client_to_say() {
    run(async {
        let range = ValueMatch::Range(Cidr::parse("203.0.113.0/24").unwrap());
        for attribute in [Attribute::RemoteAddress, Attribute::SourceAddress] {
            let server = |server: &mut ServerSide| {
                server.authorization = rule(PolicyAction::Allow, attribute, range.clone());
                server.mode = Permissive;
            };
            let pair = Pair::with(mirror().await, |_| {}, server).await;
            let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\
                           X-Envoy-External-Address: 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n\
                           Forwarded: for=203.0.113.9\r\n\r\n";
            let outsider = Peer::new(TcpStream::connect(pair.inbound).await.unwrap());
            for mut peer in [outsider, pair.connect().await] {
                peer.send(request).await;
                assert_eq!(peer.message().await.status(), 403);
            }
        }
    });
}

#[test]
fn who_somebody_is_is_not_for_an_outsider_to_say() {
    run(async {
        let principal = TextMatch::Exact("cluster.local/ns/default/sa/client".into());
        for (allow, status) in [(None, 200), (Some(principal), 403)] {
            let server = |server: &mut ServerSide| {
                if let Some(principal) = allow {
                    let value = ValueMatch::Text(principal);
                    server.authorization =
                        rule(PolicyAction::Allow, Attribute::SourcePrincipal, value);
                }
                server.mode = Permissive;
            };
            let pair = Pair::with(mirror().await, |_| {}, server).await;
            let mut peer = Peer::new(TcpStream::connect(pair.inbound).await.unwrap());
            peer.send(
                "GET / HTTP/1.1\r\nHost: a\r\n\
                 X-Forwarded-Client-Cert: By=spiffe://cluster.local/ns/default/sa/server;URI=spiffe://cluster.local/ns/default/sa/client\r\n\
                 x-forwarded-client-cert: URI=spiffe://cluster.local/ns/default/sa/client\r\n\r\n",
            )
            .await;
            let answer = peer.message().await;
            assert_eq!(answer.status(), status);
            assert!(!answer.text().to_ascii_lowercase().contains("client-cert"), "{answer:?}");
            if status == 403 {
                let record = pair.server_audit.records(1).await.remove(0);
                assert_eq!(record["transport"], "plaintext", "{record}");
                assert!(record.get("identity").is_none(), "{record}");
            }
        }
    });
}

#[test]
fn a_path_is_judged_as_it_arrives() {
    run(async {
        // What arrives, or that nothing does, by normalisation.
        let (base, merged) = (PathNormalization::Base, PathNormalization::DecodeAndMergeSlashes);
        let cases = [
            (base, "/admin", None),
            (base, "/admin/..;/x", None),
            (base, "/x/../admin", None),
            (base, "/./admin", None),
            (base, "/x/%2e%2e/admin", None),
            (base, "/x/%2E./admin", None),
            (base, "/%61dmin", None),
            (base, "/x\\..\\admin", None),
            (base, "\\admin", None),
            (base, "/admin%2f..%2fx", None),
            (base, "/%2561dmin", Some("/%2561dmin")),
            (base, "//admin", Some("//admin")),
            (base, "/x%2f..%2fadmin", Some("/x%2f..%2fadmin")),
            (base, "/ADMIN", Some("/ADMIN")),
            (merged, "//admin", None),
            (merged, "/x/..//admin", None),
            (merged, "/x%2f..%2fadmin", None),
            (merged, "/x%5c..%5cadmin", None),
            (merged, "/%2fadmin", None),
            (merged, "/%252fadmin", Some("/%252fadmin")),
        ];
        for normalization in [base, merged] {
            let server = |server: &mut ServerSide| {
                server.authorization = deny_admin();
                server.path_normalization = normalization;
            };
            let pair = Pair::with(mirror().await, |_| {}, server).await;
            let mut peer = pair.connect().await;
            for (_, path, arrives) in cases.iter().filter(|(own, ..)| *own == normalization) {
                peer.send(format!("GET {path} HTTP/1.1\r\nHost: server\r\n\r\n")).await;
                let answer = peer.message().await;
                if let Some(arrives) = arrives {
                    let expected = format!("GET {arrives} HTTP/1.1\r\n");
                    assert!(answer.text().starts_with(&expected), "{path}: {answer:?}");
                    continue;
                }
                let status = answer.status();
                assert!(matches!(status, 400 | 403), "{path}: {answer:?}");
                if status == 400 {
                    peer = pair.connect().await;
                }
            }
        }
    });
}

/// An application that keeps what it is sent, and answers every head.
async fn listening() -> (std::net::SocketAddr, Rc<RefCell<Vec<u8>>>) {
    let seen: Rc<RefCell<Vec<u8>>> = Rc::default();
    let keep = seen.clone();
    let address = application(move |mut peer| {
        let keep = keep.clone();
        async move {
            while peer.fill().await {
                let bytes = std::mem::take(&mut peer.buffer);
                let ends = bytes.windows(4).filter(|four| four == b"\r\n\r\n").count();
                keep.borrow_mut().extend_from_slice(&bytes);
                for _ in 0..ends {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if peer.stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
    .await;
    (address, seen)
}

#[test]
fn a_request_hidden_in_another_one_is_found_or_refused() {
    run(async {
        let hidden = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
        let chunked = format!("0\r\n\r\n{hidden}");
        let length = hidden.len();
        let heads = [
            // CL.TE, TE.CL, TE.TE and their kin.
            (format!("Content-Length: {}\r\nTransfer-Encoding: chunked", chunked.len()), &*chunked),
            (format!("Transfer-Encoding: chunked\r\nContent-Length: {}", chunked.len()), &chunked),
            ("Transfer-Encoding: xchunked".to_owned(), &chunked),
            ("Transfer-Encoding : chunked".to_owned(), &chunked),
            ("Transfer-Encoding:\u{b}chunked".to_owned(), &chunked),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(), &chunked),
            ("Transfer-Encoding: identity, chunked, identity".to_owned(), &chunked),
            ("Transfer-Encoding:\r\n chunked".to_owned(), &chunked),
            ("X: a\nTransfer-Encoding: chunked".to_owned(), &chunked),
            (format!("Content-Length: 0\r\nContent-Length: {length}"), hidden),
            (format!("Content-Length: {length}, 0"), hidden),
            (format!("Content-Length: +{length}"), hidden),
            (format!("Content-Length: 0x{length:x}"), hidden),
            ("Content-Length: -1".to_owned(), hidden),
            ("Content-Length: 0\r\n Content-Length: 5".to_owned(), hidden),
            ("Content Length: 5".to_owned(), hidden),
            ("Content-Length\u{0}: 5".to_owned(), hidden),
        ];
        for plaintext in [false, true] {
            for (head, body) in &heads {
                let (app, seen) = listening().await;
                let server = |server: &mut ServerSide| {
                    server.authorization = deny_admin();
                    server.mode = Permissive;
                };
                let pair = Pair::with(app, |_| {}, server).await;
                let mut peer = if plaintext {
                    Peer::new(TcpStream::connect(pair.inbound).await.unwrap())
                } else {
                    pair.connect().await
                };
                peer.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}")).await;
                let answer = peer.head().await;
                assert!(
                    answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"),
                    "{head:?}: {answer}"
                );
                assert!(answer.contains("connection: close"), "{head:?}: {answer}");
                assert_eq!(seen.borrow().len(), 0, "{head:?}");
            }
        }
        // What is behind a valid request is a request of its own, and judged as such.
        let (app, seen) = listening().await;
        let pair = Pair::with(app, |_| {}, |server| server.authorization = deny_admin()).await;
        let mut peer = pair.connect().await;
        peer.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody{hidden}"))
            .await;
        assert_eq!(peer.message().await.status(), 200);
        assert_eq!(peer.message().await.status(), 403);
        assert!(!String::from_utf8_lossy(&seen.borrow()).contains("/admin"));
    });
}

#[test]
fn lengths_and_framing_that_http2_does_not_have_reach_nobody() {
    run(async {
        let body = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = body.len().to_string();
        let honest: &[(&str, &str)] = &[("content-length", &length)];
        let cases: &[&[(&str, &str)]] = &[
            honest,
            &[("content-length", "0")],
            &[("content-length", "5")],
            &[("content-length", "0"), ("content-length", "33")],
            &[("transfer-encoding", "chunked")],
            &[("connection", "transfer-encoding"), ("transfer-encoding", "chunked")],
            &[("x", "a\r\ntransfer-encoding: chunked")],
            &[("x: y\r\ntransfer-encoding", "chunked")],
            &[("Content-Length", "0")],
            &[(":path", "/admin")],
        ];
        for case in cases {
            let seen: Rc<RefCell<Vec<String>>> = Rc::default();
            let keep = seen.clone();
            let app = http2::h2_application(move |request, mut respond| {
                let keep = keep.clone();
                async move {
                    let body = http2::receive_all_there_is(&mut request.into_body()).await;
                    if let Some(body) = body {
                        keep.borrow_mut().push(String::from_utf8(body).unwrap());
                        respond.send_response(http::Response::new(()), true).unwrap();
                    }
                }
            })
            .await;
            let server = |server: &mut ServerSide| {
                server.authorization = deny_admin();
                server.mode = Permissive;
                server.protocol = Protocol::Http2;
            };
            let pair = Pair::with(app, |_| {}, server).await;
            let mut peer = Peer::new(TcpStream::connect(pair.inbound).await.unwrap());
            let mut headers = vec![
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "server"),
            ];
            headers.extend_from_slice(case);
            let mut bytes = preface();
            bytes.extend(frame(HEADERS, END_HEADERS, 1, &literals(&headers)));
            bytes.extend(frame(DATA, END_STREAM, 1, body.as_bytes()));
            peer.send(&bytes).await;
            let reply = Reply::of(&mut peer, 1).await;
            if *case == honest {
                assert_eq!((reply, &*seen.borrow()), (Reply::Status(200), &vec![body.to_owned()]));
                continue;
            }
            assert_eq!(reply, Reply::Ended, "{case:?} was answered");
            assert!(seen.borrow().is_empty(), "{case:?} arrived: {:?}", seen.borrow());
        }
    });
}

#[test]
fn a_length_that_lies_reaches_no_server_of_http1_behind_a_gateway() {
    run(async {
        let hidden = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = hidden.len().to_string();
        let honest: &[(&str, &str)] = &[("content-length", &length)];
        let cases: &[&[(&str, &str)]] = &[
            honest,
            // What HTTP/1 would read as the end of the body, with a request of its own behind it.
            &[("content-length", "0")],
            &[("content-length", "5")],
            &[("content-length", "33333")],
            &[("content-length", "0"), ("content-length", &length)],
            &[("content-length", "0x0")],
            &[("transfer-encoding", "chunked")],
            &[("transfer-encoding", "identity")],
            &[("te", "chunked")],
            &[("connection", "transfer-encoding"), ("transfer-encoding", "chunked")],
            &[("upgrade", "h2c")],
            &[("x", "a\r\ncontent-length: 0")],
            &[("x", "a\ncontent-length: 0")],
            &[("x: y\r\ncontent-length", "0")],
            &[("content-length ", "0")],
        ];
        for case in cases {
            let (app, seen) = listening().await;
            let port = crate::gateway::free_port().await;
            let plain = crate::gateway::server(
                &["*"],
                None,
                crate::gateway::http(&["*"], vec![crate::support::rule()]),
            );
            let _edge = crate::gateway::Edge::new(
                app,
                vec![crate::gateway::listener(port, vec![plain])],
                |_| {},
            )
            .await;
            let mut peer = Peer::new(crate::gateway::connect(port).await);
            let mut headers =
                vec![(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
            headers.extend_from_slice(case);
            let mut bytes = preface();
            bytes.extend(frame(HEADERS, END_HEADERS, 1, &literals(&headers)));
            bytes.extend(frame(DATA, END_STREAM, 1, hidden.as_bytes()));
            peer.send(&bytes).await;
            let reply = Reply::of(&mut peer, 1).await;
            let seen = String::from_utf8_lossy(&seen.borrow()).into_owned();
            if *case == honest {
                assert_eq!(reply, Reply::Status(200));
                assert!(seen.starts_with("POST / HTTP/1.1\r\n"), "{seen}");
                continue;
            }
            assert_eq!(reply, Reply::Ended, "{case:?} was answered");
            // The head may have gone on before the body showed that it lies; then nothing is taken for its end.
            assert!(!seen.contains("/admin"), "{case:?}: {seen:?}");
        }
    });
}
