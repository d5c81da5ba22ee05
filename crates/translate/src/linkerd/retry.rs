//! Retries and time limits that annotations of a route or Service ask for (API.md 7.9).

use std::time::Duration;

use heddle_api::{Duration as WrittenDuration, Resource as AnyObject};
use heddle_ir::http_route::{HttpRule, RetryOn, RetryPolicy, StatusRange, StreamTimeouts};

use crate::engine::Reader;
use crate::linkerd::annotations::Annotated;
use crate::report::Report;
use crate::service::ServicePort;

/// Annotations that speak of retries begin so.
const RETRY: &str = "retry.linkerd.io/";
/// Annotations that speak of time limits begin so.
const TIMEOUT: &str = "timeout.linkerd.io/";

/// Time limits that annotations set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Timeouts {
    /// The whole request, retries and bodies included.
    pub(crate) request: Option<Duration>,
    /// Within it.
    pub(crate) stream: StreamTimeouts,
}

/// What the nearest of some objects, a route before its Service, says about retries; none where none of them does. The
/// annotations of one object count as a whole: those of another are not mixed in.
pub(crate) fn retry<'a>(
    objects: impl IntoIterator<Item = Annotated<'a>>,
    report: &mut Report,
) -> Option<RetryPolicy> {
    let object = nearest(objects, RETRY)?;
    Some(policy(object, report))
}

/// What the nearest of some objects says about time limits.
pub(crate) fn timeouts<'a>(
    objects: impl IntoIterator<Item = Annotated<'a>>,
    report: &mut Report,
) -> Timeouts {
    let Some(object) = nearest(objects, TIMEOUT) else { return Timeouts::default() };
    let mut of = |key| duration(object, key, report);
    Timeouts {
        request: of("timeout.linkerd.io/request"),
        stream: StreamTimeouts {
            response: of("timeout.linkerd.io/response"),
            idle: of("timeout.linkerd.io/idle"),
        },
    }
}

/// Puts into the rule of a service without routes what the annotations of the Service say.
pub(crate) fn of_service(reader: &Reader<'_>, port: &ServicePort, rule: &mut HttpRule) {
    if let Some(AnyObject::Service(service)) = reader.object(&port.object) {
        // What there is to say about them is said by the report of the Service.
        annotate([Annotated::of(&*service)], rule, &mut Report::default());
    }
}

/// Puts into a rule what annotations say, of the route before the Service. What the rule itself says of its time counts
/// more.
pub(crate) fn annotate<'a>(
    objects: impl IntoIterator<Item = Annotated<'a>> + Clone,
    rule: &mut HttpRule,
    report: &mut Report,
) {
    // A rule that says itself when it is tried again goes before its Service, not before annotations of its route.
    let says = rule.retry.origin.kind.ends_with("Route");
    let own = objects.clone().into_iter().filter(|object| !says || !is_service(*object));
    if let Some(retry) = retry(own, report) {
        rule.retry = retry;
    }
    let timeouts = timeouts(objects, report);
    rule.timeout = rule.timeout.or(timeouts.request);
    rule.stream_timeouts.response = rule.stream_timeouts.response.or(timeouts.stream.response);
    rule.stream_timeouts.idle = rule.stream_timeouts.idle.or(timeouts.stream.idle);
}

fn is_service(object: Annotated<'_>) -> bool {
    &*object.object().kind == "Service"
}

/// What there is to say about the two families of annotations of a route.
pub(crate) fn report(object: Annotated<'_>, report: &mut Report) {
    retry([object], report);
    timeouts([object], report);
    report_unknown(object, report);
}

/// Says which annotations of the two families are not known.
pub(crate) fn report_unknown(object: Annotated<'_>, report: &mut Report) {
    const KNOWN: [&str; 7] = [
        "retry.linkerd.io/grpc",
        "retry.linkerd.io/http",
        "retry.linkerd.io/limit",
        "retry.linkerd.io/timeout",
        "timeout.linkerd.io/idle",
        "timeout.linkerd.io/request",
        "timeout.linkerd.io/response",
    ];
    for key in object.keys(RETRY).chain(object.keys(TIMEOUT)) {
        if !KNOWN.contains(&key) {
            let message = format!("Linkerd knows no annotation `{key}`");
            report.warning(crate::codes::ANNOTATION, object.origin(key), message);
        }
    }
}

fn nearest<'a>(
    objects: impl IntoIterator<Item = Annotated<'a>>,
    prefix: &'static str,
) -> Option<Annotated<'a>> {
    objects.into_iter().find(|object| object.keys(prefix).next().is_some())
}

fn policy(object: Annotated<'_>, report: &mut Report) -> RetryPolicy {
    let mut on = Vec::new();
    if let Some(text) = object.get("retry.linkerd.io/http") {
        list(object, "retry.linkerd.io/http", text, statuses, &mut on, report);
    }
    if let Some(text) = object.get("retry.linkerd.io/grpc") {
        list(object, "retry.linkerd.io/grpc", text, grpc_status, &mut on, report);
    }
    let per_try_timeout = duration(object, "retry.linkerd.io/timeout", report);
    if per_try_timeout.is_some() {
        // A try that takes too long is tried again; so is one that ends without an answer.
        on.push(RetryOn::Reset);
    }
    // Linkerd's balancer picks no endpoint that it cannot connect to.
    on.extend([RetryOn::ConnectFailure, RetryOn::RefusedStream]);
    let attempts = match object.get("retry.linkerd.io/limit") {
        Some(text) => text.parse().unwrap_or_else(|_| {
            let key = "retry.linkerd.io/limit";
            invalid(object, key, text, "a number of retries", report);
            0
        }),
        None => 1,
    };
    let origin = object.keys(RETRY).next().map(|key| object.origin(key));
    RetryPolicy {
        attempts,
        on,
        per_try_timeout,
        backoff_base: Duration::ZERO,
        avoid_tried: true,
        origin: origin.unwrap_or_else(|| object.object().clone()),
        ..RetryPolicy::never()
    }
}

/// Reads a list; an entry that cannot be read is left out, so that less is retried than was asked for.
fn list(
    object: Annotated<'_>,
    key: &str,
    text: &str,
    read: fn(&str) -> Option<RetryOn>,
    on: &mut Vec<RetryOn>,
    report: &mut Report,
) {
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match read(entry) {
            Some(condition) => on.push(condition),
            None => invalid(object, key, entry, "a status or condition", report),
        }
    }
}

fn statuses(text: &str) -> Option<RetryOn> {
    let status = |text: &str| text.trim().parse().ok().filter(|status| (100..600).contains(status));
    let (first, last) = match text {
        "5xx" => (500, 599),
        "gateway-error" => (502, 504),
        _ => match text.split_once('-') {
            Some((first, last)) => (status(first)?, status(last)?),
            None => (status(text)?, status(text)?),
        },
    };
    (first <= last).then_some(RetryOn::StatusRange(StatusRange { first, last }))
}

fn grpc_status(text: &str) -> Option<RetryOn> {
    Some(RetryOn::GrpcStatus(match text {
        "cancelled" => 1,
        "deadline-exceeded" => 4,
        "resource-exhausted" => 8,
        "internal" => 13,
        "unavailable" => 14,
        _ => return None,
    }))
}

/// A number with one of the units `ms`, `s`, `m`, `h` and `d`; without unit only `0` is one.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(days) = text.strip_suffix('d') {
        let days: u32 = days.trim().parse().ok()?;
        return Some(Duration::from_hours(24).saturating_mul(days));
    }
    WrittenDuration::parse(text)
        .filter(|duration| duration.as_nanos() >= 0)
        .map(WrittenDuration::as_std)
}

/// The duration in an annotation; `0` means none.
pub(crate) fn duration(object: Annotated<'_>, key: &str, report: &mut Report) -> Option<Duration> {
    let text = object.get(key)?;
    let duration = parse_duration(text);
    if duration.is_none() {
        invalid(object, key, text, "a duration such as `300ms`", report);
    }
    duration.filter(|duration| !duration.is_zero())
}

/// Says that an annotation is not valid: Linkerd tells nobody but its own log.
pub(crate) fn invalid(
    object: Annotated<'_>,
    key: &str,
    text: &str,
    expected: &str,
    report: &mut Report,
) {
    let message = format!("`{key}`: `{text}` is not {expected}; it has no effect");
    report.error(crate::codes::ANNOTATION, object.origin(key), message);
}
