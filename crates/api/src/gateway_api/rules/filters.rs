//! Rules of filters.

use super::{broken, has, place};
use crate::decode::Decoder;
use crate::gateway_api::{
    CorsFilter, ExternalAuthFilter, Fraction, GrpcFilter, HttpFilter, MirrorFilter, PathModifier,
    RedirectFilter,
};
use crate::tree::At;

/// The field of the type is there, and none of the others.
fn union(decoder: &mut Decoder<'_>, at: At, kind: Option<&str>, fields: &[(&str, &str)]) {
    let Some(kind) = kind else { return };
    for (field, of) in fields {
        let set = has(decoder, at, field);
        if set != (kind == *of) {
            let must = if set { "must not be set" } else { "is required" };
            let place = place(decoder, at, field);
            broken(decoder, place, format!("`{field}` {must} for the type `{kind}`"));
        }
    }
}

/// Rules of a filter of an HTTPRoute.
pub(crate) fn http_filter(decoder: &mut Decoder<'_>, filter: &HttpFilter) {
    let fields = [
        ("requestHeaderModifier", "RequestHeaderModifier"),
        ("responseHeaderModifier", "ResponseHeaderModifier"),
        ("requestMirror", "RequestMirror"),
        ("requestRedirect", "RequestRedirect"),
        ("urlRewrite", "URLRewrite"),
        ("extensionRef", "ExtensionRef"),
        ("cors", "CORS"),
        ("externalAuth", "ExternalAuth"),
    ];
    union(decoder, filter.at, filter.kind.map(super::super::HttpFilterType::as_str), &fields);
}

/// Rules of a filter of a GRPCRoute.
pub(crate) fn grpc_filter(decoder: &mut Decoder<'_>, filter: &GrpcFilter) {
    let fields = [
        ("requestHeaderModifier", "RequestHeaderModifier"),
        ("responseHeaderModifier", "ResponseHeaderModifier"),
        ("requestMirror", "RequestMirror"),
        ("extensionRef", "ExtensionRef"),
    ];
    union(decoder, filter.at, filter.kind.map(super::super::GrpcFilterType::as_str), &fields);
}

/// A share is given once.
pub(crate) fn mirror(decoder: &mut Decoder<'_>, mirror: &MirrorFilter) {
    if mirror.percent.is_some() && mirror.fraction.is_some() {
        let at = place(decoder, mirror.at, "percent");
        broken(decoder, at, "only one of `percent` and `fraction` may be set");
    }
}

/// A fraction is at most one.
pub(crate) fn fraction(decoder: &mut Decoder<'_>, fraction: &Fraction) {
    if fraction.numerator > fraction.denominator.unwrap_or(100) {
        broken(decoder, fraction.at, "`numerator` must not be greater than `denominator`");
    }
}

/// The status is one of a redirection.
pub(crate) fn redirect(decoder: &mut Decoder<'_>, redirect: &RedirectFilter) {
    if let Some(status) = redirect.status_code
        && !matches!(status, 301 | 302 | 303 | 307 | 308)
    {
        let at = place(decoder, redirect.at, "statusCode");
        broken(decoder, at, format!("{status} is not one of 301, 302, 303, 307 and 308"));
    }
}

/// The field of the type is there, and not the other.
pub(crate) fn path_modifier(decoder: &mut Decoder<'_>, modifier: &PathModifier) {
    let fields =
        [("replaceFullPath", "ReplaceFullPath"), ("replacePrefixMatch", "ReplacePrefixMatch")];
    union(decoder, modifier.at, modifier.kind.map(super::super::PathModifierType::as_str), &fields);
}

/// `*` stands alone.
pub(crate) fn cors(decoder: &mut Decoder<'_>, cors: &CorsFilter) {
    for (field, list) in [
        ("allowHeaders", &cors.allow_headers),
        ("allowMethods", &cors.allow_methods),
        ("allowOrigins", &cors.allow_origins),
    ] {
        if list.len() > 1 && list.iter().any(|item| item == "*") {
            let at = place(decoder, cors.at, field);
            broken(decoder, at, format!("`*` must stand alone in `{field}`"));
        }
    }
}

/// The settings of the protocol are there, and not the other's.
pub(crate) fn external_auth(decoder: &mut Decoder<'_>, auth: &ExternalAuthFilter) {
    let kind = auth.protocol.map(super::super::ExternalAuthProtocol::as_str);
    union(decoder, auth.at, kind, &[("grpc", "GRPC"), ("http", "HTTP")]);
}
