//! Objects of different projects that say where requests for one service go (API.md 11.1 row 3). One of them decides, and
//! the others are told so: none of the projects knows of the others, so nobody else says it.

use std::sync::Arc;

use heddle_api::gateway_api::ParentReference;
use heddle_api::{Object, kubernetes};
use heddle_diag::{Diagnostic, Origin};

use crate::client::{Client, is_mesh};
use crate::codes;
use crate::destinations::rules_for;
use crate::engine::Reader;
use crate::gateway_api::mesh::{self, Acting, acting};
use crate::gateway_api::route::Route;
use crate::istio::virtual_service::{Claim, ClaimsKey, Vs};
use crate::linkerd::annotations::Annotated;
use crate::linkerd::service_profile;
use crate::names::{full_name, service_host};
use crate::outbound::routes_win;
use crate::report::Report;
use crate::service::{Service, ServiceKey};
use crate::smi::traffic_split::{self, Split};

/// Says that another object decides, and for which clients.
fn tell(report: &mut Report, origin: &Origin, clients: &str, what: &str, decider: &Origin) {
    let message = format!("for {clients} {what} decides: this has no effect for them");
    let finding = Diagnostic::warning(codes::CROSSING, origin.clone(), message.clone());
    report.push(finding.related("this one decides", decider.clone()));
    report.conflict(origin.clone(), message);
}

/// Who decides, and where that is written.
type Decider = (String, Origin);

/// Tells what two groups of clients see: those of the object's namespace, and those of others.
fn tell_both(
    report: &mut Report,
    origin: &Origin,
    namespace: &str,
    own: Option<Decider>,
    others: Option<Decider>,
) {
    let clients = format!("clients in `{namespace}`");
    match (own, others) {
        (Some(own), Some(others)) if own == others => {
            tell(report, origin, "all clients", &own.0, &own.1);
        }
        (own, others) => {
            if let Some((what, place)) = own {
                tell(report, origin, &clients, &what, &place);
            }
            if let Some((what, place)) = others {
                tell(report, origin, "clients of other namespaces", &what, &place);
            }
        }
    }
}

/// Stands for the clients of namespaces that no object is in.
const ELSEWHERE: &str = "";

fn claims(reader: &Reader<'_>, namespace: &str, host: &str) -> Arc<[Claim]> {
    reader.read(&ClaimsKey { namespace: namespace.into(), host: host.into() })
}

fn name_of(Claim(object): &Claim) -> String {
    format!("the VirtualService `{}/{}`", object.meta.namespace, object.meta.name)
}

/// Says which hosts of a VirtualService somebody else decides for, as clients of its own namespace see it.
pub(crate) fn virtual_service(reader: &Reader<'_>, object: &Vs, report: &mut Report) {
    let (spec, namespace) = (&object.spec, &object.meta.namespace);
    if !is_mesh(&spec.gateways) {
        return;
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        let full = full_name(host, namespace, &reader.options().cluster_domain);
        let Some(service) = reader.read(&ServiceKey(full.as_str().into())) else { continue };
        let origin = object.origin_of_item(spec.at, "hosts", index);
        let deciding = |clients: &str| -> Option<Decider> {
            let claims = claims(reader, clients, &full);
            // Who does not see the object has no need of it.
            claims.iter().find(|Claim(known)| Arc::ptr_eq(known, object))?;
            if let Some(profile) = service_profile::of(reader, clients, &service) {
                let name = &profile.meta;
                let what = format!("the ServiceProfile `{}/{}`", name.namespace, name.name);
                return Some((what, profile.origin().clone()));
            }
            let routes = ports(reader, &service, clients, None)
                .find(|routes| routes_win(routes, &claims, clients))?;
            Some(decider(routes.routes.first()?))
        };
        tell_both(report, &origin, namespace, deciding(namespace), deciding(ELSEWHERE));
    }
}

fn decider(route: &Route) -> Decider {
    (format!("the {}", route.key()), route.written().origin().clone())
}

/// What acts on the ports of a service, or on those that a parent reference means.
fn ports<'a>(
    reader: &'a Reader<'a>,
    service: &'a Service,
    namespace: &'a str,
    parent: Option<&'a ParentReference>,
) -> impl Iterator<Item = Acting> + 'a {
    let meant = service.ports.iter().filter(move |port| {
        parent.is_none_or(|parent| mesh::selects(parent, port.number, &port.name))
    });
    meant.filter_map(move |port| acting(reader, service, port, namespace))
}

/// Says that a VirtualService decides in the place of a route with a Service as parent.
pub(crate) fn route(
    reader: &Reader<'_>,
    route: &Route,
    parent: &ParentReference,
    service: &Service,
    report: &mut Report,
) {
    let (Some(host), namespace) = (service.exact_host(), route.meta().namespace.as_str()) else {
        return;
    };
    let deciding = |clients: &str| -> Option<Decider> {
        let claims = claims(reader, clients, host.as_str());
        let first = claims.first()?;
        let own = |routes: &Acting| routes.routes.iter().any(|own| own.key() == route.key());
        let loses = ports(reader, service, clients, Some(parent))
            .filter(own)
            .any(|routes| !routes_win(&routes, &claims, clients));
        loses.then(|| (name_of(first), first.0.origin().clone()))
    };
    let origin = route.written().origin_at(parent.at);
    tell_both(report, &origin, namespace, deciding(namespace), deciding(ELSEWHERE));
}

/// Says that a VirtualService or a route decides in the place of a TrafficSplit.
pub(crate) fn split(reader: &Reader<'_>, split: &Split, service: &Service, report: &mut Report) {
    let (Some(host), namespace) = (service.exact_host(), split.meta.namespace.as_str()) else {
        return;
    };
    let deciding = |clients: &str| -> Option<Decider> {
        let claims = claims(reader, clients, host.as_str());
        if let Some(first) = claims.first() {
            return Some((name_of(first), first.0.origin().clone()));
        }
        let routes = ports(reader, service, clients, None).next()?;
        Some(decider(routes.routes.first()?))
    };
    let origin = split.origin_of(split.spec.at, "service");
    tell_both(report, &origin, namespace, deciding(namespace), deciding(ELSEWHERE));
}

/// Says that retries and time limits in annotations of a Service are for requests that no VirtualService and no TrafficSplit
/// routes, and that a DestinationRule says when endpoints are left alone.
pub(crate) fn annotations(
    reader: &Reader<'_>,
    object: &Object<kubernetes::Service>,
    report: &mut Report,
) {
    let meta = &object.meta;
    let domain = &reader.options().cluster_domain;
    let Some(host) = service_host(&meta.name, &meta.namespace, domain) else { return };
    let annotated = Annotated::of(object);
    let routes: Vec<&str> = ["retry.linkerd.io/", "timeout.linkerd.io/"]
        .into_iter()
        .flat_map(|family| annotated.keys(family))
        .collect();
    let accrual: Vec<&str> = annotated.keys("balancer.linkerd.io/failure-accrual").collect();
    if routes.is_empty() && accrual.is_empty() {
        return;
    }
    let Some(service) = reader.read(&ServiceKey(host.as_str().into())) else { return };
    let split = traffic_split::of(reader, &service).into_iter().next();
    for key in routes {
        let deciding = |clients: &str| -> Option<Decider> {
            let claims = claims(reader, clients, host.as_str());
            let acting = ports(reader, &service, clients, None).next();
            match (claims.first(), acting, &split) {
                (Some(_), Some(routes), _) if routes_win(&routes, &claims, clients) => None,
                (Some(first), ..) => Some((name_of(first), first.0.origin().clone())),
                // Routes have what the annotations of their Service say.
                (None, Some(_), _) | (None, None, None) => None,
                (None, None, Some(split)) => {
                    let name = format!("the TrafficSplit `{}`", split.meta.name);
                    Some((name, split.origin().clone()))
                }
            }
        };
        let (own, others) = (deciding(&meta.namespace), deciding(ELSEWHERE));
        tell_both(report, &annotated.origin(key), &meta.namespace, own, others);
    }
    let client = Client::any(&meta.namespace);
    let rules = rules_for(reader, &client, &service.host, &service.namespace);
    let rule = rules.iter().find(|rule| {
        let policy = rule.spec.traffic_policy.as_ref();
        policy.is_some_and(|policy| policy.outlier_detection.is_some())
    });
    for key in accrual {
        if let Some(rule) = rule {
            let what = format!("the DestinationRule `{}/{}`", rule.meta.namespace, rule.meta.name);
            tell(report, &annotated.origin(key), "all clients", &what, rule.origin());
        }
    }
}
