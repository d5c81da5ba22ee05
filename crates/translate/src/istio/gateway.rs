//! Gateways of Istio: which servers a gateway workload has, and which VirtualServices decide there (API.md 2.3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::istio::{Gateway, Server as Written, ServerTlsMode};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ident::HostPattern;
use heddle_ir::gateway::{Server, ServerProtocol, ServerTls, VirtualHost};
use heddle_ir::http_route::{HttpMatch, HttpRule, RouteTable, RuleOrder};
use heddle_ir::matching::PathMatch;

use crate::client::{Client, selects};
use crate::destinations::Destinations;
use crate::engine::{Kind, Reader, Topic};
use crate::export::Export;
use crate::gateway::Served;
use crate::istio::virtual_service::{self, Vs};
use crate::istio::{envoy_filter, gateway_tls, http_rule, l4_rule};
use crate::mesh::MeshKey;
use crate::names::full_name;
use crate::object::by_age;
use crate::report::Report;
use crate::scope::Scope;

/// What a server speaks, as its port and its TLS say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spoken {
    /// HTTP without TLS.
    Http,
    /// HTTP under TLS that is taken off here.
    Https,
    /// Opaque bytes without TLS.
    Tcp,
    /// TLS that is passed on.
    Tls,
    /// Opaque bytes under TLS that is taken off here.
    TlsTerminated,
}

impl Spoken {
    /// Whether connections of both can come to one port: the first bytes tell plaintext HTTP of several hosts apart,
    /// and so does the server name of TLS; opaque bytes have a port of their own.
    pub(super) fn shares_port(self, other: Self) -> bool {
        match (self, other) {
            (Self::Http, Self::Http) | (Self::Tcp, Self::Tcp) => true,
            (Self::Http | Self::Tcp, _) | (_, Self::Http | Self::Tcp) => false,
            _ => true,
        }
    }
}

/// What is spoken on a server; none where its protocol is none.
pub(super) fn spoken(server: &Written) -> Option<Spoken> {
    let mode = server.tls.as_ref().map(|tls| tls.mode.unwrap_or(ServerTlsMode::Passthrough));
    let passes = !matches!(mode, Some(mode) if !matches!(mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough));
    Some(match server.port.protocol.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => Spoken::Http,
        "HTTPS" | "TLS" if passes => Spoken::Tls,
        "HTTPS" => Spoken::Https,
        "TLS" => Spoken::TlsTerminated,
        "TCP" | "MONGO" | "REDIS" | "MYSQL" => Spoken::Tcp,
        _ => return None,
    })
}

/// The Gateways that are for workloads of a scope, the oldest first. One without selector is for every gateway.
pub(super) fn of_scope(reader: &Reader<'_>, scope: &Scope) -> Vec<Arc<Object<Gateway>>> {
    let objects = reader.objects(Topic::Kind(Kind::Gateway));
    let mut found: Vec<Arc<Object<Gateway>>> = objects
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::Gateway(gateway) => Some(gateway),
            _ => None,
        })
        .filter(|gateway| {
            selects(&gateway.spec.selector, &scope.labels)
                && !gateway.is_field_broken(gateway.spec.at, "selector")
        })
        .collect();
    found.sort_by(|left, right| by_age(&left.meta, &right.meta));
    found
}

/// Adds the servers of all Gateways that are for workloads of a scope.
pub(crate) fn add(
    reader: &Reader<'_>,
    scope: &Scope,
    served: &mut Vec<Served>,
    destinations: &mut Destinations<'_>,
) {
    let gateways = of_scope(reader, scope);
    let mut taken = Taken::default();
    // Plaintext HTTP of one port is one server, whoever wrote its parts: there is no server name to tell them apart by.
    let mut plain: BTreeMap<(u16, Option<IpAddr>), Vec<Part<'_>>> = BTreeMap::new();
    let mut single: Vec<(u16, Option<IpAddr>, Part<'_>)> = Vec::new();
    for gateway in &gateways {
        for written in gateway.spec.servers.iter().filter(|server| !gateway.is_broken(server.at)) {
            let Some(spoken) = spoken(written) else { continue };
            let bind = written.bind.as_deref().filter(|bind| !bind.is_empty());
            // A socket in the file system is not listened on; its report says so.
            let Ok(bind) = bind.map(str::parse).transpose() else { continue };
            if !taken.take(written, spoken) {
                continue;
            }
            let part = Part { gateway, written, spoken };
            if spoken == Spoken::Http && !part.redirects() {
                plain.entry((written.port.number, bind)).or_default().push(part);
            } else {
                single.push((written.port.number, bind, part));
            }
        }
    }
    let context = Context { reader, scope };
    let plain = plain.into_iter().map(|((port, bind), parts)| (port, bind, parts));
    let single = single.into_iter().map(|(port, bind, part)| (port, bind, vec![part]));
    for (port, bind, parts) in plain.chain(single) {
        destinations.set_port(port);
        let Some(server) = context.server(&parts, destinations) else { continue };
        served.push(Served { port, bind, proxy_protocol: false, server });
    }
}

/// What listens where already: one protocol per port, and one server per host where the server name decides.
#[derive(Default)]
struct Taken {
    ports: BTreeMap<(u16, String), Spoken>,
    hosts: BTreeSet<(u16, String, String)>,
}

impl Taken {
    /// Takes a server in, unless another protocol is spoken on its port, or others have all its hosts where the server
    /// name tells servers apart. Returns whether it is taken.
    fn take(&mut self, server: &Written, spoken: Spoken) -> bool {
        let bind = server.bind.clone().unwrap_or_default();
        let first = *self.ports.entry((server.port.number, bind.clone())).or_insert(spoken);
        if !first.shares_port(spoken) {
            return false;
        }
        if spoken == Spoken::Http {
            return true;
        }
        let mut free = false;
        for host in &server.hosts {
            let dns = host.split_once('/').map_or(host.as_str(), |(_, dns)| dns);
            free |= self.hosts.insert((server.port.number, bind.clone(), dns.to_ascii_lowercase()));
        }
        free
    }
}

/// Which objects of a namespace a server takes, and the hosts that it serves for them.
#[derive(Clone, Debug)]
pub(super) struct ServedHost<'a> {
    /// Namespace of the VirtualServices; `*` for any.
    pub(super) namespace: &'a str,
    pub(super) pattern: HostPattern,
}

/// The hosts of a server, `.` put in full; those that are not valid are left out.
pub(super) fn hosts<'a>(gateway: &'a Object<Gateway>, server: &'a Written) -> Vec<ServedHost<'a>> {
    let hosts = server.hosts.iter().map(|host| host.split_once('/').unwrap_or(("*", host)));
    hosts
        .filter_map(|(namespace, dns)| {
            let namespace = if namespace == "." { &gateway.meta.namespace } else { namespace };
            Some(ServedHost { namespace, pattern: HostPattern::parse(dns).ok()? })
        })
        .collect()
}

/// The hosts that a server and an object have in common: of two that contain each other, the narrower.
pub(super) fn common_hosts(
    served: &[ServedHost<'_>],
    object: &Vs,
    domain: &str,
) -> Vec<HostPattern> {
    let mut common: Vec<HostPattern> = Vec::new();
    for host in &object.spec.hosts {
        let full = full_name(host, &object.meta.namespace, domain);
        let Ok(own) = HostPattern::parse(&full) else { continue };
        for server in served {
            if server.namespace != "*" && server.namespace != object.meta.namespace {
                continue;
            }
            let narrower = if server.pattern.covers(&own) {
                &own
            } else if own.covers(&server.pattern) {
                &server.pattern
            } else {
                continue;
            };
            if !common.contains(narrower) {
                common.push(narrower.clone());
            }
        }
    }
    common
}

/// The VirtualServices that are bound to a Gateway, as gateway workloads of a namespace see them, the oldest first.
pub(super) fn attached(reader: &Reader<'_>, gateway: &str, namespace: &str) -> Vec<Vs> {
    let mesh = reader.read(&MeshKey);
    let mut found: Vec<Vs> = reader
        .objects(Topic::VirtualServicesByGateway(gateway.into()))
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::VirtualService(object) => Some(object),
            _ => None,
        })
        .filter(|object| {
            let export: Export = virtual_service::export(object, &mesh);
            export.shows_to(namespace)
        })
        .collect();
    found.sort_by(|left, right| by_age(&left.meta, &right.meta));
    found
}

/// A server as it is written.
#[derive(Clone, Copy)]
struct Part<'a> {
    gateway: &'a Object<Gateway>,
    written: &'a Written,
    spoken: Spoken,
}

impl Part<'_> {
    fn redirects(&self) -> bool {
        self.written.tls.as_ref().is_some_and(|tls| tls.https_redirect == Some(true))
    }

    /// Full name of the Gateway.
    fn name(&self) -> String {
        format!("{}/{}", self.gateway.meta.namespace, self.gateway.meta.name)
    }
}

struct Context<'a> {
    reader: &'a Reader<'a>,
    scope: &'a Scope,
}

impl Context<'_> {
    fn server(&self, parts: &[Part<'_>], destinations: &mut Destinations<'_>) -> Option<Server> {
        let first = parts.first()?;
        let protocol = match first.spoken {
            Spoken::Http if first.redirects() => ServerProtocol::HttpsRedirect,
            Spoken::Http | Spoken::Https => {
                ServerProtocol::Http(self.virtual_hosts(parts, destinations))
            }
            Spoken::Tls => ServerProtocol::Tls(self.streams(first, |object, client, report| {
                l4_rule::tls(object, client, destinations, report)
            })),
            Spoken::Tcp | Spoken::TlsTerminated => {
                ServerProtocol::Tcp(self.streams(first, |object, client, report| {
                    l4_rule::tcp(object, client, destinations, report)
                }))
            }
        };
        let mut served: Vec<HostPattern> = Vec::new();
        for part in parts {
            for host in hosts(part.gateway, part.written) {
                if !served.contains(&host.pattern) {
                    served.push(host.pattern);
                }
            }
        }
        let written = first.written;
        Some(Server {
            origin: first.gateway.origin_at(written.at),
            name: written.name.as_deref().unwrap_or(&written.port.name).into(),
            hosts: served,
            tls: self.tls(first),
            protocol,
            rate_limits: envoy_filter::gateway_limits(self.reader, self.scope, written.port.number),
        })
    }

    fn tls(&self, part: &Part<'_>) -> Option<ServerTls> {
        let settings = part.written.tls.as_ref();
        match (part.spoken, settings) {
            (Spoken::Http | Spoken::Tcp, _) => None,
            (Spoken::Tls, Some(tls)) if tls.mode == Some(ServerTlsMode::AutoPassthrough) => {
                Some(ServerTls::AutoPassthrough)
            }
            (Spoken::Tls, _) | (_, None) => Some(ServerTls::Passthrough),
            (_, Some(tls)) => Some(ServerTls::Terminate(gateway_tls::termination(
                self.reader,
                part.gateway,
                tls,
                &self.scope.namespace,
            ))),
        }
    }

    /// The objects that are bound to a server, with the hosts that both have.
    fn attached(&self, part: &Part<'_>) -> Vec<(Vs, Vec<HostPattern>)> {
        let domain = &self.reader.options().cluster_domain;
        let served = hosts(part.gateway, part.written);
        attached(self.reader, &part.name(), &self.scope.namespace)
            .into_iter()
            .map(|object| {
                let common = common_hosts(&served, &object, domain);
                (object, common)
            })
            .filter(|(_, common)| !common.is_empty())
            .collect()
    }

    /// Each host with the rules of all objects that have it, the oldest object first. Rules that take everything come
    /// last, so that none of another object is out of reach.
    fn virtual_hosts(
        &self,
        parts: &[Part<'_>],
        destinations: &mut Destinations<'_>,
    ) -> Vec<VirtualHost> {
        let retry = self.reader.read(&MeshKey).outbound_retry.clone();
        let mut bound: Vec<(Vs, Vec<HostPattern>, &Part<'_>)> = Vec::new();
        for part in parts {
            let attached = self.attached(part).into_iter();
            bound.extend(attached.map(|(object, common)| (object, common, part)));
        }
        bound.sort_by(|left, right| by_age(&left.0.meta, &right.0.meta));
        // What there is to say about the objects is said by their own reports.
        let mut unused = Report::default();
        let mut hosts: BTreeMap<String, Shared> = BTreeMap::new();
        for (object, common, part) in bound {
            let name = part.name();
            let client = Client::at_gateway(self.scope, &name, part.written.port.number);
            let rules = http_rule::translate(&object, &client, &retry, destinations, &mut unused);
            if rules.is_empty() {
                continue;
            }
            for host in common {
                let shared = hosts.entry(host.to_string()).or_insert_with(|| Shared::new(host));
                // Bound to two Gateways that share the port, an object still has its rules once.
                if !shared.objects.iter().any(|known| Arc::ptr_eq(known, &object)) {
                    shared.objects.push(object.clone());
                    shared.rules.extend(rules.iter().cloned());
                }
            }
        }
        hosts.into_values().map(Shared::into_host).collect()
    }

    fn streams<T>(
        &self,
        part: &Part<'_>,
        mut translate: impl FnMut(&Vs, &Client<'_>, &mut Report) -> Vec<T>,
    ) -> Vec<T> {
        let name = part.name();
        let client = Client::at_gateway(self.scope, &name, part.written.port.number);
        let mut unused = Report::default();
        let mut rules = Vec::new();
        for (object, _) in self.attached(part) {
            rules.extend(translate(&object, &client, &mut unused));
        }
        rules
    }
}

/// A host that several objects may have.
struct Shared {
    host: HostPattern,
    objects: Vec<Vs>,
    rules: Vec<HttpRule>,
}

impl Shared {
    fn new(host: HostPattern) -> Self {
        Self { host, objects: Vec::new(), rules: Vec::new() }
    }

    fn into_host(self) -> VirtualHost {
        let rules = if self.objects.len() > 1 { general_last(self.rules) } else { self.rules };
        VirtualHost {
            hosts: vec![self.host],
            table: RouteTable { order: RuleOrder::Written, rules, tiers: Vec::new() },
        }
    }
}

/// Puts rules that take every request behind all others, keeping the order within both.
fn general_last(rules: Vec<HttpRule>) -> Vec<HttpRule> {
    let mut special = Vec::new();
    let mut general = Vec::new();
    for rule in rules {
        if rule.matches.is_empty() {
            general.push(rule);
            continue;
        }
        // Each match is a rule of its own upstream, so a rule with both kinds is taken apart.
        let (wide, narrow): (Vec<HttpMatch>, Vec<HttpMatch>) =
            rule.matches.iter().cloned().partition(takes_everything);
        if !narrow.is_empty() {
            special.push(HttpRule { matches: narrow, ..rule.clone() });
        }
        if !wide.is_empty() {
            general.push(HttpRule { matches: wide, ..rule });
        }
    }
    special.extend(general);
    special
}

fn takes_everything(one: &HttpMatch) -> bool {
    let path = match &one.path {
        None => true,
        Some(PathMatch::TextPrefix(prefix)) => &**prefix == "/",
        Some(_) => false,
    };
    path && one.scheme.is_none()
        && one.method.is_none()
        && one.authority.is_none()
        && one.headers.is_empty()
        && one.query.is_empty()
        && one.claims.is_empty()
}
