//! Routes to one host and port, as the clients of one scope have them.

use std::sync::Arc;

use heddle_ir::http_route::{RouteTable, RuleOrder};
use heddle_ir::index::UnknownDestinations;
use heddle_ir::outbound::{Outbound, OutboundKey, TcpBackend, TcpRule};
use heddle_ir::protocol::Protocol;

use crate::client::Client;
use crate::destinations::Destinations;
use crate::engine::{Derivation, Reader};
use crate::gateway_api::mesh::{self, Acting, Class, acting};
use crate::istio::sidecar::{Scoping, SidecarKey};
use crate::istio::virtual_service::{Claim, ClaimsKey};
use crate::istio::{http_rule, l4_rule};
use crate::linkerd::{self, egress_routes, service_profile};
use crate::mesh::MeshKey;
use crate::object::by_age;
use crate::report::Report;
use crate::scope::Scope;
use crate::service::{Service, ServiceKey, ServicePort};
use crate::smi::traffic_split;

/// Routes to a host and port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct OutboundQuery(pub(crate) OutboundKey);

impl Derivation for OutboundQuery {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Outbound>> {
        let key = &self.0;
        let scope = Scope::parse(&key.scope)?;
        let client = Client::of(&scope, key.port);
        if let Some(network) = egress_routes::of_table(reader, &key.host, &scope.namespace) {
            return egress_routes::outbound(reader, client, key, &network).map(Arc::new);
        }
        let service = reader.read(&ServiceKey(key.host.clone()));
        let service = service.and_then(|service| {
            let port = service.port(key.port, &scope.namespace)?.clone();
            Some((service, port))
        });
        let scoping = reader.read(&SidecarKey(key.scope.clone()));
        let claims =
            reader.read(&ClaimsKey { namespace: scope.namespace.clone(), host: key.host.clone() });
        let domain = &reader.options().cluster_domain;
        let claims: Vec<Claim> = claims
            .iter()
            .filter(|Claim(object)| {
                scoping
                    .as_ref()
                    .is_none_or(|scoping| scoping.knows_routes(object, key.port, domain))
            })
            .cloned()
            .collect();
        if let (Some(scoping), Some((service, port))) = (&scoping, &service)
            && !scoping.knows(&service.namespace, &service.host, port.number)
        {
            return hidden(reader, client, key, scoping, service, port);
        }
        let protocol = service.as_ref().map_or(Protocol::Http1, |(_, port)| port.protocol);
        if protocol == Protocol::Udp {
            return None;
        }
        let routes = service.as_ref().and_then(|(service, port)| {
            routes_of(reader, &scope.namespace, service, port, &claims)
        });
        let protocol = routes.as_ref().map_or(protocol, |routes| routes.protocol(protocol));
        let mut table = Table {
            reader,
            client,
            claims: &claims,
            service: service.as_ref().map(|(service, port)| (&**service, port)),
            destinations: Destinations::new(reader, client),
        };
        let by_routes = routes.as_ref();
        let http = by_routes.and_then(|routes| routes.table(reader, &mut table.destinations));
        let http = http.unwrap_or_else(|| RouteTable {
            order: RuleOrder::Written,
            rules: table.http(protocol),
            tiers: Vec::new(),
        });
        let streams = by_routes.and_then(|routes| routes.streams(reader, &mut table.destinations));
        let (tls, tcp) = streams.unwrap_or_else(|| table.streams(protocol));
        if service.is_none() && http.rules.is_empty() && tls.is_empty() {
            return None;
        }
        let host = service.as_ref().and_then(|(service, _)| service.exact_host().cloned());
        Some(Arc::new(Outbound {
            key: key.clone(),
            protocol,
            host,
            http,
            tls,
            tcp,
            destinations: table.destinations.into_list(),
        }))
    }
}

/// The routes that decide of the requests of a namespace's clients on a port.
fn routes_of(
    reader: &Reader<'_>,
    namespace: &str,
    service: &Service,
    port: &ServicePort,
    claims: &[Claim],
) -> Option<Acting> {
    acting(reader, service, port, namespace)
        .filter(|routes| routes_win(routes, claims, namespace))
        // A profile decides as a whole (API.md hazard 16).
        .filter(|_| service_profile::of(reader, namespace, service).is_none())
}

/// What the clients of a namespace speak on a port: what it declares, unless routes for streams make streams of it.
pub(crate) fn spoken(
    reader: &Reader<'_>,
    namespace: &Arc<str>,
    service: &Service,
    port: &ServicePort,
) -> Protocol {
    if !mesh::has_stream_routes(reader, service) {
        return port.protocol;
    }
    let host = service.host.to_string().into();
    let claims = reader.read(&ClaimsKey { namespace: namespace.clone(), host });
    let routes = routes_of(reader, namespace, service, port, &claims);
    routes.map_or(port.protocol, |routes| routes.protocol(port.protocol))
}

/// Whether routes of the Gateway API go before the VirtualServices of the host (API.md 11.1 row 3): consumer routes always
/// do, producer routes before VirtualServices of other namespaces than the client's that are younger.
pub(crate) fn routes_win(routes: &Acting, claims: &[Claim], client_namespace: &str) -> bool {
    let Some(Claim(first)) = claims.first() else { return true };
    routes.class == Class::Consumer
        || first.meta.namespace != client_namespace
            && routes.oldest().is_some_and(|oldest| by_age(oldest, &first.meta).is_lt())
}

/// A service that the Sidecar of the scope hides. Where unknown destinations pass, its bytes go to its endpoints as they
/// are, without any policy; else it is not there.
fn hidden(
    reader: &Reader<'_>,
    client: Client<'_>,
    key: &OutboundKey,
    scoping: &Scoping,
    service: &Service,
    port: &ServicePort,
) -> Option<Arc<Outbound>> {
    let mesh = reader.read(&MeshKey);
    let unknown = scoping.unknown_destinations.unwrap_or(mesh.unknown_destinations);
    if unknown == UnknownDestinations::Refuse {
        return None;
    }
    let origin = scoping.origin(port.number);
    let mut destinations = Destinations::new(reader, client);
    let index = destinations.add_bare(service, port, origin.clone())?;
    let backend = TcpBackend { origin: origin.clone(), destination: Some(index), weight: 1 };
    Some(Arc::new(Outbound {
        key: key.clone(),
        protocol: Protocol::Tcp,
        host: service.exact_host().cloned(),
        http: RouteTable { order: RuleOrder::Written, rules: Vec::new(), tiers: Vec::new() },
        tls: Vec::new(),
        tcp: vec![TcpRule { origin, destination_ranges: Vec::new(), backends: vec![backend] }],
        destinations: destinations.into_list(),
    }))
}

struct Table<'a> {
    reader: &'a Reader<'a>,
    client: Client<'a>,
    claims: &'a [Claim],
    service: Option<(&'a Service, &'a ServicePort)>,
    destinations: Destinations<'a>,
}

impl Table<'_> {
    /// The rules of the first VirtualService that has any for the client; without one, everything goes to the service.
    fn http(&mut self, protocol: Protocol) -> Vec<heddle_ir::http_route::HttpRule> {
        if !protocol.is_http() && protocol != Protocol::Detect {
            return Vec::new();
        }
        let mesh = self.reader.read(&MeshKey);
        let (retry, unnoticed) = (&mesh.outbound_retry, &mesh.unnoticed_retry);
        // What there is to say about the objects is said by their own reports.
        let mut unused = Report::default();
        if let Some((service, port)) = self.service
            && let Some(profile) = service_profile::of(self.reader, self.client.namespace, service)
        {
            // A profile decides as a whole, whatever else there is (API.md hazard 16).
            let both = (service, port);
            let destinations = &mut self.destinations;
            let reader = self.reader;
            return service_profile::http(
                reader,
                &profile,
                both,
                unnoticed,
                destinations,
                &mut unused,
            );
        }
        for Claim(object) in self.claims {
            let rules = http_rule::translate(
                object,
                &self.client,
                retry,
                &mut self.destinations,
                &mut unused,
            );
            if !rules.is_empty() {
                return rules;
            }
        }
        let Some((service, port)) = self.service else { return Vec::new() };
        if let Some(split) = traffic_split::of(self.reader, service).first() {
            let both = (service, port);
            let destinations = &mut self.destinations;
            return traffic_split::http(
                self.reader,
                split,
                both,
                unnoticed,
                destinations,
                &mut unused,
            );
        }
        match self.destinations.add(service, port, None) {
            Ok(index) => {
                let mut rule = http_rule::default_rule(port.origin.clone(), index, retry.clone());
                linkerd::retry::of_service(self.reader, port, &mut rule);
                vec![rule]
            }
            Err(_) => Vec::new(),
        }
    }

    fn streams(&mut self, protocol: Protocol) -> (Vec<heddle_ir::outbound::TlsRule>, Vec<TcpRule>) {
        if protocol.is_http() {
            return (Vec::new(), Vec::new());
        }
        let mut unused = Report::default();
        if let Some((service, port)) = self.service
            && let Some(profile) = service_profile::of(self.reader, self.client.namespace, service)
            && let Some(rule) = service_profile::streams(
                self.reader,
                &profile,
                (service, port),
                &mut self.destinations,
            )
        {
            return (Vec::new(), vec![rule]);
        }
        for Claim(object) in self.claims {
            let tls = l4_rule::tls(object, &self.client, &mut self.destinations, &mut unused);
            let tcp = l4_rule::tcp(object, &self.client, &mut self.destinations, &mut unused);
            if !tls.is_empty() || !tcp.is_empty() {
                return (tls, tcp);
            }
        }
        let Some((service, port)) = self.service else { return (Vec::new(), Vec::new()) };
        let (reader, both) = (self.reader, (service, port));
        let split = traffic_split::of(reader, service);
        if let Some(rule) = split
            .first()
            .and_then(|split| traffic_split::streams(reader, split, both, &mut self.destinations))
        {
            return (Vec::new(), vec![rule]);
        }
        let destination = self.destinations.add(service, port, None).ok();
        let origin = port.origin.clone();
        let backend = TcpBackend { origin: origin.clone(), destination, weight: 1 };
        let rule = TcpRule { origin, destination_ranges: Vec::new(), backends: vec![backend] };
        (Vec::new(), vec![rule])
    }
}
