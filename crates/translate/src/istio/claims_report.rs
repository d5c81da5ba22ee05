//! Matches on claims of tokens that nobody verifies.

use std::collections::BTreeMap;

use heddle_api::istio::{Gateway, HttpMatch, RequestAuthentication, StringMatch, VirtualService};
use heddle_api::{Object, Resource as AnyObject};
use heddle_diag::Diagnostic;

use crate::client::selects;
use crate::codes;
use crate::engine::{Kind, Reader, Topic};
use crate::istio::http_match::CLAIM_PREFIX;
use crate::mesh::MeshKey;
use crate::object::ObjectKey;
use crate::report::Report;
use crate::workload::WorkloadKey;

/// Reports the first match on claims, where no RequestAuthentication is for the workloads of a gateway that the object is
/// bound to.
pub(super) fn check(
    reader: &Reader<'_>,
    object: &Object<VirtualService>,
    gateway: &Object<Gateway>,
    report: &mut Report,
) {
    let mut matches = object.spec.http.iter().flat_map(|rule| &rule.matches);
    let Some((one, field, name)) = matches.find_map(first_claim) else { return };
    let found = reader.objects(Topic::Kind(Kind::RequestAuthentication));
    let verifies = found.iter().any(|found| match found {
        AnyObject::RequestAuthentication(found) => is_for(reader, found, gateway),
        _ => false,
    });
    if verifies {
        return;
    }
    let origin = object.written.origin_of_entry(one.at, field, name);
    let full = format!("{}/{}", gateway.meta.namespace, gateway.meta.name);
    let message = format!("no RequestAuthentication is for the workloads of the Gateway `{full}`");
    report.push(
        Diagnostic::error(codes::CLAIMS_UNCHECKED, origin, message)
            .hint("write one that selects the gateway's workloads, in their namespace"),
    );
}

fn first_claim(one: &HttpMatch) -> Option<(&HttpMatch, &'static str, &str)> {
    let claim = |entries: &BTreeMap<String, StringMatch>| {
        entries.keys().position(|name| name.to_ascii_lowercase().starts_with(CLAIM_PREFIX))
    };
    let fields = [("headers", &one.headers), ("withoutHeaders", &one.without_headers)];
    fields.into_iter().find_map(|(field, entries)| {
        let name = entries.keys().nth(claim(entries)?)?;
        Some((one, field, name.as_str()))
    })
}

/// Whether an object may be for workloads that the Gateway selects. Where no workload is known, their labels are taken to
/// be those that the Gateway asks for.
fn is_for(
    reader: &Reader<'_>,
    found: &Object<RequestAuthentication>,
    gateway: &Object<Gateway>,
) -> bool {
    // What is attached to objects is for whatever stands for them.
    if found.spec.target_ref.is_some() || !found.spec.target_refs.is_empty() {
        return true;
    }
    let root = reader.read(&MeshKey).root_namespace.clone();
    let namespace = found.meta.namespace.as_str();
    let wanted = found.spec.selector.as_ref().map(|selector| &selector.match_labels);
    let pods = reader.objects(Topic::Kind(Kind::Pod));
    let pods = pods.iter().filter_map(|pod| reader.read(&WorkloadKey(ObjectKey::of(pod))));
    let mut known = pods.filter(|facts| selects(&gateway.spec.selector, &facts.labels)).peekable();
    if known.peek().is_none() {
        let own = &gateway.spec.selector;
        return wanted
            .is_none_or(|wanted| wanted.iter().all(|(key, value)| own.get(key) == Some(value)));
    }
    known.any(|facts| {
        (namespace == &*root || namespace == &*facts.namespace)
            && wanted.is_none_or(|wanted| selects(wanted, &facts.labels))
    })
}
