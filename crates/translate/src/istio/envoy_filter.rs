//! EnvoyFilters: the shapes of Envoy's rate limits, local and global, are read and run natively, everything else is reported
//! where it stands (API.md 2.9, 11.2 row 36). Where the filter stands among Envoy's others does not matter here.

mod patch;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::istio::EnvoyFilter;
use heddle_api::{Object, Resource as AnyObject};
use heddle_ident::HostPattern;
use heddle_ir::http_route::HttpMatch;
use heddle_ir::matching::TextMatch;
use heddle_ir::rate_limit::{GlobalRateLimit, LocalRateLimit, RateLimitDescriptor, RateLimits};

use crate::client::selects;
use crate::endpoint::target_number;
use crate::engine::{Kind, Reader, Topic};
use crate::istio::global_rate_limit::{Clusters, resolved};
use crate::istio::local_rate_limit::any_match;
use crate::mesh::MeshKey;
use crate::object::by_age;
use crate::report::Report;
use crate::scope::Scope;
use crate::service::Service;
use crate::workload::Facts;
use patch::{Port, Site, Understood};

pub(crate) use report::report;

type Filter = Arc<Object<EnvoyFilter>>;

/// The EnvoyFilters for workloads of a scope: those of the root namespace, then the scope's own, each by priority, age and
/// name.
fn of_scope(reader: &Reader<'_>, scope: &Scope) -> Vec<Filter> {
    let root = reader.read(&MeshKey).root_namespace.clone();
    let mut namespaces = vec![root];
    if !namespaces.contains(&scope.namespace) {
        namespaces.push(scope.namespace.clone());
    }
    let mut filters = Vec::new();
    for namespace in namespaces {
        let objects = reader.objects(Topic::KindIn(Kind::EnvoyFilter, namespace));
        let mut own: Vec<Filter> = objects
            .into_iter()
            .filter_map(|object| match object {
                AnyObject::EnvoyFilter(object) => Some(object),
                _ => None,
            })
            .filter(|object| {
                let spec = &object.spec;
                let selected = spec.workload_selector.as_ref().is_none_or(|selector| {
                    !object.is_broken(selector.at) && selects(&selector.labels, &scope.labels)
                });
                selected && spec.target_refs.is_empty()
            })
            .collect();
        own.sort_by(|left, right| {
            let priority = |filter: &Filter| filter.spec.priority.unwrap_or(0);
            priority(left).cmp(&priority(right)).then_with(|| by_age(&left.meta, &right.meta))
        });
        filters.extend(own);
    }
    filters
}

/// The limits on requests to a workload.
pub(crate) fn inbound_limits(
    reader: &Reader<'_>,
    facts: &Facts,
    services: &[Arc<Service>],
) -> RateLimits {
    let Some(scope) = Scope::parse(&facts.scope) else { return RateLimits::default() };
    let port_of = |site: &Site| match site.port {
        Port::Every => None,
        Port::Listener(port) => Some(port),
        Port::Service(port) => Some(workload_port(facts, services, port).unwrap_or(port)),
    };
    let patches = patches(reader, &scope);
    let mut local = Vec::new();
    for (site, limit) in of(&patches, |patch| &patch.local) {
        if site.inbound {
            local.push(LocalRateLimit { port: port_of(site), ..limit.clone() });
        }
    }
    // What a gateway's listeners ask about is not asked about again.
    let holds = |site: &Site| site.inbound && !facts.is_gateway;
    let global = global_limits(reader, &scope, &patches, holds, |limit, site| {
        limit.port = port_of(site);
    });
    let global = global.map(|(mut limit, descriptors)| {
        limit.descriptors = descriptors
            .into_iter()
            .map(|(site, own)| RateLimitDescriptor { port: port_of(site), ..own })
            .collect();
        limit
    });
    RateLimits { local, global: global.collect() }
}

/// The workload's port behind a port of one of its services.
fn workload_port(facts: &Facts, services: &[Arc<Service>], port: u16) -> Option<u16> {
    let ports = services.iter().flat_map(|service| &service.ports);
    ports.filter(|known| known.number == port).find_map(|port| target_number(port, Some(facts)))
}

/// The limits on requests that a gateway of the scope takes on a port.
pub(crate) fn gateway_limits(reader: &Reader<'_>, scope: &Scope, port: u16) -> RateLimits {
    let patches = patches(reader, scope);
    let holds = |site: &Site| {
        site.gateway
            && match site.port {
                Port::Every => true,
                Port::Listener(own) | Port::Service(own) => own == port,
            }
    };
    let mut local = Vec::new();
    for (site, limit) in of(&patches, |patch| &patch.local) {
        if !holds(site) {
            continue;
        }
        let mut limit = limit.clone();
        let authorities = authorities(site.host.as_ref(), port);
        if !authorities.is_empty() {
            if limit.matches.is_empty() {
                limit.matches.push(any_match(limit.origin.clone()));
            }
            let own = std::mem::take(&mut limit.matches);
            limit.matches = own
                .iter()
                .flat_map(|own| authorities.iter().map(move |authority| (own, authority)))
                .map(|(own, authority)| HttpMatch {
                    authority: own.authority.clone().or_else(|| Some(authority.clone())),
                    ..own.clone()
                })
                .collect();
        }
        local.push(limit);
    }
    let global = global_limits(reader, scope, &patches, holds, |_, _| {});
    let global = global.map(|(mut limit, descriptors)| {
        let placed = |(site, mut own): (&Site, RateLimitDescriptor)| {
            own.routes.clone_from(&site.routes);
            let authorities = authorities(site.host.as_ref(), port).into_iter();
            let matched = |authority| HttpMatch {
                authority: Some(authority),
                ..any_match(limit.origin.clone())
            };
            own.matches = authorities.map(matched).collect();
            own
        };
        limit.descriptors = descriptors.into_iter().map(placed).collect();
        limit
    });
    RateLimits { local, global: global.collect() }
}

/// What the patches for workloads of a scope say, in order.
fn patches(reader: &Reader<'_>, scope: &Scope) -> Vec<Understood> {
    let label = |name: &str| scope.labels.get(name).map(|text| &**text);
    // As Istio names the cluster of a proxy, which is what Envoy calls its own.
    let own_cluster = format!("{}.{}", label("app").unwrap_or("istio-proxy"), scope.namespace);
    let filters = of_scope(reader, scope);
    let read = |filter: &Filter| patch::read(filter, Some(&own_cluster), &mut Report::default());
    filters.iter().flat_map(read).map(|(_, understood)| understood).collect()
}

/// One sort of things that patches say, each with its site.
fn of<'p, T: 'p>(
    patches: &'p [Understood],
    items: impl Fn(&'p Understood) -> &'p Vec<T>,
) -> impl Iterator<Item = (&'p Site, &'p T)> {
    patches.iter().flat_map(move |patch| items(patch).iter().map(|item| (&patch.site, item)))
}

/// The filters that hold at a place, each with the descriptors that it sends there; none that sends nothing.
fn global_limits<'p>(
    reader: &'p Reader<'_>,
    scope: &'p Scope,
    patches: &'p [Understood],
    holds: impl Fn(&Site) -> bool + Copy + 'p,
    place: impl Fn(&mut GlobalRateLimit, &Site) + 'p,
) -> impl Iterator<Item = (GlobalRateLimit, Vec<(&'p Site, RateLimitDescriptor)>)> {
    let filters: Vec<_> =
        of(patches, |patch| &patch.filters).filter(|(site, _)| holds(site)).collect();
    let clusters: Clusters =
        if filters.is_empty() { BTreeMap::new() } else { clusters_of(patches) };
    filters.into_iter().filter_map(move |(site, filter)| {
        let mut limit = resolved(reader, &scope.namespace, filter, &clusters)?;
        let descriptors: Vec<(&Site, RateLimitDescriptor)> = match &filter.own {
            Some(own) => own.iter().map(|own| (site, own.clone())).collect(),
            None => of(patches, |patch| &patch.descriptors)
                .filter(|(site, staged)| holds(site) && staged.stage == filter.stage)
                .map(|(site, staged)| (site, staged.descriptor.clone()))
                .collect(),
        };
        place(&mut limit, site);
        (!descriptors.is_empty()).then_some((limit, descriptors))
    })
}

/// The clusters that patches add; of two of one name the first.
fn clusters_of(patches: &[Understood]) -> Clusters {
    let mut clusters = Clusters::new();
    for (_, (name, address)) in of(patches, |patch| &patch.clusters) {
        clusters.entry(name.clone()).or_insert_with(|| address.clone());
    }
    clusters
}

/// What a request for a host may write, with the port of the gateway and without; empty: anything.
fn authorities(host: Option<&HostPattern>, port: u16) -> Vec<TextMatch> {
    match host {
        None | Some(HostPattern::Any) => Vec::new(),
        Some(HostPattern::Exact(host)) => vec![
            TextMatch::Exact(host.as_str().into()),
            TextMatch::Exact(format!("{host}:{port}").into()),
        ],
        Some(HostPattern::Suffix(suffix)) => vec![
            TextMatch::Suffix(format!(".{suffix}").into()),
            TextMatch::Suffix(format!(".{suffix}:{port}").into()),
        ],
    }
}
