//! Property: what the kernel is told of packets is what the engine decides about them, for everything that packets tell.

use std::net::{IpAddr, SocketAddr};
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
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{CompiledEgress, Connection, PacketDirection, Transport, packet_policy};

fn origin(name: &str) -> Origin {
    Origin { dialect: Dialect::Cilium, ..Origin::built_in(name) }
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let ranges =
        vec(select(vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "::/0", "2001:db8::/32"]), 0..3);
    let address = (ranges, any::<bool>()).prop_map(|(ranges, negate)| Condition {
        attribute: Attribute::DestinationAddress,
        values: ranges
            .into_iter()
            .map(|text| ValueMatch::Range(Cidr::parse(text).unwrap()))
            .collect(),
        negate,
    });
    let port = vec(select(vec![(53_u16, 53_u16), (50, 60), (4000, 4000), (1, 65_535)]), 1..3);
    let port = port.prop_map(|ranges| {
        let value = |(first, last)| {
            if first == last { ValueMatch::Port(first) } else { ValueMatch::PortRange(first, last) }
        };
        let values = ranges.into_iter().map(value).collect();
        Condition { attribute: Attribute::DestinationPort, values, negate: false }
    });
    let text = |attribute: Attribute, text: &str| Condition {
        attribute,
        values: vec![ValueMatch::Text(TextMatch::Exact(text.into()))],
        negate: false,
    };
    let protocol = select(vec!["udp", "tcp", "icmp", "icmpv6", "sctp"])
        .prop_map(move |name| text(Attribute::Protocol, name));
    let kind = select(vec![0_u16, 8, 128]).prop_map(|number| Condition {
        attribute: Attribute::IcmpType,
        values: vec![ValueMatch::Number(number)],
        negate: false,
    });
    // What requests tell: no packet has it, and no stream.
    let request = select(vec!["GET", "PUT"]).prop_map(move |name| text(Attribute::Method, name));
    prop_oneof![4 => address, 3 => port, 3 => protocol, 1 => kind, 1 => request]
}

fn any_authorization() -> impl Strategy<Value = Authorization> {
    let alternatives = vec(vec(any_condition(), 0..3), 1..3);
    let clause = alternatives.prop_map(|alternatives| Clause { alternatives });
    let rule = vec(clause, 0..4).prop_map(|clauses| Rule { origin: origin("rule"), clauses });
    let action = select(vec![PolicyAction::Allow, PolicyAction::Deny]);
    let policy = (action, vec(rule, 1..3)).prop_map(|(action, rules)| {
        Arc::new(Policy {
            origin: origin("policy"),
            action,
            dry_run: false,
            authorizer: None,
            rules,
        })
    });
    (vec(policy, 0..4), any::<bool>()).prop_map(|(mut policies, closed)| {
        let without_allow = if closed { Fallback::Deny(origin("closed")) } else { Fallback::Allow };
        if !closed {
            // An open direction has no rules that allow.
            policies.retain(|policy| policy.action == PolicyAction::Deny);
        }
        let systems = vec![SystemPolicies::new(without_allow, policies)];
        Authorization { systems, authorizers: Vec::new() }
    })
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    to: IpAddr,
    protocol: &'static str,
    /// Of ICMP its type.
    number: u16,
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let to =
        select(vec!["10.1.2.3", "10.9.9.9", "192.0.2.7", "203.0.113.1", "2001:db8::1", "fd00::1"]);
    let what = prop_oneof![
        (select(vec!["udp", "tcp", "sctp"]), select(vec![53_u16, 55, 4000, 9])),
        (select(vec!["icmp", "icmpv6"]), select(vec![0_u16, 8, 128])),
    ];
    (to, what).prop_map(|(to, (protocol, number))| Packet {
        to: to.parse().unwrap(),
        protocol,
        number,
    })
}

/// As nftables asks: the first rule that matches decides.
fn passes(rules: &PacketRules, packet: Packet) -> bool {
    let matches = |rule: &PacketRule| {
        let is_icmp = packet.protocol.starts_with("icmp");
        let by_peer = rule.peers.iter().all(|test| match test {
            AddressTest::In(ranges) => ranges.iter().any(|range| range.contains(packet.to)),
            AddressTest::NotIn(ranges) => !ranges.iter().any(|range| range.contains(packet.to)),
        });
        let name = match rule.protocol {
            PacketProtocol::Any => packet.protocol,
            PacketProtocol::Icmp => "icmp",
            PacketProtocol::Icmpv6 => "icmpv6",
            PacketProtocol::Sctp => "sctp",
            PacketProtocol::Tcp => "tcp",
            PacketProtocol::Udp => "udp",
        };
        let by_port = rule.ports.is_empty()
            || (!is_icmp
                && rule.ports.iter().any(|(first, last)| (first..=last).contains(&&packet.number)));
        let by_type = rule.icmp_types.is_empty()
            || (is_icmp && rule.icmp_types.iter().any(|own| u16::from(*own) == packet.number));
        by_peer && name == packet.protocol && by_port && by_type
    };
    if rules.deny.iter().any(matches) {
        return false;
    }
    !rules.closed || rules.allow.iter().any(matches)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_kernel_is_told_what_the_engine_decides(
        authorization in any_authorization(),
        packets in vec(any_packet(), 1..12),
    ) {
        let told = packet_policy(&authorization, PacketDirection::Out, &[]);
        let (compiled, problems) = CompiledEgress::compile(Arc::new(authorization));
        prop_assert!(problems.is_empty());
        for packet in packets {
            let is_icmp = packet.protocol.starts_with("icmp");
            let port = if is_icmp { 0 } else { packet.number };
            let facts = ConnectionFacts {
                peer_identity: None,
                source: "10.0.0.1:1".parse().unwrap(),
                destination: SocketAddr::new(packet.to, port),
                server_name: None,
            };
            let kind = is_icmp.then_some(packet.number);
            let connection =
                Connection::new(Transport::Plaintext, facts).with_protocol(packet.protocol, kind);
            let decided = compiled.decide_stream(&connection).is_ok();
            let kernel = told.as_ref().is_none_or(|(rules, _)| passes(rules, packet));
            prop_assert_eq!(kernel, decided, "{:?} {:?}", packet, told);
        }
        if let Some((rules, origins)) = told {
            prop_assert_eq!(rules.deny.len(), origins.deny.len());
            prop_assert_eq!(rules.closed, origins.closed.is_some());
        }
    }
}
