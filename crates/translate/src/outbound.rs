//! Routes to one host and port, as the clients of one scope have them.

use std::sync::Arc;

use heddle_ir::http_route::{RouteTable, RuleOrder};
use heddle_ir::index::UnknownDestinations;
use heddle_ir::outbound::{Outbound, OutboundKey, TcpBackend, TcpRule};
use heddle_ir::protocol::Protocol;

use crate::client::Client;
use crate::destinations::Destinations;
use crate::engine::{Derivation, Reader};
use crate::istio::sidecar::{Scoping, SidecarKey};
use crate::istio::virtual_service::{Claim, ClaimsKey};
use crate::istio::{http_rule, l4_rule};
use crate::mesh::MeshKey;
use crate::report::Report;
use crate::scope::Scope;
use crate::service::{Service, ServiceKey, ServicePort};

/// Routes to a host and port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct OutboundQuery(pub(crate) OutboundKey);

impl Derivation for OutboundQuery {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Outbound>> {
        let key = &self.0;
        let scope = Scope::parse(&key.scope)?;
        let client = Client::of(&scope, key.port);
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
        let mut table = Table {
            reader,
            client,
            claims: &claims,
            service: service.as_ref().map(|(service, port)| (&**service, port)),
            destinations: Destinations::new(reader, client),
        };
        let http = table.http(protocol);
        let (tls, tcp) = table.streams(protocol);
        if service.is_none() && http.is_empty() && tls.is_empty() {
            return None;
        }
        let host = service.as_ref().and_then(|(service, _)| service.exact_host().cloned());
        Some(Arc::new(Outbound {
            key: key.clone(),
            protocol,
            host,
            http: RouteTable { order: RuleOrder::Written, rules: http },
            tls,
            tcp,
            destinations: table.destinations.into_list(),
        }))
    }
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
        http: RouteTable { order: RuleOrder::Written, rules: Vec::new() },
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
        let retry = self.reader.read(&MeshKey).outbound_retry.clone();
        // What there is to say about the objects is said by their own reports.
        let mut unused = Report::default();
        for Claim(object) in self.claims {
            let rules = http_rule::translate(
                object,
                &self.client,
                &retry,
                &mut self.destinations,
                &mut unused,
            );
            if !rules.is_empty() {
                return rules;
            }
        }
        let Some((service, port)) = self.service else { return Vec::new() };
        match self.destinations.add(service, port, None) {
            Ok(index) => vec![http_rule::default_rule(port.origin.clone(), index, retry)],
            Err(_) => Vec::new(),
        }
    }

    fn streams(&mut self, protocol: Protocol) -> (Vec<heddle_ir::outbound::TlsRule>, Vec<TcpRule>) {
        if protocol.is_http() {
            return (Vec::new(), Vec::new());
        }
        let mut unused = Report::default();
        for Claim(object) in self.claims {
            let tls = l4_rule::tls(object, &self.client, &mut self.destinations, &mut unused);
            let tcp = l4_rule::tcp(object, &self.client, &mut self.destinations, &mut unused);
            if !tls.is_empty() || !tcp.is_empty() {
                return (tls, tcp);
            }
        }
        let Some((service, port)) = self.service else { return (Vec::new(), Vec::new()) };
        let destination = self.destinations.add(service, port, None).ok();
        let origin = port.origin.clone();
        let backend = TcpBackend { origin: origin.clone(), destination, weight: 1 };
        let rule = TcpRule { origin, destination_ranges: Vec::new(), backends: vec![backend] };
        (Vec::new(), vec![rule])
    }
}
