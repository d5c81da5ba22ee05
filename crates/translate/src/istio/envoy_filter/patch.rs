//! One patch of an EnvoyFilter: what of it is understood, and what is said about the rest.

use std::sync::Arc;

use heddle_api::istio::{
    ApplyTo, ConfigPatch, EnvoyFilter, Patch, PatchContext, PatchOperation, RouteConfigurationMatch,
};
use heddle_api::{At, Object};
use heddle_ident::{Host, HostPattern};
use heddle_ir::rate_limit::{DescriptorLevel, LocalRateLimit};

use crate::istio::envoy_value::Read;
use crate::istio::global_rate_limit::{self as global, Filter};
use crate::istio::local_rate_limit as local;
use crate::istio::rate_limit_actions::{Place, Staged, descriptors};
use crate::report::Report;

/// What a patch that is understood says.
pub(super) struct Understood {
    pub(super) site: Site,
    pub(super) local: Vec<LocalRateLimit>,
    pub(super) filters: Vec<Filter>,
    pub(super) descriptors: Vec<Staged>,
    pub(super) clusters: Vec<(Arc<str>, (Host, u16))>,
}

/// Where a patch holds.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) inbound: bool,
    pub(super) gateway: bool,
    pub(super) port: Port,
    /// The virtual host of a gateway; none: all.
    pub(super) host: Option<HostPattern>,
    /// The names of the routes; empty: all.
    pub(super) routes: Vec<Arc<str>>,
    /// The patch itself.
    pub(super) at: At,
    /// Its value.
    pub(super) value: At,
}

/// Ports that a patch holds on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Port {
    Every,
    /// A port that is listened on.
    Listener(u16),
    /// A port of a service.
    Service(u16),
}

/// Why nothing of a patch is taken.
pub(super) const NO_ENVOY: &str =
    "there is no Envoy to configure; of EnvoyFilters rate limits are read, nothing else";

/// The patches that are understood, each with its value. Every other one is reported, and so is what is left out of one.
pub(super) fn read(
    object: &Object<EnvoyFilter>,
    own_cluster: Option<&str>,
    report: &mut Report,
) -> Vec<(At, Understood)> {
    let mut found = Vec::new();
    for patch in &object.spec.config_patches {
        if object.is_broken(patch.at) {
            continue;
        }
        match understand(object, patch, own_cluster, report) {
            Ok(understood) => found.push((understood.site.value, understood)),
            Err((at, why)) => {
                report.unsupported(object.origin_at(at.unwrap_or(patch.at)), why);
            }
        }
    }
    found
}

/// Where and why.
type Refused = (Option<At>, &'static str);

fn understand(
    object: &Object<EnvoyFilter>,
    patch: &ConfigPatch,
    own_cluster: Option<&str>,
    report: &mut Report,
) -> Result<Understood, Refused> {
    let no_envoy = || (None, NO_ENVOY);
    let change = patch.patch.as_ref().ok_or_else(no_envoy)?;
    let value = change.value.ok_or_else(no_envoy)?.0;
    let read = Read { written: &object.written };
    if let (Some(ApplyTo::Cluster), Some(PatchOperation::Add)) = (patch.apply_to, change.operation)
    {
        let cluster = global::cluster(read, value).ok_or_else(no_envoy)?;
        let site = Site {
            inbound: true,
            gateway: true,
            port: Port::Every,
            host: None,
            routes: Vec::new(),
            at: patch.at,
            value,
        };
        let mut understood = Understood::nothing(site);
        understood.clusters.push(cluster);
        return Ok(understood);
    }
    let part = part(read, patch.apply_to, change, value).ok_or_else(no_envoy)?;
    let site = site(patch, value, part.takes_routes()).map_err(|why| (None, why))?;
    let place = Place { own_cluster, inbound: site.inbound && !site.gateway };
    let mut understood = Understood::nothing(site);
    match part {
        Part::Local(settings) => {
            understood.local = local::limits(read, settings, None, report);
        }
        Part::Global(settings) => {
            let filter = global::filter(read, settings, place, report);
            understood.filters.push(filter.map_err(|(at, why)| (Some(at), why))?);
        }
        Part::Route { action, local, global } => {
            tell_rest(read, value, action, report);
            let list = read.field(action, "rate_limits");
            if let Some(settings) = local {
                understood.local = local::limits(read, settings, list, report);
            }
            let of_routes = matches!(patch.apply_to, Some(ApplyTo::HttpRoute));
            let includes = read.is_true(action, "include_vh_rate_limits")
                || global.and_then(|at| read.text(at, "vh_rate_limits")) == Some("INCLUDE");
            let level = match (of_routes, includes) {
                (false, _) => DescriptorLevel::VirtualHost,
                (true, false) => DescriptorLevel::Route,
                (true, true) => DescriptorLevel::RouteAndHost,
            };
            // What a filter of its own kind has read already is told of no one else.
            let mut unused = Report::default();
            let told = if local.is_some() { &mut unused } else { &mut *report };
            understood.descriptors = descriptors(read, list, place, level, told);
            if let Some(settings) = global {
                per_route(read, settings, report);
                let own = read.field(settings, "rate_limits");
                understood.descriptors.extend(descriptors(read, own, place, level, report));
            }
        }
    }
    Ok(understood)
}

impl Understood {
    fn nothing(site: Site) -> Self {
        let (local, filters, descriptors, clusters) = Default::default();
        Self { site, local, filters, descriptors, clusters }
    }
}

/// What a patch changes.
enum Part {
    /// The settings of the local rate limit.
    Local(At),
    /// Those of the global one.
    Global(At),
    /// A route or virtual host.
    Route {
        /// What has the `rate_limits`.
        action: At,
        /// Settings of the local rate limit.
        local: Option<At>,
        /// Settings of the global one.
        global: Option<At>,
    },
}

impl Part {
    /// Whether single routes can be told apart.
    fn takes_routes(&self) -> bool {
        matches!(self, Self::Route { local: None, .. })
    }
}

fn part(read: Read<'_>, apply_to: Option<ApplyTo>, change: &Patch, value: At) -> Option<Part> {
    let global = |typed| global::TYPES.iter().find_map(|name| read.settings(typed, name));
    match (apply_to, change.operation) {
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
            let typed = read.field(value, "typed_config")?;
            let merges = change.operation == Some(PatchOperation::Merge);
            let own = read.settings(typed, local::TYPE).map(Part::Local);
            own.or_else(|| global(typed).filter(|_| !merges).map(Part::Global))
        }
        (Some(ApplyTo::HttpRoute | ApplyTo::VirtualHost), Some(PatchOperation::Merge)) => {
            let settings = |name| {
                let map = read.field(value, "typed_per_filter_config")?;
                read.written.field(map, name)
            };
            let local = settings(local::FILTER).and_then(|typed| read.settings(typed, local::TYPE));
            let global = settings(global::FILTER)
                .and_then(|typed| read.settings(typed, "ratelimit.v3.RateLimitPerRoute"));
            let action = read.field(value, "route").unwrap_or(value);
            let has = read.field(action, "rate_limits").is_some();
            (has || local.is_some() || global.is_some()).then_some(Part::Route {
                action,
                local,
                global,
            })
        }
        _ => None,
    }
}

/// Reports what a route or virtual host gets besides limits.
fn tell_rest(read: Read<'_>, value: At, action: At, report: &mut Report) {
    for (name, at) in read.keys(value) {
        if !matches!(&*name, "name" | "rate_limits" | "route" | "typed_per_filter_config") {
            report.unsupported(read.written.origin_at(at), NO_ENVOY);
        }
    }
    if action != value {
        for (name, at) in read.keys(action) {
            if !matches!(&*name, "rate_limits" | "include_vh_rate_limits") {
                report.unsupported(read.written.origin_at(at), NO_ENVOY);
            }
        }
    }
    let filters = read.field(value, "typed_per_filter_config");
    let tree = read.written.tree();
    for at in read.children(filters) {
        let known =
            tree.key(at).is_some_and(|name| **name == *local::FILTER || **name == *global::FILTER);
        if !known {
            report.unsupported(read.written.origin_at(at), NO_ENVOY);
        }
    }
}

/// Reports what settings of a route say besides descriptors.
fn per_route(read: Read<'_>, settings: At, report: &mut Report) {
    for (name, at) in read.keys(settings) {
        let known = match &*name {
            "@type" | "type_url" | "value" | "rate_limits" => true,
            "vh_rate_limits" => matches!(read.text_at(at), "OVERRIDE" | "INCLUDE"),
            _ => false,
        };
        if !known {
            let why = "this setting of single routes is not acted on";
            report.unsupported(read.written.origin_at(at), why);
        }
    }
}

fn site(patch: &ConfigPatch, value: At, takes_routes: bool) -> Result<Site, &'static str> {
    let matches = patch.matches.as_ref();
    let context = matches.and_then(|matches| matches.context).unwrap_or(PatchContext::Any);
    if matches!(context, PatchContext::SidecarOutbound | PatchContext::Waypoint) {
        return Err("requests are limited where they arrive, not where they are sent");
    }
    let any = context == PatchContext::Any;
    let mut site = Site {
        inbound: any || context == PatchContext::SidecarInbound,
        gateway: any || context == PatchContext::Gateway,
        port: Port::Every,
        host: None,
        routes: Vec::new(),
        at: patch.at,
        value,
    };
    if let Some(listener) = matches.and_then(|matches| matches.listener.as_ref()) {
        site.port = listener.port_number.map_or(Port::Every, Port::Listener);
        let chain = listener.filter_chain.as_ref();
        if let Some(number) = chain.and_then(|chain| chain.destination_port) {
            site.port = Port::Listener(number);
        }
        if chain.is_some_and(|chain| chain.sni.is_some()) {
            return Err("limits of single server names are not set by EnvoyFilters");
        }
    }
    if let Some(routes) = matches.and_then(|matches| matches.route_configuration.as_ref()) {
        of_routes(routes, takes_routes, &mut site)?;
    }
    Ok(site)
}

/// The port and host of the routes that a patch is for: `inbound|http|PORT` beside a workload, `HOST:PORT` at a gateway.
fn of_routes(
    routes: &RouteConfigurationMatch,
    takes_routes: bool,
    site: &mut Site,
) -> Result<(), &'static str> {
    site.port = routes.port_number.map_or(Port::Every, Port::Listener);
    if routes.gateway.as_deref().is_some_and(|name| !name.is_empty()) {
        return Err("limits of single Gateways are not set by EnvoyFilters");
    }
    let Some(vhost) = &routes.vhost else { return Ok(()) };
    let route = vhost.route.as_ref().and_then(|route| route.name.as_deref());
    match route.filter(|name| !name.is_empty()) {
        // The only route that there is beside a workload.
        Some("default") if !site.gateway => {}
        Some(_) if !takes_routes || site.inbound => {
            return Err("limits of single routes are not set by EnvoyFilters");
        }
        Some(name) => site.routes.push(name.into()),
        None => {}
    }
    let name = vhost.name.as_deref().filter(|name| !name.is_empty());
    let domain = vhost.domain_name.as_deref().filter(|name| !name.is_empty());
    let Some(name) = name.or(domain) else { return Ok(()) };
    if let Some(number) = name.strip_prefix("inbound|http|") {
        site.port = Port::Service(number.parse().map_err(|_| NO_ENVOY)?);
    } else if let Some((dns, number)) = name.rsplit_once(':') {
        site.port = Port::Listener(number.parse().map_err(|_| NO_ENVOY)?);
        site.host = Some(HostPattern::parse(dns).map_err(|_| NO_ENVOY)?);
    } else {
        site.host = Some(HostPattern::parse(name).map_err(|_| NO_ENVOY)?);
    }
    Ok(())
}
