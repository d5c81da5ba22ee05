//! External authorisers, asked over gRPC as OPA's plugin is and over HTTP.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use heddle_ir::authorization::{
    Attribute, Authorization, AuthorizerBody, AuthorizerHttp, AuthorizerProtocol, Clause,
    Condition, ExternalAuthorizer, Fallback, Policy, PolicyAction, Rule, SystemPolicies,
    ValueMatch,
};
use heddle_ir::matching::TextMatch;
use heddle_ir::protocol::Protocol;
use heddle_proto::external_authorization::{
    BoolValue, CHECK_PATH, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue,
    HeaderValueOption, HttpResponse, HttpStatus, OkHttpResponse, RpcStatus,
};
use http::{HeaderMap, Request, Response};
use prost::Message as _;

use crate::harness::{Message, Pair, Peer, application, listen, mirror, run};
use crate::http2;
use crate::support::{PORT, ServerSide, origin, service_host};

fn rule(conditions: Vec<Condition>) -> Rule {
    Rule { origin: origin(), clauses: vec![Clause { alternatives: vec![conditions] }] }
}

fn policy(action: PolicyAction, authorizer: Option<&str>, rules: Vec<Rule>) -> Arc<Policy> {
    let authorizer = authorizer.map(Into::into);
    Arc::new(Policy { origin: origin(), action, dry_run: false, authorizer, rules })
}

fn condition(attribute: Attribute, value: TextMatch) -> Condition {
    Condition { attribute, values: vec![ValueMatch::Text(value)], negate: false }
}

fn path(prefix: &str) -> Condition {
    condition(Attribute::Path, TextMatch::Prefix(prefix.into()))
}

fn header(name: &str, value: &str) -> Condition {
    condition(Attribute::RequestHeader(name.into()), TextMatch::Exact(value.into()))
}

fn authorizer(protocol: AuthorizerProtocol) -> ExternalAuthorizer {
    ExternalAuthorizer {
        origin: origin(),
        name: "opa".into(),
        host: service_host("opa"),
        port: PORT,
        protocol,
        timeout: Duration::from_secs(10),
        fail_open: false,
        status_on_error: 403,
        clear_route_cache: false,
        body: None,
    }
}

/// `/asked…` is asked about; `/denied…` and `x-denied: yes` are denied by a rule.
fn authorization(authorizer: ExternalAuthorizer) -> Authorization {
    let policies = vec![
        policy(PolicyAction::Custom, Some("opa"), vec![rule(vec![path("/asked")])]),
        policy(
            PolicyAction::Deny,
            None,
            vec![
                rule(vec![path("/denied")]),
                rule(vec![path("/asked/denied")]),
                rule(vec![header("x-denied", "yes")]),
            ],
        ),
    ];
    let systems = vec![SystemPolicies::new(Fallback::Allow, policies)];
    Authorization { systems, authorizers: vec![Arc::new(authorizer)] }
}

async fn pair(authorizer: ExternalAuthorizer, address: SocketAddr) -> Pair {
    let server = |server: &mut ServerSide| {
        server.authorization = authorization(authorizer);
        server.services = vec![("opa", address)];
    };
    Pair::with(mirror().await, |_| {}, server).await
}

pub(crate) async fn ask(peer: &mut Peer, target: &str, headers: &str) -> Message {
    peer.send(format!("GET {target} HTTP/1.1\r\nHost: server\r\n{headers}\r\n")).await;
    peer.message().await
}

pub(crate) fn framed(message: &impl prost::Message) -> Bytes {
    let message = message.encode_to_vec();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(&message);
    framed.freeze()
}

/// A server like OPA's plugin; answers what `decide` says, and remembers what it was asked.
async fn opa(
    decide: impl Fn(&CheckRequest) -> Option<CheckResponse> + Clone + 'static,
) -> (SocketAddr, Rc<RefCell<Vec<CheckRequest>>>) {
    let asked: Rc<RefCell<Vec<CheckRequest>>> = Rc::default();
    let seen = asked.clone();
    let address = http2::h2_application(move |request, mut respond| {
        let (decide, seen) = (decide.clone(), seen.clone());
        async move {
            assert_eq!(request.uri().path(), CHECK_PATH);
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert_eq!(request.headers()["te"], "trailers");
            let body = http2::receive_all(&mut request.into_body()).await;
            assert_eq!(body[0], 0);
            let check = CheckRequest::decode(&body[5..]).unwrap();
            let answer = decide(&check);
            seen.borrow_mut().push(check);
            // No answer: it hangs.
            let Some(answer) = answer else { return std::future::pending().await };
            let response = Response::builder().header("content-type", "application/grpc");
            let mut sink = respond.send_response(response.body(()).unwrap(), false).unwrap();
            sink.send_data(framed(&answer), false).unwrap();
            let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
            sink.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        }
    })
    .await;
    (address, asked)
}

fn option(name: &str, value: &str, append: Option<bool>) -> HeaderValueOption {
    let header = HeaderValue { key: name.into(), value: value.into(), raw_value: Vec::new() };
    let append = append.map(|value| BoolValue { value });
    HeaderValueOption { header: Some(header), append, append_action: 0 }
}

fn leave(ok: OkHttpResponse) -> CheckResponse {
    let status = Some(RpcStatus { code: 0, message: String::new() });
    CheckResponse { status, http_response: Some(HttpResponse::Ok(ok)) }
}

fn refusal() -> CheckResponse {
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: 418 }),
        headers: vec![option("x-why", "teapot", None)],
        body: "not for you".to_owned(),
    };
    let status = Some(RpcStatus { code: 7, message: String::new() });
    CheckResponse { status, http_response: Some(HttpResponse::Denied(denied)) }
}

fn http_of(check: &CheckRequest) -> &heddle_proto::external_authorization::HttpRequest {
    check.attributes.as_ref().unwrap().request.as_ref().unwrap().http.as_ref().unwrap()
}

#[test]
fn an_authoriser_of_grpc_is_asked_before_deny_and_its_word_counts() {
    run(async {
        let (address, asked) = opa(|check| {
            let http = http_of(check);
            Some(match http.headers.get("x-ext-authz").map(String::as_str) {
                Some("allow") => leave(OkHttpResponse {
                    headers: vec![
                        option("x-user", "alice", None),
                        option("x-more", "two", Some(true)),
                    ],
                    headers_to_remove: vec!["x-secret".to_owned()],
                    response_headers_to_add: vec![option("x-checked", "yes", None)],
                    ..OkHttpResponse::default()
                }),
                Some("mark") => leave(OkHttpResponse {
                    headers: vec![option("x-denied", "yes", None)],
                    ..OkHttpResponse::default()
                }),
                _ => refusal(),
            })
        })
        .await;
        let pair = pair(authorizer(AuthorizerProtocol::Grpc), address).await;
        let mut peer = pair.connect().await;
        assert_eq!(ask(&mut peer, "/other", "").await.status(), 200);
        assert_eq!(asked.borrow().len(), 0, "it is not asked about what no CUSTOM rule matches");

        let headers = "x-ext-authz: allow\r\nx-user: root\r\nx-more: one\r\nx-secret: s\r\n";
        let answer = ask(&mut peer, "/asked?q=1", headers).await;
        assert_eq!((answer.status(), answer.header("x-checked")), (200, Some("yes")), "{answer:?}");
        let seen = answer.text();
        assert!(seen.contains("x-user: alice\r\n") && !seen.contains("root"), "{seen}");
        assert!(seen.contains("x-more: one\r\n") && seen.contains("x-more: two\r\n"), "{seen}");
        assert!(!seen.contains("x-secret"), "{seen}");
        {
            let asked = asked.borrow();
            let http = http_of(&asked[0]);
            assert_eq!((&*http.method, &*http.path, &*http.host), ("GET", "/asked?q=1", "server"));
            assert_eq!((&*http.protocol, &*http.scheme), ("HTTP/1.1", "http"));
            assert_eq!(http.headers["x-user"], "root");
            let attributes = asked[0].attributes.as_ref().unwrap();
            let principal = |peer: &Option<heddle_proto::external_authorization::Peer>| {
                peer.as_ref().unwrap().principal.clone()
            };
            let identity = |name| format!("spiffe://cluster.local/ns/default/sa/{name}");
            assert_eq!(principal(&attributes.source), identity("client"));
            assert_eq!(principal(&attributes.destination), identity("server"));
        }
        let answer = ask(&mut peer, "/asked", "").await;
        assert_eq!((answer.status(), answer.text()), (418, "not for you"));
        assert_eq!(answer.header("x-why"), Some("teapot"));

        // Its leave bypasses no DENY rule, and DENY rules see what it has changed.
        let answer = ask(&mut peer, "/asked/denied", "x-ext-authz: allow\r\n").await;
        assert_eq!((answer.status(), answer.text()), (403, "RBAC: access denied"));
        let answer = ask(&mut peer, "/asked", "x-ext-authz: mark\r\n").await;
        assert_eq!((answer.status(), answer.text()), (403, "RBAC: access denied"));
        let count = asked.borrow().len();
        assert_eq!(ask(&mut peer, "/denied", "").await.status(), 403);
        assert_eq!(asked.borrow().len(), count);

        let records = pair.server_audit.records(4).await;
        let by: Vec<&str> = records.iter().map(|record| record["by"].as_str().unwrap()).collect();
        assert_eq!(by[..2], ["external-authorizer", "authorization"], "{records:?}");
        assert_eq!(records[0]["rule"]["name"], "test");
    });
}

#[test]
fn an_authoriser_that_cannot_be_had_refuses_unless_it_may_fail_open() {
    run(async {
        let (hangs, _) = opa(|_| None).await;
        let breaks = http2::h2_application(|_, mut respond| async move {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
        })
        .await;
        let (listener, gone) = listen().await;
        drop(listener);
        let fails = http2::h2_application(|_, mut respond| async move {
            let response = Response::builder().header("grpc-status", "2").body(()).unwrap();
            respond.send_response(response, true).unwrap();
        })
        .await;
        // A word that is longer than what is read of it.
        let endless = http2::h2_application(|_, mut respond| async move {
            let response = Response::builder().header("content-type", "application/grpc");
            let mut sink = respond.send_response(response.body(()).unwrap(), false).unwrap();
            let long = DeniedHttpResponse { body: "x".repeat(1 << 20), ..Default::default() };
            let denied =
                CheckResponse { http_response: Some(HttpResponse::Denied(long)), ..refusal() };
            // It may be told to stop.
            let _ = sink.send_data(framed(&denied), true);
        })
        .await;
        for address in [hangs, breaks, gone, fails, endless] {
            for (fail_open, status) in [(false, 503), (true, 200)] {
                let authorizer = ExternalAuthorizer {
                    fail_open,
                    status_on_error: 503,
                    timeout: Duration::from_millis(100),
                    ..authorizer(AuthorizerProtocol::Grpc)
                };
                let pair = pair(authorizer, address).await;
                let mut peer = pair.connect().await;
                assert_eq!(ask(&mut peer, "/asked", "").await.status(), status);
                // Open is open for it alone.
                assert_eq!(
                    ask(&mut peer, "/asked/denied", "").await.status(),
                    if fail_open { 403 } else { 503 }
                );
            }
        }
        // Nobody is configured under the name.
        let server = |server: &mut ServerSide| {
            let mut authorization = authorization(authorizer(AuthorizerProtocol::Grpc));
            authorization.authorizers.clear();
            server.authorization = authorization;
        };
        let pair = Pair::with(mirror().await, |_| {}, server).await;
        let mut peer = pair.connect().await;
        assert_eq!(ask(&mut peer, "/asked", "").await.status(), 403);
    });
}

#[test]
fn an_authoriser_gets_the_body_up_to_its_limit_and_the_application_all_of_it() {
    run(async {
        let (address, asked) = opa(|check| {
            Some(if http_of(check).body.starts_with("bad") {
                refusal()
            } else {
                leave(OkHttpResponse::default())
            })
        })
        .await;
        let app = application(|mut peer| async move {
            while let Some(head) = peer.try_head().await {
                let body = if head.contains("chunked") {
                    let end = b"0\r\n\r\n";
                    while !peer.buffer.ends_with(end) {
                        assert!(peer.fill().await);
                    }
                    std::mem::take(&mut peer.buffer)
                } else {
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("Content-Length: "))
                        .unwrap();
                    peer.exactly(length.parse().unwrap()).await
                };
                peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()))
                    .await;
                peer.send(body).await;
            }
        })
        .await;
        for allow_partial in [false, true] {
            let limit = AuthorizerBody { body_bytes_max: 8, allow_partial, as_bytes: false };
            let authorizer =
                ExternalAuthorizer { body: Some(limit), ..authorizer(AuthorizerProtocol::Grpc) };
            let server = |server: &mut ServerSide| {
                server.authorization = authorization(authorizer);
                server.services = vec![("opa", address)];
            };
            let pair = Pair::with(app, |_| {}, server).await;
            let send = async |headers: &str, pieces: &[&str]| {
                let mut peer = pair.connect().await;
                peer.send(format!("POST /asked HTTP/1.1\r\nHost: server\r\n{headers}\r\n")).await;
                for piece in pieces {
                    peer.send(piece).await;
                    tokio::task::yield_now().await;
                }
                let answer = peer.message().await;
                (answer.status(), String::from_utf8(answer.body).unwrap())
            };
            let ok = |text: &str| (200, text.to_owned());
            let last_body = || {
                let asked = asked.borrow();
                let http = http_of(asked.last().unwrap());
                (http.body.clone(), http.headers["x-envoy-auth-partial-body"].clone())
            };
            assert_eq!(send("Content-Length: 6\r\n", &["goo", "d!!"]).await, ok("good!!"));
            assert_eq!(last_body(), ("good!!".to_owned(), "false".to_owned()));
            let chunks = ["3\r\ngoo\r\n", "3\r\nd!!\r\n0\r\n\r\n"];
            assert_eq!(send("Transfer-Encoding: chunked\r\n", &chunks).await, ok(&chunks.concat()));
            assert_eq!(last_body(), ("good!!".to_owned(), "false".to_owned()));
            assert_eq!(send("Content-Length: 4\r\n", &["bad!"]).await.0, 418);
            let long = send("Content-Length: 12\r\n", &["good", "good", "good"]).await;
            if allow_partial {
                assert_eq!(long, ok("goodgoodgood"));
                assert_eq!(last_body(), ("goodgood".to_owned(), "true".to_owned()));
            } else {
                assert_eq!(long, (413, "Payload Too Large".to_owned()));
            }
            let mut peer = pair.connect().await;
            let head = "POST /asked HTTP/1.1\r\nHost: server\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
            peer.send(head).await;
            assert!(peer.head().await.starts_with("HTTP/1.1 100 "));
            peer.send("good").await;
            // The application may say it once more.
            let answer = peer.message().await;
            assert_eq!((answer.status(), answer.text()), (200, "good"));
        }
    });
}

#[test]
fn what_frames_a_body_is_not_held_without_bound_for_an_authoriser() {
    run(async {
        let (address, _) = opa(|_| Some(leave(OkHttpResponse::default()))).await;
        let limit = AuthorizerBody { body_bytes_max: 1000, allow_partial: false, as_bytes: false };
        let authorizer =
            ExternalAuthorizer { body: Some(limit), ..authorizer(AuthorizerProtocol::Grpc) };
        let server = |server: &mut ServerSide| {
            server.authorization = authorization(authorizer);
            server.services = vec![("opa", address)];
        };
        let app = application(|mut peer| async move {
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            peer.rest().await;
        })
        .await;
        let pair = Pair::with(app, |_| {}, server).await;
        for (chunks, status) in [(10, 200), (100, 413)] {
            let mut peer = pair.connect().await;
            let head = "POST /asked HTTP/1.1\r\nHost: server\r\nTransfer-Encoding: chunked\r\n\r\n";
            let chunk = format!("1;{}\r\ng\r\n", "x".repeat(1000));
            peer.send(format!("{head}{}0\r\n\r\n", chunk.repeat(chunks))).await;
            assert_eq!(peer.message().await.status(), status, "{chunks}");
        }
    });
}

#[test]
fn an_authoriser_is_asked_about_http2_and_grpc_and_gets_their_bodies() {
    run(async {
        let (address, asked) = opa(|check| {
            let http = http_of(check);
            let is_good = http.headers.get("x-ext-authz").is_some_and(|value| value == "allow");
            Some(if is_good { leave(OkHttpResponse::default()) } else { refusal() })
        })
        .await;
        let app = http2::h2_application(|request, mut respond| async move {
            let body = http2::receive_all(&mut request.into_body()).await;
            let mut sink = respond.send_response(Response::new(()), false).unwrap();
            sink.send_data(body.into(), true).unwrap();
        })
        .await;
        let limit = AuthorizerBody { body_bytes_max: 8, allow_partial: true, as_bytes: true };
        let authorizer =
            ExternalAuthorizer { body: Some(limit), ..authorizer(AuthorizerProtocol::Grpc) };
        let server = |server: &mut ServerSide| {
            server.authorization = authorization(authorizer);
            server.services = vec![("opa", address)];
            server.protocol = Protocol::Http2;
        };
        let pair = Pair::with(app, |client| client.protocol = Protocol::Http2, server).await;
        let mut sender = http2::client(&pair).await;
        let request = |allow: &str, kind: &str| {
            let request = Request::builder().method("POST").uri("http://server:8080/asked/x");
            request.header("x-ext-authz", allow).header("content-type", kind).body(()).unwrap()
        };
        for body in ["", "short", "a longer body than it may have"] {
            let (response, mut sink) =
                sender.send_request(request("allow", "text/plain"), false).unwrap();
            let half = body.len() / 2;
            sink.send_data(Bytes::from(body[..half].to_owned()), false).unwrap();
            sink.send_data(Bytes::from(body[half..].to_owned()), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            let got = http2::receive_all(&mut response.into_body()).await;
            assert_eq!(got, body.as_bytes(), "the application gets all of it");
            let asked = asked.borrow();
            let http = http_of(asked.last().unwrap());
            let most = body.len().min(8);
            assert_eq!((&*http.raw_body, &*http.body), (&body.as_bytes()[..most], ""));
            assert_eq!(http.protocol, "HTTP/2");
        }
        for (kind, status, grpc) in
            [("text/plain", 418, None), ("application/grpc", 200, Some("2"))]
        {
            let (response, _) = sender.send_request(request("deny", kind), true).unwrap();
            let response = response.await.unwrap();
            let got = response.headers().get("grpc-status").map(|own| own.to_str().unwrap());
            assert_eq!((response.status().as_u16(), got), (status, grpc));
        }
    });
}

#[test]
fn an_authoriser_of_http_is_asked_with_what_it_may_see() {
    run(async {
        let heads: Rc<RefCell<Vec<String>>> = Rc::default();
        let seen = heads.clone();
        let address = application(move |mut peer| {
            let heads = seen.clone();
            async move {
                while let Some(head) = peer.try_head().await {
                    let allow = head.contains("x-ext-authz: allow");
                    let broken = head.contains("x-ext-authz: broken");
                    heads.borrow_mut().push(head);
                    let answer = if allow {
                        "HTTP/1.1 200 OK\r\nx-user: alice\r\nx-other: o\r\nx-told: t\r\ncontent-length: 0\r\n\r\n"
                    } else if broken {
                        "HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops"
                    } else {
                        "HTTP/1.1 302 Found\r\nlocation: /login\r\nx-a: 1\r\nx-b: 2\r\ncontent-length: 5\r\n\r\nlogin"
                    };
                    peer.send(answer).await;
                }
            }
        })
        .await;
        let exact = |name: &str| TextMatch::Exact(name.into());
        let settings = AuthorizerHttp {
            path_prefix: "/check".into(),
            request_headers: vec![exact("x-ext-authz")],
            added_headers: vec![("x-from".into(), "mesh".into())],
            upstream_headers_on_allow: vec![exact("x-user")],
            downstream_headers_on_allow: vec![exact("x-told")],
            downstream_headers_on_deny: vec![exact("x-a")],
        };
        let authorizer = ExternalAuthorizer {
            status_on_error: 502,
            ..authorizer(AuthorizerProtocol::Http(settings))
        };
        let pair = pair(authorizer, address).await;
        let mut peer = pair.connect().await;
        let headers =
            "x-ext-authz: allow\r\nAuthorization: Basic x\r\nCookie: secret\r\nx-user: root\r\n";
        let answer = ask(&mut peer, "/asked/a?b=c", headers).await;
        assert_eq!((answer.status(), answer.header("x-told")), (200, Some("t")), "{answer:?}");
        assert!(answer.text().contains("x-user: alice\r\n"), "{answer:?}");
        assert!(!answer.text().contains("root") && !answer.text().contains("x-other"));
        {
            let heads = heads.borrow();
            let head = &heads[0];
            assert!(
                head.starts_with("GET /check/asked/a?b=c HTTP/1.1\r\nhost: server\r\n"),
                "{head}"
            );
            assert!(head.contains("authorization: Basic x\r\n"), "{head}");
            assert!(head.contains("x-from: mesh\r\n") && !head.contains("secret"), "{head}");
        }
        let answer = ask(&mut peer, "/asked", "x-ext-authz: no\r\n").await;
        assert_eq!((answer.status(), answer.text()), (302, "login"));
        assert_eq!((answer.header("location"), answer.header("x-a")), (Some("/login"), Some("1")));
        assert_eq!(answer.header("x-b"), None);
        // A fault of its own is no answer, and nothing of it reaches the client.
        let answer = ask(&mut peer, "/asked", "x-ext-authz: broken\r\n").await;
        assert_eq!((answer.status(), answer.text()), (502, ""));
        let answer = ask(&mut peer, "/asked/denied", "x-ext-authz: allow\r\n").await;
        assert_eq!(answer.status(), 403);
    });
}

#[test]
fn an_authoriser_is_asked_about_streams_and_again_when_policy_changes() {
    run(async {
        let allows = Rc::new(Cell::new(true));
        let allowing = allows.clone();
        let (address, asked) = opa(move |check| {
            assert!(check.attributes.as_ref().unwrap().request.is_none());
            Some(if allowing.get() { leave(OkHttpResponse::default()) } else { refusal() })
        })
        .await;
        let app = application(|mut peer| async move {
            while peer.fill().await {
                let bytes = std::mem::take(&mut peer.buffer);
                peer.send(bytes).await;
            }
        })
        .await;
        let authorization = |protocol| {
            // A stream has no path, and a rule that refuses or asks must not be lost for that.
            authorization(ExternalAuthorizer { ..authorizer(protocol) })
        };
        let only_custom = |protocol| {
            let mut own = authorization(protocol);
            own.systems[0].policies.truncate(1);
            own
        };
        let server = |server: &mut ServerSide| {
            server.protocol = Protocol::Tcp;
            server.authorization = only_custom(AuthorizerProtocol::Grpc);
            server.services = vec![("opa", address)];
        };
        let pair = Pair::with(app, |client| client.protocol = Protocol::Tcp, server).await;
        let mut peer = pair.connect().await;
        peer.send("hello").await;
        assert_eq!(peer.exactly(5).await, b"hello");
        assert_eq!(asked.borrow().len(), 1);

        // Another configuration: asked again, and cut when leave is gone.
        let next = || {
            let mut side = ServerSide::new(app.port());
            side.protocol = Protocol::Tcp;
            side.authorization = only_custom(AuthorizerProtocol::Grpc);
            side.services = vec![("opa", address)];
            pair.server_publisher.current().with(&side.effects(), 1, 0).0
        };
        pair.server_publisher.publish(next());
        peer.send("still").await;
        assert_eq!(peer.exactly(5).await, b"still");
        while asked.borrow().len() < 2 {
            tokio::task::yield_now().await;
        }
        allows.set(false);
        pair.server_publisher.publish(next());
        assert_eq!(peer.rest().await, b"");
        let mut peer = pair.connect().await;
        peer.send("hello").await;
        assert_eq!(peer.rest().await, b"");
        let records = pair.server_audit.records(2).await;
        assert!(records.iter().all(|record| record["by"] == "external-authorizer"), "{records:?}");

        // One of HTTP cannot be asked about a stream, so that nobody can give leave.
        let server = |server: &mut ServerSide| {
            server.protocol = Protocol::Tcp;
            server.authorization = only_custom(AuthorizerProtocol::Http(AuthorizerHttp::default()));
            server.services = vec![("opa", address)];
        };
        let pair = Pair::with(app, |client| client.protocol = Protocol::Tcp, server).await;
        let mut peer = pair.connect().await;
        peer.send("hello").await;
        assert_eq!(peer.rest().await, b"");
    });
}

#[test]
fn an_authoriser_of_http_whose_answer_is_too_long_has_not_answered() {
    run(async {
        for (bytes, status) in [(1 << 20, 401), ((1 << 20) + 1, 502)] {
            let address = application(move |mut peer| async move {
                peer.head().await;
                let head = format!("HTTP/1.1 401 No\r\nContent-Length: {bytes}\r\n\r\n");
                peer.send(head + &"x".repeat(bytes)).await;
            })
            .await;
            let authorizer = ExternalAuthorizer {
                status_on_error: 502,
                ..authorizer(AuthorizerProtocol::Http(AuthorizerHttp::default()))
            };
            let pair = pair(authorizer, address).await;
            let mut peer = pair.connect().await;
            assert_eq!(ask(&mut peer, "/asked", "").await.status(), status, "{bytes} bytes");
        }
    });
}
