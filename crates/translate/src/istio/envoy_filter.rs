//! EnvoyFilters: the shapes of Envoy's local rate limit are read and run natively, everything else is reported where it
//! stands (API.md 2.9, 11.2 row 36). Where the filter stands among Envoy's others does not matter here.

use std::sync::Arc;

use heddle_api::istio::{
    ApplyTo, ConfigPatch, EnvoyFilter, PatchContext, PatchOperation, RouteConfigurationMatch,
};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ident::HostPattern;
use heddle_ir::matching::TextMatch;
use heddle_ir::rate_limit::LocalRateLimit;

use crate::client::selects;
use crate::codes;
use crate::endpoint::target_number;
use crate::engine::{Kind, Reader, Topic};
use crate::istio::local_rate_limit::{self, FILTER, Read};
use crate::istio::selector;
use crate::mesh::MeshKey;
use crate::object::by_age;
use crate::report::Report;
use crate::scope::Scope;
use crate::service::Service;
use crate::workload::Facts;

type Filter = Arc<Object<EnvoyFilter>>;

/// What a patch that is understood says.
struct Limited {
    inbound: bool,
    gateway: bool,
    port: Port,
    /// The virtual host of a gateway; none: all.
    host: Option<HostPattern>,
    limits: Vec<LocalRateLimit>,
}

/// Where a patch holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Every,
    /// A port that is listened on.
    Listener(u16),
    /// A port of a service.
    Service(u16),
}

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
) -> Vec<LocalRateLimit> {
    let Some(scope) = Scope::parse(&facts.scope) else { return Vec::new() };
    let mut limits = Vec::new();
    for filter in of_scope(reader, &scope) {
        for limited in translate(&filter, &mut Report::default()) {
            if !limited.inbound {
                continue;
            }
            let port = match limited.port {
                Port::Every => None,
                Port::Listener(port) => Some(port),
                Port::Service(port) => Some(workload_port(facts, services, port).unwrap_or(port)),
            };
            limits.extend(limited.limits.into_iter().map(|limit| LocalRateLimit { port, ..limit }));
        }
    }
    limits
}

/// The workload's port behind a port of one of its services.
fn workload_port(facts: &Facts, services: &[Arc<Service>], port: u16) -> Option<u16> {
    let ports = services.iter().flat_map(|service| &service.ports);
    ports.filter(|known| known.number == port).find_map(|port| target_number(port, Some(facts)))
}

/// The limits on requests that a gateway of the scope takes on a port.
pub(crate) fn gateway_limits(reader: &Reader<'_>, scope: &Scope, port: u16) -> Vec<LocalRateLimit> {
    let mut limits = Vec::new();
    for filter in of_scope(reader, scope) {
        for limited in translate(&filter, &mut Report::default()) {
            let here = match limited.port {
                Port::Every => true,
                Port::Listener(own) | Port::Service(own) => own == port,
            };
            if !limited.gateway || !here {
                continue;
            }
            let authority = limited.host.as_ref().and_then(authority);
            for mut limit in limited.limits {
                if let Some(authority) = &authority {
                    if limit.matches.is_empty() {
                        limit.matches.push(local_rate_limit::any_match(limit.origin.clone()));
                    }
                    for matched in &mut limit.matches {
                        matched.authority.get_or_insert_with(|| authority.clone());
                    }
                }
                limits.push(limit);
            }
        }
    }
    limits
}

fn authority(host: &HostPattern) -> Option<TextMatch> {
    match host {
        HostPattern::Any => None,
        HostPattern::Exact(host) => Some(TextMatch::Exact(host.as_str().into())),
        HostPattern::Suffix(suffix) => Some(TextMatch::Suffix(format!(".{suffix}").into())),
    }
}

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, object: &Filter, report: &mut Report) {
    let spec = &object.spec;
    if spec.config_patches.is_empty() && object.written.is_sound() {
        let message = "the EnvoyFilter has no patches";
        report.warning(codes::UPSTREAM_WARNING, object.origin().clone(), message);
    }
    if !spec.target_refs.is_empty() {
        let why = "limits of single Gateways are not set by EnvoyFilters";
        report.unsupported(object.origin_of(spec.at, "targetRefs"), why);
    }
    translate(object, report);
    let Some(own) = &spec.workload_selector else { return };
    let root = reader.read(&MeshKey).root_namespace.clone();
    if own.labels.is_empty() || *root == *object.meta.namespace {
        return;
    }
    let namespace: Arc<str> = object.meta.namespace.as_str().into();
    if selector::selected(reader, &namespace, &own.labels).is_empty() {
        let message = "no workload of the namespace has these labels";
        let origin = object.origin_of(spec.at, "workloadSelector");
        report.warning(codes::SELECTS_NOTHING, origin, message);
    }
}

/// The patches that are understood. Every other one is reported, and so is what is left out of one.
fn translate(object: &Filter, report: &mut Report) -> Vec<Limited> {
    let mut limited = Vec::new();
    for patch in &object.spec.config_patches {
        if object.is_broken(patch.at) {
            continue;
        }
        match understand(object, patch, report) {
            Ok(found) => limited.extend(found),
            Err(why) => report.unsupported(object.origin_at(patch.at), why),
        }
    }
    limited
}

const NO_ENVOY: &str =
    "there is no Envoy to configure; of EnvoyFilters the local rate limit is read, nothing else";

fn understand(
    object: &Filter,
    patch: &ConfigPatch,
    report: &mut Report,
) -> Result<Option<Limited>, &'static str> {
    let change = patch.patch.as_ref().ok_or(NO_ENVOY)?;
    let value = change.value.ok_or(NO_ENVOY)?.0;
    let read = Read { written: &object.written };
    let (settings, actions) = match (patch.apply_to, change.operation) {
        (
            Some(ApplyTo::HttpFilter),
            Some(
                PatchOperation::InsertBefore
                | PatchOperation::InsertAfter
                | PatchOperation::InsertFirst
                | PatchOperation::Add
                | PatchOperation::Merge,
            ),
        ) => {
            let typed = read
                .field(value, "typed_config")
                .or_else(|| read.field(value, "typedConfig"))
                .ok_or(NO_ENVOY)?;
            (read.settings(typed).ok_or(NO_ENVOY)?, None)
        }
        (Some(ApplyTo::HttpRoute | ApplyTo::VirtualHost), Some(PatchOperation::Merge)) => {
            let typed = read
                .field(value, "typed_per_filter_config")
                .and_then(|map| read.field(map, FILTER))
                .ok_or(NO_ENVOY)?;
            let route = read.field(value, "route").unwrap_or(value);
            (read.settings(typed).ok_or(NO_ENVOY)?, read.field(route, "rate_limits"))
        }
        _ => return Err(NO_ENVOY),
    };
    let matches = patch.matches.as_ref();
    let context = matches.and_then(|matches| matches.context).unwrap_or(PatchContext::Any);
    if matches!(context, PatchContext::SidecarOutbound | PatchContext::Waypoint) {
        return Err("requests are limited where they arrive, not where they are sent");
    }
    let mut port = Port::Every;
    let mut host = None;
    if let Some(listener) = matches.and_then(|matches| matches.listener.as_ref()) {
        port = listener.port_number.map_or(Port::Every, Port::Listener);
        let chain = listener.filter_chain.as_ref();
        if let Some(number) = chain.and_then(|chain| chain.destination_port) {
            port = Port::Listener(number);
        }
        if chain.is_some_and(|chain| chain.sni.is_some()) {
            return Err("limits of single server names are not set by EnvoyFilters");
        }
    }
    if let Some(routes) = matches.and_then(|matches| matches.route_configuration.as_ref()) {
        (port, host) = of_routes(routes)?;
    }
    let limits = local_rate_limit::limits(read, settings, actions, report);
    if let Some(first) = limits.first() {
        let bucket = first
            .bucket
            .map(|bucket| format!("{} requests per {:?}", bucket.refill, bucket.interval));
        let how = format!("run natively: {}", bucket.unwrap_or_default());
        report.translated(object.origin_of(change.at, "value"), how);
    } else {
        // Settings without a bucket put the filter in place for the routes that have one.
        report.ignored(object.origin_of(change.at, "value"), "it limits nothing by itself");
    }
    let any = context == PatchContext::Any;
    Ok(Some(Limited {
        inbound: any || context == PatchContext::SidecarInbound,
        gateway: any || context == PatchContext::Gateway,
        port,
        host,
        limits,
    }))
}

/// The port and host of the routes that a patch is for: `inbound|http|PORT` beside a workload, `HOST:PORT` at a gateway.
fn of_routes(
    routes: &RouteConfigurationMatch,
) -> Result<(Port, Option<HostPattern>), &'static str> {
    let mut port = routes.port_number.map_or(Port::Every, Port::Listener);
    let mut host = None;
    if let Some(vhost) = &routes.vhost {
        if vhost.route.as_ref().is_some_and(|route| route.name.is_some()) {
            return Err("limits of single routes are not set by EnvoyFilters");
        }
        if let Some(name) = vhost.name.as_deref().or(vhost.domain_name.as_deref()) {
            if let Some(number) = name.strip_prefix("inbound|http|") {
                port = Port::Service(number.parse().map_err(|_| NO_ENVOY)?);
            } else if let Some((dns, number)) = name.rsplit_once(':') {
                port = Port::Listener(number.parse().map_err(|_| NO_ENVOY)?);
                host = Some(HostPattern::parse(dns).map_err(|_| NO_ENVOY)?);
            } else {
                host = Some(HostPattern::parse(name).map_err(|_| NO_ENVOY)?);
            }
        }
    }
    Ok((port, host))
}
