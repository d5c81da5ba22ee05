//! The rules behind an [`Interception`]: a pure function from the description to chains and sets.
//!
//! The order of the rules is their meaning; it is Istio's (`istio-iptables`), and each departure from
//! it says why.

use heddle_ident::Cidr;

use super::{
    DELIVERY_SOURCE_IPV4, DELIVERY_SOURCE_IPV6, InboundMode, Interception, OwnPackets,
    RESERVED_PORTS, Selection, TUNNEL_PORT,
};
use crate::nftables::{
    Chain, ChainKind, Connection, Direction, Hook, Meta, Policy, Rule, Set, SetKey, TCP, UDP,
};

const DNS_PORT: u16 = 53;
const LOOPBACK: &str = "lo";

const RESERVED: &str = "reserved-ports";
const PROXY_PORTS: &str = "proxy-ports";
const INBOUND_ONLY: &str = "inbound-only";
const INBOUND_EXCLUDE: &str = "inbound-exclude";
const OUTBOUND_PORTS: &str = "outbound-ports";
const OUTBOUND_PORTS_EXCLUDE: &str = "outbound-ports-exclude";
const RANGES_ONLY_IPV4: &str = "ranges-only-ipv4";
const RANGES_ONLY_IPV6: &str = "ranges-only-ipv6";
const RANGES_EXCLUDE_IPV4: &str = "ranges-exclude-ipv4";
const RANGES_EXCLUDE_IPV6: &str = "ranges-exclude-ipv6";
const HOUSEKEEPING: &str = "ipv6-housekeeping";

/// Router and neighbour discovery (RFC 4861), multicast listener reports (RFC 3810).
const HOUSEKEEPING_TYPES: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];

/// The sets the chains refer to. Every one is there, so that a rule never names a missing set.
pub(super) fn sets(interception: &Interception) -> Vec<Set> {
    let ports = |name: &'static str, ports: &[u16]| Set {
        name: name.into(),
        key: SetKey::Port(ports.to_vec()),
    };
    let only_ports = match &interception.inbound_ports {
        Selection::All => &[][..],
        Selection::Only(ports) => ports,
    };
    let only_ranges = match &interception.outbound_ranges {
        Selection::All => Vec::new(),
        Selection::Only(ranges) => ranges.clone(),
    };
    let exclude = interception.outbound_ranges_exclude.clone();
    let own = interception.ports;
    vec![
        ports(RESERVED, &RESERVED_PORTS),
        ports(PROXY_PORTS, &[own.outbound, own.inbound, own.dns]),
        ports(INBOUND_ONLY, only_ports),
        ports(INBOUND_EXCLUDE, &interception.inbound_ports_exclude),
        ports(OUTBOUND_PORTS, &interception.outbound_ports),
        ports(OUTBOUND_PORTS_EXCLUDE, &interception.outbound_ports_exclude),
        Set { name: RANGES_ONLY_IPV4.into(), key: SetKey::Ipv4(only_ranges.clone()) },
        Set { name: RANGES_ONLY_IPV6.into(), key: SetKey::Ipv6(only_ranges) },
        Set { name: RANGES_EXCLUDE_IPV4.into(), key: SetKey::Ipv4(exclude.clone()) },
        Set { name: RANGES_EXCLUDE_IPV6.into(), key: SetKey::Ipv6(exclude) },
    ]
}

pub(super) fn chains(interception: &Interception) -> Vec<Chain> {
    let mut chains = vec![fence(interception), outbound(interception)];
    if interception.inbound == InboundMode::Redirect {
        chains.push(inbound_redirect(interception));
    }
    if interception.capture_dns {
        chains.extend(dns_untracked(interception));
    }
    if let OwnPackets::Mark(_) = interception.own
        && interception.needs_routes()
    {
        chains.push(delivery(interception.delivery_mark));
    }
    chains
}

/// Prerouting before translation: keeps outsiders off the proxy's own ports, and hands connections
/// over in transparent mode.
fn fence(interception: &Interception) -> Chain {
    // Whoever dials 15001 or 15006 from outside has no original destination but the proxy itself,
    // which would call itself for ever. Istio leaves this to the listener.
    let mut rules = vec![
        Rule::new().interface(Meta::InputName, LOOPBACK).accept(),
        Rule::new()
            .protocol(TCP)
            .destination_port_in(PROXY_PORTS)
            .connection(Connection::NEW)
            .drop_packet(),
        Rule::new().protocol(UDP).destination_port(interception.ports.dns).drop_packet(),
    ];
    if interception.inbound == InboundMode::Transparent {
        rules.extend(inbound_exceptions(interception));
        // Answers to what this workload asked others are not inbound, whoever still waits for them.
        // Packets of a connection that was handed over find its socket by the same expression.
        rules.push(
            Rule::new()
                .protocol(TCP)
                .connection_direction(Direction::Original)
                .transparent_proxy(interception.ports.inbound)
                .set_mark(interception.delivery_mark)
                .accept(),
        );
    }
    Chain {
        name: "fence",
        kind: ChainKind::Filter,
        hook: Hook::Prerouting,
        priority: Chain::PRIORITY_MANGLE,
        policy: Policy::Accept,
        rules,
    }
}

fn inbound_redirect(interception: &Interception) -> Chain {
    let mut rules = vec![Rule::new().interface(Meta::InputName, LOOPBACK).accept()];
    rules.extend(inbound_exceptions(interception));
    rules.push(Rule::new().protocol(TCP).redirect(interception.ports.inbound));
    Chain {
        name: "inbound",
        kind: ChainKind::Nat,
        hook: Hook::Prerouting,
        priority: Chain::PRIORITY_NAT,
        policy: Policy::Accept,
        rules,
    }
}

fn inbound_exceptions(interception: &Interception) -> Vec<Rule> {
    let mut rules: Vec<Rule> = interception
        .interfaces_exclude
        .iter()
        .map(|name| Rule::new().interface(Meta::InputName, name).accept())
        .collect();
    rules.push(Rule::new().protocol(TCP).destination_port_in(RESERVED).accept());
    rules.push(match interception.inbound_ports {
        Selection::All => Rule::new().protocol(TCP).destination_port_in(INBOUND_EXCLUDE).accept(),
        Selection::Only(_) => {
            Rule::new().protocol(TCP).destination_port_not_in(INBOUND_ONLY).accept()
        }
    });
    rules
}

/// What this namespace sends. Only the first packet of a connection is asked.
fn outbound(interception: &Interception) -> Chain {
    let ports = interception.ports;
    let mut rules: Vec<Rule> = interception
        .interfaces_exclude
        .iter()
        .map(|name| Rule::new().interface(Meta::OutputName, name).accept())
        .collect();
    // Exclusions by port stand before everything, calls of the workload to itself included.
    for protocol in [TCP, UDP] {
        rules.push(
            Rule::new().protocol(protocol).destination_port_in(OUTBOUND_PORTS_EXCLUDE).accept(),
        );
    }
    rules.extend(outbound_own(interception));
    if interception.capture_dns {
        for protocol in [UDP, TCP] {
            rules.push(
                Rule::new().protocol(protocol).destination_port(DNS_PORT).redirect(ports.dns),
            );
        }
    }
    // The application's calls to loopback and to its own address stay between it and itself.
    if !names_loopback(interception) {
        rules.push(Rule::new().interface(Meta::OutputName, LOOPBACK).accept());
    }
    rules.push(Rule::new().destination_in_set(false, RANGES_EXCLUDE_IPV4).accept());
    rules.push(Rule::new().destination_in_set(true, RANGES_EXCLUDE_IPV6).accept());
    let tcp = || Rule::new().protocol(TCP);
    rules.push(tcp().destination_port_in(OUTBOUND_PORTS).redirect(ports.outbound));
    match interception.outbound_ranges {
        Selection::All => rules.push(tcp().redirect(ports.outbound)),
        Selection::Only(_) => {
            rules.push(tcp().destination_in_set(false, RANGES_ONLY_IPV4).redirect(ports.outbound));
            rules.push(tcp().destination_in_set(true, RANGES_ONLY_IPV6).redirect(ports.outbound));
        }
    }
    Chain {
        name: "outbound",
        kind: ChainKind::Nat,
        hook: Hook::Output,
        priority: Chain::PRIORITY_NAT,
        policy: Policy::Accept,
        rules,
    }
}

/// The proxy's packets: deliveries pass, calls to the workload's own address come in again at the
/// inbound side (so that they are encrypted, authorised and counted like any other), the rest passes.
fn outbound_own(interception: &Interception) -> Vec<Rule> {
    let to_loopback = |rule: Rule| rule.interface(Meta::OutputName, LOOPBACK);
    let mut rules = vec![
        to_loopback(Rule::new()).source(DELIVERY_SOURCE_IPV4.into()).accept(),
        to_loopback(Rule::new()).source(DELIVERY_SOURCE_IPV6.into()).accept(),
    ];
    if let OwnPackets::Mark(_) = interception.own {
        rules.push(Rule::new().mark(interception.delivery_mark).accept());
    }
    if interception.inbound != InboundMode::Off {
        for range in loopback_ranges() {
            let rule = to_loopback(own(interception.own)).protocol(TCP).destination_outside(range);
            let rule = rule.destination_port_not(TUNNEL_PORT);
            // A name server at the workload's own address is asked directly.
            let rule =
                if interception.capture_dns { rule.destination_port_not(DNS_PORT) } else { rule };
            rules.push(rule.redirect(interception.ports.inbound));
        }
    }
    rules.push(own(interception.own).accept());
    rules
}

/// The proxy's own questions are not tracked: its socket may get the port an application's socket had
/// a moment ago, and would inherit that one's redirection. (Istio puts them into a tracking zone of
/// their own, for the same reason.)
fn dns_untracked(interception: &Interception) -> [Chain; 2] {
    let raw = |name, hook, rule| Chain {
        name,
        kind: ChainKind::Filter,
        hook,
        priority: Chain::PRIORITY_RAW,
        policy: Policy::Accept,
        rules: vec![rule],
    };
    let question = own(interception.own).protocol(UDP).destination_port(DNS_PORT).no_track();
    let answer = Rule::new()
        .interface_not(Meta::InputName, LOOPBACK)
        .protocol(UDP)
        .source_port(DNS_PORT)
        .no_track();
    [raw("dns-question", Hook::Output, question), raw("dns-answer", Hook::Prerouting, answer)]
}

/// Keeps the answers of the application to a delivery under a foreign address inside: they would leave
/// by the default route otherwise. The connection remembers the mark of its first packet.
fn delivery(mark: u32) -> Chain {
    Chain {
        name: "delivery",
        kind: ChainKind::Route,
        hook: Hook::Output,
        priority: Chain::PRIORITY_MANGLE,
        policy: Policy::Accept,
        rules: vec![
            Rule::new().mark(mark).set_connection_mark(mark).accept(),
            Rule::new()
                .connection_direction(Direction::Reply)
                .connection_mark(mark)
                .set_mark(mark)
                .accept(),
        ],
    }
}

/// The set [`hold_chains`] refers to.
pub(super) fn housekeeping_set() -> Set {
    Set { name: HOUSEKEEPING.into(), key: SetKey::IcmpType(HOUSEKEEPING_TYPES.to_vec()) }
}

/// Nothing passes but loopback, the proxy's own packets and the answers to them.
pub(super) fn hold_chains(packets: OwnPackets) -> [Chain; 3] {
    let filter = |name, hook, rules| Chain {
        name,
        kind: ChainKind::Filter,
        hook,
        priority: Chain::PRIORITY_FILTER,
        policy: Policy::Drop,
        rules,
    };
    let housekeeping = || Rule::new().ipv6_housekeeping(HOUSEKEEPING).accept();
    [
        filter(
            "hold-output",
            Hook::Output,
            vec![
                Rule::new().interface(Meta::OutputName, LOOPBACK).accept(),
                own(packets).accept(),
                housekeeping(),
            ],
        ),
        filter(
            "hold-input",
            Hook::Input,
            vec![
                Rule::new().interface(Meta::InputName, LOOPBACK).accept(),
                Rule::new().connection(Connection::ESTABLISHED_OR_RELATED).accept(),
                housekeeping(),
            ],
        ),
        filter("hold-forward", Hook::Forward, Vec::new()),
    ]
}

fn own(packets: OwnPackets) -> Rule {
    match packets {
        OwnPackets::Mark(mark) => Rule::new().mark(mark),
        OwnPackets::User(uid) => Rule::new().socket_user(uid),
    }
}

fn loopback_ranges() -> [Cidr; 2] {
    let range =
        |address, bits| Cidr::new(address, bits).expect("the prefix is shorter than the address");
    [
        range(std::net::Ipv4Addr::LOCALHOST.into(), 8),
        range(std::net::Ipv6Addr::LOCALHOST.into(), 128),
    ]
}

/// As in Istio, a loopback range in the list of destinations takes loopback calls too.
fn names_loopback(interception: &Interception) -> bool {
    match &interception.outbound_ranges {
        Selection::All => false,
        Selection::Only(ranges) => ranges.iter().any(|range| range.network().is_loopback()),
    }
}
