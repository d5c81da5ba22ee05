//! What there is to say about a Cilium policy.

use heddle_api::cilium::{ClusterwideNetworkPolicy, NetworkPolicy, PolicyRule, PortRule};
use heddle_api::{Object, Resource as AnyObject};
use heddle_diag::Diagnostic;

use super::{Context, Scope, is_for, translate, voids};
use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::network::{Contribution, Direction};
use crate::object::ObjectKey;
use crate::report::Report;
use crate::workload::{Facts, WorkloadKey};

/// What there is to say about a policy of one namespace.
pub(crate) fn report_namespaced(
    reader: &Reader<'_>,
    object: &Object<NetworkPolicy>,
    report: &mut Report,
) {
    let namespace = Some(object.meta.namespace.as_str());
    let scope = Scope { written: &object.written, namespace };
    let pods = reader.objects(Topic::KindIn(Kind::Pod, object.meta.namespace.as_str().into()));
    for rule in object.spec.spec.iter().chain(&object.spec.specs) {
        report_rule(reader, &scope, rule, &pods, report);
    }
}

/// What there is to say about a policy of all namespaces.
pub(crate) fn report_clusterwide(
    reader: &Reader<'_>,
    object: &Object<ClusterwideNetworkPolicy>,
    report: &mut Report,
) {
    let scope = Scope { written: &object.written, namespace: None };
    let pods = reader.objects(Topic::Kind(Kind::Pod));
    for rule in object.spec.spec.iter().chain(&object.spec.specs) {
        report_rule(reader, &scope, rule, &pods, report);
        takes_everything(&scope, rule, report);
    }
}

fn report_rule(
    reader: &Reader<'_>,
    scope: &Scope<'_>,
    rule: &PolicyRule,
    pods: &[AnyObject],
    report: &mut Report,
) {
    let written = scope.written;
    if rule.node_selector.is_some() {
        let why = "policies for nodes are not enforced: heddle decides for workloads";
        report.unsupported(written.origin_of(rule.at, "nodeSelector"), why);
    }
    if rule.log.is_some() {
        let why = "flows are not marked";
        report.unsupported(written.origin_of(rule.at, "log"), why);
    }
    let facts = pods.iter().filter_map(|pod| reader.read(&WorkloadKey(ObjectKey::of(pod))));
    let selected: Vec<_> = facts.filter(|facts| is_for(reader, scope, rule, facts)).collect();
    if let Some(facts) = selected.first() {
        translated(reader, scope, rule, facts, report);
    } else if rule.endpoint_selector.is_some() && !pods.is_empty() {
        let message = "no workload has the labels of the selector";
        report.warning(
            codes::SELECTS_NOTHING,
            written.origin_of(rule.at, "endpointSelector"),
            message,
        );
    }
    learns_nothing(scope, rule, report);
    means_an_entity(scope, rule, report);
    voids::report(reader, scope, rule, report);
}

fn translated(
    reader: &Reader<'_>,
    scope: &Scope<'_>,
    rule: &PolicyRule,
    facts: &Facts,
    report: &mut Report,
) {
    for direction in [Direction::Ingress, Direction::Egress] {
        let context = Context { reader, scope: *scope, direction, facts };
        translate(&context, rule, &mut Contribution::default(), report);
    }
}

/// API.md 11.2 row 8: without a rule for DNS the direction is closed for queries too, so that no name is ever learned.
fn learns_nothing(scope: &Scope<'_>, rule: &PolicyRule, report: &mut Report) {
    let is_dns = |port: &PortRule| port.rules.as_ref().is_some_and(|rules| rules.dns.is_some());
    if rule.egress.iter().any(|entry| entry.to_ports.iter().any(is_dns)) {
        return;
    }
    for entry in rule.egress.iter().filter(|entry| entry.to_fqdns.is_some()) {
        let message = "no rule allows DNS: under Cilium queries would be dropped and no name would be learned; \
                       heddle answers and observes them all the same";
        let origin = scope.written.origin_of(entry.at, "toFQDNs");
        let hint =
            "add an entry for port 53 of the resolver with `rules: {dns: [{matchPattern: \"*\"}]}`";
        report.push(Diagnostic::warning(codes::NAMES_NOT_LEARNED, origin, message).hint(hint));
    }
}

/// API.md 11.2 row 10: every workload of every namespace, the cluster's own among them.
fn takes_everything(scope: &Scope<'_>, rule: &PolicyRule, report: &mut Report) {
    let everything = rule.endpoint_selector.as_ref().is_some_and(|selector| {
        selector.match_labels.is_empty() && selector.match_expressions.is_empty()
    });
    let closes = |entries: usize, allowed: bool| entries > 0 && !allowed;
    let nothing_in = rule.ingress.iter().all(|entry| {
        entry.from_endpoints.is_none()
            && entry.from_entities.is_none()
            && entry.to_ports.is_empty()
            && entry.from_cidr.is_none()
            && entry.from_cidr_set.is_none()
    });
    if everything && closes(rule.ingress.len(), !nothing_in) {
        let message = "closes every workload of every namespace, those of `kube-system` too: cluster DNS and webhooks \
                       stop answering";
        let origin = scope.written.origin_of(rule.at, "endpointSelector");
        report.warning(codes::CLOSES_EVERYTHING, origin, message);
    }
}

/// API.md 11.2 row 12: `reserved:world` without a value is a text and no label; an entity is what its author means.
fn means_an_entity(scope: &Scope<'_>, rule: &PolicyRule, report: &mut Report) {
    let written = scope.written;
    let ingress = rule.ingress.iter().filter_map(|entry| entry.from_endpoints.as_ref());
    let egress = rule.egress.iter().filter_map(|entry| entry.to_endpoints.as_ref());
    let both = ingress.map(|list| ("from", list)).chain(egress.map(|list| ("to", list)));
    for (way, selectors) in both {
        for selector in selectors {
            let Some(at) = written.field(selector.at, "matchLabels") else { continue };
            let Some(entity) = written.tree().text(at).strip_prefix("reserved:") else { continue };
            let message =
                format!("`reserved:{entity}` is no mapping of labels: the entry selects nobody");
            let hint = format!("write `{way}Entities: [{entity}]` in place of `{way}Endpoints`");
            let origin = written.origin_of(selector.at, "matchLabels");
            report.push(Diagnostic::warning(codes::ENTITY_AS_LABEL, origin, message).hint(hint));
        }
    }
}
