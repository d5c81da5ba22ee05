//! Routes.

use heddle_api::gateway_api::{GROUP, ParentReference};

use super::{condition, resolved, shadows};
use crate::client::Client;
use crate::codes;
use crate::destinations::Destinations;
use crate::engine::Reader;
use crate::gateway_api::attach::{self, AttachedKey, Outcome};
use crate::gateway_api::is_listener_set;
use crate::gateway_api::mesh;
use crate::gateway_api::route::{Route, RouteKind, parent_key};
use crate::gateway_api::rules::{self, Context, Told};
use crate::gateway_api::status::{GatewayApiStatus, ParentStatus, Reference};
use crate::gateway_api::streams;
use crate::linkerd;
use crate::linkerd::annotations::Annotated;
use crate::linkerd::authentication::GROUP as LINKERD;
use crate::names::service_host;
use crate::object::ObjectKey;
use crate::report::Report;
use crate::service::ServiceKey;
use crate::status::Condition;

/// A route of any kind.
pub(crate) fn route(reader: &Reader<'_>, route: &Route, report: &mut Report) {
    let namespace = route.meta().namespace.clone();
    let inbound = linkerd::inbound_route::is_inbound(route);
    let services = mesh::parents(route);
    let all_services = services.len() == route.parents().len();
    let told = if inbound {
        linkerd::inbound_route::report(reader, route, report);
        Told::default()
    } else {
        translate(reader, route, if all_services { &services } else { &[] }, report)
    };
    // What a gateway may not refer to the mesh may, where it leads back to the parent.
    let told_of_services = (!all_services && !inbound && !services.is_empty())
        .then(|| translate(reader, route, &services, &mut Report::default()));
    let mut parents = Vec::new();
    for (index, parent) in route.parents().iter().enumerate() {
        let Some(accepted) = accepted(reader, route, index, parent, report) else { continue };
        let of_service = services.contains(&route.parent_key(parent));
        let told = told_of_services.as_ref().filter(|_| of_service).unwrap_or(&told);
        let mut conditions = vec![accepted, resolved(told.unresolved.as_ref())];
        if !told.dropped.is_empty() {
            let message = format!("Dropped Rule: {}", told.dropped.join("; "));
            conditions.push(condition("PartiallyInvalid", true, "UnsupportedValue", &message));
        }
        parents.push(ParentStatus { parent: reference(parent, &namespace), conditions });
    }
    linkerd::retry::report(Annotated::of_meta(route.written(), route.meta()), report);
    hostnames(route, report);
    shadows::report(reader, route, report);
    report.gateway_api = Some(GatewayApiStatus::Route { parents });
}

/// Translates the rules for what there is to say about them; `parents` are the Services for which they act.
pub(crate) fn translate(
    reader: &Reader<'_>,
    route: &Route,
    parents: &[ObjectKey],
    report: &mut Report,
) -> Told {
    let namespace = &*route.meta().namespace;
    let mut told = Told::default();
    let mut destinations = Destinations::new(reader, Client::any(namespace));
    let mut context = Context {
        reader,
        namespace,
        kind: route.kind(),
        parents,
        places: route.written(),
        default_backend: None,
        destinations: &mut destinations,
        report,
        told: &mut told,
    };
    match route {
        Route::Http(object) => {
            rules::http(object, &mut context);
        }
        Route::Grpc(object) => {
            rules::grpc(object, &mut context);
        }
        Route::Tls(_) | Route::Tcp(_) | Route::Udp(_) => {
            streams::backends(route, &mut context);
        }
    }
    told
}

fn reference(parent: &ParentReference, namespace: &str) -> Reference {
    Reference {
        group: parent.group().into(),
        kind: parent.kind().into(),
        namespace: parent.namespace(namespace).into(),
        name: parent.name.as_str().into(),
        section_name: parent.section_name.as_deref().map(Into::into),
        port: parent.port,
    }
}

/// The condition `Accepted` of a parent reference; none where another controller is responsible.
fn accepted(
    reader: &Reader<'_>,
    route: &Route,
    index: usize,
    parent: &ParentReference,
    report: &mut Report,
) -> Option<Condition> {
    let origin = || route.written().origin_at(parent.at);
    let key = route.parent_key(parent);
    linkerd::route::report_parent(reader, route, parent, report);
    let refusal = match (&*key.group, &*key.kind) {
        (GROUP, "Gateway") => on_gateway(reader, route, index, parent, &origin, report)?,
        (group, kind) if is_listener_set(group, kind) => {
            on_gateway(reader, route, index, parent, &origin, report)?
        }
        ("", "Service") => on_service(reader, route, parent, report)?,
        (LINKERD, "Server") => {
            // Linkerd's own controller tells routes of Servers nothing.
            linkerd::inbound_route::report_server(reader, route, &key, &origin, report);
            return None;
        }
        (LINKERD, "EgressNetwork") => linkerd::egress_routes::refusal(reader, route, &key),
        (group, kind) => {
            let message = format!("routes attach to no `{kind}` of the group `{group}` here");
            report.unsupported(origin(), message);
            return None;
        }
    };
    Some(match refusal {
        None => condition("Accepted", true, "Accepted", ""),
        Some((reason, message)) => {
            report.error(codes::NOT_ATTACHED, origin(), message.clone());
            condition("Accepted", false, reason, &message)
        }
    })
}

type Refusal = Option<(&'static str, String)>;

/// Why a route is not on a Gateway or ListenerSet; the inner none where it is, the outer where nobody can say.
fn on_gateway(
    reader: &Reader<'_>,
    route: &Route,
    index: usize,
    parent: &ParentReference,
    origin: &dyn Fn() -> heddle_diag::Origin,
    report: &mut Report,
) -> Option<Refusal> {
    let namespace = &*route.meta().namespace;
    let Some(gateway) = attach::gateway_of(reader, parent, namespace) else {
        let key = parent_key(parent, namespace);
        let message = if reader.object(&key).is_some() {
            format!("{key} is not of a class that heddle serves")
        } else {
            format!("{key} does not exist: the route has no effect there")
        };
        report.warning(codes::NOT_ATTACHED, origin(), message);
        return None;
    };
    let attached = reader.read(&AttachedKey(gateway));
    let outcome = attached.outcomes.get(&(route.key(), index)).copied();
    Some(match outcome.unwrap_or(Outcome::NoMatchingParent) {
        Outcome::Accepted => None,
        Outcome::NoMatchingParent => {
            Some(("NoMatchingParent", "no listener has this name and port".to_owned()))
        }
        Outcome::NotAllowed => Some((
            "NotAllowedByListeners",
            format!("no listener takes a {} from `{namespace}`", route.kind().as_str()),
        )),
        Outcome::NoMatchingHost => Some((
            "NoMatchingListenerHostname",
            "no listener that takes the route has a hostname in common with it".to_owned(),
        )),
        Outcome::Taken => Some((
            "Conflicted",
            "an older route of the other kind (HTTPRoute, GRPCRoute) has all its hostnames"
                .to_owned(),
        )),
        Outcome::Unreadable => {
            Some(("UnsupportedValue", "the route has an error, see `analyze`".to_owned()))
        }
    })
}

/// Why a route does not act for a Service.
fn on_service(
    reader: &Reader<'_>,
    route: &Route,
    parent: &ParentReference,
    report: &mut Report,
) -> Option<Refusal> {
    let namespace = &*route.meta().namespace;
    let Some(object) = mesh::service_of(reader, &route.parent_key(parent)) else {
        let name = format!("{}/{}", parent.namespace(namespace), parent.name);
        let message = format!("there is no Service `{name}`");
        return Some(Some(("NoMatchingParent", message)));
    };
    if let Some(why) = mesh::unfit(&object) {
        return Some(Some(("UnsupportedValue", why.to_owned())));
    }
    if route.kind() == RouteKind::Udp {
        let message = "datagrams between workloads go by the kernel, where no route is asked";
        return Some(Some(("UnsupportedProtocol", message.to_owned())));
    }
    if route.is_unattachable() {
        let message = "the route has an error, see `analyze`".to_owned();
        return Some(Some(("UnsupportedValue", message)));
    }
    let (name, own) = (&object.meta.name, &object.meta.namespace);
    let host = service_host(name, own, &reader.options().cluster_domain)?;
    let service = reader.read(&ServiceKey(host.as_str().into()))?;
    let ports = service.ports.iter();
    let ports: Vec<_> =
        ports.filter(|port| mesh::selects(parent, port.number, &port.name)).collect();
    if ports.is_empty() {
        return Some(Some(("NoMatchingParent", "the Service has no such port".to_owned())));
    }
    if !ports.iter().any(|port| mesh::fits(route.kind(), port.protocol)) {
        let message = "the port is declared to speak another protocol".to_owned();
        return Some(Some(("UnsupportedProtocol", message)));
    }
    let key = route.key();
    let class = mesh::class_of(route, own);
    // For the clients that would see it, it acts on some port.
    let acting = ports.iter().filter_map(|port| mesh::acting(reader, &service, port, namespace));
    let mut others: Vec<ObjectKey> = Vec::new();
    for acting in acting {
        if acting.class == class && acting.routes.iter().any(|other| other.key() == key) {
            return Some(None);
        }
        others.extend(acting.routes.first().map(Route::key));
    }
    let message = match others.first() {
        Some(other) => format!("{other} acts on the port: of several kinds of routes one does"),
        None => "routes of another kind act on the port".to_owned(),
    };
    report.conflict(route.written().origin_at(parent.at), message.clone());
    Some(Some(("Conflicted", message)))
}

/// Hostnames mean nothing for a Service as parent (API.md 6.11).
fn hostnames(route: &Route, report: &mut Report) {
    let mut parents = route.parents().iter();
    let mesh_only = parents.all(|parent| {
        let key = route.parent_key(parent);
        key.group.is_empty() && &*key.kind == "Service"
    });
    let named = matches!(route.kind(), RouteKind::Http | RouteKind::Grpc);
    if named && mesh_only && !route.parents().is_empty() && !route.hostnames().is_empty() {
        let why =
            "a route of a Service acts by its address; match the header `Host` to tell hosts apart";
        report.ignored(route.written().origin_of(route.at(), "hostnames"), why);
    }
}
