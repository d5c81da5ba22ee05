//! TrafficSplits: shares of the requests that clients send to a service (API.md 9.1).

use std::sync::Arc;

use heddle_api::smi::{SplitBackend, TrafficSplit};
use heddle_api::{Object, Resource as AnyObject};
use heddle_diag::Origin;
use heddle_ir::http_route::{
    BackendTarget, HeaderEdits, HttpAction, HttpMatch, HttpRule, RetryPolicy, Rewrite,
    WeightedBackend,
};
use heddle_ir::outbound::{TcpBackend, TcpRule};

use crate::codes;
use crate::destinations::Destinations;
use crate::engine::{Kind, Reader, Topic};
use crate::istio::http_rule::default_rule;
use crate::names::full_name;
use crate::object::by_age;
use crate::report::Report;
use crate::service::{Service, ServicePort};
use crate::smi::route_group;

pub(crate) type Split = Arc<Object<TrafficSplit>>;

/// The splits of a service, the oldest first; the first counts.
pub(crate) fn of(reader: &Reader<'_>, service: &Service) -> Vec<Split> {
    let Some(host) = service.exact_host() else { return Vec::new() };
    let mut splits = all(reader, &service.namespace);
    splits.retain(|split| root(reader, split) == host.as_str());
    splits
}

fn all(reader: &Reader<'_>, namespace: &Arc<str>) -> Vec<Split> {
    let objects = reader.objects(Topic::KindIn(Kind::TrafficSplit, namespace.clone()));
    let mut splits: Vec<Split> = objects
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::TrafficSplit(split) => Some(split),
            _ => None,
        })
        .collect();
    splits.sort_by(|left, right| by_age(&left.meta, &right.meta));
    splits
}

/// The host of the service that a split is about. A name with a dot that is no full one is `name.namespace`.
pub(crate) fn root(reader: &Reader<'_>, split: &Object<TrafficSplit>) -> String {
    host(reader, &split.spec.service, &split.meta.namespace)
}

pub(crate) fn host(reader: &Reader<'_>, text: &str, namespace: &str) -> String {
    let domain = &reader.options().cluster_domain;
    let text = text.trim_end_matches('.');
    let text = text.strip_suffix(&**domain).map_or(text, |rest| rest.trim_end_matches('.'));
    let text = text.strip_suffix(".svc").unwrap_or(text);
    match text.split_once('.') {
        None => full_name(text, namespace, domain),
        Some(_) if text.split('.').count() == 2 => format!("{text}.svc.{domain}").to_lowercase(),
        Some(_) => text.to_lowercase(),
    }
}

/// The rules of a split: what it matches by shares, everything else to the service itself.
pub(crate) fn http(
    reader: &Reader<'_>,
    split: &Split,
    service: (&Service, &ServicePort),
    retry: &RetryPolicy,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<HttpRule> {
    let backends = backends(reader, split, service, destinations, report);
    let origin = split.origin().clone();
    let rule = |matches: Vec<HttpMatch>| HttpRule {
        name: split.meta.name.as_str().into(),
        matches,
        action: HttpAction::Forward(backends.clone()),
        ..default_rule(origin.clone(), 0, retry.clone())
    };
    if !is_conditional(split) {
        return vec![rule(Vec::new())];
    }
    let matches = matches(reader, split, report);
    let mut rules = Vec::new();
    // A rule without matches would take everything.
    if !matches.is_empty() {
        rules.push(rule(matches));
    }
    let (service, port) = service;
    if let Ok(index) = destinations.add(service, port, None) {
        rules.push(default_rule(port.origin.clone(), index, retry.clone()));
    }
    rules
}

/// Whether a split is about some requests only.
pub(crate) fn is_conditional(split: &Object<TrafficSplit>) -> bool {
    !split.spec.matches.is_empty() || split.is_field_broken(split.spec.at, "matches")
}

fn matches(reader: &Reader<'_>, split: &Split, report: &mut Report) -> Vec<HttpMatch> {
    let mut matches = Vec::new();
    for reference in &split.spec.matches {
        match route_group::of(reader, &split.meta.namespace, &reference.name) {
            Some(group) => matches.extend(route_group::matches(&group)),
            None if split.is_broken(reference.at) => {}
            None => {
                let message = format!(
                    "no HTTPRouteGroup `{}` is in the namespace: no request is split by it",
                    reference.name
                );
                report.error(codes::UNKNOWN_REFERENCE, split.origin_at(reference.at), message);
            }
        }
    }
    matches
}

/// The shares of the backends, in thousandths, so that quantities such as `900m` count as written.
pub(crate) fn weights(written: &[SplitBackend]) -> Vec<u32> {
    let thousandths = |one: &SplitBackend| one.weight.map_or(0, |w| w.as_millis().max(0));
    let most = written.iter().map(thousandths).max().unwrap_or(0);
    // Shares keep their ratio where they do not fit.
    let divisor = most / i128::from(u32::MAX / 64) + 1;
    written
        .iter()
        .map(|one| u32::try_from(thousandths(one) / divisor).unwrap_or(u32::MAX / 64))
        .collect()
}

pub(crate) fn backends(
    reader: &Reader<'_>,
    split: &Split,
    service: (&Service, &ServicePort),
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<WeightedBackend> {
    let list = split.origin_of(split.spec.at, "backends");
    let invalid = |reason: &str| {
        let target = BackendTarget::Invalid { status: 503, reason: reason.into() };
        vec![backend(list.clone(), target, 1)]
    };
    if split.is_field_broken(split.spec.at, "backends") {
        return invalid("the split has an error, see `analyze`");
    }
    let weights = weights(&split.spec.backends);
    if weights.iter().all(|weight| *weight == 0) {
        let message = "the weights of the backends add up to 0: requests to the service get 503";
        report.error(codes::WEIGHTS, list.clone(), message);
        return invalid("the weights of the split add up to 0");
    }
    let mut found = Vec::new();
    for (written, weight) in split.spec.backends.iter().zip(weights) {
        let target = target(reader, split, written, service, destinations, report);
        // One that is not there is left out, and the others share what it would have had.
        if let (Some(index), true) = (target, weight > 0) {
            let target = BackendTarget::Destination(index);
            found.push(backend(split.origin_at(written.at), target, weight));
        }
    }
    if found.is_empty() {
        return invalid("no backend of the split can take requests");
    }
    found
}

/// A backend that changes nothing.
pub(crate) fn backend(origin: Origin, target: BackendTarget, weight: u32) -> WeightedBackend {
    WeightedBackend {
        origin,
        target,
        weight,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: Rewrite::default(),
    }
}

/// The same shares for streams.
pub(crate) fn of_streams(backends: Vec<WeightedBackend>) -> Vec<TcpBackend> {
    let one = |backend: WeightedBackend| TcpBackend {
        origin: backend.origin,
        destination: match backend.target {
            BackendTarget::Destination(index) => Some(index),
            BackendTarget::Invalid { .. } | BackendTarget::Redirect(_) => None,
        },
        weight: backend.weight,
    };
    backends.into_iter().map(one).collect()
}

/// The destination of a backend: the port of the same number of a service that the client sees.
fn target(
    reader: &Reader<'_>,
    split: &Split,
    written: &SplitBackend,
    (service, port): (&Service, &ServicePort),
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Option<usize> {
    let host = host(reader, &written.service, &split.meta.namespace);
    let origin = || split.origin_of(written.at, "service");
    let Some(found) = destinations.visible_service(&host) else {
        let message = format!("no Service has the host `{host}`: it gets no requests");
        report.error(codes::UNKNOWN_HOST, origin(), message);
        return None;
    };
    let Some(own) = found.ports.iter().find(|own| own.number == port.number) else {
        let message = format!(
            "`{host}` has no port {}, which `{}` has: it gets no requests there",
            port.number, service.host
        );
        report.error(codes::UNKNOWN_PORT, origin(), message);
        return None;
    };
    destinations.add(&found, own, None).ok()
}

/// Where streams that are not HTTP go. A split with conditions on requests moves none.
pub(crate) fn streams(
    reader: &Reader<'_>,
    split: &Split,
    service: (&Service, &ServicePort),
    destinations: &mut Destinations<'_>,
) -> Option<TcpRule> {
    if is_conditional(split) {
        return None;
    }
    let backends = backends(reader, split, service, destinations, &mut Report::default());
    Some(TcpRule {
        origin: split.origin().clone(),
        destination_ranges: Vec::new(),
        backends: of_streams(backends),
    })
}
