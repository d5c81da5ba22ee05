//! Tokens of requests, as the workload's proxy takes them.

mod rotation;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use heddle_ir::authentication::{ClaimHeader, JwtKeys, JwtRule, TokenLocation};
use heddle_ir::authorization::{
    Attribute, Authorization, Clause, Condition, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies, ValueMatch,
};
use heddle_ir::http_route::{ClaimMatch, HttpMatch};
use heddle_ir::matching::TextMatch;
use heddle_ir::protocol::Protocol;
use http::Request;
use serde_json::{Value, json};

use crate::changes::endless;
use crate::harness::{Message, Pair, Peer, application, mirror, run};
use crate::support::{ServerSide, origin, rule, service_host};
use crate::{gateway, http2};

const ISSUER: &str = "https://issuer.test";

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer of tokens.
struct Issuer {
    key: Ed25519KeyPair,
    id: &'static str,
}

impl Issuer {
    fn new(id: &'static str) -> Self {
        Self { key: Ed25519KeyPair::generate().unwrap(), id }
    }

    fn key_set(&self) -> String {
        let x = encoded(self.key.public_key());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x}]}).to_string()
    }

    fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.id, "typ": "JWT"});
        let content = content(&header, claims);
        let signature = self.key.sign(content.as_bytes());
        format!("{content}.{}", encoded(signature))
    }
}

fn content(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()))
}

fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

fn claims(subject: &str) -> Value {
    json!({"iss": ISSUER, "sub": subject, "exp": in_seconds(3600), "groups": ["a", "b"], "age": 7})
}

fn jwt_rule(keys: JwtKeys) -> JwtRule {
    JwtRule {
        origin: origin(),
        issuer: ISSUER.into(),
        audiences: Vec::new(),
        keys,
        locations: vec![
            TokenLocation::Header("authorization".into(), "Bearer ".into()),
            TokenLocation::Query("access_token".into()),
        ],
        forward: false,
        payload_header: None,
        claim_headers: Vec::new(),
        space_delimited_claims: Vec::new(),
        fetch_timeout: Duration::from_secs(5),
        required: false,
    }
}

fn policy(action: PolicyAction, conditions: Vec<Condition>) -> Arc<Policy> {
    let clauses = vec![Clause { alternatives: vec![conditions] }];
    Arc::new(Policy {
        origin: origin(),
        action,
        dry_run: false,
        authorizer: None,
        rules: vec![Rule { origin: origin(), clauses }],
    })
}

fn authorization(policies: Vec<Arc<Policy>>) -> Authorization {
    let systems = vec![SystemPolicies::new(Fallback::Allow, policies)];
    Authorization { systems, authorizers: Vec::new() }
}

fn principal(subject: &str) -> Condition {
    let exact = |text: &str| TextMatch::Exact(text.into());
    let subject = if subject == "*" { TextMatch::Present } else { exact(subject) };
    Condition {
        attribute: Attribute::RequestPrincipal,
        values: vec![ValueMatch::IssuerAndSubject(exact(ISSUER), subject)],
        negate: false,
    }
}

fn allow_sub_1() -> Authorization {
    authorization(vec![policy(PolicyAction::Allow, vec![principal("sub-1")])])
}

async fn get(peer: &mut Peer, target: &str, headers: &str) -> Message {
    peer.send(format!("GET {target} HTTP/1.1\r\nHost: server\r\n{headers}\r\n")).await;
    peer.message().await
}

async fn with_token(peer: &mut Peer, token: &str) -> Message {
    get(peer, "/", &format!("Authorization: Bearer {token}\r\n")).await
}

#[test]
fn policies_see_who_a_token_names_and_the_application_what_it_may() {
    run(async {
        let issuer = Issuer::new("1");
        let keys = JwtKeys::Inline(issuer.key_set().into());
        let mut rule = jwt_rule(keys);
        rule.payload_header = Some("x-payload".into());
        rule.claim_headers = vec![
            ClaimHeader { header: "x-sub".into(), claim: vec!["sub".into()] },
            ClaimHeader { header: "x-age".into(), claim: vec!["age".into()] },
            ClaimHeader { header: "x-absent".into(), claim: vec!["absent".into()] },
        ];
        let pair = Pair::with(
            mirror().await,
            |_| {},
            |server| {
                server.jwt_rules = vec![Arc::new(rule)];
                server.authorization = allow_sub_1();
            },
        )
        .await;
        let mut peer = pair.connect().await;
        let token = issuer.token(&claims("sub-1"));
        let headers = format!(
            "Authorization: Bearer {token}\r\nx-sub: spoofed\r\nX-Absent: spoofed\r\nx-payload: spoofed\r\n"
        );
        let answer = get(&mut peer, "/?a=b", &headers).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let seen = answer.text();
        assert!(seen.starts_with("GET /?a=b HTTP/1.1\r\n"), "{seen}");
        assert!(seen.contains("x-sub: sub-1\r\n") && seen.contains("x-age: 7\r\n"), "{seen}");
        let payload = token.split('.').nth(1).unwrap();
        assert!(seen.contains(&format!("x-payload: {payload}\r\n")), "{seen}");
        assert!(!seen.contains("spoofed") && !seen.to_lowercase().contains("bearer"), "{seen}");

        // The query is another place for it, and goes on without.
        let answer = get(&mut peer, &format!("/p?access_token={token}&a=b"), "").await;
        assert!(answer.text().starts_with("GET /p?a=b HTTP/1.1\r\n"), "{answer:?}");
        let answer = get(&mut peer, &format!("/p?access_token={token}"), "").await;
        assert!(answer.text().starts_with("GET /p HTTP/1.1\r\n"), "{answer:?}");

        let other = issuer.token(&claims("sub-2"));
        let answer = with_token(&mut peer, &other).await;
        assert_eq!((answer.status(), answer.text()), (403, "RBAC: access denied"));
        let answer = get(&mut peer, "/", "").await;
        assert_eq!((answer.status(), answer.text()), (403, "RBAC: access denied"));
        let records = pair.server_audit.records(2).await;
        assert_eq!(records[0]["token"], format!("{ISSUER}/sub-2"), "{records:?}");
        assert_eq!(records[0]["identity"], "spiffe://cluster.local/ns/default/sa/client");
        assert_eq!(records[0]["decision"], "deny");
        assert_eq!(records[0]["request"]["method"], "GET");
        assert_eq!(records[1].get("token"), None);
    });
}

#[test]
fn a_token_speaks_for_its_request_as_long_as_that_is_under_way() {
    run(async {
        let issuer = Issuer::new("1");
        let rule = Arc::new(jwt_rule(JwtKeys::Inline(issuer.key_set().into())));
        let app = endless().await;
        let allow = |subject: &str| {
            authorization(vec![policy(PolicyAction::Allow, vec![principal(subject)])])
        };
        let server = |subject: &str| {
            let mut server = ServerSide::new(app.port());
            server.jwt_rules = vec![rule.clone()];
            server.authorization = allow(subject);
            server
        };
        let pair = Pair::with(app, |_| {}, |own| *own = server("sub-1")).await;
        let mut peer = pair.connect().await;
        let token = issuer.token(&claims("sub-1"));
        let head = format!(
            "POST / HTTP/1.1\r\nHost: server\r\nContent-Length: 100\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        peer.send(head).await;
        assert!(peer.head().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(peer.exactly(5).await, b"hello");
        let publish = |subject: &str| {
            let (next, _) = pair.server_publisher.current().with(&server(subject).effects(), 1, 0);
            pair.server_publisher.publish(next);
        };
        publish("*");
        peer.send("more").await;
        assert_eq!(peer.exactly(4).await, b"more");
        publish("sub-2");
        assert_eq!(peer.rest().await, b"");
    });
}

#[test]
fn a_token_that_is_not_valid_is_refused_whatever_the_policy() {
    run(async {
        let issuer = Issuer::new("1");
        let stranger = Issuer::new("1");
        let mut rule = jwt_rule(JwtKeys::Inline(issuer.key_set().into()));
        rule.audiences = vec!["here".into()];
        let pair =
            Pair::with(mirror().await, |_| {}, |server| server.jwt_rules = vec![Arc::new(rule)])
                .await;
        let mut peer = pair.connect().await;
        assert_eq!(get(&mut peer, "/", "").await.status(), 200, "without a token it goes on");
        let with = |name: &str, value: Value| {
            let mut claims = claims("sub-1");
            claims["aud"] = "here".into();
            claims[name] = value;
            claims
        };
        let good = with("aud", "here".into());
        assert_eq!(with_token(&mut peer, &issuer.token(&good)).await.status(), 200);
        let none = content(&json!({"alg": "none"}), &good);
        // The public key, passed off as a secret.
        let confused = content(&json!({"alg": "HS256", "kid": "1"}), &good);
        let secret = hmac::Key::new(hmac::HMAC_SHA256, issuer.key.public_key().as_ref());
        let tag = encoded(hmac::sign(&secret, confused.as_bytes()));
        let valid = issuer.token(&good);
        let (head, rest) = valid.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let changed =
            format!("{head}.{}.{signature}", encoded(with("sub", "root".into()).to_string()));
        let cases = [
            (
                401,
                "Jwt issuer is not configured",
                issuer.token(&with("iss", "https://other".into())),
            ),
            (401, "Jwt header [alg] is not supported", format!("{none}.")),
            (401, "Jwt header [alg] is not supported", format!("{confused}.{tag}")),
            (401, "Jwt verification fails", stranger.token(&good)),
            (401, "Jwt verification fails", changed),
            (401, "Jwt is expired", issuer.token(&with("exp", in_seconds(-120).into()))),
            (401, "Jwt not yet valid", issuer.token(&with("nbf", in_seconds(120).into()))),
            (403, "Audiences in Jwt are not allowed", issuer.token(&with("aud", "there".into()))),
            (
                401,
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
                "x".to_owned(),
            ),
        ];
        let count = cases.len();
        for (status, body, token) in cases {
            let answer = with_token(&mut peer, &token).await;
            assert_eq!((answer.status(), answer.text()), (status, body), "{token}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert_eq!(challenge, "Bearer realm=\"http://server/\", error=\"invalid_token\"");
        }
        // Two tokens, one of them bad.
        let both = format!("/?access_token={}", stranger.token(&good));
        let headers = format!("Authorization: Bearer {valid}\r\n");
        assert_eq!(get(&mut peer, &both, &headers).await.status(), 401);
        let records = pair.server_audit.records(count + 1).await;
        assert!(records.iter().all(|record| record["by"] == "token"), "{records:?}");
    });
}

#[test]
fn tokens_of_http2_and_grpc_are_taken_too() {
    run(async {
        let app = http2::h2_application(|request, mut respond| async move {
            let seen = format!("{:?} {:?}", request.uri().query(), request.headers());
            let response = http::Response::builder().header("x-seen", seen).body(()).unwrap();
            respond.send_response(response, true).unwrap();
        })
        .await;
        let issuer = Issuer::new("1");
        let mut rule = jwt_rule(JwtKeys::Inline(issuer.key_set().into()));
        rule.locations.push(TokenLocation::Cookie("session".into()));
        let server = |server: &mut ServerSide| {
            server.jwt_rules = vec![Arc::new(rule)];
            server.authorization = allow_sub_1();
            server.protocol = Protocol::Http2;
        };
        let pair = Pair::with(app, |client| client.protocol = Protocol::Http2, server).await;
        let mut sender = http2::client(&pair).await;
        let (good, bad) =
            (issuer.token(&claims("sub-1")), Issuer::new("1").token(&claims("sub-1")));
        let request = |query: &str, name: &str, value: String, grpc: bool| {
            let request = Request::builder().uri(format!("http://server:8080/s.S/M{query}"));
            let kind = if grpc { "application/grpc" } else { "text/plain" };
            request.header(name, value).header("content-type", kind).body(()).unwrap()
        };
        let cases = [
            (request("", "authorization", format!("Bearer {good}"), false), 200, None),
            (request("?a=1", "cookie", format!("a=1; session={good}; b=2"), false), 200, None),
            (request(&format!("?access_token={good}"), "x", "y".to_owned(), false), 200, None),
            (request("", "authorization", format!("Bearer {bad}"), false), 401, None),
            (request("", "x", "y".to_owned(), false), 403, None),
            (request("", "authorization", format!("Bearer {bad}"), true), 200, Some("16")),
            (request("", "x", "y".to_owned(), true), 200, Some("7")),
        ];
        for (number, (request, status, grpc)) in cases.into_iter().enumerate() {
            let (response, _) = sender.send_request(request, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), status, "{number}");
            let got = response.headers().get("grpc-status").map(|own| own.to_str().unwrap());
            assert_eq!(got, grpc, "{number}");
            if let Some(seen) = response.headers().get("x-seen") {
                let seen = seen.to_str().unwrap();
                assert!(!seen.contains(&good) && !seen.contains("session"), "{seen}");
                if number == 1 {
                    assert!(seen.contains("Some(\"a=1\")") && seen.contains("a=1; b=2"), "{seen}");
                }
            }
        }
    });
}

/// Serves what `answer` says for a path; none: the connection is closed.
async fn server(answer: impl Fn(&str) -> Option<String> + Clone + 'static) -> SocketAddr {
    application(move |mut peer| {
        let answer = answer.clone();
        async move {
            while let Some(head) = peer.try_head().await {
                let Some(body) = answer(head.split(' ').nth(1).unwrap()) else { return };
                let length = body.len();
                peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"))
                    .await;
            }
        }
    })
    .await
}

#[test]
fn a_key_set_is_fetched_from_a_service_and_until_then_no_token_is_valid() {
    run(async {
        let issuer = Issuer::new("1");
        let calls = Arc::new(AtomicU32::new(0));
        let (set, counter) = (issuer.key_set(), calls.clone());
        let keys = server(move |path| {
            assert_eq!(path, "/jwks");
            (counter.fetch_add(1, Ordering::Relaxed) > 0).then(|| set.clone())
        })
        .await;
        let url = format!("http://{}:8080/jwks", service_host("keys"));
        let deny = authorization(vec![policy(PolicyAction::Deny, vec![principal("sub-1")])]);
        let pair = Pair::with(
            mirror().await,
            |_| {},
            |server| {
                server.jwt_rules = vec![Arc::new(jwt_rule(JwtKeys::Url(url.into())))];
                server.services = vec![("keys", keys)];
                server.authorization = deny;
            },
        )
        .await;
        let mut peer = pair.connect().await;
        // The first fetch fails: the token cannot be checked, and what a DENY rule would say of it is not known.
        let answer = with_token(&mut peer, &issuer.token(&claims("sub-1"))).await;
        assert_eq!((answer.status(), answer.text()), (401, "Jwks remote fetch is failed"));
        loop {
            let answer = with_token(&mut peer, &issuer.token(&claims("sub-2"))).await;
            if answer.status() == 200 {
                break;
            }
            assert_eq!(answer.status(), 401);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let answer = with_token(&mut peer, &issuer.token(&claims("sub-1"))).await;
        assert_eq!(answer.status(), 403);
        let many = calls.load(Ordering::Relaxed);
        for _ in 0..20 {
            with_token(&mut peer, &issuer.token(&claims("sub-2"))).await;
            with_token(&mut peer, &Issuer::new("other").token(&claims("sub-2"))).await;
        }
        let more = calls.load(Ordering::Relaxed) - many;
        assert!(more <= 2, "an unknown key id costs {more} fetches");
    });
}

#[test]
fn a_key_set_that_is_too_long_is_not_taken() {
    const BYTES_MAX: usize = 512 * 1024;
    run(async {
        for (bytes, status) in [(BYTES_MAX, 200), (BYTES_MAX + 1, 401)] {
            let issuer = Issuer::new("1");
            let mut set = issuer.key_set();
            set.push_str(&" ".repeat(bytes - set.len()));
            let keys = server(move |_| Some(set.clone())).await;
            let url = format!("http://{}:8080/jwks", service_host("keys"));
            let configure = |server: &mut ServerSide| {
                server.jwt_rules = vec![Arc::new(jwt_rule(JwtKeys::Url(url.into())))];
                server.services = vec![("keys", keys)];
            };
            let pair = Pair::with(mirror().await, |_| {}, configure).await;
            let mut peer = pair.connect().await;
            let answer = with_token(&mut peer, &issuer.token(&claims("sub-2"))).await;
            assert_eq!(answer.status(), status, "{bytes} bytes");
        }
    });
}

#[test]
fn a_key_set_is_discovered() {
    run(async {
        let issuer = Issuer::new("1");
        let set = issuer.key_set();
        let jwks = format!("http://{}:8080/jwks", service_host("keys"));
        let keys = server(move |path| match path {
            "/.well-known/openid-configuration" => Some(json!({"jwks_uri": jwks}).to_string()),
            "/jwks" => Some(set.clone()),
            _ => None,
        })
        .await;
        let url = "http://keys.default.svc:8080/.well-known/openid-configuration";
        let pair = Pair::with(
            mirror().await,
            |_| {},
            |server| {
                server.jwt_rules = vec![Arc::new(jwt_rule(JwtKeys::Discovery(url.into())))];
                server.services = vec![("keys", keys)];
                server.authorization = allow_sub_1();
            },
        )
        .await;
        // The request waits for the fetch that is under way.
        let mut peer = pair.connect().await;
        let answer = with_token(&mut peer, &issuer.token(&claims("sub-1"))).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
    });
}

#[test]
fn a_key_set_from_outside_of_the_mesh_is_fetched_by_its_address() {
    run(async {
        let issuer = Issuer::new("1");
        let set = issuer.key_set();
        let keys = server(move |_| Some(set.clone())).await;
        let url = format!("http://localhost:{}/jwks", keys.port());
        let pair = Pair::with(
            mirror().await,
            |_| {},
            |server| {
                server.jwt_rules = vec![Arc::new(jwt_rule(JwtKeys::Url(url.into())))];
                server.authorization = allow_sub_1();
            },
        )
        .await;
        let mut peer = pair.connect().await;
        let answer = with_token(&mut peer, &issuer.token(&claims("sub-1"))).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
    });
}

#[test]
fn a_gateway_verifies_tokens_and_routes_by_their_claims() {
    run(async {
        let issuer = Issuer::new("1");
        let mut own = jwt_rule(JwtKeys::Inline(issuer.key_set().into()));
        own.claim_headers = vec![ClaimHeader { header: "x-sub".into(), claim: vec!["sub".into()] }];
        let mut for_group = rule();
        for_group.matches = vec![HttpMatch {
            claims: vec![ClaimMatch {
                path: vec!["groups".into()],
                value: TextMatch::Exact("b".into()),
                invert: false,
            }],
            origin: origin(),
            name: "".into(),
            path: None,
            ignore_path_case: false,
            scheme: None,
            method: None,
            authority: None,
            headers: Vec::new(),
            query: Vec::new(),
            parts: Vec::new(),
        }];
        let port = gateway::free_port().await;
        let hosts = gateway::http(&["*"], vec![for_group]);
        let listener = gateway::listener(port, vec![gateway::server(&["*"], None, hosts)]);
        let _edge = gateway::Edge::new(mirror().await, vec![listener], |side| {
            side.jwt_rules = vec![Arc::new(own)];
            let deny = policy(PolicyAction::Deny, vec![principal("sub-2")]);
            side.authorization = authorization(vec![deny]);
        })
        .await;
        let mut peer = Peer::new(gateway::connect(port).await);
        let good = issuer.token(&claims("sub-1"));
        let headers = format!("Authorization: Bearer {good}\r\nx-sub: spoofed\r\n");
        let answer = get(&mut peer, "/?a=b", &headers).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let seen = answer.text();
        assert!(seen.contains("x-sub: sub-1\r\n") && !seen.contains("spoofed"), "{seen}");
        assert!(!seen.contains("Bearer"), "{seen}");
        let answer = get(&mut peer, &format!("/?a=b&access_token={good}"), "").await;
        assert!(answer.text().starts_with("GET /?a=b HTTP/1.1\r\n"), "{answer:?}");
        // Without a token, or with one of another group, no route takes it.
        assert_eq!(get(&mut peer, "/", "").await.status(), 404);
        let mut other = claims("sub-1");
        other["groups"] = json!(["a"]);
        assert_eq!(with_token(&mut peer, &issuer.token(&other)).await.status(), 404);
        assert_eq!(with_token(&mut peer, &issuer.token(&claims("sub-2"))).await.status(), 403);
        let forged = Issuer::new("1").token(&claims("sub-1"));
        let answer = with_token(&mut peer, &forged).await;
        assert_eq!((answer.status(), answer.text()), (401, "Jwt verification fails"));
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=\"http://server/\""), "{challenge}");
    });
}
