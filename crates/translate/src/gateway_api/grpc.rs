//! GRPCRoutes: their matches, and their rules in the form of an HTTPRoute's.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_api::gateway_api::{
    GrpcBackendRef, GrpcFilter, GrpcFilterType, GrpcMatch, GrpcMethodMatch, GrpcRoute, GrpcRule,
    HttpBackendRef, HttpFilter, HttpFilterType, HttpRule, MatchType,
};
use heddle_api::{At, Object};
use heddle_ir::http_route::{HeaderMatch, HttpMatch};
use heddle_ir::matching::PathMatch;

use crate::gateway_api::matches;
use crate::istio::regex;
use crate::report::Report;

/// The matches of a rule; none where no call can be the rule's. An empty list takes every call.
pub(crate) fn matches(
    object: &Object<GrpcRoute>,
    rule: &GrpcRule,
    report: &mut Report,
) -> Option<Vec<HttpMatch>> {
    if object.is_field_broken(rule.at, "matches") && rule.matches.is_empty() {
        return None;
    }
    let all = rule.matches.iter();
    let matches: Vec<HttpMatch> = all.filter_map(|written| one(object, written, report)).collect();
    (rule.matches.is_empty() || !matches.is_empty()).then_some(matches)
}

fn one(object: &Object<GrpcRoute>, written: &GrpcMatch, report: &mut Report) -> Option<HttpMatch> {
    if object.is_broken(written.at) || written.at == At::default() {
        return None;
    }
    let mut sound = true;
    let path = written.method.as_ref().and_then(path);
    if let Some(PathMatch::Regex(pattern)) = &path
        && let (Err(why), Some(method)) = (regex::check(pattern), &written.method)
    {
        report.rejected(object.origin_at(method.at), format!("{why}: the match never matches"));
        sound = false;
    }
    let mut names = BTreeSet::new();
    let mut headers = Vec::new();
    for header in &written.headers {
        let name = header.name.to_ascii_lowercase();
        if !names.insert(name.clone()) {
            report.ignored(object.origin_at(header.at), "an earlier entry has the same name");
            continue;
        }
        let value =
            matches::text(object, header.at, header.kind, &header.value, &mut sound, report);
        headers.push(HeaderMatch { name: name.into(), value, invert: false });
    }
    sound.then(|| HttpMatch {
        origin: object.origin_at(written.at),
        name: Arc::default(),
        path,
        ignore_path_case: false,
        scheme: None,
        method: None,
        authority: None,
        headers,
        query: Vec::new(),
        claims: Vec::new(),
        parts: Vec::new(),
    })
}

/// The path of a call is `/package.Service/Method`.
fn path(method: &GrpcMethodMatch) -> Option<PathMatch> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, name) = (given(&method.service), given(&method.method));
    let regular = method.kind == Some(MatchType::RegularExpression);
    Some(match (service, name) {
        (None, None) => return None,
        (Some(service), Some(name)) if !regular => {
            PathMatch::Exact(format!("/{service}/{name}").into())
        }
        (Some(service), None) if !regular => PathMatch::ElementPrefix(format!("/{service}").into()),
        (None, Some(name)) if !regular => PathMatch::Regex(format!("/[^/]+/{name}").into()),
        (service, name) => {
            let part = |text: Option<String>| {
                text.map_or_else(|| "[^/]+".to_owned(), |text| format!("(?:{text})"))
            };
            PathMatch::Regex(format!("/{}/{}", part(service), part(name)).into())
        }
    })
}

/// A rule in the form of an HTTPRoute's, its matches apart.
pub(crate) fn as_http(rule: &GrpcRule) -> HttpRule {
    HttpRule {
        at: rule.at,
        backend_refs: rule.backend_refs.iter().map(backend).collect(),
        filters: rule.filters.iter().map(filter).collect(),
        matches: Vec::new(),
        name: rule.name.clone(),
        retry: None,
        session_persistence: rule.session_persistence.clone(),
        timeouts: None,
    }
}

fn backend(written: &GrpcBackendRef) -> HttpBackendRef {
    HttpBackendRef {
        at: written.at,
        filters: written.filters.iter().map(filter).collect(),
        group: written.group.clone(),
        kind: written.kind.clone(),
        name: written.name.clone(),
        namespace: written.namespace.clone(),
        port: written.port,
        weight: written.weight,
    }
}

fn filter(written: &GrpcFilter) -> HttpFilter {
    HttpFilter {
        at: written.at,
        kind: written.kind.map(|kind| match kind {
            GrpcFilterType::RequestHeaderModifier => HttpFilterType::RequestHeaderModifier,
            GrpcFilterType::ResponseHeaderModifier => HttpFilterType::ResponseHeaderModifier,
            GrpcFilterType::RequestMirror => HttpFilterType::RequestMirror,
            GrpcFilterType::ExtensionRef => HttpFilterType::ExtensionRef,
        }),
        extension_ref: written.extension_ref.clone(),
        request_header_modifier: written.request_header_modifier.clone(),
        request_mirror: written.request_mirror.clone(),
        response_header_modifier: written.response_header_modifier.clone(),
        ..HttpFilter::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_become_paths() {
        let of = |service: Option<&str>, method: Option<&str>, kind| {
            path(&GrpcMethodMatch {
                service: service.map(Into::into),
                method: method.map(Into::into),
                kind,
                ..GrpcMethodMatch::default()
            })
        };
        let regular = Some(MatchType::RegularExpression);
        assert_eq!(of(Some("a.B"), Some("C"), None), Some(PathMatch::Exact("/a.B/C".into())));
        assert_eq!(of(Some("a.B"), None, None), Some(PathMatch::ElementPrefix("/a.B".into())));
        assert_eq!(of(None, Some("C"), None), Some(PathMatch::Regex("/[^/]+/C".into())));
        let both = of(Some("a|b"), Some("C.*"), regular);
        assert_eq!(both, Some(PathMatch::Regex("/(?:a|b)/(?:C.*)".into())));
        assert_eq!(of(Some("a.*"), None, regular), Some(PathMatch::Regex("/(?:a.*)/[^/]+".into())));
        assert_eq!(of(None, None, None), None);
    }
}
