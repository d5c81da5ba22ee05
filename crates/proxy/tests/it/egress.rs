//! Policies on what a workload does to others, as the proxy beside it enforces them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::Cidr;
use heddle_ir::authorization::{
    Attribute, Authorization, Clause, Condition, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies, ValueMatch,
};
use heddle_ir::matching::TextMatch;
use heddle_ir::protocol::Protocol;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::MeshTransport;
use heddle_sync::Effect;

use crate::harness::{Pair, application, mirror, run};
use crate::support::{ClientSide, endpoint, service_host};

const FAILED: &str = "heddle_connections_failed_total";
const DENIED: [&str; 2] = ["outbound", "reason=\"authorization_denied\""];

fn exact(attribute: Attribute, text: &str) -> Condition {
    let values = vec![ValueMatch::Text(TextMatch::Exact(text.into()))];
    Condition { attribute, values, negate: false }
}

fn address(range: &str) -> Condition {
    let values = vec![ValueMatch::Range(Cidr::parse(range).unwrap())];
    Condition { attribute: Attribute::DestinationAddress, values, negate: false }
}

fn port(number: u16) -> Condition {
    let values = vec![ValueMatch::Port(number)];
    Condition { attribute: Attribute::DestinationPort, values, negate: false }
}

fn policy(action: PolicyAction, conditions: Vec<Condition>) -> Arc<Policy> {
    let origin = Origin::built_in("test");
    let rule =
        Rule { origin: origin.clone(), clauses: vec![Clause { alternatives: vec![conditions] }] };
    Arc::new(Policy { origin, action, dry_run: false, authorizer: None, rules: vec![rule] })
}

/// Closed but for these.
#[expect(clippy::unnecessary_wraps, reason = "what settings hold is optional")]
fn only(policies: Vec<Arc<Policy>>) -> Option<Authorization> {
    let closed = Fallback::Deny(Origin::built_in("test"));
    let systems = vec![SystemPolicies::new(closed, policies)];
    Some(Authorization { systems, ..Authorization::default() })
}

async fn pair_of(application: SocketAddr, with: impl FnOnce(&mut ClientSide)) -> Pair {
    Pair::with(application, with, |_| {}).await
}

#[test]
fn requests_are_judged_by_what_they_ask_and_where_they_go() {
    run(async {
        let pair = pair_of(mirror().await, |client| {
            let conditions = vec![
                address("127.0.0.1"),
                exact(Attribute::Method, "GET"),
                exact(Attribute::PathAndQuery, "/public"),
                exact(Attribute::Transport, "mutual-tls"),
            ];
            client.egress = only(vec![policy(PolicyAction::Allow, conditions)]);
        })
        .await;
        let mut client = pair.connect().await;
        for (path, status) in
            [("/public", 200), ("/private", 403), ("/public/../private", 403), ("/public", 200)]
        {
            // The connection is kept whatever is decided.
            let answer = client.get(path).await;
            assert_eq!(answer.status(), status, "{path}");
        }
        Pair::counts(&pair.client_registry, FAILED, &DENIED, 2).await;
    });
}

#[test]
fn the_port_and_address_are_those_of_the_endpoint_that_was_picked() {
    run(async {
        for (conditions, status) in [
            (vec![address("127.0.0.0/8")], 200),
            (vec![address("10.96.0.0/16")], 403),
            (vec![port(1)], 403),
            (vec![exact(Attribute::Transport, "plaintext")], 403),
        ] {
            let pair = pair_of(mirror().await, |client| {
                client.egress = only(vec![policy(PolicyAction::Allow, conditions)]);
            })
            .await;
            assert_eq!(pair.connect().await.get("/").await.status(), status);
        }
    });
}

#[test]
fn a_denial_beats_what_allows() {
    run(async {
        let pair = pair_of(mirror().await, |client| {
            let allow = policy(PolicyAction::Allow, vec![address("0.0.0.0/0")]);
            let deny = policy(PolicyAction::Deny, vec![address("127.0.0.1")]);
            client.egress = only(vec![allow, deny]);
        })
        .await;
        assert_eq!(pair.connect().await.get("/").await.status(), 403);
    });
}

#[test]
fn a_stream_that_is_not_allowed_is_closed() {
    run(async {
        for (range, expected) in [("127.0.0.1", &b"ping"[..]), ("10.0.0.0/8", b"")] {
            let echo = application(|mut peer| async move {
                let bytes = peer.exactly(4).await;
                peer.send(bytes).await;
            })
            .await;
            let pair = Pair::with(
                echo,
                |client| {
                    client.protocol = Protocol::Tcp;
                    client.egress = only(vec![policy(PolicyAction::Allow, vec![address(range)])]);
                },
                |server| server.protocol = Protocol::Tcp,
            )
            .await;
            let mut client = pair.connect().await;
            client.send("ping").await;
            assert_eq!(client.rest().await, expected, "{range}");
            if expected.is_empty() {
                Pair::counts(&pair.client_registry, FAILED, &DENIED, 1).await;
            }
        }
    });
}

#[test]
fn a_stream_under_way_ends_when_it_is_newly_denied() {
    run(async {
        let pair = Pair::with(
            mirror().await,
            |client| client.protocol = Protocol::Tcp,
            |server| server.protocol = Protocol::Tcp,
        )
        .await;
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.fill().await);
        let snapshot = pair.client_publisher.current();
        let mut settings = (**snapshot.settings.as_ref().unwrap()).clone();
        settings.egress = only(Vec::new()).map(Arc::new);
        let name = ResourceName::Proxy(settings.workload.id.clone());
        let effects = [Effect::Set(name, Resource::Proxy(Arc::new(settings)))];
        pair.client_publisher.publish(snapshot.with(&effects, 1, 0).0);
        // What came before is read; then the end.
        client.rest().await;
        Pair::counts(&pair.client_registry, FAILED, &DENIED, 1).await;
    });
}

#[test]
fn a_port_that_declares_streams_is_heard_where_rules_are_about_requests() {
    run(async {
        let pair = Pair::with(
            mirror().await,
            |client| {
                client.protocol = Protocol::Tcp;
                let conditions = vec![exact(Attribute::PathAndQuery, "/public")];
                client.egress = only(vec![policy(PolicyAction::Allow, conditions)]);
            },
            |server| server.protocol = Protocol::Detect,
        )
        .await;
        let mut client = pair.connect().await;
        assert_eq!(client.get("/public").await.status(), 200);
        assert_eq!(client.get("/private").await.status(), 403);
        let mut client = pair.connect().await;
        client.send("no request\r\n").await;
        assert_eq!(client.rest().await, b"");
    });
}

#[test]
fn a_name_counts_where_the_workload_was_answered_it_and_says_no_other() {
    run(async {
        let application = mirror().await;
        let pair = pair_of(application, |client| {
            // Outside of the mesh, at an address of its own.
            client.endpoints = vec![endpoint(application, MeshTransport::None)];
            client.destination.id.host = service_host("elsewhere");
            let conditions = vec![exact(Attribute::DestinationName, "api.example.com")];
            client.egress = only(vec![policy(PolicyAction::Allow, conditions)]);
        })
        .await;
        let ask = async |host: &str| {
            let mut client = pair.connect().await;
            client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            client.message().await.status()
        };
        assert_eq!(ask("api.example.com").await, 403);
        let names = &pair.client_names;
        let hour = Duration::from_hours(1);
        names.learn("other.example.com", &[application.ip()], hour, 4_000_000_000);
        assert_eq!(ask("api.example.com").await, 403);
        names.learn("api.example.com", &[application.ip()], hour, 4_000_000_000);
        assert_eq!(ask("api.example.com").await, 200);
        assert_eq!(ask("API.example.com:80").await, 200);
        assert_eq!(ask("other.example.com").await, 403);
        assert_eq!(ask("127.0.0.1").await, 200);
    });
}
