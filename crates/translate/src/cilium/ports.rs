//! Ports and ICMP messages of an entry (API.md 8.3).

use heddle_api::IntOrText;
use heddle_api::cilium::{DenyPort, IcmpFamily, IcmpRule, PortProtocol, PortRule, Transport};
use heddle_ir::authorization::{Attribute, Clause, Condition, ValueMatch};
use heddle_ir::matching::TextMatch;

use super::{Conditions, Context, l7};
use crate::network::peers::at_named_port;
use crate::network::{Direction, condition, never};
use crate::report::Report;

/// Ports and what may be said on them, or messages of ICMP; none where everything is meant.
pub(super) fn allowed(
    context: &Context<'_>,
    rules: &[PortRule],
    icmps: &[IcmpRule],
    report: &mut Report,
) -> Option<Clause> {
    if rules.is_empty() && icmps.is_empty() {
        return None;
    }
    let mut clause = never();
    for rule in rules {
        let said = l7::alternatives(context, rule, report);
        for port in ports(context, &rule.ports) {
            for conditions in &said {
                let both = port.iter().chain(conditions).cloned().collect();
                clause.alternatives.push(both);
            }
        }
    }
    clause.alternatives.extend(icmp(icmps));
    Some(clause)
}

/// Ports or messages of ICMP that are denied; none where everything is.
pub(super) fn denied(
    context: &Context<'_>,
    rules: &[DenyPort],
    icmps: &[IcmpRule],
) -> Option<Clause> {
    if rules.is_empty() && icmps.is_empty() {
        return None;
    }
    let mut clause = never();
    for rule in rules {
        clause.alternatives.extend(ports(context, &rule.ports));
    }
    clause.alternatives.extend(icmp(icmps));
    Some(clause)
}

/// Each port is an alternative; no port at all is every port.
fn ports(context: &Context<'_>, ports: &[PortProtocol]) -> Vec<Conditions> {
    if ports.is_empty() {
        return vec![Vec::new()];
    }
    ports.iter().flat_map(|port| port_conditions(context, port)).collect()
}

fn port_conditions(context: &Context<'_>, port: &PortProtocol) -> Vec<Conditions> {
    let mut conditions: Vec<Condition> = Vec::new();
    let protocol = match port.protocol {
        None | Some(Transport::Any) => None,
        Some(Transport::Igmp) => Some("igmp"),
        Some(Transport::Sctp) => Some("sctp"),
        Some(Transport::Tcp) => Some("tcp"),
        Some(Transport::Udp) => Some("udp"),
        Some(Transport::Vrrp) => Some("vrrp"),
    };
    conditions.extend(protocol.map(|name| condition(Attribute::Protocol, vec![exact(name)])));
    let text = port.port.as_deref().unwrap_or("0");
    let value = match text.parse::<u16>() {
        Ok(0) => return vec![conditions],
        Ok(first) => match port.end_port.and_then(|last| u16::try_from(last).ok()) {
            Some(last) if last > first => ValueMatch::PortRange(first, last),
            _ => ValueMatch::Port(first),
        },
        // A name means another number at each peer.
        Err(_) if context.direction == Direction::Egress => {
            let with = |own: Vec<Condition>| conditions.iter().cloned().chain(own).collect();
            return at_named_port(context.reader, text).into_iter().map(with).collect();
        }
        Err(_) => {
            let known = &context.facts.ports;
            let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            // A workload without such a port has nothing that could be allowed or denied.
            let Some((_, number)) = found else { return Vec::new() };
            ValueMatch::Port(*number)
        }
    };
    conditions.push(condition(Attribute::DestinationPort, vec![value]));
    vec![conditions]
}

fn icmp(rules: &[IcmpRule]) -> Vec<Conditions> {
    rules
        .iter()
        .flat_map(|rule| &rule.fields)
        .map(|field| {
            let family = field.family.unwrap_or(IcmpFamily::V4);
            let protocol = match family {
                IcmpFamily::V4 => "icmp",
                IcmpFamily::V6 => "icmpv6",
            };
            let kind = match &field.kind {
                Some(IntOrText::Int(number)) => u16::try_from(*number).ok(),
                Some(IntOrText::Text(name)) => {
                    name.parse().ok().or_else(|| icmp_type(family, name))
                }
                None => None,
            };
            let kind = kind.map_or(ValueMatch::Poisoned, ValueMatch::Number);
            vec![
                condition(Attribute::Protocol, vec![exact(protocol)]),
                condition(Attribute::IcmpType, vec![kind]),
            ]
        })
        .collect()
}

/// The names that Cilium gives to types of messages (IANA's registries for ICMP and ICMPv6).
fn icmp_type(family: IcmpFamily, name: &str) -> Option<u16> {
    let table: &[(&str, u16)] = match family {
        IcmpFamily::V4 => &[
            ("EchoReply", 0),
            ("DestinationUnreachable", 3),
            ("Redirect", 5),
            ("Echo", 8),
            ("EchoRequest", 8),
            ("RouterAdvertisement", 9),
            ("RouterSelection", 10),
            ("TimeExceeded", 11),
            ("ParameterProblem", 12),
            ("Timestamp", 13),
            ("TimestampReply", 14),
            ("Photuris", 40),
            ("ExtendedEchoRequest", 42),
            ("ExtendedEchoReply", 43),
        ],
        IcmpFamily::V6 => &[
            ("DestinationUnreachable", 1),
            ("PacketTooBig", 2),
            ("TimeExceeded", 3),
            ("ParameterProblem", 4),
            ("EchoRequest", 128),
            ("EchoReply", 129),
            ("MulticastListenerQuery", 130),
            ("MulticastListenerReport", 131),
            ("MulticastListenerDone", 132),
            ("RouterSolicitation", 133),
            ("RouterAdvertisement", 134),
            ("NeighborSolicitation", 135),
            ("NeighborAdvertisement", 136),
            ("RedirectMessage", 137),
            ("RouterRenumbering", 138),
            ("ExtendedEchoRequest", 160),
            ("ExtendedEchoReply", 161),
        ],
    };
    table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn exact(text: &str) -> ValueMatch {
    ValueMatch::Text(TextMatch::Exact(text.into()))
}
