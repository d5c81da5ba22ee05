//! Policies as far as packets tell: for what does not pass a proxy, so that the kernel enforces it.
//!
//! What allows by something that no packet tells (a request, a server name, mutual TLS) allows no packet; what denies by it
//! keeps its other conditions. Only systems that are about networks count: the others are about what proxies carry.

use std::net::IpAddr;

use heddle_diag::{Dialect, Origin};
use heddle_ident::Cidr;
use heddle_ir::authorization::{
    Attribute, Authorization, Condition, Enforcement, Fallback, PolicyAction, Rule, SystemPolicies,
    ValueMatch,
};
use heddle_ir::matching::TextMatch;
use heddle_ir::packet::{AddressTest, PacketProtocol, PacketRule, PacketRules};

use crate::condition::CompiledCondition;

/// Which way packets go, as seen from the workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketDirection {
    /// From others.
    In,
    /// To others.
    Out,
}

/// A rule that becomes more than so many is taken for what is safe: it allows nothing, or denies whatever its first
/// addresses say.
const TERMS_MAX: usize = 512;

/// Where what is dropped was written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PacketOrigins {
    /// Of each of [`PacketRules::deny`].
    pub deny: Vec<Origin>,
    /// Of the default, where it is to drop.
    pub closed: Option<Origin>,
}

/// What network policies say of packets; none where they have no say. `learned` are the names that addresses were found
/// under.
pub fn packet_rules(
    authorization: &Authorization,
    direction: PacketDirection,
    learned: &[(IpAddr, Vec<String>)],
) -> Option<PacketRules> {
    packet_policy(authorization, direction, learned).map(|(rules, _)| rules)
}

/// As [`packet_rules`], with where each was written.
pub fn packet_policy(
    authorization: &Authorization,
    direction: PacketDirection,
    learned: &[(IpAddr, Vec<String>)],
) -> Option<(PacketRules, PacketOrigins)> {
    // Of several each must allow; there is one, since either project adds up what both allow.
    let system = authorization.systems.iter().find(|system| is_of_networks(system))?;
    let closed = match &system.without_allow {
        Fallback::Allow => None,
        Fallback::Deny(origin) => Some(origin.clone()),
    };
    let mut rules = PacketRules { closed: closed.is_some(), ..PacketRules::default() };
    let mut origins = PacketOrigins { closed, deny: Vec::new() };
    for policy in system.policies.iter().filter(|policy| !policy.dry_run) {
        for rule in &policy.rules {
            // As for streams: a rule that allows by a request allows nothing that is none.
            if policy.action == PolicyAction::Allow && looks_at_requests(rule) {
                continue;
            }
            let terms = terms(rule, policy.action, direction, learned);
            match policy.action {
                PolicyAction::Allow => rules.allow.extend(terms),
                PolicyAction::Deny => {
                    origins.deny.extend(terms.iter().map(|_| rule.origin.clone()));
                    rules.deny.extend(terms);
                }
                PolicyAction::Audit | PolicyAction::Custom => {}
            }
        }
    }
    Some((rules, origins))
}

fn looks_at_requests(rule: &Rule) -> bool {
    let mut conditions = rule.clauses.iter().flat_map(|own| &own.alternatives).flatten();
    conditions.any(|own| own.attribute.is_http())
}

fn is_of_networks(system: &SystemPolicies) -> bool {
    let is_own = |origin: &Origin| matches!(origin.dialect, Dialect::Cilium | Dialect::Kubernetes);
    let closes = match &system.without_allow {
        Fallback::Allow => false,
        Fallback::Deny(origin) => is_own(origin),
    };
    system.enforcement == Enforcement::Enforce
        && (closes || system.policies.iter().any(|policy| is_own(&policy.origin)))
}

/// The alternatives of a rule, each with everything that must hold.
fn terms(
    rule: &Rule,
    action: PolicyAction,
    direction: PacketDirection,
    learned: &[(IpAddr, Vec<String>)],
) -> Vec<PacketRule> {
    let everything = PacketRule {
        peers: Vec::new(),
        protocol: PacketProtocol::Any,
        ports: Vec::new(),
        icmp_types: Vec::new(),
    };
    let mut terms = vec![Some(Term { rule: everything, with_ports: false })];
    for clause in &rule.clauses {
        let mut next = Vec::new();
        for alternative in merged(&clause.alternatives, direction) {
            for term in terms.iter().flatten() {
                let met = alternative.iter().try_fold(term.clone(), |term, condition| {
                    term.with(condition, action, direction, learned)
                });
                next.push(met);
            }
        }
        next.retain(Option::is_some);
        if next.len() > TERMS_MAX {
            match action {
                PolicyAction::Allow => return Vec::new(),
                // The rest of it denies less than the whole.
                _ => continue,
            }
        }
        terms = next;
    }
    terms.into_iter().flatten().flat_map(Term::finish).collect()
}

/// Alternatives that are nothing but a list of addresses are one list.
fn merged(alternatives: &[Vec<Condition>], direction: PacketDirection) -> Vec<Vec<Condition>> {
    let (mut lists, mut rest) = (Vec::new(), Vec::new());
    for alternative in alternatives {
        match alternative.as_slice() {
            [only] if only.attribute == peer(direction) && !only.negate => {
                lists.extend(only.values.iter().cloned());
            }
            _ => rest.push(alternative.clone()),
        }
    }
    if !lists.is_empty() {
        rest.push(vec![Condition { attribute: peer(direction), values: lists, negate: false }]);
    }
    rest
}

fn peer(direction: PacketDirection) -> Attribute {
    match direction {
        PacketDirection::In => Attribute::SourceAddress,
        PacketDirection::Out => Attribute::DestinationAddress,
    }
}

#[derive(Clone)]
struct Term {
    rule: PacketRule,
    with_ports: bool,
}

impl Term {
    /// The same with a condition more; none where it never holds.
    fn with(
        mut self,
        condition: &Condition,
        action: PolicyAction,
        direction: PacketDirection,
        learned: &[(IpAddr, Vec<String>)],
    ) -> Option<Self> {
        let allows = action == PolicyAction::Allow;
        if condition.values.contains(&ValueMatch::Poisoned) {
            return (!allows).then_some(self);
        }
        match &condition.attribute {
            attribute if *attribute == peer(direction) => {
                let ranges = condition.values.iter().filter_map(|value| match value {
                    ValueMatch::Range(range) => Some(*range),
                    _ => None,
                });
                self.test(ranges.collect(), condition.negate)?;
            }
            Attribute::DestinationName if direction == PacketDirection::Out => {
                self.test(addresses(condition, action, learned), condition.negate)?;
            }
            Attribute::Protocol if !condition.negate => self.protocol(condition)?,
            Attribute::DestinationPort if !condition.negate => {
                let own: Vec<(u16, u16)> = condition.values.iter().filter_map(ports).collect();
                self.rule.ports = match (self.with_ports, own) {
                    (_, own) if own.is_empty() => return None,
                    (false, own) => own,
                    (true, own) => both(&self.rule.ports, &own)?,
                };
                self.with_ports = true;
            }
            Attribute::IcmpType if !condition.negate => {
                let types = condition.values.iter().filter_map(|value| match value {
                    ValueMatch::Number(number) => u8::try_from(*number).ok(),
                    _ => None,
                });
                let mut types: Vec<u8> = types.collect();
                if !self.rule.icmp_types.is_empty() {
                    types.retain(|kind| self.rule.icmp_types.contains(kind));
                }
                if types.is_empty() {
                    return None;
                }
                self.rule.icmp_types = types;
            }
            // No packet tells.
            _ if allows => return None,
            _ => {}
        }
        Some(self)
    }

    fn test(&mut self, ranges: Vec<Cidr>, negate: bool) -> Option<()> {
        match (ranges.is_empty(), negate) {
            (true, false) => return None,
            (true, true) => {}
            (false, false) => self.rule.peers.push(AddressTest::In(ranges)),
            (false, true) => self.rule.peers.push(AddressTest::NotIn(ranges)),
        }
        Some(())
    }

    /// Protocols that no workload speaks here stand for nothing.
    fn protocol(&mut self, condition: &Condition) -> Option<()> {
        let [ValueMatch::Text(TextMatch::Exact(name))] = condition.values.as_slice() else {
            return None;
        };
        let own = match &**name {
            "icmp" => PacketProtocol::Icmp,
            "icmpv6" => PacketProtocol::Icmpv6,
            "sctp" => PacketProtocol::Sctp,
            "tcp" => PacketProtocol::Tcp,
            "udp" => PacketProtocol::Udp,
            _ => return None,
        };
        let is_other = self.rule.protocol != PacketProtocol::Any && self.rule.protocol != own;
        self.rule.protocol = own;
        (!is_other).then_some(())
    }

    /// Ports are those of a protocol that has some, and types those of ICMP.
    fn finish(self) -> Vec<PacketRule> {
        let has_ports = !self.rule.ports.is_empty();
        let has_types = !self.rule.icmp_types.is_empty();
        match self.rule.protocol {
            _ if has_ports && has_types => Vec::new(),
            PacketProtocol::Any if has_types => [PacketProtocol::Icmp, PacketProtocol::Icmpv6]
                .into_iter()
                .map(|protocol| PacketRule { protocol, ..self.rule.clone() })
                .collect(),
            PacketProtocol::Sctp | PacketProtocol::Tcp | PacketProtocol::Udp if has_types => {
                Vec::new()
            }
            PacketProtocol::Any if has_ports => {
                [PacketProtocol::Tcp, PacketProtocol::Udp, PacketProtocol::Sctp]
                    .into_iter()
                    .map(|protocol| PacketRule { protocol, ..self.rule.clone() })
                    .collect()
            }
            PacketProtocol::Icmp | PacketProtocol::Icmpv6 if has_ports => Vec::new(),
            _ => vec![self.rule],
        }
    }
}

fn ports(value: &ValueMatch) -> Option<(u16, u16)> {
    match value {
        ValueMatch::Port(port) => Some((*port, *port)),
        ValueMatch::PortRange(first, last) if first <= last => Some((*first, *last)),
        _ => None,
    }
}

/// The ports that are in both lists; none where there are none.
fn both(one: &[(u16, u16)], other: &[(u16, u16)]) -> Option<Vec<(u16, u16)>> {
    let pairs = one.iter().flat_map(|one| other.iter().map(move |other| (one, other)));
    let shared = pairs.map(|(one, other)| (one.0.max(other.0), one.1.min(other.1)));
    let shared: Vec<(u16, u16)> = shared.filter(|(first, last)| first <= last).collect();
    (!shared.is_empty()).then_some(shared)
}

/// The addresses that were found under a name that matches.
fn addresses(
    condition: &Condition,
    action: PolicyAction,
    learned: &[(IpAddr, Vec<String>)],
) -> Vec<Cidr> {
    let compiled = CompiledCondition::compile(condition, action, &mut Vec::new());
    let matching =
        learned.iter().filter(|(_, names)| names.iter().any(|name| compiled.takes_text(name)));
    matching
        .filter_map(|(address, _)| Cidr::new(*address, if address.is_ipv4() { 32 } else { 128 }))
        .collect()
}
