//! NetworkPolicy (`networking.k8s.io`).
//!
//! An `ipBlock` takes any address, of pods too; its project says only that it is meant for addresses outside.

use heddle_api::kubernetes::{
    IpBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, PolicyType, Protocol,
};
use heddle_api::{At, IntOrText, LabelSelector, Object};
use heddle_diag::Origin;
use heddle_ident::Cidr;
use heddle_ir::authorization::{Attribute, Clause, Condition, Rule, ValueMatch};
use heddle_ir::matching::TextMatch;

use super::peers::{self, Namespaces, PeersKey, requirements};
use super::{Contribution, Direction, condition, never, none_of};
use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::object::ObjectKey;
use crate::report::Report;
use crate::workload::{Facts, WorkloadKey};

type Policy = Object<NetworkPolicy>;

/// What a policy says about a workload of its namespace.
pub(crate) fn contribution(
    reader: &Reader<'_>,
    policy: &Policy,
    facts: &Facts,
    direction: Direction,
) -> Contribution {
    let mut contribution = Contribution::default();
    if !selects(policy, facts) {
        return contribution;
    }
    let Some(closes) = closes(policy, direction) else { return contribution };
    contribution.closes = Some(closes);
    contribution.allow = rules(reader, policy, direction, facts);
    contribution
}

/// A selector that cannot be read takes every pod of the namespace: nobody is left open by a mistake.
fn selects(policy: &Policy, facts: &Facts) -> bool {
    let label = |key: &str| facts.labels.get(key).map(|value| &**value);
    policy.is_field_broken(policy.spec.at, "podSelector")
        || requirements(&policy.spec.pod_selector)
            .iter()
            .all(|requirement| requirement.is_met(label(&requirement.key)))
}

/// Where a policy says that it is for the direction.
fn closes(policy: &Policy, direction: Direction) -> Option<Origin> {
    let spec = &policy.spec;
    let field = match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    };
    let named = |kind| spec.policy_types.as_ref().is_some_and(|types| types.contains(&Some(kind)));
    let broken = policy.is_field_broken(spec.at, "policyTypes");
    let is_for = match (&spec.policy_types, direction) {
        _ if broken => true,
        (Some(_), Direction::Egress) => named(PolicyType::Egress),
        (Some(_), Direction::Ingress) => named(PolicyType::Ingress),
        (None, Direction::Ingress) => true,
        (None, Direction::Egress) => {
            !spec.egress.is_empty() || policy.is_field_broken(spec.at, field)
        }
    };
    is_for.then(|| policy.origin_of(spec.at, field))
}

fn rules(reader: &Reader<'_>, policy: &Policy, direction: Direction, facts: &Facts) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut add = |at: At, peers: &[NetworkPolicyPeer], ports: &[NetworkPolicyPort]| {
        // What cannot be read allows nothing.
        if policy.is_broken(at) {
            return;
        }
        let mut clauses = Vec::new();
        if !peers.is_empty() {
            clauses.push(peer_clause(reader, policy, peers, direction));
        }
        if !ports.is_empty() {
            clauses.push(port_clause(reader, ports, direction, facts));
        }
        rules.push(Rule { origin: policy.origin_at(at), clauses });
    };
    match direction {
        Direction::Egress => {
            policy.spec.egress.iter().for_each(|rule| add(rule.at, &rule.to, &rule.ports));
        }
        Direction::Ingress => {
            policy.spec.ingress.iter().for_each(|rule| add(rule.at, &rule.from, &rule.ports));
        }
    }
    rules
}

fn peer_clause(
    reader: &Reader<'_>,
    policy: &Policy,
    peers: &[NetworkPolicyPeer],
    direction: Direction,
) -> Clause {
    let alternative = |peer: &NetworkPolicyPeer| {
        if let Some(block) = &peer.ip_block {
            return block_conditions(block, direction.peer());
        }
        let namespaces = match &peer.namespace_selector {
            Some(selector) if *selector == LabelSelector::default() => Namespaces::All,
            Some(selector) => Namespaces::Labelled(requirements(selector)),
            None => Namespaces::One(policy.meta.namespace.as_str().into()),
        };
        let labels = peer.pod_selector.as_ref().map(requirements).unwrap_or_default();
        let addresses = reader.read(&PeersKey::new(namespaces, labels));
        vec![condition(direction.peer(), peers::values(&addresses))]
    };
    Clause { alternatives: peers.iter().map(alternative).collect() }
}

fn block_conditions(block: &IpBlock, attribute: Attribute) -> Vec<Condition> {
    let range = |text: &str| Cidr::parse(text).ok().map(ValueMatch::Range);
    let mut conditions =
        vec![condition(attribute.clone(), range(&block.cidr).into_iter().collect())];
    let except: Vec<ValueMatch> = block.except.iter().filter_map(|text| range(text)).collect();
    if !except.is_empty() {
        conditions.push(none_of(attribute, except));
    }
    conditions
}

fn port_clause(
    reader: &Reader<'_>,
    ports: &[NetworkPolicyPort],
    direction: Direction,
    facts: &Facts,
) -> Clause {
    let mut clause = never();
    for port in ports {
        let protocol = match port.protocol {
            None | Some(Protocol::Tcp) => "tcp",
            Some(Protocol::Udp) => "udp",
            Some(Protocol::Sctp) => "sctp",
        };
        let mut conditions = vec![condition(
            Attribute::Protocol,
            vec![ValueMatch::Text(TextMatch::Exact(protocol.into()))],
        )];
        if let (Some(IntOrText::Text(name)), Direction::Egress) = (&port.port, direction) {
            // A name means another number at each peer.
            let with = |own: Vec<Condition>| conditions.iter().cloned().chain(own).collect();
            let named = peers::at_named_port(reader, name).into_iter().map(with);
            clause.alternatives.extend(named);
            continue;
        }
        if let Some(value) = number(port, facts) {
            conditions.push(condition(Attribute::DestinationPort, vec![value]));
        }
        clause.alternatives.push(conditions);
    }
    clause
}

/// The port or range; nothing where every port is meant.
fn number(port: &NetworkPolicyPort, facts: &Facts) -> Option<ValueMatch> {
    let number = |number: i64| u16::try_from(number).unwrap_or_default();
    match (&port.port, port.end_port) {
        (None, _) => None,
        (Some(IntOrText::Int(first)), Some(last)) => {
            Some(ValueMatch::PortRange(number(*first), number(last.into())))
        }
        (Some(IntOrText::Int(only)), None) => Some(ValueMatch::Port(number(*only))),
        (Some(IntOrText::Text(name)), _) => {
            // A workload without such a port has nothing that could be allowed.
            let found = facts.ports.iter().find(|(known, _)| **known == **name);
            Some(found.map_or(ValueMatch::Port(0), |(_, number)| ValueMatch::Port(*number)))
        }
    }
}

/// What there is to say about a policy.
pub(crate) fn report(reader: &Reader<'_>, policy: &Policy, report: &mut Report) {
    let namespace = policy.meta.namespace.as_str();
    let pods = reader.objects(Topic::KindIn(Kind::Pod, namespace.into()));
    let mut selected = 0;
    for pod in &pods {
        let Some(facts) = reader.read(&WorkloadKey(ObjectKey::of(pod))) else { continue };
        if !selects(policy, &facts) {
            continue;
        }
        selected += 1;
    }
    if selected == 0 && !pods.is_empty() {
        let message = "no workload of the namespace has the labels of the selector";
        report.warning(
            codes::SELECTS_NOTHING,
            policy.origin_of(policy.spec.at, "podSelector"),
            message,
        );
    }
}
