//! What each attribute and each kind of value takes.

use heddle_ir::authorization::{Attribute, Condition, PolicyAction, ValueMatch};
use heddle_ir::matching::TextMatch;

use super::support::{
    Request, allows, compiled, condition, exact, facts, from, inbound, not, plaintext, policies,
    policy, range, rule, system,
};
use crate::{CompiledAuthorization, Connection, Transport};

/// Whether a rule of this condition matches.
fn holds(condition: &Condition, connection: &Connection, request: &Request) -> bool {
    let allow = policy(PolicyAction::Allow, vec![rule("r", vec![condition.clone()])]);
    allows(&policies(vec![allow]).decide_request(connection, request))
}

fn prefix(text: &str) -> ValueMatch {
    ValueMatch::Text(TextMatch::Prefix(text.into()))
}

fn suffix(text: &str) -> ValueMatch {
    ValueMatch::Text(TextMatch::Suffix(text.into()))
}

fn regex(text: &str) -> ValueMatch {
    ValueMatch::Text(TextMatch::Regex(text.into()))
}

const PRESENT: ValueMatch = ValueMatch::Text(TextMatch::Present);

#[test]
fn identities() {
    let peer = from("ns1", "a");
    let request = Request::get("/");
    let cases = [
        (Attribute::SourcePrincipal, exact("cluster.local/ns/ns1/sa/a"), true),
        (Attribute::SourcePrincipal, exact("spiffe://cluster.local/ns/ns1/sa/a"), false),
        (Attribute::SourcePrincipal, exact("cluster.local/ns/ns1/sa/b"), false),
        (Attribute::SourcePrincipal, prefix("cluster.local/ns/ns1/"), true),
        (Attribute::SourcePrincipal, suffix("/sa/a"), true),
        (Attribute::SourcePrincipal, suffix("/sa/A"), false),
        (Attribute::SourcePrincipal, regex(".*/ns1/.*"), true),
        (Attribute::SourcePrincipal, regex("ns1"), false),
        (Attribute::SourcePrincipal, PRESENT, true),
        (Attribute::SourceNamespace, exact("ns1"), true),
        (Attribute::SourceNamespace, exact("ns"), false),
        (Attribute::SourceNamespace, ValueMatch::Glob("n*1".into()), true),
        (Attribute::SourceNamespace, ValueMatch::Glob("*2".into()), false),
        (Attribute::SourceNamespace, prefix("ns"), true),
        (Attribute::SourceServiceAccount, exact("ns1/a"), true),
        (Attribute::SourceServiceAccount, exact("a"), false),
        (Attribute::SourceTrustDomain, exact("cluster.local"), true),
        (Attribute::SourceTrustDomain, exact("cluster"), false),
    ];
    for (attribute, value, expected) in cases {
        let condition = condition(attribute.clone(), vec![value.clone()]);
        assert_eq!(holds(&condition, &peer, &request), expected, "{attribute:?} {value:?}");
        // Without mutual TLS nothing of an identity is there (hazard 4) …
        assert!(!holds(&condition, &plaintext(), &request), "{attribute:?} {value:?}");
        // … and its absence is what the negation takes.
        let negated = not(attribute.clone(), vec![value.clone()]);
        assert_eq!(holds(&negated, &peer, &request), !expected, "not {attribute:?} {value:?}");
        assert!(holds(&negated, &plaintext(), &request), "not {attribute:?} {value:?}");
    }
}

#[test]
fn an_identity_counts_only_when_mutual_tls_has_proven_it() {
    let identity = facts(Some("spiffe://cluster.local/ns/ns1/sa/a"));
    let present = condition(Attribute::SourcePrincipal, vec![PRESENT]);
    for transport in [Transport::Plaintext, Transport::OpaqueTls] {
        let connection = Connection::new(transport, identity.clone());
        assert!(!holds(&present, &connection, &Request::get("/")), "{transport:?}");
        assert_eq!(connection.peer_identity(), None);
    }
}

#[test]
fn an_identity_of_another_form_has_a_principal_and_a_trust_domain_only() {
    let peer = Connection::new(Transport::MutualTls, facts(Some("spiffe://td/identity/42")));
    let request = Request::get("/");
    let is = |attribute, value| holds(&condition(attribute, vec![value]), &peer, &request);
    assert!(is(Attribute::SourcePrincipal, exact("td/identity/42")));
    assert!(is(Attribute::SourceTrustDomain, exact("td")));
    assert!(!is(Attribute::SourceNamespace, ValueMatch::Glob("*".into())));
    assert!(!is(Attribute::SourceServiceAccount, PRESENT));
}

#[test]
fn addresses_and_ports() {
    let peer = plaintext();
    let request = Request::get("/").header("x-forwarded-for", "1.2.3.4, 5.6.7.8");
    let cases = [
        (Attribute::SourceAddress, range("10.1.0.0/16"), true),
        (Attribute::SourceAddress, range("10.1.0.11"), true),
        (Attribute::SourceAddress, range("10.2.0.0/16"), false),
        (Attribute::SourceAddress, range("::/0"), false),
        (Attribute::DestinationAddress, range("10.1.0.12"), true),
        (Attribute::DestinationAddress, range("10.1.0.11"), false),
        (Attribute::DestinationPort, ValueMatch::Port(9080), true),
        (Attribute::DestinationPort, ValueMatch::Port(9081), false),
        // What the nearest proxy has written counts.
        (Attribute::RemoteAddress, range("5.6.7.8"), true),
        (Attribute::RemoteAddress, range("1.2.3.4"), false),
        (Attribute::RemoteAddress, range("10.1.0.11"), false),
    ];
    for (attribute, value, expected) in cases {
        let condition = condition(attribute.clone(), vec![value.clone()]);
        assert_eq!(holds(&condition, &peer, &request), expected, "{attribute:?} {value:?}");
    }
    let own = condition(Attribute::RemoteAddress, vec![range("10.1.0.11")]);
    assert!(holds(&own, &peer, &Request::get("/")));
    assert!(holds(&own, &peer, &Request::get("/").header("x-forwarded-for", "nonsense")));
    let mut mapped = facts(None);
    mapped.source = "[::ffff:10.1.0.11]:1".parse().unwrap();
    let mapped = Connection::new(Transport::Plaintext, mapped);
    let source = condition(Attribute::SourceAddress, vec![range("10.1.0.0/16")]);
    assert!(holds(&source, &mapped, &Request::get("/")));
}

#[test]
fn hosts_ignore_case_port_and_final_dot() {
    let cases = [
        (exact("Example.com"), "eXample.COM", true),
        (exact("example.com"), "example.com:8080", true),
        (exact("example.com:8080"), "example.com:8080", true),
        (exact("example.com:8080"), "example.com", false),
        (exact("example.com:8080"), "example.com:80", false),
        (exact("example.com"), "example.com.", true),
        (exact("example.com"), "example.com.:80", true),
        (exact("example.com"), "xexample.com", false),
        (suffix(".Example.com"), "a.example.com:1", true),
        (suffix(".example.com"), "example.com", false),
        (prefix("API."), "api.x", true),
        (prefix("api."), "ap", false),
        (regex("[a-c]+\\.x"), "ABC.X:1", true),
        (PRESENT, "a", true),
        (PRESENT, "", false),
        (exact("[::1]"), "[::1]:80", true),
    ];
    for (value, authority, expected) in cases {
        let request = Request::get("/").authority(authority);
        for attribute in [Attribute::Host, Attribute::RequestHeader(":authority".into())] {
            let condition = condition(attribute.clone(), vec![value.clone()]);
            assert_eq!(
                holds(&condition, &plaintext(), &request),
                expected,
                "{value:?} {authority}"
            );
            let negated = not(attribute, vec![value.clone()]);
            assert_eq!(holds(&negated, &plaintext(), &request), !expected, "{value:?} {authority}");
        }
    }
}

#[test]
fn methods_paths_and_headers() {
    let request = Request::get("/info/details").header("x-token", "admin").header("x-empty", "");
    let header = |name: &str| Attribute::RequestHeader(name.into());
    let cases = [
        (Attribute::Method, exact("GET"), true),
        (Attribute::Method, exact("get"), false),
        (header(":method"), exact("GET"), true),
        (header(":path"), exact("/info/details"), true),
        (Attribute::Method, PRESENT, true),
        (Attribute::Path, exact("/info/details"), true),
        (Attribute::Path, exact("/info"), false),
        (Attribute::Path, prefix("/info"), true),
        (Attribute::Path, prefix("/Info"), false),
        (Attribute::Path, suffix("/details"), true),
        (Attribute::Path, ValueMatch::PathTemplate("/info/{*}".into()), true),
        (Attribute::Path, ValueMatch::PathTemplate("/{*}".into()), false),
        (Attribute::Path, ValueMatch::PathTemplate("/{**}".into()), true),
        (header("x-token"), exact("admin"), true),
        (header("x-token"), exact("Admin"), false),
        (header("x-token"), prefix("ad"), true),
        (header("x-token"), PRESENT, true),
        (header("x-empty"), PRESENT, false),
        (header("x-empty"), exact(""), true),
        (header("x-none"), PRESENT, false),
        (header("x-none"), exact(""), false),
    ];
    for (attribute, value, expected) in cases {
        let positive = condition(attribute.clone(), vec![value.clone()]);
        assert_eq!(holds(&positive, &plaintext(), &request), expected, "{attribute:?} {value:?}");
        let negated = not(attribute.clone(), vec![value.clone()]);
        assert_eq!(holds(&negated, &plaintext(), &request), !expected, "{attribute:?} {value:?}");
    }
    let binary = Request::get("/").header("x", [0xff, b'a']);
    assert!(holds(&condition(header("x"), vec![suffix("a")]), &plaintext(), &binary));
}

#[test]
fn server_names_are_compared_in_lower_case() {
    let mut facts = facts(None);
    facts.server_name = Some("API.Example.com.".into());
    let connection = Connection::new(Transport::OpaqueTls, facts);
    let name = |value| condition(Attribute::ServerName, vec![value]);
    let allow = |value| {
        let policy = policy(PolicyAction::Allow, vec![rule("r", vec![name(value)])]);
        allows(&policies(vec![policy]).decide_stream(&connection))
    };
    assert!(allow(exact("api.example.com")));
    assert!(allow(suffix(".example.com")));
    assert!(!allow(exact("example.com")));
    assert!(!holds(&name(PRESENT), &plaintext(), &Request::get("/")));
}

#[test]
fn values_of_a_condition_are_alternatives_and_none_match_without_values() {
    let request = Request::get("/");
    let values = vec![exact("PUT"), exact("GET")];
    assert!(holds(&condition(Attribute::Method, values.clone()), &plaintext(), &request));
    assert!(!holds(&not(Attribute::Method, values), &plaintext(), &request));
    assert!(!holds(&condition(Attribute::Method, vec![]), &plaintext(), &request));
    assert!(holds(&not(Attribute::Method, vec![]), &plaintext(), &request));
}

/// What could not be read, in the IR or here, allows nothing and denies everything, negated or not.
#[test]
fn unreadable_values_are_never_in_favour() {
    let unreadable = [
        (Attribute::Method, ValueMatch::Poisoned),
        (Attribute::Method, regex("(")),
        (Attribute::Method, ValueMatch::Port(80)),
        (Attribute::Method, ValueMatch::PathTemplate("/x".into())),
        (Attribute::Path, ValueMatch::PathTemplate("/{**}/{*}".into())),
        (Attribute::SourceAddress, exact("10.1.0.11")),
        (Attribute::DestinationPort, exact("9080")),
        (Attribute::RequestHeader(":scheme".into()), exact("/")),
    ];
    for (attribute, value) in unreadable {
        for negate in [false, true] {
            for others in [vec![], vec![exact("GET")]] {
                let values = [others, vec![value.clone()]].concat();
                let unreadable = Condition { attribute: attribute.clone(), values, negate };
                for action in [PolicyAction::Allow, PolicyAction::Deny] {
                    let policy = policy(action, vec![rule("r", vec![unreadable.clone()])]);
                    let inbound = inbound(vec![system(vec![policy])]);
                    let (compiled, problems) = CompiledAuthorization::compile(inbound.into(), 1);
                    assert!(!problems.is_empty());
                    assert_eq!(problems[0].origin.name.as_ref(), "r");
                    let decision = compiled.decide_request(&from("ns1", "a"), &Request::get("/"));
                    assert!(!allows(&decision), "{action:?} {unreadable:?}");
                    assert!(!allows(&compiled.decide_stream(&plaintext())), "{unreadable:?}");
                }
            }
        }
    }
}

#[test]
fn an_unreadable_condition_poisons_itself_and_not_its_rule() {
    let conditions = vec![
        condition(Attribute::Method, vec![ValueMatch::Poisoned]),
        condition(Attribute::Path, vec![exact("/secret")]),
    ];
    let deny = policy(PolicyAction::Deny, vec![rule("r", conditions)]);
    let (compiled, _) = CompiledAuthorization::compile(inbound(vec![system(vec![deny])]).into(), 1);
    assert!(!allows(&compiled.decide_request(&plaintext(), &Request::get("/secret"))));
    assert!(allows(&compiled.decide_request(&plaintext(), &Request::get("/public"))));
    let _ = compiled.implicit_allows().count();
}

#[test]
fn whether_requests_are_needed_is_told() {
    let needs = |conditions| {
        let policy = policy(PolicyAction::Deny, vec![rule("r", conditions)]);
        compiled(inbound(vec![system(vec![policy])])).needs_requests()
    };
    assert!(needs(vec![condition(Attribute::Path, vec![exact("/")])]));
    assert!(!needs(vec![condition(Attribute::SourceAddress, vec![range("::/0")])]));
    assert!(!needs(vec![]));
}
