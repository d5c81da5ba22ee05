//! What gateway workloads listen on for Gateways of the Gateway API.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_ident::HostPattern;
use heddle_ir::destination::{ClientTls, Destination};
use heddle_ir::gateway::{Server, ServerProtocol, ServerTls, VirtualHost};
use heddle_ir::http_route::{HttpRule, RouteTable, RuleOrder};
use heddle_ir::outbound::{TcpRule, TlsRule};
use heddle_ir::secret::SecretKey;

use crate::client::{Client, selects};
use crate::destinations::Destinations;
use crate::engine::{Kind, Reader, Topic};
use crate::gateway::Served;
use crate::gateway_api::attach::{Attached, AttachedKey};
use crate::gateway_api::gateway_key;
use crate::gateway_api::listener::{ListenerView, Protocol};
use crate::gateway_api::route::Route;
use crate::gateway_api::rules::{self, Context, Told};
use crate::gateway_api::streams;
use crate::gateway_api::view::{View, ViewKey};
use crate::istio::envoy_filter;
use crate::object::ObjectKey;
use crate::report::Report;
use crate::scope::Scope;

/// The label of the pods that are made for a Gateway.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The Gateways whose listeners workloads of a scope serve: the one they are made for, and those whose address is a
/// Service that selects them.
fn gateways(reader: &Reader<'_>, scope: &Scope) -> Vec<ObjectKey> {
    let mut keys = BTreeSet::new();
    if let Some(name) = scope.labels.get(GATEWAY_NAME) {
        keys.insert(gateway_key(&scope.namespace, name));
    }
    let domain = &*reader.options().cluster_domain;
    for object in reader.objects(Topic::Kind(Kind::GatewayApiGateway)) {
        let AnyObject::GatewayApiGateway(gateway) = object else { continue };
        let hosts = gateway.spec.addresses.iter().filter(|address| address.kind() == "Hostname");
        for host in hosts.filter_map(|address| address.value.as_deref()) {
            let name = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix(".svc."));
            let Some((service, namespace)) = name.and_then(|name| name.split_once('.')) else {
                continue;
            };
            if namespace != &*scope.namespace {
                continue;
            }
            let service = reader.object(&ObjectKey::new("", "Service", namespace, service));
            if let Some(AnyObject::Service(service)) = service
                && !service.spec.selector.is_empty()
                && selects(&service.spec.selector, &scope.labels)
            {
                keys.insert(gateway_key(&gateway.meta.namespace, &gateway.meta.name));
            }
        }
    }
    keys.into_iter().collect()
}

/// The servers of a scope, with the destinations that they refer to.
pub(crate) fn of_scope(
    reader: &Reader<'_>,
    scope: &Scope,
    destinations: &mut Vec<Arc<Destination>>,
) -> Vec<Served> {
    let mut served = Vec::new();
    for key in gateways(reader, scope) {
        let Some(view) = reader.read(&ViewKey(key.clone())) else { continue };
        if view.refused.is_some() {
            continue;
        }
        let attached = reader.read(&AttachedKey(key));
        for (listener, routes) in view.listeners.iter().zip(&attached.listeners) {
            if !listener.is_accepted() {
                continue;
            }
            let client = Client::at_gateway(scope, "", listener.port);
            let mut own = Destinations::new(reader, client);
            for server in servers(reader, scope, listener, routes, &mut own) {
                let (port, bind) = (listener.port, None);
                served.push((
                    Served { port, bind, proxy_protocol: false, server },
                    destinations.len(),
                ));
            }
            destinations
                .extend(own.into_list().into_iter().map(|one| with_certificate(one, &view)));
        }
    }
    served.into_iter().map(|(one, first)| shifted(one, first)).collect()
}

/// Destinations of listeners are numbered each from 0; here they get their place in the list of all.
fn shifted(mut served: Served, first: usize) -> Served {
    let shift_backends = |backends: &mut [heddle_ir::outbound::TcpBackend]| {
        for backend in backends {
            backend.destination = backend.destination.map(|index| index + first);
        }
    };
    match &mut served.server.protocol {
        ServerProtocol::Http(hosts) => {
            for rule in hosts.iter_mut().flat_map(|host| &mut host.table.rules) {
                shift_rule(rule, first);
            }
        }
        ServerProtocol::HttpsRedirect => {}
        ServerProtocol::Tcp(rules) | ServerProtocol::Udp(rules) => {
            for rule in rules {
                shift_backends(&mut rule.backends);
            }
        }
        ServerProtocol::Tls(rules) => {
            for rule in rules {
                shift_backends(&mut rule.backends);
            }
        }
    }
    served
}

fn shift_rule(rule: &mut HttpRule, first: usize) {
    use heddle_ir::http_route::{BackendTarget, HttpAction};
    let mut targets: Vec<&mut BackendTarget> =
        rule.mirrors.iter_mut().map(|mirror| &mut mirror.target).collect();
    if let HttpAction::Forward(backends) = &mut rule.action {
        targets.extend(backends.iter_mut().map(|backend| &mut backend.target));
    }
    for target in targets {
        if let BackendTarget::Destination(index) = target {
            *index += first;
        }
    }
}

/// Where TLS is made to a backend, the Gateway's own certificate is presented.
fn with_certificate(destination: Arc<Destination>, view: &View) -> Arc<Destination> {
    let Some(Ok(key)) = &view.client_certificate else { return destination };
    let key: SecretKey = key.clone();
    match &destination.tls {
        ClientTls::Originate(tls) if tls.credential.is_none() => {
            let tls =
                heddle_ir::destination::TlsOrigination { credential: Some(key), ..tls.clone() };
            Arc::new(Destination { tls: ClientTls::Originate(tls), ..(*destination).clone() })
        }
        _ => destination,
    }
}

fn servers(
    reader: &Reader<'_>,
    scope: &Scope,
    listener: &ListenerView,
    routes: &[Attached],
    destinations: &mut Destinations<'_>,
) -> Vec<Server> {
    let server = |hosts: Vec<HostPattern>, protocol| Server {
        origin: listener.origin.clone(),
        name: listener.name.clone(),
        hosts,
        tls: listener.tls.clone(),
        protocol,
        rate_limits: envoy_filter::gateway_limits(reader, scope, listener.port),
    };
    let own = || vec![listener.host.clone()];
    match listener.protocol {
        Protocol::Http | Protocol::Https => {
            let hosts = virtual_hosts(reader, routes, destinations);
            vec![server(own(), ServerProtocol::Http(hosts))]
        }
        Protocol::Tcp | Protocol::Udp => {
            let oldest = routes.first().and_then(|attached| route(reader, attached));
            let rules = oldest.map(|route| tcp_rule(reader, &route, &[], destinations));
            let rules = rules.into_iter().collect();
            let is_udp = listener.protocol == Protocol::Udp;
            let made = if is_udp { ServerProtocol::Udp } else { ServerProtocol::Tcp };
            vec![server(own(), made(rules))]
        }
        Protocol::Tls => tls_servers(reader, listener, routes, destinations, &server),
        Protocol::Other => Vec::new(),
    }
}

/// Passed-on TLS has one server with rules by name; where TLS is taken off, each name is a server of its own.
fn tls_servers(
    reader: &Reader<'_>,
    listener: &ListenerView,
    routes: &[Attached],
    destinations: &mut Destinations<'_>,
    server: &dyn Fn(Vec<HostPattern>, ServerProtocol) -> Server,
) -> Vec<Server> {
    let mut by_name: Vec<(HostPattern, TcpRule)> = Vec::new();
    for attached in routes {
        let Some(route) = route(reader, attached) else { continue };
        let rule = tcp_rule(reader, &route, &[], destinations);
        for host in &attached.hosts {
            // The oldest route has a name.
            if !by_name.iter().any(|(known, _)| known == host) {
                by_name.push((host.clone(), rule.clone()));
            }
        }
    }
    by_name.sort_by(|(left, _), (right, _)| left.cmp_specificity(right));
    if listener.tls == Some(ServerTls::Passthrough) {
        let rules = by_name.into_iter().map(|(host, rule)| TlsRule {
            origin: rule.origin,
            server_names: vec![host],
            destination_ranges: rule.destination_ranges,
            backends: rule.backends,
        });
        return vec![server(vec![listener.host.clone()], ServerProtocol::Tls(rules.collect()))];
    }
    let covered = by_name.iter().any(|(host, _)| *host == listener.host);
    let mut servers: Vec<Server> = by_name
        .into_iter()
        .map(|(host, rule)| server(vec![host], ServerProtocol::Tcp(vec![rule])))
        .collect();
    // Names of the listener that no route has go nowhere, and to no other listener.
    if !covered {
        servers.push(server(vec![listener.host.clone()], ServerProtocol::Tcp(Vec::new())));
    }
    servers
}

fn route(reader: &Reader<'_>, attached: &Attached) -> Option<Route> {
    reader.object(&attached.route).and_then(|object| Route::of(&object))
}

/// The rule of a route for streams; `parents` are the Services for which it acts, none at a gateway.
pub(crate) fn tcp_rule(
    reader: &Reader<'_>,
    route: &Route,
    parents: &[ObjectKey],
    destinations: &mut Destinations<'_>,
) -> TcpRule {
    // What there is to say about objects is said by their own reports.
    let (mut report, mut told) = (Report::default(), Told::default());
    let mut context = Context {
        reader,
        namespace: &route.meta().namespace,
        kind: route.kind(),
        parents,
        places: route.written(),
        default_backend: None,
        destinations,
        report: &mut report,
        told: &mut told,
    };
    let backends = streams::backends(route, &mut context);
    let origin = route.written().origin_of_item(route.at(), "rules", 0);
    TcpRule { origin, destination_ranges: Vec::new(), backends }
}

/// The rules of a route for HTTP or gRPC; `parents` as for [`tcp_rule`].
pub(crate) fn http_rules(
    reader: &Reader<'_>,
    route: &Route,
    parents: &[ObjectKey],
    destinations: &mut Destinations<'_>,
) -> Vec<HttpRule> {
    http_rules_or(reader, route, parents, None, destinations)
}

/// The same, where rules without backends lead to a destination.
pub(crate) fn http_rules_or(
    reader: &Reader<'_>,
    route: &Route,
    parents: &[ObjectKey],
    default_backend: Option<usize>,
    destinations: &mut Destinations<'_>,
) -> Vec<HttpRule> {
    let (mut report, mut told) = (Report::default(), Told::default());
    let mut context = Context {
        reader,
        namespace: &route.meta().namespace,
        kind: route.kind(),
        parents,
        places: route.written(),
        default_backend,
        destinations,
        report: &mut report,
        told: &mut told,
    };
    match route {
        Route::Http(object) => rules::http(object, &mut context),
        Route::Grpc(object) => rules::grpc(object, &mut context),
        Route::Tls(_) | Route::Tcp(_) | Route::Udp(_) => Vec::new(),
    }
}

/// A table for each host: the rules of the routes for that host, then, in a tier of their own, those of each wildcard that
/// covers it. So a request that no rule of its own host takes may still be a wildcard's (docs/decisions/0056).
fn virtual_hosts(
    reader: &Reader<'_>,
    routes: &[Attached],
    destinations: &mut Destinations<'_>,
) -> Vec<VirtualHost> {
    let mut hosts: Vec<&HostPattern> = Vec::new();
    for host in routes.iter().flat_map(|attached| &attached.hosts) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts.sort_by(|left, right| left.cmp_specificity(right));
    let rules: Vec<Vec<HttpRule>> = routes
        .iter()
        .map(|attached| {
            let route = route(reader, attached);
            route.map(|route| http_rules(reader, &route, &[], destinations)).unwrap_or_default()
        })
        .collect();
    let table = |host: &&HostPattern| {
        let mut table =
            RouteTable { order: RuleOrder::Specificity, rules: Vec::new(), tiers: Vec::new() };
        let mut done = vec![false; routes.len()];
        for tier in hosts.iter().filter(|wider| wider.covers(host)) {
            if !table.rules.is_empty() && table.tiers.last() != Some(&table.rules.len()) {
                table.tiers.push(table.rules.len());
            }
            for ((attached, rules), done) in routes.iter().zip(&rules).zip(&mut done) {
                if attached.hosts.contains(tier) && !std::mem::replace(done, true) {
                    table.rules.extend(rules.iter().cloned());
                }
            }
        }
        VirtualHost { hosts: vec![(*host).clone()], table }
    };
    hosts.iter().map(table).collect()
}
