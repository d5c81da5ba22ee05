//! Routes of the mesh: a Service as parent (GAMMA).
//!
//! A route acts by the address and port of the service, never by the request's host. A route in the service's namespace
//! (producer) is for every client; one in another namespace (consumer) for the clients of its own, who then see no
//! producer route. On one port one kind of route acts (API.md hazard 29).

use std::sync::Arc;

use heddle_api::gateway_api::ParentReference;
use heddle_api::kubernetes::ServiceType;
use heddle_api::{Meta, Object, Resource as AnyObject};
use heddle_ir::http_route::{HttpRule, RouteTable, RuleOrder};
use heddle_ir::outbound::{TcpRule, TlsRule};
use heddle_ir::protocol::Protocol;

use crate::destinations::Destinations;
use crate::engine::{Reader, Topic};
use crate::gateway_api::route::{Route, RouteKind, by_age};
use crate::gateway_api::servers;
use crate::linkerd;
use crate::linkerd::annotations::Annotated;
use crate::object::ObjectKey;
use crate::report::Report;
use crate::service::{Service, ServicePort};

/// For whom a route acts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    /// For the clients of its namespace, which is not the service's.
    Consumer,
    /// For every client.
    Producer,
}

/// What acts on a port of a service.
pub(crate) struct Acting {
    pub(crate) class: Class,
    pub(crate) kind: RouteKind,
    /// The routes, the oldest first.
    pub(crate) routes: Vec<Route>,
    /// The Service.
    service: ObjectKey,
}

/// The Services that a route names as parents.
pub(crate) fn parents(route: &Route) -> Vec<ObjectKey> {
    let parents = route.parents().iter().map(|parent| route.parent_key(parent));
    parents.filter(|key| key.group.is_empty() && &*key.kind == "Service").collect()
}

/// Which class a route has towards a service.
pub(crate) fn class_of(route: &Route, service_namespace: &str) -> Class {
    if route.meta().namespace == service_namespace { Class::Producer } else { Class::Consumer }
}

/// Every route that names a service port and may act for some client, the oldest first.
pub(crate) fn candidates(reader: &Reader<'_>, service: &Service, port: &ServicePort) -> Vec<Route> {
    if &*port.object.kind != "Service" || service.headless || service.external {
        return Vec::new();
    }
    let key = ObjectKey::new("", "Service", &service.namespace, &service.name);
    let found = reader.objects(Topic::RoutesOf(key.clone()));
    let mut routes: Vec<Route> = found
        .iter()
        .filter_map(Route::of)
        .filter(|route| route.kind() != RouteKind::Udp && !route.is_unattachable())
        .filter(|route| fits(route.kind(), port.protocol))
        .filter(|route| {
            let mut parents = route.parents().iter();
            parents.any(|parent| {
                route.parent_key(parent) == key
                    && selects(parent, port.number, &port.name)
                    && linkerd::route::acts(reader, route, parent)
            })
        })
        .collect();
    routes.sort_by(|left, right| by_age(left.meta(), right.meta()));
    routes
}

/// Whether any route for streams names a service.
pub(crate) fn has_stream_routes(reader: &Reader<'_>, service: &Service) -> bool {
    let key = ObjectKey::new("", "Service", &service.namespace, &service.name);
    let routes = reader.objects(Topic::RoutesOf(key));
    let mut kinds = routes.iter().filter_map(Route::of).map(|route| route.kind());
    kinds.any(|kind| matches!(kind, RouteKind::Tls | RouteKind::Tcp))
}

/// Whether a kind of route can act on a port that declares this protocol.
pub(crate) fn fits(kind: RouteKind, protocol: Protocol) -> bool {
    match kind {
        RouteKind::Grpc | RouteKind::Http => protocol.is_http() || protocol == Protocol::Detect,
        RouteKind::Tls | RouteKind::Tcp => protocol != Protocol::Udp,
        RouteKind::Udp => false,
    }
}

/// Whether a parent reference means a service port.
pub(crate) fn selects(parent: &ParentReference, number: u16, name: &str) -> bool {
    parent.port.is_none_or(|port| port == number)
        && parent.section_name.as_deref().is_none_or(|section| section == name)
}

/// What acts on a port for the clients of a namespace: consumer routes before producer routes, and of each class the kind
/// that goes first.
pub(crate) fn acting(
    reader: &Reader<'_>,
    service: &Service,
    port: &ServicePort,
    client_namespace: &str,
) -> Option<Acting> {
    let candidates = candidates(reader, service, port);
    for class in [Class::Consumer, Class::Producer] {
        let of_class: Vec<&Route> = candidates
            .iter()
            .filter(|route| class_of(route, &service.namespace) == class)
            .filter(|route| class == Class::Producer || route.meta().namespace == client_namespace)
            .collect();
        if let Some(kind) = of_class.iter().map(|route| route.kind()).min() {
            let routes = of_class.into_iter().filter(|route| route.kind() == kind).cloned();
            let service = port.object.clone();
            return Some(Acting { class, kind, routes: routes.collect(), service });
        }
    }
    None
}

impl Acting {
    /// The oldest of the routes.
    pub(crate) fn oldest(&self) -> Option<&Meta> {
        self.routes.first().map(Route::meta)
    }

    /// What is spoken on a port that declares `protocol`: routes for streams make streams of its connections.
    pub(crate) fn protocol(&self, protocol: Protocol) -> Protocol {
        match self.kind {
            RouteKind::Grpc | RouteKind::Http | RouteKind::Udp => protocol,
            RouteKind::Tls => Protocol::Tls,
            RouteKind::Tcp => Protocol::Tcp,
        }
    }

    /// The table for HTTP; none where routes of another kind act. A request that no rule takes gets 404.
    pub(crate) fn table(
        &self,
        reader: &Reader<'_>,
        destinations: &mut Destinations<'_>,
    ) -> Option<RouteTable> {
        if !matches!(self.kind, RouteKind::Http | RouteKind::Grpc) {
            return None;
        }
        let rules: Vec<HttpRule> = self
            .routes
            .iter()
            .flat_map(|route| {
                let mut rules = servers::http_rules(reader, route, &parents(route), destinations);
                self.annotate(reader, route, &mut rules);
                rules
            })
            .collect();
        Some(RouteTable { order: RuleOrder::Specificity, rules, tiers: Vec::new() })
    }

    /// Puts into rules what Linkerd's annotations of the route and the Service say (API.md 7.9).
    fn annotate(&self, reader: &Reader<'_>, route: &Route, rules: &mut [HttpRule]) {
        let service = match reader.object(&self.service) {
            Some(AnyObject::Service(service)) => Some(service),
            _ => None,
        };
        let objects = std::iter::once(Annotated::of_meta(route.written(), route.meta()))
            .chain(service.as_deref().map(Annotated::of));
        let objects: Vec<Annotated<'_>> = objects.collect();
        for rule in rules {
            // What there is to say about annotations is said by the reports of their objects.
            linkerd::retry::annotate(objects.iter().copied(), rule, &mut Report::default());
        }
    }

    /// The rules for streams; none where routes for HTTP act.
    pub(crate) fn streams(
        &self,
        reader: &Reader<'_>,
        destinations: &mut Destinations<'_>,
    ) -> Option<(Vec<TlsRule>, Vec<TcpRule>)> {
        match self.kind {
            RouteKind::Grpc | RouteKind::Http => None,
            // Of opaque streams nothing tells whose they are: the oldest route has them.
            RouteKind::Tcp | RouteKind::Udp => {
                let rules = self
                    .routes
                    .first()
                    .map(|route| servers::tcp_rule(reader, route, &parents(route), destinations));
                Some((Vec::new(), rules.into_iter().collect()))
            }
            RouteKind::Tls => {
                let mut rules: Vec<TlsRule> = Vec::new();
                for route in &self.routes {
                    let rule = servers::tcp_rule(reader, route, &parents(route), destinations);
                    let names = route.hostnames().iter();
                    let mut names: Vec<_> = names
                        .filter_map(|name| heddle_ident::HostPattern::parse(name).ok())
                        .collect();
                    if names.is_empty() {
                        names.push(heddle_ident::HostPattern::Any);
                    }
                    rules.extend(names.into_iter().map(|name| TlsRule {
                        origin: rule.origin.clone(),
                        server_names: vec![name],
                        destination_ranges: Vec::new(),
                        backends: rule.backends.clone(),
                    }));
                }
                // Stable: of equal names the oldest route's comes first.
                rules.sort_by(|left, right| {
                    match (left.server_names.first(), right.server_names.first()) {
                        (Some(left), Some(right)) => left.cmp_specificity(right),
                        _ => std::cmp::Ordering::Equal,
                    }
                });
                Some((rules, Vec::new()))
            }
        }
    }
}

/// Why a Service cannot be a parent; none where it can.
pub(crate) fn unfit(service: &Object<heddle_api::kubernetes::Service>) -> Option<&'static str> {
    let spec = &service.spec;
    let mut addresses = spec.cluster_ips.iter().chain(&spec.cluster_ip);
    if addresses.any(|address| address == "None") {
        return Some("a headless Service has no address by which its requests could be known");
    }
    (spec.kind == Some(ServiceType::ExternalName))
        .then_some("a Service of the type ExternalName has no address of its own")
}

/// The Service of a key; none where it means something else, or nothing.
pub(crate) fn service_of(
    reader: &Reader<'_>,
    key: &ObjectKey,
) -> Option<Arc<Object<heddle_api::kubernetes::Service>>> {
    match reader.object(key) {
        Some(AnyObject::Service(service)) if key.group.is_empty() => Some(service),
        _ => None,
    }
}
