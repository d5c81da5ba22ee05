//! ServiceProfiles: routes of a service by name, with retries, time limits and shares of other services (API.md 7.11).
//!
//! A profile decides for its service as a whole: no route and no annotation counts beside it (API.md hazard 16).

use std::sync::Arc;
use std::time::Duration;

use heddle_api::linkerd::{ProfileRetryBudget, ProfileRoute, ServiceProfile, WeightedDestination};
use heddle_api::{Object, Resource as AnyObject, kubernetes};
use heddle_diag::Origin;
use heddle_ir::destination::RetryBudget;
use heddle_ir::http_route::{
    BackendTarget, HttpAction, HttpMatch, HttpRule, RequestPart, RetryOn, RetryPolicy, StatusRange,
    WeightedBackend,
};
use heddle_ir::matching::{PathMatch, TextMatch};
use heddle_ir::outbound::TcpRule;

use crate::codes;
use crate::destinations::Destinations;
use crate::engine::Reader;
use crate::istio::http_rule::default_rule;
use crate::linkerd::condition;
use crate::names::service_host;
use crate::object::ObjectKey;
use crate::report::Report;
use crate::service::{Service, ServicePort};
use crate::smi::traffic_split;

pub(crate) type Profile = Arc<Object<ServiceProfile>>;

/// Retries of one request where only the budget bounds them.
const RETRIES_MAX: u32 = 10;
/// gRPC statuses that count as failures where a profile says nothing: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE
/// and DATA_LOSS.
const GRPC_FAILURES: [u8; 5] = [2, 4, 13, 14, 15];

/// The profile of a service for the clients of a namespace: theirs before the service's own.
pub(crate) fn of(
    reader: &Reader<'_>,
    client_namespace: &str,
    service: &Service,
) -> Option<Profile> {
    let host = service.exact_host()?;
    [client_namespace, &*service.namespace]
        .into_iter()
        .find_map(|namespace| at(reader, namespace, host.as_str()))
}

/// The profile beside a Service.
pub(crate) fn of_service(
    reader: &Reader<'_>,
    service: &Object<kubernetes::Service>,
) -> Option<Profile> {
    let meta = &service.meta;
    let host = service_host(&meta.name, &meta.namespace, &reader.options().cluster_domain)?;
    at(reader, &meta.namespace, host.as_str())
}

fn at(reader: &Reader<'_>, namespace: &str, host: &str) -> Option<Profile> {
    match reader.object(&ObjectKey::new("linkerd.io", "ServiceProfile", namespace, host)) {
        Some(AnyObject::ServiceProfile(profile)) => Some(profile),
        _ => None,
    }
}

/// The rules of a profile: its routes in written order, then one for all other requests.
pub(crate) fn http(
    reader: &Reader<'_>,
    profile: &Profile,
    service: (&Service, &ServicePort),
    default_retry: &RetryPolicy,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<HttpRule> {
    let backends = backends(reader, profile, service, destinations, report);
    let mut rules = Vec::new();
    for route in &profile.spec.routes {
        let Some(matches) = matches(profile, route, report) else { continue };
        rules.push(HttpRule {
            name: route.name.as_str().into(),
            matches,
            timeout: route
                .timeout
                .map(heddle_api::Duration::as_std)
                .filter(|timeout| !timeout.is_zero()),
            retry: retry(profile, route, default_retry),
            failures: failures(route),
            ..rule(profile.origin_at(route.at), &backends, default_retry.clone())
        });
    }
    let origin = profile.origin().clone();
    rules.push(rule(origin, &backends, default_retry.clone()));
    rules
}

fn rule(origin: Origin, backends: &[WeightedBackend], retry: RetryPolicy) -> HttpRule {
    HttpRule { action: HttpAction::Forward(backends.to_vec()), ..default_rule(origin, 0, retry) }
}

/// The matches of a route; none where its condition cannot be known, so that it takes no request.
fn matches(profile: &Profile, route: &ProfileRoute, report: &mut Report) -> Option<Vec<HttpMatch>> {
    let condition = route.condition.as_ref()?;
    if profile.is_broken(condition.at) {
        return None;
    }
    let origin = profile.origin_at(condition.at);
    let Some(alternatives) = condition::request(condition, false) else {
        let message = "the condition has more than 128 alternatives; the route takes no request";
        report.error(codes::UNSUPPORTED, origin, message);
        return None;
    };
    if alternatives.is_empty() {
        return None;
    }
    let matches = alternatives.into_iter().map(|parts| {
        let mut found = HttpMatch {
            origin: origin.clone(),
            name: Arc::default(),
            path: None,
            ignore_path_case: false,
            scheme: None,
            method: None,
            authority: None,
            headers: Vec::new(),
            query: Vec::new(),
            claims: Vec::new(),
            parts: Vec::new(),
        };
        for part in parts {
            match (&part.part, &part.value, part.invert) {
                (RequestPart::Path, TextMatch::Regex(pattern), false) if found.path.is_none() => {
                    found.path = Some(PathMatch::Regex(pattern.clone()));
                }
                (RequestPart::Method, _, false) if found.method.is_none() => {
                    found.method = Some(part.value);
                }
                _ => found.parts.push(part),
            }
        }
        found
    });
    Some(matches.collect())
}

/// Retries of a route: of failures, as often as the budget allows.
fn retry(profile: &Profile, route: &ProfileRoute, default: &RetryPolicy) -> RetryPolicy {
    if route.is_retryable != Some(true) {
        return default.clone();
    }
    let failures = failures(route);
    let mut on: Vec<RetryOn> = failures.iter().map(|range| RetryOn::StatusRange(*range)).collect();
    if failures.is_empty() {
        on.push(RetryOn::StatusRange(StatusRange { first: 500, last: 599 }));
    }
    on.extend(GRPC_FAILURES.map(RetryOn::GrpcStatus));
    on.extend([RetryOn::ConnectFailure, RetryOn::RefusedStream]);
    RetryPolicy {
        attempts: RETRIES_MAX,
        on,
        backoff_base: Duration::ZERO,
        avoid_tried: true,
        origin: profile.origin_of(route.at, "isRetryable"),
        ..RetryPolicy::never()
    }
}

/// Statuses that count as failures; empty where the profile says nothing, which means 5xx.
fn failures(route: &ProfileRoute) -> Vec<StatusRange> {
    if route.response_classes.is_empty() {
        return Vec::new();
    }
    let fails = |status: u16| {
        let class = route.response_classes.iter().find(|class| {
            class.condition.as_ref().is_some_and(|own| condition::response(own, status))
        });
        class.map_or(status >= 500, |class| class.is_failure.unwrap_or(false))
    };
    let mut ranges: Vec<StatusRange> = Vec::new();
    for status in (100..600).filter(|status| fails(*status)) {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == status => range.last = status,
            _ => ranges.push(StatusRange { first: status, last: status }),
        }
    }
    if ranges.is_empty() {
        // No status is one; an empty list would mean 5xx.
        ranges.push(StatusRange { first: 0, last: 0 });
    }
    ranges
}

/// The budget of a profile; none where it says none. What is missing has Linkerd's default.
pub(crate) fn budget(profile: &Object<ServiceProfile>, report: &mut Report) -> Option<RetryBudget> {
    let spec = &profile.spec;
    let lifted = spec.routes.iter().find_map(|route| route.retry_budget.as_ref());
    let written = spec.retry_budget.as_ref().or(lifted)?;
    Some(rate(profile, written, report))
}

fn rate(
    profile: &Object<ServiceProfile>,
    written: &ProfileRetryBudget,
    report: &mut Report,
) -> RetryBudget {
    let default = |field: &str, value: &str, report: &mut Report| {
        if profile.written.field(written.at, field).is_none() {
            let origin = profile.origin_of(written.at, field);
            report
                .translated(origin, format!("absent: {value}, as a profile without budget has it"));
        }
    };
    default("ttl", "10s", report);
    default("retryRatio", "0.2", report);
    default("minRetriesPerSecond", "10", report);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is bounded on both sides"
    )]
    let share_ppm =
        (written.retry_ratio.unwrap_or(0.2).clamp(0.0, 4_000.0) * 1_000_000.0).round() as u32;
    let ttl = written.ttl.map_or(Duration::from_secs(10), heddle_api::Duration::as_std);
    let window = ttl.clamp(Duration::from_secs(1), Duration::from_mins(1));
    if window != ttl {
        let how = format!("requests count for {} seconds", window.as_secs());
        report.translated(profile.origin_of(written.at, "ttl"), how);
    }
    RetryBudget::Rate {
        share_ppm,
        retries_per_second_min: written.min_retries_per_second.unwrap_or(10),
        window,
    }
}

/// Where requests go: to the service itself, or by the shares of `dstOverrides`, which a TrafficSplit of the service fills
/// in where the profile has none (as Linkerd's SMI extension does).
fn backends(
    reader: &Reader<'_>,
    profile: &Profile,
    (service, port): (&Service, &ServicePort),
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<WeightedBackend> {
    let one = traffic_split::backend;
    if profile.spec.dst_overrides.is_empty() {
        if let Some(split) = traffic_split::of(reader, service).first()
            && !traffic_split::is_conditional(split)
        {
            let (both, unused) = ((service, port), &mut Report::default());
            return traffic_split::backends(reader, split, both, destinations, unused);
        }
        let target = match destinations.add(service, port, None) {
            Ok(index) => BackendTarget::Destination(index),
            Err(missing) => BackendTarget::Invalid { status: 503, reason: missing.message.into() },
        };
        return vec![one(profile.origin().clone(), target, 1)];
    }
    let weights = weights(&profile.spec.dst_overrides);
    if weights.iter().all(|weight| *weight == 0) {
        let origin = profile.origin_of(profile.spec.at, "dstOverrides");
        let message = "the weights add up to 0: requests get 503";
        report.error(codes::WEIGHTS, origin.clone(), message);
        let reason: Arc<str> = "the weights of the profile add up to 0".into();
        return vec![one(origin, BackendTarget::Invalid { status: 503, reason }, 1)];
    }
    let written = profile.spec.dst_overrides.iter().zip(weights);
    written
        .map(|(written, weight)| {
            let origin = profile.origin_at(written.at);
            let found = destination(profile, written, port, destinations, report);
            let target = match found {
                Ok(index) => BackendTarget::Destination(index),
                Err(reason) => BackendTarget::Invalid { status: 503, reason },
            };
            one(origin, target, weight)
        })
        .filter(|backend| backend.weight > 0)
        .collect()
}

/// Shares in thousandths, so that quantities such as `900m` count as written.
fn weights(written: &[WeightedDestination]) -> Vec<u32> {
    let thousandths = |one: &WeightedDestination| one.weight.as_millis().max(0);
    let most = written.iter().map(thousandths).max().unwrap_or(0);
    // Shares keep their ratio where they do not fit.
    let divisor = most / i128::from(u32::MAX / 64) + 1;
    written
        .iter()
        .map(|one| u32::try_from(thousandths(one) / divisor).unwrap_or(u32::MAX / 64))
        .collect()
}

fn destination(
    profile: &Profile,
    written: &WeightedDestination,
    port: &ServicePort,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Result<usize, Arc<str>> {
    let (host, number) = match written.authority.rsplit_once(':') {
        Some((host, number)) => (host, number.parse().ok()),
        None => (&*written.authority, Some(port.number)),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let found = number.and_then(|number: u16| {
        let service = destinations.visible_service(&host)?;
        let port = service.ports.iter().find(|port| port.number == number)?.clone();
        destinations.add(&service, &port, None).ok()
    });
    found.ok_or_else(|| {
        let reason = format!("no Service has `{}`", written.authority);
        let origin = profile.origin_of(written.at, "authority");
        report.error(codes::UNKNOWN_HOST, origin, format!("{reason}: requests for it get 503"));
        reason.into()
    })
}

/// Where streams that are not HTTP go; none where the profile moves nothing.
pub(crate) fn streams(
    reader: &Reader<'_>,
    profile: &Profile,
    service: (&Service, &ServicePort),
    destinations: &mut Destinations<'_>,
) -> Option<TcpRule> {
    if profile.spec.dst_overrides.is_empty() {
        return None;
    }
    let unused = &mut Report::default();
    let backends = backends(reader, profile, service, destinations, unused);
    Some(TcpRule {
        origin: profile.origin_of(profile.spec.at, "dstOverrides"),
        destination_ranges: Vec::new(),
        backends: traffic_split::of_streams(backends),
    })
}
