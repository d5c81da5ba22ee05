//! What a workload may do to others: names, queries, packets.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_diag::{Dialect, Origin};
use heddle_ident::Cidr;
use heddle_ir::authorization::{
    Attribute, Authorization, Clause, Condition, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies, ValueMatch,
};
use heddle_ir::matching::TextMatch;
use heddle_ir::packet::{AddressTest, PacketProtocol, PacketRule, PacketRules};
use heddle_ir::request::ConnectionFacts;

use super::support::Request;
use crate::{CompiledEgress, Connection, PacketDirection, Transport, packet_rules};

fn exact(attribute: Attribute, text: &str) -> Condition {
    let values = vec![ValueMatch::Text(TextMatch::Exact(text.into()))];
    Condition { attribute, values, negate: false }
}

fn range(text: &str) -> Condition {
    let values = vec![ValueMatch::Range(Cidr::parse(text).unwrap())];
    Condition { attribute: Attribute::DestinationAddress, values, negate: false }
}

fn port(number: u16) -> Condition {
    let values = vec![ValueMatch::Port(number)];
    Condition { attribute: Attribute::DestinationPort, values, negate: false }
}

/// Each list is a clause with one alternative.
fn policy(action: PolicyAction, clauses: Vec<Vec<Condition>>) -> Arc<Policy> {
    let mut origin = Origin::built_in("test");
    origin.dialect = Dialect::Cilium;
    let clauses = clauses.into_iter().map(|own| Clause { alternatives: vec![own] }).collect();
    let rules = vec![Rule { origin: origin.clone(), clauses }];
    Arc::new(Policy { origin, action, dry_run: false, authorizer: None, rules })
}

fn closed(policies: Vec<Arc<Policy>>) -> Authorization {
    let mut origin = Origin::built_in("test");
    origin.dialect = Dialect::Cilium;
    let systems = vec![SystemPolicies::new(Fallback::Deny(origin), policies)];
    Authorization { systems, ..Authorization::default() }
}

fn compiled(policies: Vec<Arc<Policy>>) -> CompiledEgress {
    let (compiled, problems) = CompiledEgress::compile(Arc::new(closed(policies)));
    assert!(problems.is_empty(), "{problems:?}");
    compiled
}

fn to(address: &str, server_name: Option<&str>, names: &[&str]) -> Connection {
    let facts = ConnectionFacts {
        peer_identity: None,
        source: "10.0.0.1:1".parse().unwrap(),
        destination: address.parse().unwrap(),
        server_name: server_name.map(str::to_owned),
    };
    let transport = if server_name.is_some() { Transport::OpaqueTls } else { Transport::Plaintext };
    Connection::new(transport, facts).with_destination_names(names.iter().map(ToString::to_string))
}

#[test]
fn what_is_said_must_be_a_name_that_was_learned() {
    let allow = |name| vec![vec![exact(Attribute::DestinationName, name)]];
    let egress = compiled(vec![policy(PolicyAction::Allow, allow("a.example"))]);
    for (server_name, names, allowed) in [
        (None, &["a.example"][..], true),
        (None, &["b.example"], false),
        (None, &[], false),
        (None, &["b.example", "A.example."], true),
        (Some("a.example"), &["a.example", "b.example"], true),
        (Some("A.Example."), &["a.example"], true),
        (Some("b.example"), &["a.example", "b.example"], false),
        (Some("a.example"), &["b.example"], false),
    ] {
        let connection = to("1.1.1.1:443", server_name, names);
        let got = egress.decide_stream(&connection).is_ok();
        assert_eq!(got, allowed, "{server_name:?} {names:?}");
    }
    for (host, allowed) in [
        ("a.example", true),
        ("a.example.:80", true),
        ("A.EXAMPLE", true),
        ("b.example", false),
        ("x.a.example", false),
        ("1.1.1.1:80", true),
        ("[::1]", true),
        ("", true),
    ] {
        let connection = to("1.1.1.1:80", None, &["a.example", "b.example"]);
        let request = Request::get("/").authority(host);
        assert_eq!(egress.decide_request(&connection, &request).is_ok(), allowed, "{host}");
    }
}

#[test]
fn a_denied_name_is_denied_whichever_way_it_is_said() {
    let everything = policy(PolicyAction::Allow, vec![]);
    let name = vec![vec![exact(Attribute::DestinationName, "a.example")]];
    let egress = compiled(vec![everything, policy(PolicyAction::Deny, name)]);
    for (server_name, host, names, allowed) in [
        (None, "b.example", &["b.example"][..], true),
        (None, "b.example", &["a.example", "b.example"], false),
        (Some("a.example"), "b.example", &["b.example"], false),
        (None, "A.example:80", &["b.example"], false),
    ] {
        let connection = to("1.1.1.1:80", server_name, names);
        let request = Request::get("/").authority(host);
        let got = egress.decide_request(&connection, &request).is_ok();
        assert_eq!(got, allowed, "{server_name:?} {host} {names:?}");
    }
}

#[test]
fn queries_are_judged_by_rules_on_queries() {
    let asks = |egress: &CompiledEgress, name: &str| {
        let query = to("0.0.0.0:53", None, &[]).with_protocol("udp", None);
        egress.decide_query(&query.with_queried_name(name.to_owned())).is_ok()
    };
    let resolver = || vec![range("10.96.0.10")];
    let of_names = || vec![port(53), exact(Attribute::QueriedName, "a.example")];
    let allow = |clauses| policy(PolicyAction::Allow, clauses);
    // Nothing is said of queries: they are answered, or no name would be learned.
    let silent = compiled(vec![allow(vec![vec![range("1.0.0.0/8")]])]);
    assert!(asks(&silent, "a.example"));
    // Wherever the resolver is said to be.
    let named = compiled(vec![allow(vec![resolver(), of_names()])]);
    assert!(asks(&named, "A.example."));
    assert!(!asks(&named, "b.example"));
    // What else is allowed somewhere is not the name server.
    let elsewhere = vec![vec![range("0.0.0.0/0")], vec![port(53)]];
    let other = compiled(vec![allow(vec![resolver(), of_names()]), allow(elsewhere)]);
    assert!(!asks(&other, "b.example"));
    // To everybody on the port: that is the name server too, and makes the names void.
    let everybody = allow(vec![vec![port(53)]]);
    let void = compiled(vec![allow(vec![resolver(), of_names()]), everybody]);
    assert!(asks(&void, "b.example"));
    let denied = policy(PolicyAction::Deny, vec![vec![port(53)]]);
    assert!(!asks(&compiled(vec![denied]), "a.example"));
    let elsewhere = policy(PolicyAction::Deny, vec![vec![range("8.8.8.8")], vec![port(53)]]);
    assert!(asks(&compiled(vec![elsewhere]), "a.example"));
}

fn packets(policies: Vec<Arc<Policy>>, learned: &[(&str, &[&str])]) -> PacketRules {
    let learned: Vec<(IpAddr, Vec<String>)> = learned
        .iter()
        .map(|(address, names)| {
            (address.parse().unwrap(), names.iter().map(ToString::to_string).collect())
        })
        .collect();
    packet_rules(&closed(policies), PacketDirection::Out, &learned).unwrap()
}

fn inside(texts: &[&str]) -> AddressTest {
    AddressTest::In(texts.iter().map(|text| Cidr::parse(text).unwrap()).collect())
}

#[test]
fn packets_are_allowed_by_what_packets_tell() {
    let allow = |clauses| vec![policy(PolicyAction::Allow, clauses)];
    let udp = || exact(Attribute::Protocol, "udp");
    let rules = packets(allow(vec![vec![range("10.0.0.0/8")], vec![udp(), port(53)]]), &[]);
    let expected = PacketRule {
        peers: vec![inside(&["10.0.0.0/8"])],
        protocol: PacketProtocol::Udp,
        ports: vec![(53, 53)],
        icmp_types: Vec::new(),
    };
    assert_eq!(rules, PacketRules { closed: true, deny: Vec::new(), allow: vec![expected] });
    // A port without a protocol is one of each that has ports.
    let protocols = |rules: PacketRules| -> Vec<PacketProtocol> {
        rules.allow.iter().map(|rule| rule.protocol).collect()
    };
    let each = [PacketProtocol::Tcp, PacketProtocol::Udp, PacketProtocol::Sctp];
    assert_eq!(protocols(packets(allow(vec![vec![port(53)]]), &[])), each);
    // Two clauses on ports: what is in both. Two protocols are none.
    let both = Condition { values: vec![ValueMatch::PortRange(50, 60)], ..port(0) };
    let rules = packets(allow(vec![vec![udp(), both], vec![port(53)]]), &[]);
    assert_eq!(rules.allow[0].ports, [(53, 53)]);
    let tcp = exact(Attribute::Protocol, "tcp");
    assert!(packets(allow(vec![vec![udp()], vec![tcp]]), &[]).allow.is_empty());
    // What no packet tells allows none, and denies by the rest.
    for hidden in [
        exact(Attribute::Method, "GET"),
        exact(Attribute::ServerName, "a"),
        exact(Attribute::Transport, "mutual-tls"),
        exact(Attribute::QueriedName, "a"),
    ] {
        let clauses = || vec![vec![udp(), hidden.clone()]];
        assert!(packets(allow(clauses()), &[]).allow.is_empty(), "{hidden:?}");
        let rules = packets(vec![policy(PolicyAction::Deny, clauses())], &[]);
        assert_eq!(rules.deny.len(), 1, "{hidden:?}");
    }
    // An empty list of peers is nobody.
    let nobody = Condition { values: Vec::new(), ..range("10.0.0.0/8") };
    assert!(packets(allow(vec![vec![nobody]]), &[]).allow.is_empty());
}

#[test]
fn packets_to_a_name_go_to_the_addresses_learned_for_it() {
    let name = || vec![vec![exact(Attribute::DestinationName, "a.example")]];
    let learned: [(&str, &[&str]); 3] = [
        ("1.1.1.1", &["a.example"]),
        ("2.2.2.2", &["b.example", "a.example"]),
        ("3.3.3.3", &["c"]),
    ];
    let rules = packets(vec![policy(PolicyAction::Allow, name())], &learned);
    assert_eq!(rules.allow[0].peers, [inside(&["1.1.1.1/32", "2.2.2.2/32"])]);
    assert!(packets(vec![policy(PolicyAction::Allow, name())], &[]).allow.is_empty());
}

#[test]
fn other_systems_say_nothing_of_packets() {
    let mut authorization = closed(Vec::new());
    authorization.systems[0].without_allow = Fallback::Deny(Origin::built_in("Istio"));
    assert_eq!(packet_rules(&authorization, PacketDirection::Out, &[]), None);
}
