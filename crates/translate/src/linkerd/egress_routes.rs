//! Routes with an EgressNetwork as parent (API.md 7.12): what becomes of requests and streams to addresses outside of the
//! cluster, by host, server name, path; what no route takes has the network's `trafficPolicy`.
//!
//! A network with routes is a frontend of its addresses, on every port, and has a table like a service. What a route sends on
//! to the network itself goes to the address that it was meant for, under the network's name, which its policy lets pass
//! (docs/decisions/0105).

use std::cmp::Ordering;
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_api::gateway_api::ParentReference;
use heddle_ident::HostPattern;
use heddle_ir::destination::NETWORKS_DOMAIN;
use heddle_ir::destination::{ClientTls, Destination, DestinationId};
use heddle_ir::http_route::{HttpRule, RouteTable, RuleOrder};
use heddle_ir::index::NetworkFrontend;
use heddle_ir::outbound::{Outbound, OutboundKey, TcpBackend, TcpRule, TlsRule};
use heddle_ir::protocol::Protocol;

use crate::client::Client;
use crate::destinations::Destinations;
use crate::engine::{Reader, Topic};
use crate::export::Export;
use crate::gateway_api::route::{Route, RouteKind, by_age};
use crate::gateway_api::servers;
use crate::istio::http_rule;
use crate::linkerd::annotations::Annotated;
use crate::linkerd::authentication::GROUP;
use crate::linkerd::egress_network::{self, Network, by_precedence, of_client};
use crate::linkerd::{inbound_route, retry};
use crate::mesh::MeshKey;
use crate::object::ObjectKey;
use crate::report::Report;
use crate::service::{Endpoints, Service, ServicePort};

/// What no route has taken.
const UNROUTED: &str = "unrouted";

/// The name of a network's tables and destinations.
pub(crate) fn host(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.{NETWORKS_DOMAIN}").to_ascii_lowercase()
}

fn key_of(network: &Network) -> ObjectKey {
    ObjectKey::new(GROUP, "EgressNetwork", &network.meta.namespace, &network.meta.name)
}

/// The routes of a network that act for the clients of a namespace, the oldest first: their own namespace's before those of
/// the network's.
pub(crate) fn of_network(reader: &Reader<'_>, network: &Network, client: &str) -> Vec<Route> {
    let own = &network.meta.namespace;
    let found = reader.objects(Topic::RoutesOf(key_of(network)));
    let routes: Vec<Route> = found
        .iter()
        .filter_map(Route::of)
        .filter(|route| route.kind() != RouteKind::Udp && !route.is_unattachable())
        .collect();
    let of = |namespace: &str| -> Vec<Route> {
        routes.iter().filter(|route| route.meta().namespace == namespace).cloned().collect()
    };
    let mut acting = if client == own { Vec::new() } else { of(client) };
    if acting.is_empty() {
        acting = of(own);
    }
    acting.sort_by(|left, right| by_age(left.meta(), right.meta()));
    acting
}

/// The networks of a namespace's clients as frontends; none where no network has routes.
pub(crate) fn frontends(reader: &Reader<'_>, client: &Arc<str>) -> Vec<NetworkFrontend> {
    let networks = of_client(reader, client);
    let has_routes = |network: &Network| !of_network(reader, network, client).is_empty();
    if !networks.iter().any(has_routes) {
        return Vec::new();
    }
    let outside = &reader.options().linkerd.cluster_networks;
    let frontend = |(network, range): (&Network, egress_network::Range)| {
        let mut except = range.except;
        if range.cidr.is_none() {
            except.extend(outside.iter().copied());
        }
        let table = host(&network.meta.namespace, &network.meta.name);
        NetworkFrontend {
            table: has_routes(network).then(|| table.into()),
            ranges: range.cidr.into_iter().collect(),
            except,
        }
    };
    by_precedence(&networks).into_iter().map(frontend).collect()
}

/// The network that a table is of, where it counts for the clients of a namespace.
pub(crate) fn of_table(reader: &Reader<'_>, table: &str, client: &Arc<str>) -> Option<Network> {
    let rest = table.strip_suffix(NETWORKS_DOMAIN)?.strip_suffix('.')?;
    let (name, namespace) = rest.rsplit_once('.')?;
    let is_it = |network: &Network| {
        network.meta.namespace == namespace && network.meta.name.eq_ignore_ascii_case(name)
    };
    of_client(reader, client).into_iter().find(is_it)
}

/// A network as a backend of routes; none where there is no such network.
pub(crate) fn destination(
    reader: &Reader<'_>,
    namespace: &str,
    name: &str,
    port: Option<u16>,
) -> Option<(Arc<Service>, ServicePort)> {
    let key = ObjectKey::new(GROUP, "EgressNetwork", namespace, name);
    let AnyObject::EgressNetwork(network) = reader.object(&key)? else { return None };
    let (service, port) = as_service(&network, port.unwrap_or_default())?;
    Some((Arc::new(service), port))
}

fn as_service(network: &Network, port: u16) -> Option<(Service, ServicePort)> {
    let (namespace, name) = (&network.meta.namespace, &network.meta.name);
    let port = ServicePort {
        number: port,
        name: Arc::default(),
        protocol: Protocol::Detect,
        origin: network.origin().clone(),
        object: key_of(network),
        export: Export::All,
        target: heddle_api::IntOrText::Int(i64::from(port)),
        endpoints: Endpoints::OriginalDestination,
    };
    let service = Service {
        host: HostPattern::parse(&host(namespace, name)).ok()?,
        namespace: namespace.as_str().into(),
        name: name.as_str().into(),
        origin: network.origin().clone(),
        external: true,
        addresses: Vec::new(),
        ranges: Vec::new(),
        headless: false,
        ports: vec![port.clone()],
        subject_alt_names: Vec::new(),
        distribution: None,
    };
    Some((service, port))
}

/// The tables of a network on a port.
pub(crate) fn outbound(
    reader: &Reader<'_>,
    client: Client<'_>,
    key: &OutboundKey,
    network: &Network,
) -> Option<Outbound> {
    let (service, port) = as_service(network, key.port)?;
    let mut destinations = Destinations::new(reader, client);
    let routed = destinations.add(&service, &port, None).ok()?;
    let unrouted = destinations.add_like(routed, |routed| Destination {
        id: DestinationId { subset: UNROUTED.into(), ..routed.id.clone() },
        tls: ClientTls::Disable,
        ..routed.clone()
    })?;
    let routes: Vec<Route> = of_network(reader, network, client.namespace)
        .into_iter()
        .filter(|route| {
            let mut parents = route.parents().iter();
            parents.any(|parent| is_parent(route, parent, network, key.port))
        })
        .collect();
    let mut table = Table { reader, network, routed, unrouted, destinations };
    let tcp = table.tcp(&routes);
    let tls = table.tls(&routes);
    let http = table.http(&routes, &tcp);
    Some(Outbound {
        key: key.clone(),
        protocol: Protocol::Detect,
        host: service.exact_host().cloned(),
        http,
        tls,
        tcp: vec![tcp],
        destinations: table.destinations.into_list(),
    })
}

fn is_parent(route: &Route, parent: &ParentReference, network: &Network, port: u16) -> bool {
    route.parent_key(parent) == key_of(network) && parent.port.is_none_or(|own| own == port)
}

struct Table<'a> {
    reader: &'a Reader<'a>,
    network: &'a Network,
    /// What a route sends on to the network.
    routed: usize,
    /// What no route takes.
    unrouted: usize,
    destinations: Destinations<'a>,
}

impl Table<'_> {
    fn parents(&self) -> [ObjectKey; 1] {
        [key_of(self.network)]
    }

    /// The oldest TCPRoute has all streams that nothing else tells apart.
    fn tcp(&mut self, routes: &[Route]) -> TcpRule {
        let origin = self.network.origin_of(self.network.spec.at, "trafficPolicy");
        match routes.iter().find(|route| route.kind() == RouteKind::Tcp) {
            Some(route) => self.stream_rule(route),
            None => TcpRule {
                backends: vec![TcpBackend {
                    origin: origin.clone(),
                    destination: Some(self.unrouted),
                    weight: 1,
                }],
                origin,
                destination_ranges: Vec::new(),
            },
        }
    }

    fn stream_rule(&mut self, route: &Route) -> TcpRule {
        let parents = self.parents();
        let mut rule = servers::tcp_rule(self.reader, route, &parents, &mut self.destinations);
        if rule.backends.is_empty() {
            let (origin, destination) = (rule.origin.clone(), Some(self.routed));
            rule.backends.push(TcpBackend { origin, destination, weight: 1 });
        }
        rule
    }

    fn tls(&mut self, routes: &[Route]) -> Vec<TlsRule> {
        let mut rules: Vec<TlsRule> = Vec::new();
        for route in routes.iter().filter(|route| route.kind() == RouteKind::Tls) {
            let rule = self.stream_rule(route);
            for name in hosts(route) {
                rules.push(TlsRule {
                    origin: rule.origin.clone(),
                    server_names: vec![name],
                    destination_ranges: Vec::new(),
                    backends: rule.backends.clone(),
                });
            }
        }
        rules.sort_by(|left, right| {
            match (left.server_names.first(), right.server_names.first()) {
                (Some(left), Some(right)) => left.cmp_specificity(right),
                _ => Ordering::Equal,
            }
        });
        rules
    }

    /// Rules by host, the most specific first, each host a tier; then what streams get.
    fn http(&mut self, routes: &[Route], tcp: &TcpRule) -> RouteTable {
        let mut by_host: Vec<(HostPattern, Vec<HttpRule>)> = Vec::new();
        for route in routes.iter().filter(|r| matches!(r.kind(), RouteKind::Http | RouteKind::Grpc))
        {
            let (parents, routed) = (self.parents(), Some(self.routed));
            let (reader, destinations) = (self.reader, &mut self.destinations);
            let mut rules = servers::http_rules_or(reader, route, &parents, routed, destinations);
            let own = Annotated::of_meta(route.written(), route.meta());
            for rule in &mut rules {
                // What there is to say about annotations is said by the reports of their objects.
                retry::annotate(std::iter::once(own), rule, &mut Report::default());
            }
            for host in hosts(route) {
                let names: Vec<String> = match &host {
                    HostPattern::Any => Vec::new(),
                    host => vec![host.to_string()],
                };
                let rules = rules.iter().cloned().map(|rule| HttpRule {
                    matches: inbound_route::of_hosts(&rule.origin, rule.matches, &names),
                    ..rule
                });
                match by_host.iter_mut().find(|(known, _)| *known == host) {
                    Some((_, known)) => known.extend(rules),
                    None => by_host.push((host, rules.collect())),
                }
            }
        }
        by_host.sort_by(|(left, _), (right, _)| left.cmp_specificity(right));
        let mut table =
            RouteTable { order: RuleOrder::Specificity, rules: Vec::new(), tiers: Vec::new() };
        let last = self.otherwise(tcp);
        let tiers = by_host.into_iter().map(|(_, rules)| rules).chain(last.map(|rule| vec![rule]));
        for rules in tiers.filter(|rules| !rules.is_empty()) {
            if !table.rules.is_empty() {
                table.tiers.push(table.rules.len());
            }
            table.rules.extend(rules);
        }
        table
    }

    /// What requests get that no rule takes: what streams get.
    fn otherwise(&self, tcp: &TcpRule) -> Option<HttpRule> {
        let retry = self.reader.read(&MeshKey).unnoticed_retry.clone();
        let destination = tcp.backends.first()?.destination?;
        let mut rule = http_rule::default_rule(tcp.origin.clone(), destination, retry);
        if let heddle_ir::http_route::HttpAction::Forward(backends) = &mut rule.action {
            let first = backends.first()?.clone();
            *backends = tcp
                .backends
                .iter()
                .map(|backend| heddle_ir::http_route::WeightedBackend {
                    origin: backend.origin.clone(),
                    target: match backend.destination {
                        Some(index) => heddle_ir::http_route::BackendTarget::Destination(index),
                        None => heddle_ir::http_route::BackendTarget::Invalid {
                            status: 500,
                            reason: "the backend of the TCPRoute leads nowhere".into(),
                        },
                    },
                    weight: backend.weight,
                    ..first.clone()
                })
                .collect();
        }
        Some(rule)
    }
}

/// The hosts that a route names; every one where it names none.
fn hosts(route: &Route) -> Vec<HostPattern> {
    let names = route.hostnames().iter();
    let names: Vec<HostPattern> = names.filter_map(|name| HostPattern::parse(name).ok()).collect();
    if names.is_empty() { vec![HostPattern::Any] } else { names }
}

/// Why a route does not act for a network.
pub(crate) fn refusal(
    reader: &Reader<'_>,
    route: &Route,
    key: &ObjectKey,
) -> Option<(&'static str, String)> {
    let Some(AnyObject::EgressNetwork(network)) = reader.object(key) else {
        let message =
            format!("there is no EgressNetwork `{}/{}`", key.name.namespace, key.name.name);
        return Some(("NoMatchingParent", message));
    };
    if route.kind() == RouteKind::Udp {
        let message = "datagrams go by the kernel, where no route is asked";
        return Some(("UnsupportedProtocol", message.to_owned()));
    }
    if route.is_unattachable() {
        return Some(("UnsupportedValue", "the route has an error, see `analyze`".to_owned()));
    }
    // A network of the clients' own hides the global ones.
    let namespace: Arc<str> = route.meta().namespace.as_str().into();
    let is_global = *network.meta.namespace == *reader.options().linkerd.egress_namespace;
    let seen = of_client(reader, &namespace).iter().any(|own| key_of(own) == *key);
    (!seen && !is_global).then(|| {
        let message = format!(
            "the network is for clients of `{}`, not for those of the route's namespace",
            network.meta.namespace
        );
        ("NotAllowedByListeners", message)
    })
}
