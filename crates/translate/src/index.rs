//! The index of a scope: visible names, addresses and ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_ident::{Cidr, HostPattern};
use heddle_ir::index::{Frontend, FrontendPort, Index, RoutedHost, UnknownDestinations};
use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::protocol::Protocol;

use crate::client::is_mesh;
use crate::engine::{Derivation, Kind, Reader, Topic};
use crate::istio::sidecar::{Scoping, SidecarKey};
use crate::istio::virtual_service::{self, ClaimsKey};
use crate::linkerd::egress_routes;
use crate::mesh::MeshKey;
use crate::names::{full_name, short_names};
use crate::outbound::{OutboundQuery, spoken};
use crate::scope::Scope;
use crate::service::{Endpoints, Service, ServicePort, VisibleKey};

/// Names of a scope.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct IndexKey(pub(crate) ScopeId);

impl Derivation for IndexKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Index>> {
        let scope = Scope::parse(&self.0)?;
        let mesh = reader.read(&MeshKey);
        let visible = reader.read(&VisibleKey(scope.namespace.clone()));
        let view =
            View { namespace: &scope.namespace, scoping: reader.read(&SidecarKey(self.0.clone())) };
        let unknown = view.unknown_destinations(mesh.unknown_destinations);
        let frontends =
            visible.iter().filter_map(|service| view.frontend(reader, service, unknown));
        Some(Arc::new(Index {
            frontends: frontends.collect(),
            routed_hosts: routed_hosts(reader, &self.0, &view, &visible),
            mesh_ranges: reader.options().mesh_ranges.clone(),
            unknown_destinations: unknown,
            networks: egress_routes::frontends(reader, &scope.namespace),
        }))
    }
}

/// What the clients of a scope know.
struct View<'a> {
    namespace: &'a Arc<str>,
    scoping: Option<Arc<Scoping>>,
}

impl View<'_> {
    /// What happens to destinations that are not known.
    fn unknown_destinations(&self, of_mesh: UnknownDestinations) -> UnknownDestinations {
        let own = self.scoping.as_ref().and_then(|scoping| scoping.unknown_destinations);
        own.unwrap_or(of_mesh)
    }

    fn knows(&self, service: &Service, port: &ServicePort) -> bool {
        self.scoping
            .as_ref()
            .is_none_or(|scoping| scoping.knows(&service.namespace, &service.host, port.number))
    }

    /// The ports of a service that are exported to the scope and that its Sidecar does not hide.
    fn known_ports<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a ServicePort> {
        service.visible_ports(self.namespace).filter(|port| self.knows(service, port))
    }

    /// A service as the scope sees it. Where unknown destinations pass, ports that a Sidecar hides are there as opaque
    /// bytes, since nobody else would send them on; else they are left out.
    fn frontend(
        &self,
        reader: &Reader<'_>,
        service: &Service,
        unknown: UnknownDestinations,
    ) -> Option<Frontend> {
        let passes = unknown == UnknownDestinations::PassThrough;
        let ports: Vec<FrontendPort> = service
            .visible_ports(self.namespace)
            .filter_map(|port| match (self.knows(service, port), passes) {
                (true, _) => {
                    let protocol = spoken(reader, self.namespace, service, port);
                    Some(FrontendPort { number: port.number, protocol })
                }
                (false, true) => {
                    Some(FrontendPort { number: port.number, protocol: Protocol::Tcp })
                }
                (false, false) => None,
            })
            .collect();
        let hidden = ports.is_empty() && !(service.ports.is_empty() && service.headless);
        if hidden {
            return None;
        }
        let mut ranges = service.ranges.clone();
        // Without any address and without host names in the protocol, a service is told by its port alone.
        let by_port_alone = !service.headless
            && service.addresses.is_empty()
            && ranges.is_empty()
            && !service.ports.is_empty()
            && service.ports.iter().all(|port| {
                port.protocol == Protocol::Tcp && port.endpoints == Endpoints::OriginalDestination
            });
        if by_port_alone {
            ranges.extend(
                ["0.0.0.0/0", "::/0"].into_iter().filter_map(|range| Cidr::parse(range).ok()),
            );
        }
        Some(Frontend {
            host: service.host.clone(),
            addresses: service.addresses.clone(),
            ranges,
            ports,
            headless: service.headless,
        })
    }
}

fn routed_hosts(
    reader: &Reader<'_>,
    scope_id: &ScopeId,
    view: &View<'_>,
    visible: &[Arc<Service>],
) -> Vec<RoutedHost> {
    let mesh = reader.read(&MeshKey);
    let domain = reader.options().cluster_domain.clone();
    let carries_http = |protocol: Protocol| protocol.is_http() || protocol == Protocol::Detect;
    let mut http_ports: BTreeSet<u16> = BTreeSet::new();
    let mut services: BTreeMap<String, &Service> = BTreeMap::new();
    for service in visible {
        services.insert(service.host.to_string(), service);
        let ports = view.known_ports(service);
        http_ports.extend(ports.filter(|port| carries_http(port.protocol)).map(|port| port.number));
    }
    let mut tables: BTreeSet<String> = BTreeSet::new();
    for object in reader.objects(Topic::Kind(Kind::VirtualService)) {
        let AnyObject::VirtualService(object) = object else { continue };
        let seen = virtual_service::export(&object, &mesh).shows_to(view.namespace);
        if !seen || !is_mesh(&object.spec.gateways) || object.spec.http.is_empty() {
            continue;
        }
        let hosts = object.spec.hosts.iter();
        tables.extend(hosts.map(|host| full_name(host, &object.meta.namespace, &domain)));
    }
    // What has no address is known by its name alone.
    let by_name = |service: &&Arc<Service>| {
        service.addresses.is_empty() && service.ranges.is_empty() && !service.headless
    };
    tables.extend(visible.iter().filter(by_name).map(|service| service.host.to_string()));
    let mut routed = Vec::new();
    for table in tables {
        let Ok(host) = HostPattern::parse(&table) else { continue };
        if host == HostPattern::Any {
            continue;
        }
        let table: Arc<str> = table.into();
        if let Some(service) = services.get(&*table) {
            let mut names = vec![host];
            names.extend(
                service
                    .exact_host()
                    .into_iter()
                    .flat_map(|host| short_names(host, view.namespace, &domain)),
            );
            let ports: Vec<u16> = view
                .known_ports(service)
                .filter(|port| carries_http(port.protocol))
                .map(|port| port.number)
                .collect();
            for port in ports {
                let one = |host| RoutedHost { host, port, table: table.clone() };
                routed.extend(names.iter().cloned().map(one));
            }
            continue;
        }
        // A host that no service has is found by authority alone, on every port that carries HTTP.
        let claims = ClaimsKey { namespace: view.namespace.clone(), host: table.clone() };
        if reader.read(&claims).is_empty() {
            continue;
        }
        for port in &http_ports {
            let key = OutboundKey { scope: scope_id.clone(), host: table.clone(), port: *port };
            if reader.read(&OutboundQuery(key)).is_some() {
                routed.push(RoutedHost { host: host.clone(), port: *port, table: table.clone() });
            }
        }
    }
    routed
}
