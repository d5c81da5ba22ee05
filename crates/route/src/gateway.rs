//! Which server of a gateway answers, and by which routes.
//!
//! Connections are told apart by address and port, then by the server name of their TLS hello; requests by their
//! authority. The most specific host counts; a server that does not have it is not asked, even where its routes would
//! match.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ident::HostPattern;
use heddle_ir::gateway::{Gateway, Listener, Server, ServerProtocol, ServerTls};
use heddle_ir::http_route::{RouteTable, RuleOrder};
use heddle_ir::outbound::{Outbound, OutboundKey, ScopeId};
use heddle_ir::protocol::Protocol;

use crate::compile::{CompiledRoutes, Problem};
use crate::target::host_of;

/// A gateway's listeners, ready to decide.
#[derive(Debug)]
pub struct CompiledGateway {
    gateway: Arc<Gateway>,
    /// In the order of the gateway's.
    listeners: Box<[CompiledListener]>,
}

#[derive(Debug)]
struct CompiledListener {
    /// In the order of the listener's.
    servers: Box<[CompiledServer]>,
    /// Servers by their exact hosts, in their order; lower case, as hosts are.
    by_host: HashMap<Box<str>, Vec<usize>>,
    /// Those with other hosts.
    by_pattern: Box<[usize]>,
}

impl CompiledListener {
    fn new(listener: &Listener, servers: Box<[CompiledServer]>) -> Self {
        let mut by_host: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut by_pattern = Vec::new();
        for (place, server) in listener.servers.iter().enumerate() {
            for host in &server.hosts {
                match host {
                    HostPattern::Exact(host) => {
                        by_host.entry(host.as_str().into()).or_default().push(place);
                    }
                    HostPattern::Any | HostPattern::Suffix(_) => by_pattern.push(place),
                }
            }
        }
        by_pattern.dedup();
        Self { servers, by_host, by_pattern: by_pattern.into() }
    }
}

/// The hosts of a virtual host and their routes.
type HostRoutes = (Box<[HostPattern]>, Arc<CompiledRoutes>);

#[derive(Debug)]
struct CompiledServer {
    /// Its number among the servers of all listeners.
    place: usize,
    /// Of HTTP, by virtual host; of streams, the only one.
    routes: Box<[HostRoutes]>,
    /// Places among them, by exact hosts: the first that has the host.
    by_host: HashMap<Box<str>, usize>,
}

/// A server that answers.
#[derive(Clone, Copy, Debug)]
pub struct FoundServer<'a> {
    /// The listener.
    pub listener: &'a Listener,
    /// The server.
    pub server: &'a Server,
    compiled: &'a CompiledServer,
}

impl CompiledGateway {
    /// Compiles a gateway; what cannot be compiled has its safe meaning and is returned as a problem.
    pub fn compile(gateway: Arc<Gateway>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut places = 0..;
        let servers = gateway.listeners.iter().map(|listener| {
            let servers = listener.servers.iter().zip(&mut places);
            let compiled =
                servers.map(|(own, place)| server(&gateway, listener, own, place, &mut problems));
            CompiledListener::new(listener, compiled.collect())
        });
        let listeners = servers.collect();
        (Self { gateway, listeners }, problems)
    }

    /// What was compiled.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// The listener of an address and port: one that is bound to the address before one of all addresses.
    fn listener(&self, address: SocketAddr) -> Option<(&Listener, &CompiledListener)> {
        self.listener_of(address, false)
    }

    fn listener_of(
        &self,
        address: SocketAddr,
        udp: bool,
    ) -> Option<(&Listener, &CompiledListener)> {
        let ip = address.ip().to_canonical();
        let listeners = self.gateway.listeners.iter().zip(&self.listeners);
        let at_port = listeners
            .filter(|(listener, _)| listener.port == address.port() && listener.is_udp() == udp);
        let bound = at_port.clone().find(|(own, _)| own.bind.is_some_and(|bind| bind == ip));
        let is_for_all = |own: &Listener| own.bind.is_none_or(|bind| bind.is_unspecified());
        bound.or_else(|| at_port.clone().find(|(own, _)| is_for_all(own)))
    }

    /// Whether something listens at an address and port.
    pub fn listens(&self, address: SocketAddr) -> bool {
        self.listener(address).is_some()
    }

    /// The listener of an address and port.
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Listener> {
        self.listener(address).map(|(listener, _)| listener)
    }

    /// The tables of all servers.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<CompiledRoutes>> {
        let servers = self.listeners.iter().flat_map(|listener| &listener.servers);
        servers.flat_map(|server| server.routes.iter().map(|(_, routes)| routes))
    }

    /// Whether a request came on a TLS connection that is another server's: its authority is served there, by a host that
    /// is more specific than any of the server that took the connection. The client, which has one connection for several
    /// names, then gets 421 (RFC 9110 section 15.5.20) and makes another. Without a server name there is nothing that
    /// could have led it elsewhere.
    pub fn is_misdirected(
        &self,
        address: SocketAddr,
        server_name: Option<&str>,
        taken: &FoundServer<'_>,
        authority: &str,
    ) -> bool {
        let host = lower_case(host_of(authority));
        if server_name.is_none_or(|name| lower_case(name) == host) {
            return false;
        }
        let own = matching(&taken.server.hosts, Some(&host));
        let better = |server: &Server| {
            let terminates = matches!(server.tls, Some(ServerTls::Terminate(_)));
            let theirs = matching(&server.hosts, Some(&host)).filter(|_| terminates);
            theirs.is_some_and(|theirs| {
                own.is_none_or(|own| theirs.cmp_specificity(own) == Ordering::Less)
            })
        };
        self.listener(address).is_some_and(|(listener, _)| listener.servers.iter().any(better))
    }

    /// The server that takes a TLS connection with this server name; none: the handshake is refused.
    pub fn by_server_name(
        &self,
        address: SocketAddr,
        server_name: Option<&str>,
    ) -> Option<FoundServer<'_>> {
        let name = server_name.map(lower_case);
        self.most_specific(address, name.as_deref(), |server| server.tls.is_some()).next()
    }

    /// The server that takes a plaintext connection that is not HTTP.
    pub fn by_port(&self, address: SocketAddr) -> Option<FoundServer<'_>> {
        let (listener, compiled) = self.listener(address)?;
        let mut all = listener.servers.iter().zip(&compiled.servers);
        let tcp = |server: &Server| {
            server.tls.is_none() && matches!(server.protocol, ServerProtocol::Tcp(_))
        };
        let (server, compiled) = all.find(|(server, _)| tcp(server))?;
        Some(FoundServer { listener, server, compiled })
    }

    /// The server that takes datagrams.
    pub fn by_datagram(&self, address: SocketAddr) -> Option<FoundServer<'_>> {
        let (listener, compiled) = self.listener_of(address, true)?;
        let server = listener.servers.first()?;
        Some(FoundServer { listener, server, compiled: compiled.servers.first()? })
    }

    /// The server that takes a plaintext request with this authority, and the routes that count there; none: 404.
    pub fn by_authority(
        &self,
        address: SocketAddr,
        authority: &str,
    ) -> Option<(FoundServer<'_>, Option<&Arc<CompiledRoutes>>)> {
        let host = lower_case(host_of(authority));
        let plain = |server: &Server| {
            server.tls.is_none() && !matches!(server.protocol, ServerProtocol::Tcp(_))
        };
        let mut first = None;
        // Servers with the same host share it: the first that has routes for it answers.
        for found in self.most_specific(address, Some(&host), plain) {
            let routes = found.routes(authority);
            if routes.is_some() || found.server.protocol == ServerProtocol::HttpsRedirect {
                return Some((found, routes));
            }
            first.get_or_insert(found);
        }
        first.map(|found| (found, None))
    }

    /// The servers of an address whose matching host is the most specific, in their order.
    fn most_specific(
        &self,
        address: SocketAddr,
        host: Option<&str>,
        wanted: impl Fn(&Server) -> bool,
    ) -> impl Iterator<Item = FoundServer<'_>> {
        let mut best: Vec<FoundServer<'_>> = Vec::new();
        let Some((listener, compiled)) = self.listener(address) else { return best.into_iter() };
        let server_at = |place: usize| {
            let (server, compiled) = (listener.servers.get(place)?, compiled.servers.get(place)?);
            wanted(server).then_some(FoundServer { listener, server, compiled })
        };
        // Nothing says more than a host itself.
        let exact = host.and_then(|host| compiled.by_host.get(host));
        best.extend(exact.into_iter().flatten().filter_map(|place| server_at(*place)));
        if !best.is_empty() {
            return best.into_iter();
        }
        let mut best_host: Option<&HostPattern> = None;
        for place in &compiled.by_pattern {
            let Some(found) = server_at(*place) else { continue };
            let Some(own) = matching(&found.server.hosts, host) else { continue };
            match best_host.map_or(Ordering::Less, |best| own.cmp_specificity(best)) {
                Ordering::Less => {
                    best.clear();
                    best_host = Some(own);
                }
                Ordering::Equal => {}
                Ordering::Greater => continue,
            }
            best.push(found);
        }
        best.into_iter()
    }
}

impl<'a> FoundServer<'a> {
    /// Its number among the servers of all listeners, in their order.
    pub fn place(&self) -> usize {
        self.compiled.place
    }

    /// The routes for requests with this authority on a connection that the server took; none: 404.
    pub fn routes(&self, authority: &str) -> Option<&'a Arc<CompiledRoutes>> {
        let host = lower_case(host_of(authority));
        if let Some(place) = self.compiled.by_host.get(&*host) {
            return self.compiled.routes.get(*place).map(|(_, routes)| routes);
        }
        let mut best: Option<(&HostPattern, &Arc<CompiledRoutes>)> = None;
        for (hosts, routes) in &self.compiled.routes {
            let Some(own) = matching(hosts, Some(&host)) else { continue };
            if best.is_none_or(|(best, _)| own.cmp_specificity(best) == Ordering::Less) {
                best = Some((own, routes));
            }
        }
        best.map(|(_, routes)| routes)
    }

    /// The routes for a stream.
    pub fn streams(&self) -> Option<&'a Arc<CompiledRoutes>> {
        self.compiled.routes.first().map(|(_, routes)| routes)
    }

    /// Where a request is sent that must come under `https`; `target` is path and query.
    pub fn https_location(authority: &str, target: &str) -> String {
        format!("https://{authority}{target}")
    }

    /// Whether its TLS is passed on as it is.
    pub fn passes_tls_through(&self) -> bool {
        matches!(self.server.tls, Some(ServerTls::AutoPassthrough | ServerTls::Passthrough))
    }

    /// Where it was written.
    pub fn origin(&self) -> &'a Origin {
        &self.server.origin
    }
}

/// The most specific of the hosts that match; without a host only `*` does.
fn matching<'h>(hosts: &'h [HostPattern], host: Option<&str>) -> Option<&'h HostPattern> {
    let matches = |pattern: &&HostPattern| match host {
        Some(host) => pattern.matches(host),
        None => **pattern == HostPattern::Any,
    };
    hosts.iter().filter(matches).min_by(|left, right| left.cmp_specificity(right))
}

fn lower_case(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn server(
    gateway: &Arc<Gateway>,
    listener: &Listener,
    server: &Server,
    place: usize,
    problems: &mut Vec<Problem>,
) -> CompiledServer {
    let nothing = || RouteTable { order: RuleOrder::Written, rules: Vec::new(), tiers: Vec::new() };
    let empty = |protocol| Outbound {
        key: OutboundKey {
            scope: ScopeId(gateway.workload.as_str().into()),
            host: server.name.clone(),
            port: listener.port,
        },
        protocol,
        host: None,
        http: nothing(),
        tls: Vec::new(),
        tcp: Vec::new(),
        destinations: gateway.destinations.clone(),
    };
    let mut compile = |outbound: Outbound| {
        let (routes, found) = CompiledRoutes::compile(Arc::new(outbound));
        problems.extend(found);
        Arc::new(routes)
    };
    let routes = match &server.protocol {
        ServerProtocol::Http(hosts) => hosts
            .iter()
            .map(|host| {
                let outbound = Outbound { http: host.table.clone(), ..empty(Protocol::Http1) };
                (host.hosts.clone().into(), compile(outbound))
            })
            .collect(),
        ServerProtocol::HttpsRedirect => Box::default(),
        ServerProtocol::Tcp(rules) => {
            let outbound = Outbound { tcp: rules.clone(), ..empty(Protocol::Tcp) };
            Box::new([(Box::default(), compile(outbound))])
        }
        ServerProtocol::Udp(rules) => {
            let outbound = Outbound { tcp: rules.clone(), ..empty(Protocol::Udp) };
            Box::new([(Box::default(), compile(outbound))])
        }
        ServerProtocol::Tls(rules) => {
            let outbound = Outbound { tls: rules.clone(), ..empty(Protocol::Tls) };
            Box::new([(Box::default(), compile(outbound))])
        }
    };
    let mut by_host = HashMap::new();
    let routes: Box<[HostRoutes]> = routes;
    for (place, (hosts, _)) in routes.iter().enumerate() {
        for host in hosts {
            if let HostPattern::Exact(host) = host {
                by_host.entry(host.as_str().into()).or_insert(place);
            }
        }
    }
    CompiledServer { place, routes, by_host }
}
