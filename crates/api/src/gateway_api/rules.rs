//! The rules of the CRDs beyond lengths and counts: patterns of texts, and the CEL rules across fields.

mod filters;
mod listeners;
mod routes;
mod texts;

pub(super) use filters::{
    cors, external_auth, fraction, grpc_filter, http_filter, mirror, path_modifier, redirect,
};
pub(super) use listeners::{address, gateway, listener_set, listener_tls};
pub(super) use routes::{
    backend_object, backend_ref, grpc_backend_ref, grpc_method, grpc_route, grpc_rule,
    http_backend_ref, http_route, http_rule, path_match, session_persistence, tcp_route, timeouts,
    tls_route, udp_route,
};
pub(super) use texts::{
    absolute_uri, address_type, controller_name, cors_method, cors_origin, duration, header_value,
    hostname, path_text, protocol, qualified_key, token, well_known_ca,
};

use super::{
    BackendTlsPolicy, BackendTlsValidation, PolicyTarget, SubjectAltName, SubjectAltNameType,
};
use crate::codes;
use crate::decode::Decoder;
use crate::tree::At;

/// Reports that a rule of the schema is broken at a place.
fn broken(decoder: &mut Decoder<'_>, at: At, message: impl Into<String>) {
    decoder.error(codes::RULE, at, message, None);
}

/// The place of a field where it is written, else of the mapping.
fn place(decoder: &Decoder<'_>, at: At, field: &str) -> At {
    decoder.tree().field(at, field).unwrap_or(at)
}

/// Whether a field is written with a value.
fn has(decoder: &Decoder<'_>, at: At, field: &str) -> bool {
    let tree = decoder.tree();
    tree.field(at, field).is_some_and(|child| tree.value(child) != crate::tree::Value::Null)
}

/// Items that name the same object must differ in what they select of it, and all must select something.
fn distinct<'a, T>(
    decoder: &mut Decoder<'_>,
    items: &'a [T],
    what: &str,
    same: impl Fn(&'a T, &'a T) -> bool,
    selects: impl Fn(&'a T) -> Vec<Option<&'a str>>,
    at: impl Fn(&'a T) -> At,
) {
    for (index, item) in items.iter().enumerate() {
        for earlier in items.iter().take(index).filter(|earlier| same(earlier, item)) {
            let (own, other) = (selects(item), selects(earlier));
            let shape =
                |list: &[Option<&str>]| -> Vec<bool> { list.iter().map(Option::is_some).collect() };
            if own == other {
                let message = format!("two references to the same {what} that differ in nothing");
                broken(decoder, at(item), message);
            } else if shape(&own) != shape(&other) {
                let message =
                    format!("several references to the same {what} must all select a part of it");
                broken(decoder, at(item), message);
            }
        }
    }
}

/// Rules of a BackendTLSPolicy.
pub(super) fn backend_tls_policy(decoder: &mut Decoder<'_>, policy: &BackendTlsPolicy) {
    distinct(
        decoder,
        &policy.target_refs,
        "target",
        |one: &PolicyTarget, other| {
            one.group == other.group && one.kind == other.kind && one.name == other.name
        },
        |target| vec![target.section_name.as_deref()],
        |target| target.at,
    );
}

/// Roots come from exactly one place.
pub(super) fn backend_tls_validation(decoder: &mut Decoder<'_>, validation: &BackendTlsValidation) {
    let refs = !validation.ca_certificate_refs.is_empty();
    let known = has(decoder, validation.at, "wellKnownCACertificates");
    if refs == known {
        let message = if refs {
            "only one of `caCertificateRefs` and `wellKnownCACertificates` may be set"
        } else {
            "one of `caCertificateRefs` and `wellKnownCACertificates` is required"
        };
        broken(decoder, validation.at, message);
    }
}

/// The field of the type is there, and no other.
pub(super) fn subject_alt_name(decoder: &mut Decoder<'_>, name: &SubjectAltName) {
    let Some(kind) = name.kind else { return };
    for (field, of) in
        [("hostname", SubjectAltNameType::Hostname), ("uri", SubjectAltNameType::Uri)]
    {
        let set = has(decoder, name.at, field);
        if set != (kind == of) {
            let must = if set { "must not be set" } else { "is required" };
            let at = place(decoder, name.at, field);
            broken(decoder, at, format!("`{field}` {must} for the type `{}`", kind.as_str()));
        }
    }
}
