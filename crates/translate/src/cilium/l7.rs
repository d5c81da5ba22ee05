//! What may be said on a port: HTTP requests, DNS queries, server names of TLS (API.md 8.3).
//!
//! What cannot be checked here (Kafka, protocols of plug-ins, TLS taken off and put on again) allows nothing.

use heddle_api::cilium::{HeaderMatch, HeaderMismatch, HttpRule, PortRule};
use heddle_ir::authorization::{Attribute, ValueMatch};
use heddle_ir::matching::TextMatch;

use super::{Conditions, Context, peer};
use crate::istio::regex;
use crate::network::condition;
use crate::report::Report;

/// Each is a way in which what is said may be allowed; no condition at all allows everything.
pub(super) fn alternatives(
    context: &Context<'_>,
    rule: &PortRule,
    report: &mut Report,
) -> Vec<Conditions> {
    let of = |field: &str| context.scope.written.origin_of(rule.at, field);
    for (field, written) in [
        ("terminatingTLS", rule.terminating_tls.is_some()),
        ("originatingTLS", rule.originating_tls.is_some()),
    ] {
        if written {
            let why = "TLS of applications is not opened; rules on what is inside allow nothing";
            report.unsupported(of(field), why);
        }
    }
    if rule.listener.is_some() {
        let why = "there is no Envoy; the listener's rules allow nothing";
        report.unsupported(of("listener"), why);
        return Vec::new();
    }
    let mut base: Conditions = Vec::new();
    if !rule.server_names.is_empty() {
        let names = rule.server_names.iter().map(|name| server_name(name)).collect();
        base.push(condition(Attribute::ServerName, names));
    }
    let Some(rules) = &rule.rules else { return vec![base] };
    if rule.terminating_tls.is_some() {
        return Vec::new();
    }
    let with_base = |conditions: Conditions| base.iter().cloned().chain(conditions).collect();
    if let Some(http) = &rules.http {
        // A list that is there and empty allows every request.
        if http.is_empty() {
            return vec![with_base(vec![condition(Attribute::Method, vec![any()])])];
        }
        return http.iter().map(|rule| with_base(request(context, rule, report))).collect();
    }
    if let Some(dns) = &rules.dns {
        let query = |selector| vec![condition(Attribute::QueriedName, peer::name_values(selector))];
        return dns.iter().map(|selector| with_base(query(selector))).collect();
    }
    let (field, why) = if rules.kafka.is_some() {
        ("kafka", "requests of Kafka are not read; the rule allows nothing")
    } else {
        ("l7proto", "protocols of plug-ins are not read; the rule allows nothing")
    };
    report.unsupported(context.scope.written.origin_of(rules.at, field), why);
    Vec::new()
}

/// Anything that is there.
fn any() -> ValueMatch {
    ValueMatch::Text(TextMatch::Prefix("".into()))
}

fn request(context: &Context<'_>, rule: &HttpRule, report: &mut Report) -> Conditions {
    let mut conditions = Vec::new();
    for (attribute, field, pattern) in [
        (Attribute::PathAndQuery, "path", &rule.path),
        (Attribute::Method, "method", &rule.method),
        (Attribute::Host, "host", &rule.host),
    ] {
        let Some(pattern) = pattern.as_deref().filter(|pattern| !pattern.is_empty()) else {
            continue;
        };
        let value = match regex::check(pattern) {
            Ok(()) => ValueMatch::Text(TextMatch::Regex(pattern.into())),
            Err(why) => {
                report.rejected(context.scope.written.origin_of(rule.at, field), why);
                ValueMatch::Poisoned
            }
        };
        conditions.push(condition(attribute, vec![value]));
    }
    for header in &rule.headers {
        let (name, value) = match header.split_once(':') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (header.trim(), None),
        };
        conditions.push(header_condition(name, value));
    }
    for header in &rule.header_matches {
        conditions.extend(header_match(context, header, report));
    }
    if conditions.is_empty() {
        // It must still be a request, not any stream.
        conditions.push(condition(Attribute::Method, vec![any()]));
    }
    conditions
}

fn header_condition(name: &str, value: Option<&str>) -> heddle_ir::authorization::Condition {
    let value = match value {
        Some(value) => ValueMatch::Text(TextMatch::Exact(value.into())),
        None => any(),
    };
    condition(Attribute::RequestHeader(name.to_ascii_lowercase().into()), vec![value])
}

/// A header that must have a value; with an action for another value the request goes on, and only the action is missing.
fn header_match(
    context: &Context<'_>,
    header: &HeaderMatch,
    report: &mut Report,
) -> Option<heddle_ir::authorization::Condition> {
    let of = |field: &str| context.scope.written.origin_of(header.at, field);
    if let Some(action) = header.mismatch {
        let why = match action {
            HeaderMismatch::Log => "mismatches are not logged; the request passes as it should",
            HeaderMismatch::Add | HeaderMismatch::Delete | HeaderMismatch::Replace => {
                "policies change no headers; the request passes with the header as it is"
            }
        };
        report.unsupported(of("mismatch"), why);
        return None;
    }
    if header.secret.is_some() {
        let why = "values of headers are not read from secrets; the rule allows nothing";
        report.unsupported(of("secret"), why);
        return Some(condition(
            Attribute::RequestHeader(header.name.to_ascii_lowercase().into()),
            vec![ValueMatch::Poisoned],
        ));
    }
    Some(header_condition(&header.name, header.value.as_deref()))
}

/// A server name; `*.` in front takes one label, `**.` any number.
fn server_name(name: &str) -> ValueMatch {
    let name = name.to_ascii_lowercase();
    let (prefix, rest) = match (name.strip_prefix("**."), name.strip_prefix("*.")) {
        (Some(rest), _) => ("([-a-z0-9_]+\\.)+", rest),
        (None, Some(rest)) => ("[-a-z0-9_]+\\.", rest),
        (None, None) => return ValueMatch::Text(TextMatch::Exact(name.into())),
    };
    let pattern = format!("{prefix}{}", rest.replace('.', "\\."));
    ValueMatch::Text(TextMatch::Regex(pattern.into()))
}
