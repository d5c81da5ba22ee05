//! Selectors of workloads by labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::istio::WorkloadSelector;
use heddle_api::{At, Resource as AnyObject, Written};

use crate::client::selects;
use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::object::ObjectKey;
use crate::report::Report;
use crate::workload::{Facts, WorkloadKey};

/// Istio's rules for selectors.
pub(crate) fn check(
    written: &Written,
    at: At,
    selector: Option<&WorkloadSelector>,
    report: &mut Report,
) {
    let Some(selector) = selector else { return };
    if selector.match_labels.is_empty() && !written.is_field_broken(at, "selector") {
        let message = "a selector without labels takes every workload of the namespace";
        report.warning(codes::UPSTREAM_WARNING, written.origin_of(at, "selector"), message);
    }
    check_pairs(written, selector.at, "matchLabels", &selector.match_labels, report);
}

/// Istio's rules for the pairs of a selector.
pub(crate) fn check_pairs(
    written: &Written,
    at: At,
    field: &str,
    labels: &BTreeMap<String, String>,
    report: &mut Report,
) {
    for (key, value) in labels {
        let origin = || written.origin_of_entry(at, field, key);
        if key.is_empty() {
            report.rejected(origin(), "a label has an empty key");
        }
        if key.contains('*') || value.contains('*') {
            report.rejected(origin(), "selectors have no wildcards");
        }
    }
}

/// The workloads of a namespace with these labels.
pub(crate) fn selected(
    reader: &Reader<'_>,
    namespace: &Arc<str>,
    labels: &BTreeMap<String, String>,
) -> Vec<Arc<Facts>> {
    let topic = match labels.iter().next() {
        Some((key, value)) => {
            Topic::WorkloadsByLabel(namespace.clone(), key.as_str().into(), value.as_str().into())
        }
        None => Topic::KindIn(Kind::Pod, namespace.clone()),
    };
    let objects = reader.objects(topic);
    let pods = objects.iter().filter(|object| matches!(object, AnyObject::Pod(_)));
    pods.filter_map(|pod| reader.read(&WorkloadKey(ObjectKey::of(pod))))
        .filter(|facts| selects(labels, &facts.labels))
        .collect()
}

/// Says so when a selector takes nothing.
pub(crate) fn check_selects(
    written: &Written,
    at: At,
    labels: &BTreeMap<String, String>,
    workloads: &[Arc<Facts>],
    report: &mut Report,
) {
    if workloads.is_empty() {
        let pairs: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let message = format!("no workload of the namespace has the labels {}", pairs.join(","));
        report.warning(codes::SELECTS_NOTHING, written.origin_of(at, "selector"), message);
    }
}
