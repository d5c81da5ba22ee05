//! CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (API.md 8).
//!
//! A policy that its own project would refuse is not in force there at all, which leaves open what it was to close. Here
//! what can be read of it is in force, and what cannot be read closes and allows nothing, or denies.

mod l7;
mod peer;
mod ports;
mod report;
mod voids;

use heddle_api::cilium::{
    AuthenticationMode, EgressDenyRule, EgressRule, EndpointSelector, IngressDenyRule, IngressRule,
    PolicyRule,
};
use heddle_api::{At, Written};
use heddle_ir::authorization::{Attribute, Clause, Condition, Rule, ValueMatch};
use heddle_ir::matching::TextMatch;

use self::peer::Peers;
pub(crate) use self::report::{report_clusterwide, report_namespaced};
use crate::engine::Reader;
use crate::network::{Contribution, Direction, all_of, condition};
use crate::report::Report;
use crate::workload::Facts;

/// The object that a rule stands in.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) written: &'a Written,
    /// The namespace that selectors are limited to; none: the rule is for all of them.
    pub(crate) namespace: Option<&'a str>,
}

/// Everything that translating an entry needs.
struct Context<'a> {
    reader: &'a Reader<'a>,
    scope: Scope<'a>,
    direction: Direction,
    /// The workload that the rule is for; named ports are its own.
    facts: &'a Facts,
}

/// What the rules of one object say about a workload.
pub(crate) fn contribution<'a>(
    reader: &Reader<'_>,
    scope: &Scope<'_>,
    rules: impl Iterator<Item = &'a PolicyRule>,
    facts: &Facts,
    direction: Direction,
) -> Contribution {
    let mut sum = Contribution::default();
    for rule in rules {
        if !is_for(reader, scope, rule, facts) {
            continue;
        }
        sum.closes = sum.closes.or_else(|| closes(scope, rule, direction));
        let context = Context { reader, scope: *scope, direction, facts };
        translate(&context, rule, &mut sum, &mut Report::default());
    }
    sum
}

/// Whether a rule is for a workload. One of which nobody can tell is for every workload in its scope.
fn is_for(reader: &Reader<'_>, scope: &Scope<'_>, rule: &PolicyRule, facts: &Facts) -> bool {
    if scope.written.is_field_broken(rule.at, "endpointSelector") {
        return true;
    }
    let Some(selector) = &rule.endpoint_selector else { return false };
    peer::selects(reader, scope, selector, facts)
}

/// Where a rule closes the direction.
fn closes(
    scope: &Scope<'_>,
    rule: &PolicyRule,
    direction: Direction,
) -> Option<heddle_diag::Origin> {
    let (field, deny_field, entries, default) = match direction {
        Direction::Egress => (
            "egress",
            "egressDeny",
            rule.egress.len() + rule.egress_deny.len(),
            rule.enable_default_deny.as_ref().and_then(|default| default.egress),
        ),
        Direction::Ingress => (
            "ingress",
            "ingressDeny",
            rule.ingress.len() + rule.ingress_deny.len(),
            rule.enable_default_deny.as_ref().and_then(|default| default.ingress),
        ),
    };
    let written = scope.written;
    let broken = [field, deny_field, "enableDefaultDeny"]
        .into_iter()
        .any(|field| written.field(rule.at, field).is_some_and(|at| written.is_broken(at)));
    let closes = (entries > 0 && default != Some(false)) || broken;
    let named = if written.has(rule.at, field) { field } else { deny_field };
    closes.then(|| written.origin_of(rule.at, named))
}

/// The entries of a rule in one direction.
fn translate(
    context: &Context<'_>,
    rule: &PolicyRule,
    sum: &mut Contribution,
    report: &mut Report,
) {
    match context.direction {
        Direction::Egress => {
            sum.allow
                .extend(rule.egress.iter().flat_map(|entry| allow_out(context, entry, report)));
            sum.deny.extend(rule.egress_deny.iter().map(|entry| deny_out(context, entry, report)));
        }
        Direction::Ingress => {
            sum.allow
                .extend(rule.ingress.iter().flat_map(|entry| allow_in(context, entry, report)));
            sum.deny.extend(rule.ingress_deny.iter().map(|entry| deny_in(context, entry, report)));
        }
    }
}

fn allow_in(context: &Context<'_>, entry: &IngressRule, report: &mut Report) -> Vec<Rule> {
    let peers = Peers {
        endpoints: entry.from_endpoints.as_deref(),
        cidrs: entry.from_cidr.as_deref(),
        cidr_sets: entry.from_cidr_set.as_deref(),
        entities: entry.from_entities.as_deref(),
        groups: entry.from_groups.as_deref().map(<[_]>::len),
        nodes: entry.from_nodes.as_deref().map(<[EndpointSelector]>::len),
        services: None,
        names: None,
    };
    // An entry that says nothing at all allows nothing: the idiom for closing a direction.
    if peers.is_absent() && entry.to_ports.is_empty() && entry.icmps.is_empty() {
        return Vec::new();
    }
    let clauses = [
        peer::clause(context, entry.at, &peers, report),
        ports::allowed(context, &entry.to_ports, &entry.icmps, report),
        entry.authentication.as_ref().and_then(|wanted| authenticated(wanted.mode)),
    ];
    allowing(context, entry.at, clauses)
}

fn allow_out(context: &Context<'_>, entry: &EgressRule, report: &mut Report) -> Vec<Rule> {
    let peers = Peers {
        endpoints: entry.to_endpoints.as_deref(),
        cidrs: entry.to_cidr.as_deref(),
        cidr_sets: entry.to_cidr_set.as_deref(),
        entities: entry.to_entities.as_deref(),
        groups: entry.to_groups.as_deref().map(<[_]>::len),
        nodes: entry.to_nodes.as_deref().map(<[EndpointSelector]>::len),
        services: entry.to_services.as_deref(),
        names: entry.to_fqdns.as_deref(),
    };
    if peers.is_absent() && entry.to_ports.is_empty() && entry.icmps.is_empty() {
        return Vec::new();
    }
    let clauses = [
        peer::clause(context, entry.at, &peers, report),
        ports::allowed(context, &entry.to_ports, &entry.icmps, report),
        entry.authentication.as_ref().and_then(|wanted| authenticated(wanted.mode)),
    ];
    allowing(context, entry.at, clauses)
}

/// What cannot be read allows nothing. A rule that looks at requests allows no stream, so that ports on which nothing is
/// looked at have a rule of their own.
fn allowing(
    context: &Context<'_>,
    at: At,
    [peers, said, authenticated]: [Option<Clause>; 3],
) -> Vec<Rule> {
    let written = context.scope.written;
    if written.is_broken(at) {
        return Vec::new();
    }
    let rule = |said: Option<Clause>| Rule {
        origin: written.origin_at(at),
        clauses: [peers.clone(), said, authenticated.clone()].into_iter().flatten().collect(),
    };
    let Some(said) = said else { return vec![rule(None)] };
    let is_http = |own: &Conditions| own.iter().any(|condition| condition.attribute.is_http());
    let (requests, streams): (Vec<_>, Vec<_>) = said.alternatives.into_iter().partition(is_http);
    let parts = [streams, requests].into_iter().filter(|alternatives| !alternatives.is_empty());
    parts.map(|alternatives| rule(Some(Clause { alternatives }))).collect()
}

/// The proof of identity that an entry asks for: mutual TLS of the connection itself.
fn authenticated(mode: Option<AuthenticationMode>) -> Option<Clause> {
    let proven = vec![ValueMatch::Text(TextMatch::Exact("mutual-tls".into()))];
    match mode? {
        AuthenticationMode::Disabled => None,
        AuthenticationMode::Required => Some(all_of(vec![condition(Attribute::Transport, proven)])),
        AuthenticationMode::TestAlwaysFail => Some(crate::network::never()),
    }
}

fn deny_in(context: &Context<'_>, entry: &IngressDenyRule, report: &mut Report) -> Rule {
    let peers = Peers {
        endpoints: entry.from_endpoints.as_deref(),
        cidrs: entry.from_cidr.as_deref(),
        cidr_sets: entry.from_cidr_set.as_deref(),
        entities: entry.from_entities.as_deref(),
        groups: entry.from_groups.as_deref().map(<[_]>::len),
        nodes: entry.from_nodes.as_deref().map(<[EndpointSelector]>::len),
        services: None,
        names: None,
    };
    let ports = ports::denied(context, &entry.to_ports, &entry.icmps);
    denying(context, entry.at, &peers, ports, report)
}

fn deny_out(context: &Context<'_>, entry: &EgressDenyRule, report: &mut Report) -> Rule {
    let peers = Peers {
        endpoints: entry.to_endpoints.as_deref(),
        cidrs: entry.to_cidr.as_deref(),
        cidr_sets: entry.to_cidr_set.as_deref(),
        entities: entry.to_entities.as_deref(),
        groups: entry.to_groups.as_deref().map(<[_]>::len),
        nodes: entry.to_nodes.as_deref().map(<[EndpointSelector]>::len),
        services: entry.to_services.as_deref(),
        names: None,
    };
    let ports = ports::denied(context, &entry.to_ports, &entry.icmps);
    denying(context, entry.at, &peers, ports, report)
}

/// What cannot be read denies whatever the rest describes.
fn denying(
    context: &Context<'_>,
    at: At,
    peers: &Peers<'_>,
    ports: Option<Clause>,
    report: &mut Report,
) -> Rule {
    let written = context.scope.written;
    let broken = |fields: &[&str]| {
        fields
            .iter()
            .any(|field| written.field(at, field).is_some_and(|child| written.is_broken(child)))
    };
    let peers = (!broken(peer::FIELDS) && !peers.is_lost())
        .then(|| peer::clause(context, at, peers, report))
        .flatten();
    let ports = if broken(&["toPorts", "icmps"]) { None } else { ports };
    Rule { origin: written.origin_at(at), clauses: [peers, ports].into_iter().flatten().collect() }
}

/// An alternative of a clause.
type Conditions = Vec<Condition>;
