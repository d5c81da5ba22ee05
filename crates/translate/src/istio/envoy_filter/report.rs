//! What there is to say about an EnvoyFilter: what is run natively, by whom limits are counted, and which part of a limit is
//! missing.

use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_diag::Diagnostic;

use super::patch::{self, NO_ENVOY, Understood};
use super::{Filter, clusters_of};
use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::istio::global_rate_limit::{self as global, Counter, ServiceTarget};
use crate::istio::selector;
use crate::mesh::MeshKey;
use crate::rate_limits::CountedDomainsKey;
use crate::report::Report;

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, object: &Filter, report: &mut Report) {
    let spec = &object.spec;
    if spec.config_patches.is_empty() && object.written.is_sound() {
        let message = "the EnvoyFilter has no patches";
        report.warning(codes::UPSTREAM_WARNING, object.origin().clone(), message);
    }
    if !spec.target_refs.is_empty() {
        let why = "limits of single Gateways are not set by EnvoyFilters";
        report.unsupported(object.origin_of(spec.at, "targetRefs"), why);
    }
    let own = patch::read(object, None, report);
    let speaks_of_services = |(_, patch): &&(_, Understood)| {
        !(patch.filters.is_empty() && patch.descriptors.is_empty() && patch.clusters.is_empty())
    };
    let all = match own.iter().find(speaks_of_services) {
        Some(_) => everywhere(reader),
        None => Vec::new(),
    };
    for (_, patch) in &own {
        tell(reader, object, patch, &all, report);
    }
    let Some(own) = &spec.workload_selector else { return };
    let root = reader.read(&MeshKey).root_namespace.clone();
    if own.labels.is_empty() || *root == *object.meta.namespace {
        return;
    }
    let namespace: Arc<str> = object.meta.namespace.as_str().into();
    if selector::selected(reader, &namespace, &own.labels).is_empty() {
        let message = "no workload of the namespace has these labels";
        let origin = object.origin_of(spec.at, "workloadSelector");
        report.warning(codes::SELECTS_NOTHING, origin, message);
    }
}

/// Everything that patches of the mesh say: the parts of one limit stand in several objects.
fn everywhere(reader: &Reader<'_>) -> Vec<Understood> {
    let objects = reader.objects(Topic::Kind(Kind::EnvoyFilter));
    let filters = objects.into_iter().filter_map(|object| match object {
        AnyObject::EnvoyFilter(object) => Some(object),
        _ => None,
    });
    let read = |object: Filter| patch::read(&object, None, &mut Report::default());
    filters.flat_map(read).map(|(_, patch)| patch).collect()
}

fn tell(
    reader: &Reader<'_>,
    object: &Filter,
    patch: &Understood,
    all: &[Understood],
    report: &mut Report,
) {
    let origin = || object.origin_at(patch.site.value);
    if let Some((name, (host, port))) = patch.clusters.first() {
        let used = all
            .iter()
            .flat_map(|patch| &patch.filters)
            .any(|filter| matches!(&filter.target, ServiceTarget::Cluster(own) if own == name));
        if used {
            report.translated(origin(), format!("where the rate limit service is: {host}:{port}"));
        } else {
            report.unsupported(object.origin_at(patch.site.at), NO_ENVOY);
        }
        return;
    }
    if let Some(filter) = patch.filters.first() {
        return tell_filter(reader, object, patch, filter, all, report);
    }
    let bucket = patch.local.first().map(|limit| match &limit.bucket {
        Some(bucket) => format!("{} requests per {:?}", bucket.refill, bucket.interval),
        None => String::new(),
    });
    let stages = || all.iter().flat_map(|patch| &patch.filters).map(|filter| filter.stage);
    let asked = |stage| stages().any(|own| own == stage);
    let told = patch.descriptors.iter().filter(|staged| asked(staged.stage)).count();
    for staged in patch.descriptors.iter().filter(|_| told > 0) {
        if !asked(staged.stage) {
            let why = format!("no rate limit filter has the stage {}", staged.stage);
            report.ignored(object.origin_at(staged.at), why);
        }
    }
    match (bucket, told) {
        (Some(bucket), _) => report.translated(origin(), format!("run natively: {bucket}")),
        (None, 1) => report.translated(origin(), "run natively: a descriptor"),
        (None, 2..) => report.translated(origin(), format!("run natively: {told} descriptors")),
        (None, 0) if !patch.descriptors.is_empty() => {
            let message = "no rate limit filter is configured that would send these descriptors";
            report.warning(codes::NOTHING_COUNTED, origin(), message);
            report.ignored(origin(), "there is no filter that reads it");
        }
        // Settings without a bucket put the filter in place for the routes that have one.
        (None, 0) => report.ignored(origin(), "it limits nothing by itself"),
    }
}

fn tell_filter(
    reader: &Reader<'_>,
    object: &Filter,
    patch: &Understood,
    filter: &global::Filter,
    all: &[Understood],
    report: &mut Report,
) {
    let origin = || object.origin_at(patch.site.value);
    let (domain, clusters) = (&filter.limit.domain, clusters_of(all));
    let counter = global::counter(reader, &object.meta.namespace, &filter.target, &clusters);
    match counter {
        Counter::Service(service) => {
            let how =
                format!("run natively: {}:{} counts, domain {domain}", service.host, service.port);
            report.translated(origin(), how);
        }
        Counter::Own(why) => {
            let how = format!("run natively: heddle counts, domain {domain}, as {why}");
            report.translated(origin(), how);
            let known = reader.read(&CountedDomainsKey);
            if !known.iter().any(|own| own.domain == *domain) {
                let message = format!("no ConfigMap has limits of the domain `{domain}`");
                let hint = "a ConfigMap holds them under any key, as the reference service reads them: \
                            `domain` and `descriptors`";
                let finding = Diagnostic::warning(codes::NOTHING_COUNTED, origin(), message);
                report.push(finding.hint(hint));
            }
        }
        Counter::Nobody => {
            let why =
                "no patch adds the cluster that the filter names, so that nobody can be asked";
            report.unsupported(origin(), why);
            return;
        }
    }
    let sends =
        |patch: &Understood| patch.descriptors.iter().any(|staged| staged.stage == filter.stage);
    if filter.own.is_none() && !all.iter().any(sends) {
        let message = "nothing is asked: no route or virtual host has `rate_limits` for the filter";
        report.warning(codes::NOTHING_COUNTED, origin(), message);
    }
}
