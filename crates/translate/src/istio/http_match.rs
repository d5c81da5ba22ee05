//! `http[].match[]` of a VirtualService: which requests a rule takes, and which clients it is for.

use std::sync::Arc;

use heddle_api::istio::{HttpMatch as Written, StringMatch, VirtualService};
use heddle_api::{At, Object};
use heddle_ir::http_route::{ClaimMatch, HeaderMatch, HttpMatch, QueryMatch};
use heddle_ir::matching::{PathMatch, TextMatch};

use crate::client::{Applies, Client, Gateways, MESH};
use crate::istio::regex;
use crate::report::Report;

/// Keys of `headers` that have a field of their own and are ignored here.
const PSEUDO_HEADERS: [&str; 4] = ["uri", "scheme", "method", "authority"];
/// Keys of `headers` that mean claims of a token; gateways only.
pub(super) const CLAIM_PREFIX: &str = "@request.auth.claims";

/// The matches of one rule for one client.
pub(super) enum RuleMatches {
    /// No request of this client is for the rule.
    Never,
    /// One of these; none: every request.
    AnyOf(Vec<HttpMatch>),
}

/// A match with the clients that it is for.
#[derive(Clone)]
pub(super) struct Draft<'a> {
    /// As it is written; in a merged one, that of the delegate where it has one.
    pub(super) written: &'a Written,
    pub(super) applies: Applies,
    /// None: it is not valid and takes no request.
    pub(super) http: Option<HttpMatch>,
}

/// All matches of a rule.
pub(super) enum Drafts<'a> {
    /// What is written cannot be read: nothing is taken.
    Broken,
    /// One of these; none: every request.
    AnyOf(Vec<Draft<'a>>),
}

/// Reads all matches of a rule. A match that is not valid takes no request.
pub(super) fn drafts<'a>(
    object: &Object<VirtualService>,
    rule: At,
    matches: &'a [Written],
    report: &mut Report,
) -> Drafts<'a> {
    if matches.is_empty() {
        let broken = object.written.field(rule, "match").is_some_and(|at| object.is_broken(at));
        return if broken { Drafts::Broken } else { Drafts::AnyOf(Vec::new()) };
    }
    let drafts = matches.iter().map(|written| Draft {
        written,
        applies: Applies {
            gateways: Gateways::new(&written.gateways, &object.meta.namespace).full(),
            port: written.port,
            source_namespace: written.source_namespace.clone(),
            source_labels: written.source_labels.clone(),
        },
        http: one(object, written, report),
    });
    Drafts::AnyOf(drafts.collect())
}

/// The matches that are for a client.
pub(super) fn select(drafts: Drafts<'_>, client: &Client<'_>) -> RuleMatches {
    let Drafts::AnyOf(drafts) = drafts else { return RuleMatches::Never };
    if drafts.is_empty() {
        return RuleMatches::AnyOf(Vec::new());
    }
    let taken = drafts.into_iter().filter(|draft| client.takes_http(&draft.applies));
    let taken: Vec<HttpMatch> = taken.filter_map(|draft| draft.http).collect();
    if taken.is_empty() { RuleMatches::Never } else { RuleMatches::AnyOf(taken) }
}

fn one(
    object: &Object<VirtualService>,
    written: &Written,
    report: &mut Report,
) -> Option<HttpMatch> {
    let mut sound = !object.is_broken(written.at);
    if is_empty(written) {
        if sound {
            report.rejected(object.origin_at(written.at), "the match is empty: it says nothing");
        }
        return None;
    }
    let mut text = |field: &str, value: &Option<StringMatch>, report: &mut Report| {
        value.as_ref().and_then(|value| {
            let translated = string_match(object, value, field, report);
            sound &= translated.is_some();
            translated
        })
    };
    let path = text("uri", &written.uri, report);
    check_selectors(object, written, report);
    let scheme = text("scheme", &written.scheme, report);
    let method = text("method", &written.method, report);
    let authority = text("authority", &written.authority, report);
    let mut headers = Vec::new();
    let mut claims = Vec::new();
    for (field, entries, invert) in
        [("headers", &written.headers, false), ("withoutHeaders", &written.without_headers, true)]
    {
        for (name, value) in entries {
            if PSEUDO_HEADERS.contains(&&**name) {
                let origin = object.written.origin_of_entry(written.at, field, name);
                report.ignored(origin, format!("`{name}` has a field of its own"));
                continue;
            }
            if name.to_ascii_lowercase().starts_with(CLAIM_PREFIX) {
                match claim(object, written.at, field, name, value, report) {
                    Some((path, value)) => claims.push(ClaimMatch { path, value, invert }),
                    None => sound = false,
                }
                continue;
            }
            match header(object, written.at, field, name, value, report) {
                Some(value) => headers.push(HeaderMatch {
                    name: name.to_ascii_lowercase().into(),
                    value,
                    invert,
                }),
                None => sound = false,
            }
        }
    }
    let mut query = Vec::new();
    for (name, value) in &written.query_params {
        match string_match(object, value, "queryParams", report) {
            Some(value) => query.push(QueryMatch { name: name.as_str().into(), value }),
            None => sound = false,
        }
    }
    sound.then(|| HttpMatch {
        origin: object.origin_at(written.at),
        name: written.name.as_deref().unwrap_or_default().into(),
        path: path.and_then(path_match),
        ignore_path_case: written.ignore_uri_case.unwrap_or(false),
        scheme: scheme.filter(|value| *value != TextMatch::Present),
        method: method.filter(|value| *value != TextMatch::Present),
        authority: authority.filter(|value| *value != TextMatch::Present),
        headers,
        query,
        claims,
        parts: Vec::new(),
    })
}

/// What of a match has no effect, as in Istio.
fn check_selectors(object: &Object<VirtualService>, written: &Written, report: &mut Report) {
    let of_text = |uri: &StringMatch| uri.exact.is_some() || uri.prefix.is_some();
    if written.ignore_uri_case == Some(true) && !written.uri.as_ref().is_some_and(of_text) {
        let why =
            "it is for `uri.exact` and `uri.prefix`; an expression begins with `(?i)` instead";
        report.ignored(object.origin_of(written.at, "ignoreUriCase"), why);
    }
    // A delegate is bound to the gateways of whoever delegates to it.
    if object.spec.hosts.is_empty() {
        return;
    }
    let namespace = &object.meta.namespace;
    let bound = Gateways::new(&object.spec.gateways, namespace).full();
    let is_bound = |gateway: &Arc<str>| {
        if bound.is_empty() { **gateway == *MESH } else { bound.contains(gateway) }
    };
    let own = Gateways::new(&written.gateways, namespace).full();
    for (index, gateway) in own.iter().enumerate().filter(|(_, gateway)| !is_bound(gateway)) {
        let origin = object.origin_of_item(written.at, "gateways", index);
        let message =
            format!("the VirtualService is not bound to `{gateway}`: the match is not for it");
        report.warning(crate::codes::UPSTREAM_WARNING, origin.clone(), message);
        report.ignored(origin, "the VirtualService is not bound to it");
    }
}

/// Whether a match has no field at all.
fn is_empty(written: &Written) -> bool {
    let empty = Written { at: written.at, ..Written::default() };
    *written == empty
}

fn header(
    object: &Object<VirtualService>,
    at: At,
    field: &str,
    name: &str,
    value: &StringMatch,
    report: &mut Report,
) -> Option<TextMatch> {
    let origin = || object.written.origin_of_entry(at, field, name);
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        report.rejected(origin(), format!("`{name}` is not a header name"));
        return None;
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        let message =
            format!("header names are written in lower case: `{}`", name.to_ascii_lowercase());
        report.warning(crate::codes::UPSTREAM_WARNING, origin(), message);
    }
    string_match(object, value, field, report)
}

/// A condition on a claim of the request's token: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`. Only
/// gateways evaluate it, so an object that is bound to none may not have it.
fn claim(
    object: &Object<VirtualService>,
    at: At,
    field: &str,
    name: &str,
    value: &StringMatch,
    report: &mut Report,
) -> Option<(Vec<Arc<str>>, TextMatch)> {
    let origin = || object.written.origin_of_entry(at, field, name);
    if object.spec.gateways.iter().all(|gateway| gateway == MESH) && !object.spec.hosts.is_empty() {
        report.rejected(origin(), format!("`{name}` can be matched at gateways only"));
        return None;
    }
    let Some(path) = claim_path(name) else {
        report.rejected(origin(), format!("`{name}` names no claim"));
        return None;
    };
    let value = string_match(object, value, field, report)?;
    Some((path, value))
}

/// The names of a claim, outermost first.
fn claim_path(name: &str) -> Option<Vec<Arc<str>>> {
    let rest = name.get(CLAIM_PREFIX.len()..)?;
    let names: Vec<&str> = match rest.strip_prefix('.') {
        Some(dotted) => dotted.split('.').collect(),
        None => rest.strip_prefix('[')?.strip_suffix(']')?.split("][").collect(),
    };
    let valid = names.iter().all(|name| !name.is_empty());
    valid.then(|| names.into_iter().map(Into::into).collect())
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A `StringMatch`; none, and a finding, where it is not valid.
pub(super) fn string_match(
    object: &Object<VirtualService>,
    value: &StringMatch,
    field: &str,
    report: &mut Report,
) -> Option<TextMatch> {
    if object.is_broken(value.at) {
        return None;
    }
    let empty_allowed = matches!(field, "headers" | "withoutHeaders" | "queryParams");
    let StringMatch { at, exact, prefix, regex } = value;
    match (exact, prefix, regex) {
        (Some(exact), None, None) => Some(TextMatch::Exact(exact.as_str().into())),
        (None, Some(prefix), None) => {
            if prefix.is_empty() {
                report.rejected(object.origin_of(*at, "prefix"), "the prefix is empty");
                return None;
            }
            Some(TextMatch::Prefix(prefix.as_str().into()))
        }
        (None, None, Some(pattern)) if pattern == "*" && empty_allowed => Some(TextMatch::Present),
        (None, None, Some(pattern)) => {
            if let Err(problem) = regex::check(pattern) {
                report.rejected(object.origin_of(*at, "regex"), problem);
                return None;
            }
            Some(TextMatch::Regex(pattern.as_str().into()))
        }
        (None, None, None) => Some(TextMatch::Present),
        _ => None,
    }
}

fn path_match(value: TextMatch) -> Option<PathMatch> {
    Some(match value {
        TextMatch::Exact(path) => PathMatch::Exact(path),
        TextMatch::Prefix(prefix) => PathMatch::TextPrefix(prefix),
        TextMatch::Regex(pattern) => PathMatch::Regex(pattern),
        TextMatch::Present | TextMatch::Suffix(_) => return None,
    })
}

/// The name of a rule in telemetry.
pub(super) fn rule_name(name: Option<&str>) -> Arc<str> {
    name.filter(|name| !name.is_empty()).unwrap_or("default").into()
}

#[cfg(test)]
mod tests {
    use super::claim_path;

    #[test]
    fn claims_are_named_with_dots_or_brackets() {
        let path = |name: &str| {
            claim_path(name).map(|path| path.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        for (name, expected) in [
            ("@request.auth.claims.sub", vec!["sub"]),
            ("@request.auth.claims.a.b", vec!["a", "b"]),
            ("@request.auth.claims[a.b]", vec!["a.b"]),
            ("@request.auth.claims[a][b.c]", vec!["a", "b.c"]),
        ] {
            let expected = expected.into_iter().map(ToOwned::to_owned).collect();
            assert_eq!(path(name), Some(expected), "{name}");
        }
        for name in ["@request.auth.claims", "@request.auth.claims.", "@request.auth.claims[a"] {
            assert_eq!(path(name), None, "{name}");
        }
    }
}
