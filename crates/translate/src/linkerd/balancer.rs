//! How Linkerd spreads requests and avoids endpoints that fail (API.md 7.1, 7.10).

use std::sync::Arc;
use std::time::Duration;

use heddle_api::{Object, Resource as AnyObject, kubernetes};
use heddle_ir::destination::{Destination, FailureAccrual, LoadBalancing, RetryBudget};

use crate::codes;
use crate::crossing;
use crate::engine::Reader;
use crate::linkerd::annotations::Annotated;
use crate::linkerd::{opaque_ports, retry, service_profile, settings};
use crate::options::Profile;
use crate::report::Report;
use crate::service::{Service, ServicePort};

/// Time constant of the estimate of latency, as Linkerd has it.
const DECAY: Duration = Duration::from_secs(10);
/// What a profile without budget allows.
const BUDGET: RetryBudget = RetryBudget::Rate {
    share_ppm: 200_000,
    retries_per_second_min: 10,
    window: Duration::from_secs(10),
};

const ACCRUAL: &str = "balancer.linkerd.io/failure-accrual";
const FAILURES_MAX: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-failures";
const PENALTY_MIN: &str = "balancer.linkerd.io/failure-accrual-consecutive-min-penalty";
const PENALTY_MAX: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-penalty";
const JITTER: &str = "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio";

/// What other objects have said about a destination already.
pub(crate) struct Decided {
    /// How endpoints are picked.
    pub(crate) load_balancer: bool,
    /// When endpoints are left alone.
    pub(crate) outlier_detection: bool,
}

/// Puts into a destination what Linkerd's objects say, where no DestinationRule has said it.
pub(crate) fn shape(
    reader: &Reader<'_>,
    client_namespace: &str,
    service: &Service,
    port: &ServicePort,
    decided: &Decided,
    destination: &mut Destination,
) {
    let Some(AnyObject::Service(object)) = reader.object(&port.object) else { return };
    let profile = service_profile::of(reader, client_namespace, service);
    if !decided.load_balancer && (profile.is_some() || is_linkerds(reader, &object)) {
        destination.load_balancing = LoadBalancing::PeakEwma { decay: DECAY };
    }
    match profile {
        // A profile takes the place of all annotations (API.md hazard 16).
        Some(profile) => {
            let budget = service_profile::budget(&profile, &mut Report::default());
            destination.retry_budget = Some(budget.unwrap_or(BUDGET));
        }
        None if !decided.outlier_detection => {
            let accrual = failure_accrual(Annotated::of(&*object), &mut Report::default());
            destination.failure_accrual = accrual;
        }
        None => {}
    }
}

/// Whether a Service is one that Linkerd balances: where it or its namespace is injected by Linkerd, or carries one of
/// Linkerd's annotations.
pub(crate) fn is_linkerds(reader: &Reader<'_>, service: &Object<kubernetes::Service>) -> bool {
    if reader.options().profile == Profile::Linkerd {
        return true;
    }
    let says = |object: Annotated<'_>| match object.get("linkerd.io/inject") {
        Some(inject) => matches!(inject, "enabled" | "ingress"),
        None => ["balancer.", "config.", "retry.", "timeout."].into_iter().any(|family| {
            object.keys(family).any(|key| {
                key.split_once('/').is_some_and(|(prefix, _)| prefix.ends_with("linkerd.io"))
            })
        }),
    };
    says(Annotated::of(service))
        || opaque_ports::namespace(reader, &service.meta.namespace)
            .is_some_and(|namespace| says(Annotated::of(&*namespace)))
}

/// The circuit breaker that annotations of a Service ask for.
pub(crate) fn failure_accrual(
    object: Annotated<'_>,
    report: &mut Report,
) -> Option<FailureAccrual> {
    match object.get(ACCRUAL)? {
        "consecutive" => {}
        "unified" => {
            let why = "breaking by success rate is an alpha mode; failures in a row are counted";
            report.unsupported(object.origin(ACCRUAL), why);
        }
        other => {
            retry::invalid(object, ACCRUAL, other, "`consecutive`", report);
            return None;
        }
    }
    let failures_max = match object.get(FAILURES_MAX) {
        Some(text) => text.parse().ok().filter(|count| *count > 0).unwrap_or_else(|| {
            retry::invalid(object, FAILURES_MAX, text, "a number of failures", report);
            7
        }),
        None => 7,
    };
    let mut pause = |key, default| retry::duration(object, key, report).unwrap_or(default);
    let pause_min = pause(PENALTY_MIN, Duration::from_secs(1));
    let mut pause_max = pause(PENALTY_MAX, Duration::from_mins(1));
    if pause_max < pause_min {
        let message = "the longest penalty is shorter than the shortest";
        report.error(codes::ANNOTATION, object.origin(PENALTY_MAX), message);
        pause_max = pause_min;
    }
    let jitter_percent = match object.get(JITTER) {
        Some(text) => percent(text).unwrap_or_else(|| {
            retry::invalid(object, JITTER, text, "a ratio of 0 to 100", report);
            50
        }),
        None => 50,
    };
    let origin = object.origin(ACCRUAL);
    Some(FailureAccrual { origin, failures_max, pause_min, pause_max, jitter_percent })
}

fn percent(text: &str) -> Option<u16> {
    let ratio: f64 = text.parse().ok().filter(|ratio| (0.0..=100.0).contains(ratio))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and 10000"
    )]
    Some((ratio * 100.0).round() as u16)
}

/// What there is to say about Linkerd's annotations of a Service.
pub(crate) fn report(
    reader: &Reader<'_>,
    service: &Arc<Object<kubernetes::Service>>,
    report: &mut Report,
) {
    let object = Annotated::of(&**service);
    failure_accrual(object, report);
    retry::retry([object], report);
    retry::timeouts([object], report);
    retry::report_unknown(object, report);
    opaque_ports::check(object, opaque_ports::ANNOTATION, report);
    settings::report_service(object, report);
    for key in object.keys("balancer.") {
        if key.starts_with("balancer.alpha.linkerd.io/") {
            let why = "load is not moved away from endpoints that fail before they are left alone";
            report.unsupported(object.origin(key), why);
        } else if key.starts_with("balancer.linkerd.io/")
            && ![ACCRUAL, FAILURES_MAX, PENALTY_MIN, PENALTY_MAX, JITTER].contains(&key)
        {
            let message = format!("Linkerd knows no annotation `{key}`");
            report.warning(codes::ANNOTATION, object.origin(key), message);
        } else if key != ACCRUAL && object.get(ACCRUAL).is_none() {
            let message = format!("without `{ACCRUAL}` it has no effect");
            report.warning(codes::ANNOTATION, object.origin(key), message);
        }
    }
    let Some(profile) = service_profile::of_service(reader, service) else {
        crossing::annotations(reader, service, report);
        return;
    };
    for family in ["balancer.", "retry.", "timeout."] {
        for key in object.keys(family).filter(|key| key.contains("linkerd.io/")) {
            let message = format!(
                "the ServiceProfile `{}/{}` takes the place of all annotations",
                profile.meta.namespace, profile.meta.name
            );
            report.warning(codes::PROFILE_WINS, object.origin(key), message.clone());
            report.conflict(object.origin(key), message);
        }
    }
}
