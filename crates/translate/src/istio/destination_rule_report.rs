//! What there is to say about a DestinationRule.

use std::sync::Arc;

use heddle_api::At;
use heddle_api::istio::TrafficPolicy;
use heddle_diag::Diagnostic;
use heddle_ident::HostPattern;

use crate::client::{Client, selects};
use crate::codes;
use crate::destinations::{Destinations, EffectiveRuleKey};
use crate::engine::Reader;
use crate::istio::client_tls::Connecting;
use crate::istio::traffic_policy::{Block, Policies, Rule};
use crate::istio::{export_to, locality, selector};
use crate::mesh::{Mesh, MeshKey};
use crate::names::full_name;
use crate::report::Report;
use crate::service::{Endpoints, Service};
use crate::workload::Facts;

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, rule: &Rule, report: &mut Report) {
    let spec = &rule.spec;
    let mesh = reader.read(&MeshKey);
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy(reader, &mesh, rule, policy, report);
    }
    let mut names: Vec<&str> = Vec::new();
    for subset in &spec.subsets {
        let origin = || rule.origin_of(subset.at, "name");
        let fine = subset
            .name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if !fine || subset.name.is_empty() {
            report.rejected(origin(), format!("`{}` is not a name of a subset", subset.name));
        }
        if names.contains(&subset.name.as_str()) {
            report.rejected(origin(), format!("the subset `{}` is defined twice", subset.name));
        }
        names.push(&subset.name);
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(reader, &mesh, rule, policy, report);
        }
    }
    if spec.host.is_empty() {
        report.rejected(rule.origin_of(spec.at, "host"), "the host is missing");
    }
    export_to::check(&rule.written, spec.at, &spec.export_to, false, report);
    selector::check(&rule.written, spec.at, spec.workload_selector.as_ref(), report);
    if spec.workload_selector.is_some()
        && spec.export_to.iter().any(|to| to != "." && *to != rule.meta.namespace)
    {
        let message = "a rule with a workload selector is for its own namespace only";
        report.rejected(rule.origin_of(spec.at, "exportTo"), message);
    }
    check_merge(reader, rule, report);
    check_host(reader, rule, report);
}

fn traffic_policy(
    reader: &Reader<'_>,
    mesh: &Mesh,
    rule: &Rule,
    policy: &TrafficPolicy,
    report: &mut Report,
) {
    let empty = TrafficPolicy { at: policy.at, ..TrafficPolicy::default() };
    if *policy == empty && !rule.is_broken(policy.at) {
        report.rejected(rule.origin_at(policy.at), "the traffic policy is empty");
    }
    check_blocks(reader, mesh, rule, &Policies::of_policy(rule, policy), report);
    for settings in &policy.port_level_settings {
        let number = settings.port.as_ref().and_then(|port| port.number);
        if number.is_none_or(|number| number == 0) && !rule.is_broken(settings.at) {
            report.rejected(
                rule.origin_of(settings.at, "port"),
                "settings for a port need its number",
            );
        }
        check_blocks(reader, mesh, rule, &Policies::of_settings(rule, settings), report);
    }
}

fn check_blocks(
    reader: &Reader<'_>,
    mesh: &Mesh,
    rule: &Rule,
    policies: &Policies<'_>,
    report: &mut Report,
) {
    let profile = reader.options().profile;
    policies.load_balancing(report);
    if policies.has_connection_pool() {
        policies.connection_pool(mesh, report);
    }
    policies.outlier_detection(profile, report);
    let connecting = Connecting { namespace: &rule.meta.namespace, is_gateway: false, profile };
    policies.security(mesh, connecting, report);
    policies.tunnel(report);
    policies.warmup(report);
    let Some(Block { written, value: balancer, .. }) = policies.load_balancer else { return };
    if balancer.backend_utilization.is_some() {
        let why =
            "endpoints report no load here; the one with the fewest requests under way is picked";
        report.unsupported(written.origin_of(balancer.at, "backendUtilization"), why);
    }
    let watched = policies.is_watched()
        || mesh
            .default_traffic_policy()
            .is_some_and(|(_, policy)| policy.outlier_detection.is_some());
    locality::check(written, balancer, watched, report);
}

/// Rules of one namespace for one host are merged; what the older ones say already has no effect here.
fn check_merge(reader: &Reader<'_>, rule: &Rule, report: &mut Report) {
    let spec = &rule.spec;
    let host = full_name(&spec.host, &rule.meta.namespace, &reader.options().cluster_domain);
    let key =
        EffectiveRuleKey { namespace: rule.meta.namespace.as_str().into(), host: host.into() };
    let rules = reader.read(&key);
    let older =
        rules.0.iter().take_while(|other| other.meta.name != rule.meta.name).filter(|other| {
            let labels = |rule: &Rule| {
                rule.spec.workload_selector.as_ref().map(|selector| selector.match_labels.clone())
            };
            labels(other) == labels(rule)
        });
    let older: Vec<&Rule> = older.collect();
    if let (Some(policy), Some(first)) =
        (&spec.traffic_policy, older.iter().find(|other| other.spec.traffic_policy.is_some()))
    {
        let message = format!(
            "the traffic policy of `{}` decides, which was created or written before it",
            first.meta.name
        );
        let origin = rule.origin_at(policy.at);
        report.push(
            Diagnostic::warning(codes::SECOND_POLICY, origin.clone(), message.clone())
                .related("this one decides", first.origin().clone()),
        );
        report.conflict(origin, message);
    }
    for subset in &spec.subsets {
        let same = older
            .iter()
            .find(|other| other.spec.subsets.iter().any(|known| known.name == subset.name));
        if let Some(first) = same {
            let message = format!(
                "the subset `{}` of `{}` decides, which was created or written before it",
                subset.name, first.meta.name
            );
            report.warning(codes::DUPLICATE_SUBSET, rule.origin_at(subset.at), message.clone());
            report.conflict(rule.origin_at(subset.at), message);
        }
    }
}

fn check_host(reader: &Reader<'_>, rule: &Rule, report: &mut Report) {
    let spec = &rule.spec;
    let host = full_name(&spec.host, &rule.meta.namespace, &reader.options().cluster_domain);
    let Ok(pattern) = HostPattern::parse(&host) else {
        if !spec.host.is_empty() {
            report.rejected(
                rule.origin_of(spec.at, "host"),
                format!("`{}` is not a host", spec.host),
            );
        }
        return;
    };
    if !matches!(pattern, HostPattern::Exact(_)) {
        return;
    }
    let destinations = Destinations::new(reader, Client::any(&rule.meta.namespace));
    let Some(service) = destinations.visible_service(&host) else {
        let message =
            format!("no Service or ServiceEntry has the host `{host}`: the rule does nothing");
        report.warning(codes::UNKNOWN_RULE_HOST, rule.origin_of(spec.at, "host"), message);
        report.ignored(rule.origin().clone(), "no service has the host");
        return;
    };
    let Some(workloads) = workloads_of(reader, &service) else { return };
    for subset in &spec.subsets {
        let some = workloads.iter().any(|facts| selects(&subset.labels, &facts.labels));
        if !some && !rule.is_field_broken(subset.at, "labels") {
            let message =
                format!("no workload of `{host}` has the labels of the subset `{}`", subset.name);
            report.error(codes::EMPTY_SUBSET, subset_origin(rule, subset.at), message);
        }
    }
}

fn subset_origin(rule: &Rule, at: At) -> heddle_diag::Origin {
    rule.origin_at(at)
}

/// The pods of a service; none where its endpoints are not pods.
fn workloads_of(reader: &Reader<'_>, service: &Service) -> Option<Vec<Arc<Facts>>> {
    let labels = service.ports.iter().find_map(|port| match &port.endpoints {
        Endpoints::Selected { labels, workload_entries: false, .. } => Some(labels),
        _ => None,
    })?;
    Some(selector::selected(reader, &service.namespace, labels))
}
