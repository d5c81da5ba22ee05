//! Mutual TLS, health checks, and permits that depend on them.

use heddle_ident::Cidr;
use heddle_ir::authorization::PolicyAction;
use heddle_ir::inbound::{Inbound, InboundPort, MutualTlsMode};
use heddle_ir::protocol::Protocol;

use super::support::{
    Request, allows, compiled, facts, from, inbound, mutual_tls, plaintext, policy, rule, system,
};
use crate::{Acceptance, AllowedBy, Connection, Denial, Transport, Verdict};

const MODES: [MutualTlsMode; 3] =
    [MutualTlsMode::Disable, MutualTlsMode::Permissive, MutualTlsMode::Strict];

#[test]
fn every_mode_with_every_transport() {
    let identity = Some("spiffe://cluster.local/ns/a/sa/b");
    // Transport and identity; then whether it is accepted under disable, permissive, strict.
    let cases = [
        (Transport::MutualTls, identity, [false, true, true]),
        (Transport::MutualTls, None, [false, false, false]),
        (Transport::OpaqueTls, None, [true, true, false]),
        (Transport::OpaqueTls, identity, [true, true, false]),
        (Transport::Plaintext, None, [true, true, false]),
        (Transport::Plaintext, identity, [true, true, false]),
    ];
    for (transport, identity, expected) in cases {
        for (mode, expected) in MODES.into_iter().zip(expected) {
            let compiled = compiled(Inbound { mutual_tls: mutual_tls(mode), ..inbound(vec![]) });
            let connection = Connection::new(transport, facts(identity));
            let accepted = compiled.accept(&connection) == Acceptance::Accept;
            assert_eq!(accepted, expected, "{mode:?} {transport:?} {identity:?}");
            // No permit without it, whatever is asked.
            assert_eq!(allows(&compiled.decide_stream(&connection)), expected);
            let request = Request::get("/");
            assert_eq!(allows(&compiled.decide_request(&connection, &request)), expected);
        }
    }
}

#[test]
fn a_refused_transport_is_no_matter_of_policies() {
    let allow = system(vec![policy(PolicyAction::Allow, vec![rule("all", vec![])])]);
    let strict = mutual_tls(MutualTlsMode::Strict);
    let compiled = compiled(Inbound { mutual_tls: strict, ..inbound(vec![allow]) });
    let connection = plaintext();
    let decision = compiled.decide_request(&connection, &Request::get("/"));
    let Verdict::Deny(denial @ Denial::Transport(_)) = decision.verdict else { panic!() };
    assert_eq!(&*denial.origin().name, "mutual TLS");
}

#[test]
fn a_port_may_differ_from_the_rest() {
    let compiled = compiled(Inbound {
        mutual_tls: mutual_tls(MutualTlsMode::Strict),
        mutual_tls_by_port: vec![(9080, mutual_tls(MutualTlsMode::Disable))],
        ..inbound(vec![])
    });
    assert!(allows(&compiled.decide_stream(&plaintext())));
    assert!(!allows(&compiled.decide_stream(&from("a", "b"))));
    let mut other = facts(None);
    other.destination.set_port(9081);
    assert!(!allows(&compiled.decide_stream(&Connection::new(Transport::Plaintext, other))));
}

/// A permit tells which configuration granted it, and a stricter one grants none to the same connection.
#[test]
fn a_live_connection_can_be_judged_by_a_newer_configuration() {
    let connection = plaintext();
    let before = compiled(inbound(vec![]));
    let permit = before.decide_stream(&connection).verdict.into_permit().unwrap();
    assert_eq!(permit.generation(), before.generation());
    let strict = mutual_tls(MutualTlsMode::Strict);
    let after = compiled(Inbound { mutual_tls: strict, ..inbound(vec![]) });
    assert!(after.decide_stream(&connection).verdict.into_permit().is_err());
}

/// STRICT, deny all, and a health check for `/healthz` from 10.1.0.0/24.
fn probed() -> Inbound {
    Inbound {
        ports: vec![InboundPort {
            port: 9080,
            protocol: Protocol::Http1,
            services: Vec::new(),
            probe_paths: vec!["/healthz?verbose=1".into()],
            routes: None,
            application: None,
            application_socket: None,
            connection_pool: None,
        }],
        mutual_tls: mutual_tls(MutualTlsMode::Strict),
        probe_sources: vec![Cidr::parse("10.1.0.0/24").unwrap()],
        ..inbound(vec![system(vec![policy(PolicyAction::Deny, vec![rule("all", vec![])])])])
    }
}

#[test]
fn health_checks_of_the_node_are_admitted_whatever_policies_say() {
    let compiled = compiled(probed());
    let connection = plaintext();
    assert!(matches!(compiled.accept(&connection), Acceptance::ProbesOnly(_)));
    let decision = compiled.decide_request(&connection, &Request::get("/healthz"));
    let Verdict::Allow { by: AllowedBy::Probe(path), .. } = decision.verdict else { panic!() };
    assert_eq!(path, "/healthz?verbose=1");
    let listed: Vec<_> = compiled.implicit_allows().collect();
    assert_eq!(listed, [(9080, "/healthz?verbose=1")]);
}

#[test]
fn nothing_else_is_admitted_as_a_health_check() {
    let compiled = compiled(probed());
    let connection = plaintext();
    for path in ["/", "/healthz/", "/healthz/x", "/Healthz", "/healthz?verbose=1"] {
        let request = Request::get(path);
        assert!(!allows(&compiled.decide_request(&connection, &request)), "{path}");
    }
    for method in ["POST", "DELETE", "get"] {
        let request = Request::get("/healthz").method(method);
        assert!(!allows(&compiled.decide_request(&connection, &request)), "{method}");
    }
    assert!(!allows(&compiled.decide_stream(&connection)));
    let request = Request::get("/healthz");
    // A peer of the mesh is no kubelet, wherever it is.
    assert!(!allows(&compiled.decide_request(&from("a", "b"), &request)));
    let opaque = Connection::new(Transport::OpaqueTls, facts(None));
    assert!(!allows(&compiled.decide_request(&opaque, &request)));
    let mut elsewhere = facts(None);
    elsewhere.source = "10.2.0.1:1".parse().unwrap();
    let elsewhere = Connection::new(Transport::Plaintext, elsewhere);
    assert!(matches!(compiled.accept(&elsewhere), Acceptance::Refuse(_)));
    assert!(!allows(&compiled.decide_request(&elsewhere, &request)));
    let mut other_port = facts(None);
    other_port.destination.set_port(9081);
    let other_port = Connection::new(Transport::Plaintext, other_port);
    assert!(matches!(compiled.accept(&other_port), Acceptance::Refuse(_)));
    assert!(!allows(&compiled.decide_request(&other_port, &request)));
}

/// STRICT itself refuses what is no health check; no policy is needed for that.
#[test]
fn plaintext_from_the_node_opens_nothing_but_the_probe() {
    let compiled = compiled(Inbound { authorization: inbound(vec![]).authorization, ..probed() });
    let connection = plaintext();
    assert!(allows(&compiled.decide_request(&connection, &Request::get("/healthz"))));
    for decision in [
        compiled.decide_stream(&connection),
        compiled.decide_request(&connection, &Request::get("/")),
    ] {
        assert!(matches!(decision.verdict, Verdict::Deny(Denial::Transport(_))));
    }
}

#[test]
fn without_sources_there_are_no_health_checks() {
    let compiled = compiled(Inbound { probe_sources: Vec::new(), ..probed() });
    assert!(matches!(compiled.accept(&plaintext()), Acceptance::Refuse(_)));
    assert!(!allows(&compiled.decide_request(&plaintext(), &Request::get("/healthz"))));
    assert_eq!(compiled.implicit_allows().count(), 0);
}
