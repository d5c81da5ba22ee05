//! HTTPRoutes of Linkerd's own group, as far as they differ from the Gateway API's: what their parents mean (API.md 7.8),
//! and parents that only Linkerd has.

use heddle_api::At;
use heddle_api::gateway_api::ParentReference;

use crate::codes;
use crate::crossing;
use crate::engine::Reader;
use crate::gateway_api::route::Route;
use crate::linkerd::authentication::GROUP;
use crate::linkerd::service_profile;
use crate::object::ObjectKey;
use crate::options::Profile;
use crate::report::Report;
use crate::service::{Service, ServiceKey};

/// What a parent of a route of Linkerd's group means. A parent without kind is a Gateway to Linkerd, which has none, so
/// the route attaches to nothing there; its author means the Service of that name (API.md 11.2 row 6).
pub(crate) fn parent_key(parent: &ParentReference, namespace: &str) -> ObjectKey {
    let group = parent.group.as_deref().unwrap_or(GROUP);
    let kind = parent.kind.as_deref().unwrap_or("Service");
    let core = matches!(group, "" | "core") || parent.group.is_none() || parent.kind.is_none();
    let group = match kind {
        "Service" if core => "",
        "Gateway" => GROUP,
        _ => group,
    };
    ObjectKey::new(group, kind, parent.namespace(namespace), &parent.name)
}

/// Whether a parent reference is one that Linkerd itself attaches to nothing.
pub(crate) fn is_inferred(route: &Route, parent: &ParentReference) -> bool {
    &*route.written().origin().group == GROUP && parent.kind.is_none()
}

/// Whether a route acts for a parent in the profile of the translator.
pub(crate) fn acts(reader: &Reader<'_>, route: &Route, parent: &ParentReference) -> bool {
    reader.options().profile != Profile::Linkerd || !is_inferred(route, parent)
}

/// What there is to say about a parent of a route besides whether it attaches.
pub(crate) fn report_parent(
    reader: &Reader<'_>,
    route: &Route,
    parent: &ParentReference,
    report: &mut Report,
) {
    let origin = || route.written().origin_at(parent.at);
    if is_inferred(route, parent) {
        let how = "without `kind` a Gateway is meant, and Linkerd attaches the route to nothing; it is read as a Service";
        report.warning(codes::PARENT_INFERRED, origin(), how);
        report.translated(origin(), "read as a Service");
    }
    let key = route.parent_key(parent);
    if !(key.group.is_empty() && &*key.kind == "Service") {
        return;
    }
    let domain = &reader.options().cluster_domain;
    let host = format!("{}.{}.svc.{domain}", key.name.name, key.name.namespace);
    let Some(service) = reader.read(&ServiceKey(host.as_str().into())) else { return };
    if let Some(profile) = service_profile::of(reader, &route.meta().namespace, &service) {
        let message = format!(
            "the ServiceProfile `{}/{}` decides for the service as a whole",
            profile.meta.namespace, profile.meta.name
        );
        report.warning(codes::PROFILE_WINS, origin(), message.clone());
        report.conflict(origin(), message);
    } else {
        crossing::route(reader, route, parent, &service, report);
    }
    both_groups(reader, route, &service, parent.at, report);
}

/// Says so where routes of both groups act for a service: they are ordered as one.
fn both_groups(reader: &Reader<'_>, route: &Route, service: &Service, at: At, report: &mut Report) {
    let own = &route.written().origin().group;
    let other = service
        .ports
        .iter()
        .flat_map(|port| crate::gateway_api::mesh::candidates(reader, service, port))
        .find(|other| other.kind() == route.kind() && other.written().origin().group != *own);
    if let Some(other) = other {
        let group = &other.written().origin().group;
        let message = format!(
            "{} of the group `{group}` has the same parent: their rules are ordered as one",
            other.key()
        );
        report.info(codes::BOTH_GROUPS, route.written().origin_at(at), message);
    }
}
