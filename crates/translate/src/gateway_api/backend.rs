//! References to backends.

use std::sync::Arc;

use heddle_api::gateway_api::{BackendObjectReference, BackendRef, GROUP, HttpBackendRef};
use heddle_ir::protocol::Protocol;

use crate::destinations::Destinations;
use crate::engine::Reader;
use crate::gateway_api::certificates::Unresolved;
use crate::gateway_api::grants::{self, From, To};
use crate::gateway_api::route::RouteKind;
use crate::linkerd::authentication::GROUP as LINKERD;
use crate::linkerd::egress_routes;
use crate::names::service_host;
use crate::object::ObjectKey;
use crate::service::{Service, ServiceKey, ServicePort};

/// A reference to a backend, of whichever type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference<'a> {
    group: &'a str,
    kind: &'a str,
    name: &'a str,
    namespace: Option<&'a str>,
    port: Option<u16>,
}

macro_rules! reference_of {
    ($($type:ty),+) => {$(
        impl<'a> std::convert::From<&'a $type> for Reference<'a> {
            fn from(backend: &'a $type) -> Self {
                Self {
                    group: backend.group.as_deref().unwrap_or_default(),
                    kind: backend.kind.as_deref().unwrap_or("Service"),
                    name: &backend.name,
                    namespace: backend.namespace.as_deref(),
                    port: backend.port,
                }
            }
        }
    )+};
}

reference_of!(BackendObjectReference, BackendRef, HttpBackendRef);

/// The group of Istio's `Hostname` backends.
const ISTIO: &str = "networking.istio.io";

/// Who refers to a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Referrer<'a> {
    /// The route's group.
    pub(crate) group: &'a str,
    pub(crate) kind: RouteKind,
    pub(crate) namespace: &'a str,
    /// Services of whose requests the rules decide: a reference back to one needs no grant (docs/decisions/0057).
    pub(crate) parents: &'a [ObjectKey],
}

/// The index of the destination that a route's reference means.
pub(crate) fn resolve(
    reader: &Reader<'_>,
    referrer: Referrer<'_>,
    reference: Reference<'_>,
    destinations: &mut Destinations<'_>,
) -> Result<usize, Unresolved> {
    let (service, mut port) = find(reader, referrer, reference)?;
    // A network has every port: the one that was called.
    if port.number == 0 {
        port.number = destinations.called_port().unwrap_or_default();
    }
    destinations
        .add(&service, &port, None)
        .map_err(|missing| Unresolved::new(INVALID_DESTINATION, missing.message))
}

/// The port of a service that a route's reference means.
pub(crate) fn find(
    reader: &Reader<'_>,
    referrer: Referrer<'_>,
    reference: Reference<'_>,
) -> Result<(Arc<Service>, ServicePort), Unresolved> {
    let Referrer { group: route_group, kind, namespace, parents } = referrer;
    let target = reference.namespace.unwrap_or(namespace);
    let host = match (reference.group, reference.kind) {
        ("" | "core", "Service") if reference.group.is_empty() || route_group != GROUP => {
            service_host(reference.name, target, &reader.options().cluster_domain)
                .map(|host| host.to_string())
        }
        (ISTIO, "Hostname") => Some(reference.name.to_ascii_lowercase()),
        (LINKERD, "EgressNetwork") => None,
        (group, other) => {
            let message =
                format!("`{other}` of the group `{group}` is no backend that is supported");
            return Err(Unresolved::new("InvalidKind", message));
        }
    };
    let from = From { group: route_group, kind: kind.as_str(), namespace };
    let (group, name) = (reference.group, reference.name);
    let to = To { group, kind: reference.kind, namespace: target, name };
    let is_parent = || parents.contains(&ObjectKey::new(group, reference.kind, target, name));
    // Linkerd's own routes refer to other namespaces without a grant.
    if route_group == GROUP && !grants::permits(reader, from, to) && !is_parent() {
        let message = format!(
            "no ReferenceGrant in `{target}` lets a {} of `{namespace}` refer to the {} `{name}`",
            kind.as_str(),
            reference.kind
        );
        return Err(Unresolved::new("RefNotPermitted", message));
    }
    let place = format!("the {} `{target}/{name}`", reference.kind);
    if group == LINKERD {
        let found = egress_routes::destination(reader, target, name, reference.port);
        return found
            .ok_or_else(|| Unresolved::new("BackendNotFound", format!("{place} does not exist")));
    }
    let service = host.and_then(|host| reader.read(&ServiceKey(host.into())));
    let Some(service) = service else {
        return Err(Unresolved::new("BackendNotFound", format!("{place} does not exist")));
    };
    let found = service.ports.iter().find(|port| Some(port.number) == reference.port);
    let Some(port) = found else {
        let wanted = reference.port.unwrap_or_default();
        let numbers: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
        let message = format!("{place} has no port {wanted}, but {}", numbers.join(", "));
        return Err(Unresolved::new("BackendNotFound", message));
    };
    if (port.protocol == Protocol::Udp) != (kind == RouteKind::Udp) {
        let message = format!("the port {} of {place} is not for a {}", port.number, kind.as_str());
        return Err(Unresolved::new("UnsupportedProtocol", message));
    }
    let port = port.clone();
    Ok((service, port))
}

/// The reference leads somewhere, but no connection can be made: not a fault of the reference.
pub(crate) const INVALID_DESTINATION: &str = "";
