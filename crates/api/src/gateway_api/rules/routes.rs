//! Rules of routes.

use std::collections::BTreeSet;

use super::{broken, distinct, has, place};
use crate::decode::Decoder;
use crate::gateway_api::{
    BackendObjectReference, BackendRef, CookieLifetime, GrpcBackendRef, GrpcFilterType,
    GrpcMethodMatch, GrpcRoute, GrpcRule, HttpBackendRef, HttpFilter, HttpFilterType,
    HttpPathMatch, HttpRoute, HttpRule, HttpTimeouts, MatchType, ParentReference, PathMatchType,
    PathModifierType, SessionPersistence, SessionType, StreamRule, TcpRoute, TlsRoute, UdpRoute,
};
use crate::tree::At;

/// The most matches that all rules of a route may have together.
const MATCHES_MAX: usize = 128;

/// Rules of an HTTPRoute.
pub(crate) fn http_route(decoder: &mut Decoder<'_>, route: &HttpRoute) {
    parents(decoder, &route.parent_refs);
    names(decoder, route.rules.iter().map(|rule| (rule.at, rule.name.as_deref())));
    // A rule without matches has one by default.
    let count =
        |rule: &HttpRule| if has(decoder, rule.at, "matches") { rule.matches.len() } else { 1 };
    let total = route.rules.iter().map(count).sum();
    matches_total(decoder, route.at, total);
}

/// Rules of a GRPCRoute.
pub(crate) fn grpc_route(decoder: &mut Decoder<'_>, route: &GrpcRoute) {
    parents(decoder, &route.parent_refs);
    names(decoder, route.rules.iter().map(|rule| (rule.at, rule.name.as_deref())));
    let total = route.rules.iter().map(|rule| rule.matches.len()).sum();
    matches_total(decoder, route.at, total);
}

fn matches_total(decoder: &mut Decoder<'_>, at: At, total: usize) {
    if total > MATCHES_MAX {
        let at = place(decoder, at, "rules");
        let message =
            format!("the rules have {total} matches together, at most {MATCHES_MAX} allowed");
        broken(decoder, at, message);
    }
}

/// Rules of a TLSRoute.
pub(crate) fn tls_route(decoder: &mut Decoder<'_>, route: &TlsRoute) {
    streams(decoder, route.at, &route.parent_refs, &route.rules);
    // The oldest version took a route without names for all of them.
    if decoder.version() != "v1alpha2" && route.hostnames.is_empty() {
        broken(decoder, route.at, "`hostnames` is required");
    }
    for host in &route.hostnames {
        if host.parse::<std::net::IpAddr>().is_ok() {
            let at = place(decoder, route.at, "hostnames");
            broken(decoder, at, format!("`{host}` is an address, which no server name is"));
        }
    }
}

/// Rules of a TCPRoute.
pub(crate) fn tcp_route(decoder: &mut Decoder<'_>, route: &TcpRoute) {
    streams(decoder, route.at, &route.parent_refs, &route.rules);
}

/// Rules of a UDPRoute.
pub(crate) fn udp_route(decoder: &mut Decoder<'_>, route: &UdpRoute) {
    streams(decoder, route.at, &route.parent_refs, &route.rules);
}

fn streams(
    decoder: &mut Decoder<'_>,
    at: At,
    references: &[ParentReference],
    rules: &[StreamRule],
) {
    if decoder.version() == "v1" && rules.len() > 1 {
        let at = place(decoder, at, "rules");
        broken(decoder, at, "exactly one rule is allowed");
    }
    parents(decoder, references);
    names(decoder, rules.iter().map(|rule| (rule.at, rule.name.as_deref())));
}

fn parents(decoder: &mut Decoder<'_>, references: &[ParentReference]) {
    // Ports are compared as they are written.
    let ports: Vec<Option<String>> =
        references.iter().map(|one| one.port.map(|port| port.to_string())).collect();
    let both: Vec<(&ParentReference, Option<&str>)> =
        references.iter().zip(ports.iter().map(Option::as_deref)).collect();
    distinct(
        decoder,
        &both,
        "parent",
        |(one, _), (other, _)| {
            (one.group(), one.kind(), &one.name, &one.namespace)
                == (other.group(), other.kind(), &other.name, &other.namespace)
        },
        |(one, port)| vec![one.section_name.as_deref(), *port],
        |(one, _)| one.at,
    );
}

/// Names of rules differ.
fn names<'a>(decoder: &mut Decoder<'_>, rules: impl Iterator<Item = (At, Option<&'a str>)>) {
    let mut seen = BTreeSet::new();
    for (at, name) in rules {
        if let Some(name) = name
            && !seen.insert(name)
        {
            let at = place(decoder, at, "name");
            broken(decoder, at, format!("another rule has the name `{name}`"));
        }
    }
}

/// Rules of a rule of an HTTPRoute.
pub(crate) fn http_rule(decoder: &mut Decoder<'_>, rule: &HttpRule) {
    let redirects = |filter: &HttpFilter| filter.request_redirect.is_some();
    if !rule.backend_refs.is_empty() && rule.filters.iter().any(redirects) {
        let at = place(decoder, rule.at, "backendRefs");
        broken(decoder, at, "a rule that redirects must have no `backendRefs`");
    }
    http_filters(decoder, &rule.filters);
    // The default is one match by the prefix `/`.
    let one_prefix = match rule.matches.as_slice() {
        [] => !has(decoder, rule.at, "matches"),
        [one] => one.path.as_ref().is_none_or(|path| path.kind() == PathMatchType::PathPrefix),
        _ => false,
    };
    let of_backends = rule.backend_refs.iter().flat_map(|backend| &backend.filters);
    for filter in rule.filters.iter().chain(of_backends).filter(|_| !one_prefix) {
        let redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
        let rewrite = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
        for modifier in redirect.into_iter().chain(rewrite) {
            if modifier.kind == Some(PathModifierType::ReplacePrefixMatch)
                && modifier.replace_prefix_match.is_some()
            {
                let message =
                    "`replacePrefixMatch` needs exactly one match, of the type `PathPrefix`";
                broken(decoder, modifier.at, message);
            }
        }
    }
}

/// Each kind of filter once, but for mirrors and extensions.
fn http_filters(decoder: &mut Decoder<'_>, filters: &[HttpFilter]) {
    let mut seen = BTreeSet::new();
    for filter in filters {
        let Some(kind) = filter.kind else { continue };
        let repeatable = matches!(
            kind,
            HttpFilterType::RequestMirror
                | HttpFilterType::ExtensionRef
                | HttpFilterType::ExternalAuth
        );
        if !seen.insert(kind) && !repeatable {
            broken(decoder, filter.at, format!("the filter `{}` stands twice", kind.as_str()));
        }
        let other = match kind {
            HttpFilterType::RequestRedirect => HttpFilterType::UrlRewrite,
            HttpFilterType::UrlRewrite => HttpFilterType::RequestRedirect,
            _ => continue,
        };
        if seen.contains(&other) {
            let message = "`RequestRedirect` and `URLRewrite` exclude each other";
            broken(decoder, filter.at, message);
        }
    }
}

/// Rules of a rule of a GRPCRoute.
pub(crate) fn grpc_rule(decoder: &mut Decoder<'_>, rule: &GrpcRule) {
    grpc_filters(decoder, rule.filters.iter().map(|filter| (filter.at, filter.kind)));
}

fn grpc_filters(
    decoder: &mut Decoder<'_>,
    filters: impl Iterator<Item = (At, Option<GrpcFilterType>)>,
) {
    let mut seen = BTreeSet::new();
    for (at, kind) in filters {
        let Some(kind) = kind else { continue };
        let repeatable =
            matches!(kind, GrpcFilterType::RequestMirror | GrpcFilterType::ExtensionRef);
        if !seen.insert(kind) && !repeatable {
            broken(decoder, at, format!("the filter `{}` stands twice", kind.as_str()));
        }
    }
}

/// A Service is reached at a port.
fn port_of_service(
    decoder: &mut Decoder<'_>,
    at: At,
    group: Option<&str>,
    kind: Option<&str>,
    port: Option<u16>,
) {
    let service = group.unwrap_or_default().is_empty() && kind.is_none_or(|kind| kind == "Service");
    if service && port.is_none() && !has(decoder, at, "port") {
        broken(decoder, at, "`port` is required for a Service");
    }
}

/// Rules of a backend.
pub(crate) fn backend_ref(decoder: &mut Decoder<'_>, backend: &BackendRef) {
    let (group, kind) = (backend.group.as_deref(), backend.kind.as_deref());
    port_of_service(decoder, backend.at, group, kind, backend.port);
}

/// Rules of a backend without a share.
pub(crate) fn backend_object(decoder: &mut Decoder<'_>, backend: &BackendObjectReference) {
    let (group, kind) = (backend.group.as_deref(), backend.kind.as_deref());
    port_of_service(decoder, backend.at, group, kind, backend.port);
}

/// Rules of a backend of an HTTPRoute.
pub(crate) fn http_backend_ref(decoder: &mut Decoder<'_>, backend: &HttpBackendRef) {
    let (group, kind) = (backend.group.as_deref(), backend.kind.as_deref());
    port_of_service(decoder, backend.at, group, kind, backend.port);
    http_filters(decoder, &backend.filters);
}

/// Rules of a backend of a GRPCRoute.
pub(crate) fn grpc_backend_ref(decoder: &mut Decoder<'_>, backend: &GrpcBackendRef) {
    let (group, kind) = (backend.group.as_deref(), backend.kind.as_deref());
    port_of_service(decoder, backend.at, group, kind, backend.port);
    grpc_filters(decoder, backend.filters.iter().map(|filter| (filter.at, filter.kind)));
}

/// A path that is compared as text is one that requests can have.
pub(crate) fn path_match(decoder: &mut Decoder<'_>, path: &HttpPathMatch) {
    if path.kind() == PathMatchType::RegularExpression {
        return;
    }
    let value = path.value();
    let mut wrong = Vec::new();
    if !value.starts_with('/') {
        wrong.push("must begin with `/`".to_owned());
    }
    for part in ["//", "/./", "/../", "%2f", "%2F", "#"] {
        if value.contains(part) {
            wrong.push(format!("must not contain `{part}`"));
        }
    }
    for end in ["/..", "/."] {
        if value.ends_with(end) {
            wrong.push(format!("must not end with `{end}`"));
        }
    }
    if wrong.is_empty() && super::path_text(value).is_err() {
        wrong.push("must have only characters that paths allow".to_owned());
    }
    if !wrong.is_empty() {
        let at = place(decoder, path.at, "value");
        broken(decoder, at, format!("the path {}", wrong.join(" and ")));
    }
}

/// Service or method is given, and can be one.
pub(crate) fn grpc_method(decoder: &mut Decoder<'_>, method: &GrpcMethodMatch) {
    if method.service.is_none() && method.method.is_none() {
        broken(decoder, method.at, "one of `service` and `method` is required");
    }
    if method.kind == Some(MatchType::RegularExpression) {
        return;
    }
    let word = |text: &str| {
        text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if let Some(service) = &method.service
        && !service.strip_prefix('.').unwrap_or(service).split('.').all(word)
    {
        let at = place(decoder, method.at, "service");
        broken(decoder, at, format!("`{service}` is not the name of a service"));
    }
    if let Some(name) = method.method.as_deref().filter(|name| !word(name)) {
        let at = place(decoder, method.at, "method");
        broken(decoder, at, format!("`{name}` is not the name of a method"));
    }
}

/// The limit of a try is within that of the whole.
pub(crate) fn timeouts(decoder: &mut Decoder<'_>, timeouts: &HttpTimeouts) {
    if let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request)
        && request.as_nanos() != 0
        && backend > request
    {
        let at = place(decoder, timeouts.at, "backendRequest");
        broken(decoder, at, "`backendRequest` must not be longer than `request`");
    }
}

/// The settings of the type are there, and not the other's.
pub(crate) fn session_persistence(decoder: &mut Decoder<'_>, session: &SessionPersistence) {
    let former = session.session_name.is_some() || session.cookie_config.is_some();
    for (field, set, of) in [
        ("cookie", session.cookie.is_some(), SessionType::Cookie),
        ("header", session.header.is_some(), SessionType::Header),
    ] {
        let wanted = session.kind() == of;
        if set && !wanted || wanted && !set && !former {
            let must = if set { "must not be set" } else { "is required" };
            let at = place(decoder, session.at, field);
            broken(
                decoder,
                at,
                format!("`{field}` {must} for the type `{}`", session.kind().as_str()),
            );
        }
    }
    let lifetime = session
        .cookie
        .as_ref()
        .and_then(|cookie| cookie.lifetime)
        .or(session.cookie_config.as_ref().and_then(|config| config.lifetime));
    if lifetime == Some(CookieLifetime::Permanent) && session.absolute_timeout.is_none() {
        broken(decoder, session.at, "`absoluteTimeout` is required for a permanent cookie");
    }
}
