//! HTTPRouteGroups: named conditions that splits and targets refer to (API.md 9.2).

use std::sync::Arc;

use heddle_api::smi::{HttpRouteGroup, HttpRouteGroupMatch};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ir::http_route::{HeaderMatch, HttpMatch};
use heddle_ir::matching::{PathMatch, TextMatch};

use crate::engine::Reader;
use crate::istio::regex;
use crate::object::ObjectKey;
use crate::report::Report;

/// API group of route groups.
pub(crate) const GROUP: &str = "specs.smi-spec.io";

/// A group of a namespace.
pub(crate) fn of(
    reader: &Reader<'_>,
    namespace: &str,
    name: &str,
) -> Option<Arc<Object<HttpRouteGroup>>> {
    match reader.object(&ObjectKey::new(GROUP, "HTTPRouteGroup", namespace, name)) {
        Some(AnyObject::HttpRouteGroup(group)) => Some(group),
        _ => None,
    }
}

/// An expression for the beginning of a text, as one for the whole text.
pub(crate) fn anchored(pattern: &str) -> Arc<str> {
    if regex::check(pattern).is_err() {
        // Within brackets it could become a valid one of another meaning.
        return pattern.into();
    }
    format!("(?:{pattern})(?s:.*)").into()
}

/// The methods that are meant; empty: all of them.
pub(crate) fn methods(written: &HttpRouteGroupMatch) -> &[String] {
    if written.methods.iter().any(|method| method == "*") { &[] } else { &written.methods }
}

/// The matches of a group: any one must hold. One that is broken matches nothing.
pub(crate) fn matches(group: &Object<HttpRouteGroup>) -> Vec<HttpMatch> {
    let sound = group.spec.matches.iter().filter(|one| !group.is_broken(one.at));
    sound.flat_map(|one| one_match(group, one)).collect()
}

/// A match for each method, since one takes a single method.
fn one_match(group: &Object<HttpRouteGroup>, written: &HttpRouteGroupMatch) -> Vec<HttpMatch> {
    let plain = HttpMatch {
        origin: group.origin_at(written.at),
        name: written.name.as_str().into(),
        path: written.path_regex.as_ref().map(|pattern| PathMatch::Regex(anchored(pattern))),
        ignore_path_case: false,
        scheme: None,
        method: None,
        authority: None,
        headers: written
            .headers
            .0
            .iter()
            .map(|(name, pattern)| HeaderMatch {
                name: name.to_ascii_lowercase().into(),
                value: TextMatch::Regex(pattern.as_str().into()),
                invert: false,
            })
            .collect(),
        query: Vec::new(),
        claims: Vec::new(),
        parts: Vec::new(),
    };
    let methods = methods(written);
    if methods.is_empty() {
        return vec![plain];
    }
    let of = |method: &String| HttpMatch {
        method: Some(TextMatch::Exact(method.as_str().into())),
        ..plain.clone()
    };
    methods.iter().map(of).collect()
}

/// What there is to say about a group.
pub(crate) fn report(group: &Object<HttpRouteGroup>, report: &mut Report) {
    for one in &group.spec.matches {
        let path = one.path_regex.iter().map(|pattern| ("pathRegex", pattern));
        let headers = one.headers.0.iter().map(|(_, pattern)| ("headers", pattern));
        for (field, pattern) in path.chain(headers) {
            if let Err(error) = regex::check(pattern) {
                let origin = group.origin_of(one.at, field);
                report.rejected(origin, format!("{error}: the route matches nothing"));
            }
        }
    }
}
