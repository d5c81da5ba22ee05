//! Entries of `tcp[]` and `tls[]` of a VirtualService.

use heddle_api::Object;
use heddle_api::istio::{RouteDestination, VirtualService};
use heddle_diag::Origin;
use heddle_ident::{Cidr, HostPattern};
use heddle_ir::outbound::{TcpBackend, TcpRule, TlsRule};

use crate::client::{Applies, Client, Gateways};
use crate::destinations::{Destinations, Wanted};
use crate::istio::http_rule::shares;
use crate::report::Report;

/// The rules for opaque streams.
pub(crate) fn tcp(
    object: &Object<VirtualService>,
    client: &Client<'_>,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<TcpRule> {
    let bound = client.is_bound(Gateways::new(&object.spec.gateways, &object.meta.namespace));
    let mut rules = Vec::new();
    for written in &object.spec.tcp {
        let origin = object.origin_at(written.at);
        let backends = backends(object, written.at, &written.route, destinations, report);
        let matches_broken =
            object.written.field(written.at, "match").is_some_and(|at| object.is_broken(at));
        if written.matches.is_empty() && !matches_broken {
            if bound {
                rules.push(TcpRule { origin, destination_ranges: Vec::new(), backends });
            }
            continue;
        }
        for matched in &written.matches {
            if matched.source_subnet.is_some() {
                let why = "hidden and without effect in Istio";
                report.ignored(object.origin_of(matched.at, "sourceSubnet"), why);
            }
            let ranges = ranges(object, matched.at, &matched.destination_subnets, report);
            let applies = Applies {
                gateways: Gateways::new(&matched.gateways, &object.meta.namespace).full(),
                port: matched.port,
                source_namespace: matched.source_namespace.clone(),
                source_labels: matched.source_labels.clone(),
            };
            let taken = bound && client.takes_stream(&applies);
            if let (Some(destination_ranges), true, false) =
                (ranges, taken, object.is_broken(matched.at))
            {
                let origin = object.origin_at(matched.at);
                rules.push(TcpRule { origin, destination_ranges, backends: backends.clone() });
            }
        }
    }
    rules
}

/// The rules by server name.
pub(crate) fn tls(
    object: &Object<VirtualService>,
    client: &Client<'_>,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<TlsRule> {
    let bound = client.is_bound(Gateways::new(&object.spec.gateways, &object.meta.namespace));
    let mut rules = Vec::new();
    for written in &object.spec.tls {
        let backends = backends(object, written.at, &written.route, destinations, report);
        if written.matches.is_empty() && !object.is_broken(written.at) {
            report.rejected(object.origin_of(written.at, "match"), "a TLS route needs a match");
        }
        for matched in &written.matches {
            let names = server_names(object, matched.at, &matched.sni_hosts, report);
            let ranges = ranges(object, matched.at, &matched.destination_subnets, report);
            let applies = Applies {
                gateways: Gateways::new(&matched.gateways, &object.meta.namespace).full(),
                port: matched.port,
                source_namespace: matched.source_namespace.clone(),
                source_labels: matched.source_labels.clone(),
            };
            let taken = bound && client.takes_stream(&applies);
            if let (Some(destination_ranges), true, false, false) =
                (ranges, taken, object.is_broken(matched.at), names.is_empty())
            {
                rules.push(TlsRule {
                    origin: object.origin_at(matched.at),
                    server_names: names,
                    destination_ranges,
                    backends: backends.clone(),
                });
            }
        }
    }
    rules
}

/// The server names of a match; each must be one that the object's hosts cover.
fn server_names(
    object: &Object<VirtualService>,
    at: heddle_api::At,
    names: &[String],
    report: &mut Report,
) -> Vec<HostPattern> {
    let hosts: Vec<HostPattern> =
        object.spec.hosts.iter().filter_map(|host| HostPattern::parse(host).ok()).collect();
    let mut patterns = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let origin = || object.origin_of_item(at, "sniHosts", index);
        match HostPattern::parse(name) {
            Err(_) => report.rejected(origin(), format!("`{name}` is not a server name")),
            Ok(pattern) if hosts.iter().any(|host| host.covers(&pattern)) => patterns.push(pattern),
            Ok(_) => {
                let message = format!("no host of the object covers the server name `{name}`");
                report.rejected(origin(), message);
            }
        }
    }
    patterns
}

fn ranges(
    object: &Object<VirtualService>,
    at: heddle_api::At,
    texts: &[String],
    report: &mut Report,
) -> Option<Vec<Cidr>> {
    let mut ranges = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match Cidr::parse(text) {
            Ok(range) => ranges.push(range),
            Err(error) => {
                let origin = object.origin_of_item(at, "destinationSubnets", index);
                report.rejected(origin, error.to_string());
                return None;
            }
        }
    }
    Some(ranges)
}

fn backends(
    object: &Object<VirtualService>,
    at: heddle_api::At,
    route: &[RouteDestination],
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<TcpBackend> {
    let reset = |origin: Origin| vec![TcpBackend { origin, destination: None, weight: 1 }];
    if route.is_empty() {
        report.rejected(object.origin_of(at, "route"), "the route has no destination");
        return reset(object.origin_at(at));
    }
    let weights: Vec<Option<i32>> = route.iter().map(|route| route.weight).collect();
    let places: Vec<_> = route.iter().map(|route| route.at).collect();
    let Some(weights) = shares(object, object.origin_of(at, "route"), &weights, &places, report)
    else {
        return reset(object.origin_of(at, "route"));
    };
    let mut backends = Vec::new();
    for (route, weight) in route.iter().zip(weights) {
        let wanted = Wanted { object, destination: &route.destination };
        let destination = if object.is_broken(route.at) {
            None
        } else {
            destinations.resolve(&wanted, report).ok()
        };
        if weight > 0 {
            backends.push(TcpBackend { origin: object.origin_at(route.at), destination, weight });
        }
    }
    backends
}
