//! Network policies: who may open connections to a workload, and to whom it may. Cilium's and Kubernetes' are one
//! system, since either project adds up what both allow (API.md 8.1).
//!
//! A direction is open until a policy closes it; closed, it lets pass what an entry allows and nothing denies. Peers are
//! sets of addresses, found by labels ([`peers`]). What cannot be read closes and allows nothing.

pub(crate) mod kubernetes;
pub(crate) mod outcomes;
pub(crate) mod peers;

use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_diag::{Dialect, Origin};
use heddle_ir::authorization::{
    Attribute, Authorization, Clause, Condition, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies, ValueMatch,
};

use crate::cilium;
use crate::engine::{Kind, Reader, Topic};
use crate::workload::Facts;

/// Whom a policy speaks about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Direction {
    /// Whom the workload connects to.
    Egress,
    /// Who connects to the workload.
    Ingress,
}

impl Direction {
    /// The address of whoever is at the other end.
    pub(crate) fn peer(self) -> Attribute {
        match self {
            Self::Egress => Attribute::DestinationAddress,
            Self::Ingress => Attribute::SourceAddress,
        }
    }
}

/// What one object says about a workload and a direction.
#[derive(Default)]
pub(crate) struct Contribution {
    /// Says that the direction is closed.
    pub(crate) closes: Option<Origin>,
    pub(crate) allow: Vec<Rule>,
    pub(crate) deny: Vec<Rule>,
}

/// What all network policies say about a workload and a direction; none where none has a say.
pub(crate) fn system(
    reader: &Reader<'_>,
    facts: &Facts,
    direction: Direction,
) -> Option<SystemPolicies> {
    let mut closes = None;
    let mut policies = Vec::new();
    let mut add = |origin: &Origin, contribution: Contribution| {
        let Contribution { closes: own, allow, deny } = contribution;
        closes = closes.take().or(own);
        let policy = |action, rules| {
            Arc::new(Policy {
                origin: origin.clone(),
                action,
                dry_run: false,
                authorizer: None,
                rules,
            })
        };
        if !allow.is_empty() {
            policies.push(policy(PolicyAction::Allow, allow));
        }
        if !deny.is_empty() {
            policies.push(policy(PolicyAction::Deny, deny));
        }
    };
    for object in reader.objects(Topic::KindIn(Kind::NetworkPolicy, facts.namespace.clone())) {
        let AnyObject::NetworkPolicy(policy) = object else { continue };
        add(policy.origin(), kubernetes::contribution(reader, &policy, facts, direction));
    }
    for object in reader.objects(Topic::KindIn(Kind::CiliumPolicy, facts.namespace.clone())) {
        let AnyObject::CiliumNetworkPolicy(policy) = object else { continue };
        let rules = policy.spec.spec.iter().chain(&policy.spec.specs);
        let scope = cilium::Scope { written: &policy.written, namespace: Some(&facts.namespace) };
        add(policy.origin(), cilium::contribution(reader, &scope, rules, facts, direction));
    }
    for object in reader.objects(Topic::Kind(Kind::CiliumClusterwidePolicy)) {
        let AnyObject::CiliumClusterwideNetworkPolicy(policy) = object else { continue };
        let rules = policy.spec.spec.iter().chain(&policy.spec.specs);
        let scope = cilium::Scope { written: &policy.written, namespace: None };
        add(policy.origin(), cilium::contribution(reader, &scope, rules, facts, direction));
    }
    let Some(closes) = closes else {
        // Open: what allows says nothing that is not so already.
        policies.retain(|policy| policy.action == PolicyAction::Deny);
        return (!policies.is_empty()).then(|| SystemPolicies::new(Fallback::Allow, policies));
    };
    policies.extend(node_checks(reader, direction));
    Some(SystemPolicies::new(Fallback::Deny(closes), policies))
}

/// A node always reaches its own pods, or their health could not be checked.
fn node_checks(reader: &Reader<'_>, direction: Direction) -> Option<Arc<Policy>> {
    let sources = &reader.options().probe_sources;
    if direction == Direction::Egress || sources.is_empty() {
        return None;
    }
    let origin = Origin::built_in("the node's own checks");
    let values = sources.iter().copied().map(ValueMatch::Range).collect();
    let clause = all_of(vec![condition(Attribute::SourceAddress, values)]);
    let rules = vec![Rule { origin: origin.clone(), clauses: vec![clause] }];
    let action = PolicyAction::Allow;
    Some(Arc::new(Policy { origin, action, dry_run: false, authorizer: None, rules }))
}

/// Whether a network policy looks at requests on a port of a workload. Under Cilium such a rule makes the port one of HTTP,
/// whatever a Service declares of it (API.md 11.2 row 1).
pub(crate) fn listens(authorization: &Authorization, port: u16) -> bool {
    let policies = authorization.systems.iter().flat_map(|system| &system.policies);
    let rules = policies
        .filter(|policy| policy.origin.dialect == Dialect::Cilium)
        .flat_map(|policy| &policy.rules);
    let mut alternatives = rules.flat_map(|rule| &rule.clauses).flat_map(|own| &own.alternatives);
    alternatives.any(|conditions| {
        let is_on_port = |own: &Condition| {
            own.attribute != Attribute::DestinationPort
                || own.values.iter().any(|value| match value {
                    ValueMatch::Port(own) => *own == port,
                    ValueMatch::PortRange(first, last) => (*first..=*last).contains(&port),
                    _ => false,
                })
        };
        conditions.iter().any(|own| own.attribute.is_http()) && conditions.iter().all(is_on_port)
    })
}

/// Any value matches.
pub(crate) fn condition(attribute: Attribute, values: Vec<ValueMatch>) -> Condition {
    Condition { attribute, values, negate: false }
}

/// No value matches.
pub(crate) fn none_of(attribute: Attribute, values: Vec<ValueMatch>) -> Condition {
    Condition { attribute, values, negate: true }
}

/// A clause with one alternative.
pub(crate) fn all_of(conditions: Vec<Condition>) -> Clause {
    Clause { alternatives: vec![conditions] }
}

/// A clause that never holds.
pub(crate) fn never() -> Clause {
    Clause { alternatives: Vec::new() }
}
