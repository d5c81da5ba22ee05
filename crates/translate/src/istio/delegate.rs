//! `http[].delegate` of a VirtualService: the rules of another object, narrowed by what the delegating rule matches
//! (API.md 2.1).
//!
//! A rule of the delegate is kept when each of its matches is within at least one of the delegating rule's; it is then
//! tried in the place of the delegating rule. Fields that it leaves out are those of the delegating rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::istio::{StringMatch, VirtualService};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ir::http_route::{ClaimMatch, HeaderMatch, HttpMatch};

use crate::client::Applies;
use crate::engine::Reader;
use crate::export::Export;
use crate::istio::http_match::{Draft, Drafts};
use crate::istio::virtual_service::Vs;
use crate::mesh::MeshKey;
use crate::object::ObjectKey;

/// Why a delegate is not followed.
pub(super) enum NoDelegate {
    /// There is no such VirtualService; holds its full name.
    Missing(String),
    /// It has hosts of its own, so it is none.
    HasHosts(String),
    /// It is not exported to the namespace of the delegating object.
    Hidden(String),
}

impl NoDelegate {
    /// A sentence for the operator.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Missing(name) => format!("no VirtualService `{name}`"),
            Self::HasHosts(name) => {
                format!("`{name}` has hosts of its own, so it is no delegate")
            }
            Self::Hidden(name) => format!("`{name}` is not exported to this namespace"),
        }
    }
}

/// The object that a rule delegates to.
pub(super) fn find(
    reader: &Reader<'_>,
    root: &Object<VirtualService>,
    name: &str,
    namespace: Option<&str>,
) -> Result<Vs, NoDelegate> {
    let namespace =
        namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(&root.meta.namespace);
    let full = format!("{namespace}/{name}");
    let key = ObjectKey::new("networking.istio.io", "VirtualService", namespace, name);
    let Some(AnyObject::VirtualService(found)) = reader.object(&key) else {
        return Err(NoDelegate::Missing(full));
    };
    if !found.spec.hosts.is_empty() {
        return Err(NoDelegate::HasHosts(full));
    }
    let mesh = reader.read(&MeshKey);
    let export = Export::of(
        found.spec.export_to.iter().map(String::as_str),
        namespace,
        &mesh.virtual_service_export,
    );
    if export.shows_to(&root.meta.namespace) { Ok(found) } else { Err(NoDelegate::Hidden(full)) }
}

/// The matches of a delegate's rule within those of the delegating rule; none where one of them is within no match of
/// the delegating rule, so that the rule is left out.
pub(super) fn merge<'a>(root: &Drafts<'a>, leaf: Drafts<'a>) -> Option<Drafts<'a>> {
    let (Drafts::AnyOf(root), Drafts::AnyOf(leaf)) = (root, leaf) else {
        return Some(Drafts::Broken);
    };
    if root.is_empty() {
        return Some(Drafts::AnyOf(leaf));
    }
    if leaf.is_empty() {
        return Some(Drafts::AnyOf(root.clone()));
    }
    let mut merged = Vec::new();
    for narrow in &leaf {
        let mut within = root.iter().filter(|wide| !is_conflict(wide, narrow)).peekable();
        within.peek()?;
        merged.extend(within.map(|wide| merge_one(wide, narrow)));
    }
    Some(Drafts::AnyOf(merged))
}

fn merge_one<'a>(root: &Draft<'a>, leaf: &Draft<'a>) -> Draft<'a> {
    let http =
        root.http.as_ref().zip(leaf.http.as_ref()).map(|(root, leaf)| merge_http(root, leaf));
    let (outer, inner) = (&root.applies, &leaf.applies);
    let mut source_labels = outer.source_labels.clone();
    source_labels.extend(inner.source_labels.clone());
    let applies = Applies {
        gateways: if inner.gateways.is_empty() { &outer.gateways } else { &inner.gateways }.clone(),
        port: inner.port.filter(|port| *port != 0).or(outer.port),
        source_namespace: set(inner.source_namespace.as_deref())
            .or(set(outer.source_namespace.as_deref()))
            .map(ToOwned::to_owned),
        source_labels,
    };
    Draft { written: leaf.written, applies, http }
}

/// What both ask for; where both ask for the same thing, the narrower, which is the delegate's.
fn merge_http(root: &HttpMatch, leaf: &HttpMatch) -> HttpMatch {
    let mut merged = leaf.clone();
    merged.name = join(&root.name, &leaf.name);
    merged.path = leaf.path.clone().or_else(|| root.path.clone());
    merged.scheme = leaf.scheme.clone().or_else(|| root.scheme.clone());
    merged.method = leaf.method.clone().or_else(|| root.method.clone());
    merged.authority = leaf.authority.clone().or_else(|| root.authority.clone());
    for header in &root.headers {
        let said = |known: &HeaderMatch| known.name == header.name && known.invert == header.invert;
        if !leaf.headers.iter().any(said) {
            merged.headers.push(header.clone());
        }
    }
    for claim in &root.claims {
        let said = |known: &ClaimMatch| known.path == claim.path && known.invert == claim.invert;
        if !leaf.claims.iter().any(said) {
            merged.claims.push(claim.clone());
        }
    }
    for query in &root.query {
        if !leaf.query.iter().any(|known| known.name == query.name) {
            merged.query.push(query.clone());
        }
    }
    merged
}

/// Names join with a dash.
pub(super) fn join(root: &Arc<str>, leaf: &Arc<str>) -> Arc<str> {
    match (root.is_empty(), leaf.is_empty()) {
        (_, true) => root.clone(),
        (true, _) => leaf.clone(),
        (false, false) => format!("{root}-{leaf}").into(),
    }
}

fn set(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// Whether a match of the delegate is not within one of the delegating rule.
fn is_conflict(root: &Draft<'_>, leaf: &Draft<'_>) -> bool {
    let (outer, inner) = (root.written, leaf.written);
    let texts = [
        (&outer.uri, &inner.uri),
        (&outer.scheme, &inner.scheme),
        (&outer.method, &inner.method),
        (&outer.authority, &inner.authority),
    ];
    let entries = [
        (&outer.headers, &inner.headers),
        (&outer.without_headers, &inner.without_headers),
        (&outer.query_params, &inner.query_params),
    ];
    let differs = |outer: Option<u16>, inner: Option<u16>| {
        let set = |port: Option<u16>| port.filter(|port| *port != 0);
        set(outer).zip(set(inner)).is_some_and(|(outer, inner)| outer != inner)
    };
    let (outside, inside) = (&root.applies, &leaf.applies);
    texts.iter().any(|(outer, inner)| text_conflict(outer.as_ref(), inner.as_ref()))
        || entries.iter().any(|(outer, inner)| entries_conflict(outer, inner))
        || outer.ignore_uri_case.unwrap_or(false) != inner.ignore_uri_case.unwrap_or(false)
        || differs(outer.port, inner.port)
        || set(outside.source_namespace.as_deref())
            .is_some_and(|name| inside.source_namespace.as_deref() != Some(name))
        || inside
            .source_labels
            .iter()
            .any(|(key, value)| outside.source_labels.get(key).is_some_and(|own| own != value))
        || (!outside.gateways.is_empty()
            && inside.gateways.iter().any(|gateway| !outside.gateways.contains(gateway)))
}

fn entries_conflict(
    root: &BTreeMap<String, StringMatch>,
    leaf: &BTreeMap<String, StringMatch>,
) -> bool {
    leaf.iter().any(|(key, inner)| text_conflict(root.get(key), Some(inner)))
}

/// A regular expression on either side forbids the other side to say anything; otherwise the delegate's text must be
/// within the delegating rule's.
fn text_conflict(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    let (Some(root), Some(leaf)) = (root, leaf) else { return false };
    let (root, leaf) = (said(root), said(leaf));
    match (root, leaf) {
        (Said::Nothing, _) | (Said::Regex | Said::Prefix(_), Said::Nothing) => false,
        (Said::Exact(outer), Said::Exact(inner)) => outer != inner,
        (Said::Regex, _) | (_, Said::Regex) | (Said::Exact(_), Said::Prefix(_) | Said::Nothing) => {
            true
        }
        (Said::Prefix(outer), Said::Prefix(inner) | Said::Exact(inner)) => {
            !inner.starts_with(outer)
        }
    }
}

enum Said<'a> {
    Exact(&'a str),
    Nothing,
    Prefix(&'a str),
    Regex,
}

fn said(text: &StringMatch) -> Said<'_> {
    let some = |text: &'_ Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if some(&text.regex) {
        return Said::Regex;
    }
    match (set(text.exact.as_deref()), set(text.prefix.as_deref())) {
        (Some(exact), _) => Said::Exact(exact),
        (None, Some(prefix)) => Said::Prefix(prefix),
        (None, None) => Said::Nothing,
    }
}
