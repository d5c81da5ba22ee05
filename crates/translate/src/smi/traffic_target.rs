//! TrafficTargets: which service accounts may send what to the workloads of another (API.md 9.3).
//!
//! A workload whose service account is the destination of any target takes nothing else.

use std::sync::Arc;

use heddle_api::smi::{
    HttpRouteGroupMatch, TargetAccount, TargetRule, TargetRuleKind, TrafficTarget,
};
use heddle_api::{IntOrText, Object, Resource as AnyObject};
use heddle_ir::authorization::{
    Attribute, Clause, Condition, Fallback, Policy, PolicyAction, Rule, SystemPolicies, ValueMatch,
};
use heddle_ir::matching::TextMatch;

use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::mesh::MeshKey;
use crate::object::ObjectKey;
use crate::report::Report;
use crate::smi::route_group;
use crate::workload::Facts;

type Target = Arc<Object<TrafficTarget>>;

/// The system of a workload; none where no target is about its service account.
pub(crate) fn system(reader: &Reader<'_>, facts: &Facts) -> Option<SystemPolicies> {
    let (namespace, account) = facts.identity.service_account()?;
    let targets: Vec<Target> = reader
        .objects(Topic::Kind(Kind::TrafficTarget))
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::TrafficTarget(target) => Some(target),
            _ => None,
        })
        .filter(|target| {
            let spec = &target.spec;
            let own = &spec.destination;
            // A destination that cannot be read may be this one: then nothing more gets in here.
            own.name == account && namespace_of(target, own) == namespace
        })
        .collect();
    let first = targets.first()?;
    let fallback = Fallback::Deny(first.origin().clone());
    let policies = targets.iter().map(|target| policy(reader, target, &mut Report::default()));
    Some(SystemPolicies::new(fallback, policies.collect()))
}

fn namespace_of<'a>(target: &'a Object<TrafficTarget>, account: &'a TargetAccount) -> &'a str {
    let given = account.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    given.unwrap_or(&target.meta.namespace)
}

/// What a target lets in.
fn policy(reader: &Reader<'_>, target: &Target, report: &mut Report) -> Arc<Policy> {
    let spec = &target.spec;
    let written = if spec.rules.is_empty() { &spec.specs } else { &spec.rules };
    let sources = sources(reader, target, report);
    let port = port(target);
    let mut rules = Vec::new();
    for rule in written.iter().filter(|rule| !target.is_broken(rule.at)) {
        for what in what(reader, target, rule, report) {
            let clauses =
                std::iter::once(sources.clone()).chain(port.clone()).chain(what).collect();
            rules.push(Rule { origin: target.origin_at(rule.at), clauses });
        }
    }
    if written.is_empty() && target.written.is_sound() {
        // The oldest versions may leave out what is allowed: everything is.
        let clauses = std::iter::once(sources).chain(port).collect();
        rules.push(Rule { origin: target.origin().clone(), clauses });
    }
    Arc::new(Policy {
        origin: target.origin().clone(),
        action: PolicyAction::Allow,
        dry_run: false,
        authorizer: None,
        rules,
    })
}

fn any(attribute: Attribute, values: Vec<ValueMatch>) -> Clause {
    Clause { alternatives: vec![vec![Condition { attribute, values, negate: false }]] }
}

fn sources(reader: &Reader<'_>, target: &Target, report: &mut Report) -> Clause {
    let mesh = reader.read(&MeshKey);
    let mut values = Vec::new();
    for source in target.spec.sources.iter().filter(|source| !target.is_broken(source.at)) {
        if source.kind != "ServiceAccount" {
            let origin = target.origin_of(source.at, "kind");
            report
                .rejected(origin, format!("`{}` is no source; write ServiceAccount", source.kind));
            continue;
        }
        for domain in std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases) {
            let namespace = namespace_of(target, source);
            let principal = format!("{domain}/ns/{namespace}/sa/{}", source.name);
            values.push(ValueMatch::Text(TextMatch::Exact(principal.into())));
        }
    }
    any(Attribute::SourcePrincipal, values)
}

/// The port of the destination, which the first two versions have.
fn port(target: &Target) -> Option<Clause> {
    let value = match target.spec.destination.port.as_ref()? {
        IntOrText::Int(number) => u16::try_from(*number).ok(),
        IntOrText::Text(text) => text.parse().ok(),
    };
    let value = value.map_or(ValueMatch::Poisoned, ValueMatch::Port);
    Some(any(Attribute::DestinationPort, vec![value]))
}

/// What a rule lets through: alternatives, of which all clauses must hold.
fn what(
    reader: &Reader<'_>,
    target: &Target,
    rule: &TargetRule,
    report: &mut Report,
) -> Vec<Vec<Clause>> {
    let namespace = &target.meta.namespace;
    let missing = |kind: &str, report: &mut Report| {
        let message =
            format!("no {kind} `{}` is in the namespace: the rule allows nothing", rule.name);
        report.error(codes::UNKNOWN_REFERENCE, target.origin_of(rule.at, "name"), message);
        Vec::new()
    };
    match rule.kind {
        Some(TargetRuleKind::HttpRouteGroup) => {
            let Some(group) = route_group::of(reader, namespace, &rule.name) else {
                return missing("HTTPRouteGroup", report);
            };
            for (index, name) in rule.matches.iter().enumerate() {
                if !group.spec.matches.iter().any(|one| one.name == *name) {
                    let origin = target.written.origin_of_item(rule.at, "matches", index);
                    let message = format!("the group has no route `{name}`");
                    report.error(codes::UNKNOWN_REFERENCE, origin, message);
                }
            }
            let named = |one: &&HttpRouteGroupMatch| {
                rule.matches.is_empty() || rule.matches.contains(&one.name)
            };
            let sound = |one: &&HttpRouteGroupMatch| !group.is_broken(one.at);
            group.spec.matches.iter().filter(named).filter(sound).map(http).collect()
        }
        Some(TargetRuleKind::TcpRoute) => {
            let key = ObjectKey::new(route_group::GROUP, "TCPRoute", namespace, &rule.name);
            match reader.object(&key) {
                Some(AnyObject::SmiTcpRoute(route)) => {
                    let ports = route.spec.matches.as_ref().map(|matches| matches.ports.clone());
                    let ports = ports.unwrap_or_default();
                    let values = ports.into_iter().map(ValueMatch::Port).collect::<Vec<_>>();
                    let clause = any(Attribute::DestinationPort, values.clone());
                    vec![if values.is_empty() { Vec::new() } else { vec![clause] }]
                }
                _ => missing("TCPRoute", report),
            }
        }
        // Datagrams are never proxied, so nothing is let in for them.
        Some(TargetRuleKind::UdpRoute) | None => Vec::new(),
    }
}

/// The conditions of a named route on a request.
fn http(one: &HttpRouteGroupMatch) -> Vec<Clause> {
    let pattern = |text: &str| vec![ValueMatch::Text(TextMatch::Regex(text.into()))];
    let mut clauses = Vec::new();
    // Something that only requests have, so that a stream is not let in by a route without conditions.
    let methods = route_group::methods(one);
    let values = if methods.is_empty() {
        vec![ValueMatch::Text(TextMatch::Present)]
    } else {
        let exact = |method: &String| ValueMatch::Text(TextMatch::Exact(method.as_str().into()));
        methods.iter().map(exact).collect()
    };
    clauses.push(any(Attribute::Method, values));
    if let Some(path) = &one.path_regex {
        clauses.push(any(Attribute::Path, pattern(&route_group::anchored(path))));
    }
    for (name, value) in &one.headers.0 {
        let attribute = Attribute::RequestHeader(name.to_ascii_lowercase().into());
        clauses.push(any(attribute, pattern(value)));
    }
    clauses
}

/// What there is to say about a target.
pub(crate) fn report(reader: &Reader<'_>, target: &Target, report: &mut Report) {
    policy(reader, target, report);
    let (spec, written) = (&target.spec, &target.written);
    if spec.destination.kind != "ServiceAccount" && !spec.destination.kind.is_empty() {
        let origin = target.origin_of(spec.destination.at, "kind");
        report.rejected(origin, "a destination is a ServiceAccount");
    }
    if namespace_of(target, &spec.destination) != target.meta.namespace {
        let message = "the target acts on workloads of another namespace, as SMI lets it";
        report.info(
            codes::FOREIGN_TARGET,
            target.origin_of(spec.destination.at, "namespace"),
            message,
        );
    }
    let rules = if spec.rules.is_empty() { &spec.specs } else { &spec.rules };
    for rule in rules.iter().filter(|rule| rule.kind == Some(TargetRuleKind::UdpRoute)) {
        report.unsupported(
            target.origin_at(rule.at),
            "datagrams are not proxied: nothing allows them",
        );
    }
    if spec.sources.is_empty() && !written.is_broken(spec.at) {
        let message = "no source is listed: nothing gets in";
        report.warning(codes::DENIES_EVERYTHING, target.origin_of(spec.at, "sources"), message);
    }
}
