//! What there is to say about a TrafficSplit.

use std::sync::Arc;

use heddle_ir::http_route::RetryPolicy;

use crate::client::Client;
use crate::codes;
use crate::crossing;
use crate::destinations::Destinations;
use crate::engine::Reader;
use crate::linkerd::service_profile;
use crate::report::Report;
use crate::service::ServiceKey;
use crate::smi::traffic_split::{self, Split};

/// Reports on a split.
pub(crate) fn report(reader: &Reader<'_>, split: &Split, report: &mut Report) {
    quantities(split, report);
    let host = traffic_split::root(reader, split);
    let service = reader.read(&ServiceKey(host.as_str().into()));
    let origin = split.origin_of(split.spec.at, "service");
    let Some(service) = service else {
        let message = format!("no Service has the host `{host}`: the split does nothing");
        report.error(codes::UNKNOWN_HOST, origin, message);
        return;
    };
    if *service.namespace != *split.meta.namespace {
        let message = format!(
            "the service is in the namespace `{}`: a split acts in its own namespace only",
            service.namespace
        );
        report.error(codes::UNKNOWN_HOST, origin, message);
        return;
    }
    let splits = traffic_split::of(reader, &service);
    if let Some(first) = splits.first().filter(|first| !Arc::ptr_eq(first, split)) {
        let message = format!("the older split `{}` decides for the service", first.meta.name);
        report.warning(codes::SECOND_SPLIT, origin.clone(), message.clone());
        report.conflict(origin.clone(), message);
    }
    crossing::split(reader, split, &service, report);
    let profile = service_profile::of(reader, &split.meta.namespace, &service);
    let wins = |profile: &service_profile::Profile| {
        !profile.spec.dst_overrides.is_empty() || traffic_split::is_conditional(split)
    };
    if let Some(profile) = profile.filter(wins) {
        let message = format!("the ServiceProfile `{}` decides for the service", profile.meta.name);
        report.warning(codes::PROFILE_WINS, origin.clone(), message.clone());
        report.conflict(origin, message);
    }
    let mut destinations = Destinations::new(reader, Client::any(&split.meta.namespace));
    let never = RetryPolicy::never();
    for (index, port) in service.ports.iter().enumerate() {
        // What is said of every port alike is said once.
        let mut unused = Report::default();
        let target = if index == 0 { &mut *report } else { &mut unused };
        let both = (&*service, port);
        traffic_split::http(reader, split, both, &never, &mut destinations, target);
        let of_port = |finding: &heddle_diag::Diagnostic| finding.code == codes::UNKNOWN_PORT;
        report.findings.extend(unused.findings.into_iter().filter(of_port));
    }
}

/// Only the oldest version has quantities as weights; later ones have whole numbers.
fn quantities(split: &Split, report: &mut Report) {
    let tree = split.written.tree();
    let version = split
        .written
        .field(split.written.root(), "apiVersion")
        .map(|at| tree.text(at).to_string())
        .unwrap_or_default();
    for backend in &split.spec.backends {
        let Some(at) = split.written.field(backend.at, "weight") else { continue };
        let whole =
            matches!(tree.value(at), heddle_api::Value::Int(_) | heddle_api::Value::Float(_));
        if !whole && !version.ends_with("/v1alpha1") {
            let message = "weights are quantities in v1alpha1 only; here they are whole numbers";
            report.rejected(split.origin_at(at), message);
        }
        if backend.weight.is_some_and(|weight| weight.as_nanos() < 0) {
            report.rejected(split.origin_at(at), "a weight cannot be negative");
        }
    }
}
