//! Matches of HTTPRoutes.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_api::gateway_api::{
    HttpMatch as Written, HttpRoute, HttpRule, MatchType, PathMatchType,
};
use heddle_api::{At, Object};
use heddle_ir::http_route::{HeaderMatch, HttpMatch, QueryMatch};
use heddle_ir::matching::{PathMatch, TextMatch};

use crate::istio::regex;
use crate::report::Report;

/// The matches of a rule; none where no request can be the rule's. An empty list takes every request.
pub(crate) fn translate(
    object: &Object<HttpRoute>,
    rule: &HttpRule,
    report: &mut Report,
) -> Option<Vec<HttpMatch>> {
    if object.is_field_broken(rule.at, "matches") && rule.matches.is_empty() {
        return None;
    }
    let all = rule.matches.iter();
    let matches: Vec<HttpMatch> = all.filter_map(|written| one(object, written, report)).collect();
    (rule.matches.is_empty() || !matches.is_empty()).then_some(matches)
}

/// A match; none for one with an error, which never matches.
fn one(object: &Object<HttpRoute>, written: &Written, report: &mut Report) -> Option<HttpMatch> {
    if object.is_broken(written.at) || written.at == At::default() {
        return None;
    }
    let mut sound = true;
    let path = written.path.as_ref().map(|path| {
        let value: Arc<str> = path.value().into();
        match path.kind() {
            PathMatchType::Exact => PathMatch::Exact(value),
            PathMatchType::PathPrefix => PathMatch::ElementPrefix(value),
            PathMatchType::RegularExpression => {
                sound &= check_regex(object, path.at, &value, report);
                PathMatch::Regex(value)
            }
        }
    });
    let mut names = BTreeSet::new();
    let mut headers = Vec::new();
    for header in &written.headers {
        let name = header.name.to_ascii_lowercase();
        // Of equal names the first counts, in whatever case.
        if !names.insert(name.clone()) {
            report.ignored(object.origin_at(header.at), "an earlier entry has the same name");
            continue;
        }
        let value = text(object, header.at, header.kind, &header.value, &mut sound, report);
        headers.push(HeaderMatch { name: name.into(), value, invert: false });
    }
    let query = written.query_params.iter().map(|parameter| QueryMatch {
        name: parameter.name.as_str().into(),
        value: text(object, parameter.at, parameter.kind, &parameter.value, &mut sound, report),
    });
    let query = query.collect();
    let method = written.method.map(|method| TextMatch::Exact(method.as_str().into()));
    sound.then(|| HttpMatch {
        origin: object.origin_at(written.at),
        name: Arc::default(),
        path,
        ignore_path_case: false,
        scheme: None,
        method,
        authority: None,
        headers,
        query,
        claims: Vec::new(),
        parts: Vec::new(),
    })
}

pub(crate) fn text<T>(
    object: &Object<T>,
    at: At,
    kind: Option<MatchType>,
    value: &str,
    sound: &mut bool,
    report: &mut Report,
) -> TextMatch {
    match kind.unwrap_or(MatchType::Exact) {
        MatchType::Exact => TextMatch::Exact(value.into()),
        MatchType::RegularExpression => {
            *sound &= check_regex(object, at, value, report);
            TextMatch::Regex(value.into())
        }
    }
}

/// Whether a pattern may be used.
pub(crate) fn check_regex<T>(
    object: &Object<T>,
    at: At,
    pattern: &str,
    report: &mut Report,
) -> bool {
    match regex::check(pattern) {
        Ok(()) => true,
        Err(why) => {
            report
                .rejected(object.origin_of(at, "value"), format!("{why}: the match never matches"));
            false
        }
    }
}
