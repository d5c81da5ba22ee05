//! The limits that heddle counts itself: the configuration of Envoy's reference rate limit service, out of ConfigMaps.

use std::sync::Arc;

use heddle_api::kubernetes::ConfigMap;
use heddle_api::rate_limits::{Descriptor, RateLimit, RateLimitConfig};
use heddle_api::{Nested, Object, Resource as AnyObject, nested_document};
use heddle_diag::Diagnostic;
use heddle_ir::rate_limit::{CountedDescriptor, CountedDomain, CountedLimit, RateLimitUnit};

use crate::codes;
use crate::engine::{Derivation, Kind, Reader, Topic};
use crate::report::Report;

/// The domains that ConfigMaps have limits of, each once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CountedDomainsKey;

impl Derivation for CountedDomainsKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<[CountedDomain]> {
        let mut domains: Vec<CountedDomain> = Vec::new();
        for object in reader.objects(Topic::Kind(Kind::ConfigMap)) {
            let AnyObject::ConfigMap(object) = object else { continue };
            for nested in documents(&object) {
                let Some(domain) = domain(&nested.object, &mut Report::default()) else { continue };
                if !domains.iter().any(|known| known.domain == domain.domain) {
                    domains.push(domain);
                }
            }
        }
        domains.into()
    }
}

/// The configurations that a ConfigMap holds, by the order of its keys.
fn documents(object: &Object<ConfigMap>) -> Vec<Nested<RateLimitConfig>> {
    let written = &object.written;
    let Some(data) = written.field(written.root(), "data") else { return Vec::new() };
    let nested = |at| nested_document(&object.meta, written, at, &["domain", "descriptors"]);
    written.tree().children(data).filter_map(nested).collect()
}

/// What there is to say about the limits in a ConfigMap.
pub(crate) fn report(reader: &Reader<'_>, object: &Object<ConfigMap>, report: &mut Report) {
    for nested in documents(object) {
        for finding in nested.findings {
            report.push(finding);
        }
        let Some(domain) = domain(&nested.object, report) else { continue };
        let known = reader.read(&CountedDomainsKey);
        let first = known.iter().find(|known| known.domain == domain.domain);
        if let Some(first) = first.filter(|first| first.origin != domain.origin) {
            let message = format!("the domain `{}` has limits already", domain.domain);
            let finding = Diagnostic::warning(codes::SECOND_DOMAIN, domain.origin.clone(), message);
            report.push(finding.related("which count", first.origin.clone()));
            report.conflict(domain.origin, "another document has the domain");
        }
    }
}

/// What a document says; none where it names no domain. A part that cannot be read limits nothing, and is reported.
fn domain(object: &Object<RateLimitConfig>, report: &mut Report) -> Option<CountedDomain> {
    let spec = &object.spec;
    let descriptors =
        spec.descriptors.iter().filter_map(|own| descriptor(object, own, report)).collect();
    (!spec.domain.is_empty()).then(|| CountedDomain {
        origin: object.origin_of(spec.at, "domain"),
        domain: spec.domain.as_str().into(),
        descriptors,
    })
}

fn descriptor(
    object: &Object<RateLimitConfig>,
    own: &Descriptor,
    report: &mut Report,
) -> Option<CountedDescriptor> {
    if own.key.is_empty() {
        return None;
    }
    for (field, is_written) in [
        ("detailed_metric", own.detailed_metric.is_some()),
        ("value_to_metric", own.value_to_metric.is_some()),
    ] {
        if is_written {
            let why = "it names statistics of the reference service, which are not counted here";
            report.ignored(object.origin_of(own.at, field), why);
        }
    }
    if own.quota_mode.is_some() {
        let why = "limits are enforced: there is no mode that only tells of quotas";
        report.unsupported(object.origin_of(own.at, "quota_mode"), why);
    }
    let is_shadow = own.shadow_mode.unwrap_or(false);
    let limit = own.rate_limit.as_ref().and_then(|own| limit(object, own, is_shadow, report));
    let below = own.descriptors.0.iter().filter_map(|own| descriptor(object, own, report));
    Some(CountedDescriptor {
        key: own.key.as_str().into(),
        value: own.value.as_deref().filter(|value| !value.is_empty()).map(Into::into),
        limit,
        shares_threshold: own.share_threshold.unwrap_or(false),
        descriptors: below.collect(),
    })
}

fn limit(
    object: &Object<RateLimitConfig>,
    own: &RateLimit,
    is_shadow: bool,
    report: &mut Report,
) -> Option<CountedLimit> {
    let frame = |rate| CountedLimit {
        name: own.name.as_deref().unwrap_or_default().into(),
        rate,
        replaces: own.replaces.iter().map(|replaced| replaced.name.as_str().into()).collect(),
        is_shadow,
    };
    if own.unlimited == Some(true) {
        if own.unit.as_deref().is_some_and(|unit| !unit.is_empty()) {
            let message = "what is unlimited has no unit";
            report.rejected(object.origin_of(own.at, "unit"), message);
        }
        return Some(frame(None));
    }
    let text = own.unit.as_deref().unwrap_or_default();
    let Some(unit) = unit(text) else {
        let message = format!("`{text}` is no unit of time");
        let finding = Diagnostic::error(codes::REJECTED, object.origin_of(own.at, "unit"), message);
        report.push(finding.hint("second, minute, hour, day, week, month or year"));
        return None;
    };
    if object.is_field_broken(own.at, "requests_per_unit") {
        return None;
    }
    Some(frame(Some((own.requests_per_unit.unwrap_or(0), unit))))
}

fn unit(text: &str) -> Option<RateLimitUnit> {
    Some(match &*text.to_ascii_lowercase() {
        "second" => RateLimitUnit::Second,
        "minute" => RateLimitUnit::Minute,
        "hour" => RateLimitUnit::Hour,
        "day" => RateLimitUnit::Day,
        "week" => RateLimitUnit::Week,
        "month" => RateLimitUnit::Month,
        "year" => RateLimitUnit::Year,
        _ => return None,
    })
}
