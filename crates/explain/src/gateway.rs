//! Requests at a gateway: the listener, the server that takes them, policy, and the routes there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use heddle_authz::Transport;
use heddle_ident::SpiffeId;
use heddle_ir::gateway::{
    AuthoritySource, ClientCertificate, ServerProtocol, ServerTls, TlsTermination,
};
use heddle_ir::workload::Workload;
use heddle_route::{CompiledGateway, DescriptorFacts, FoundServer};

use crate::answer::{Answer, Handled, ServerView, Verdict};
use crate::branch::Call;
use crate::caller::{self, Caller};
use crate::combine::{combine, settle};
use crate::direct;
use crate::head::{Head, Speaks};
use crate::outbound::{Followed, Own};
use crate::query::{Query, QueryError};
use crate::server::{Link, Server, limits_of};
use crate::story::{Phase, Story, considered};
use crate::target::{Resolution, Target, written_host};
use crate::world::World;

/// The address of a gateway that no object runs.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 255, 2));

/// A gateway, as a place where requests arrive and as a client of what is behind it.
pub(crate) struct Gateway {
    compiled: Arc<CompiledGateway>,
    /// None where no object runs it.
    workload: Option<Arc<Workload>>,
    caller: Caller,
}

/// A connection to a gateway.
pub(crate) struct Arrival {
    address: SocketAddr,
    source: IpAddr,
    transport: Transport,
    identity: Option<SpiffeId>,
    server_name: Option<String>,
    /// What is inside, where TLS is taken off.
    speaks: Speaks,
    /// A proxy stands at the other end.
    has_client_proxy: bool,
}

/// Follows a request that arrives at the gateway that the question names.
pub(crate) fn explain(world: &World, query: &Query, name: &str) -> Result<Answer, QueryError> {
    let gateway = find(world, query, name)?;
    let (host, port) = written_host(&query.to).ok_or_else(|| QueryError::To(query.to.clone()))?;
    let asked = query.speaks()?;
    let port = port.unwrap_or_else(|| gateway.port(asked));
    let own = gateway.workload.as_ref().and_then(|workload| workload.addresses.first().copied());
    let address = SocketAddr::new(own.unwrap_or(NOWHERE), gateway.own_port(port));
    let tls =
        asked == Some(Speaks::Tls) || (asked != Some(Speaks::Tcp) && gateway.has_only_tls(port));
    let default_port = if tls { 443 } else { 80 };
    let authority = if port == default_port { host.clone() } else { format!("{host}:{port}") };
    let target = Target {
        destination: address,
        authority,
        host: Some(host.clone()),
        resolution: Resolution::Address,
    };
    let says_request = query.method.is_some() || query.path.is_some();
    let server_name = tls.then(|| host.clone());
    let inside = match asked {
        Some(Speaks::Tls) | None => {
            gateway.inside(address, tls, server_name.as_deref(), says_request)
        }
        Some(speaks) => speaks,
    };
    let mut head = direct::head(query, &target, inside);
    if tls {
        "https".clone_into(&mut head.scheme);
    }
    let arrival = Arrival {
        address,
        source: query.source_ip.unwrap_or(caller::OUTSIDE_ADDRESS),
        transport: if tls { Transport::OpaqueTls } else { Transport::Plaintext },
        identity: None,
        server_name,
        speaks: inside,
        has_client_proxy: false,
    };
    let mut story = Story::new();
    story.outcome(Phase::Identify, "no identity: nothing is proven without mutual TLS", None);
    let (followed, handled) = gateway.pass(world, &arrival, &head, &mut story);
    let call = Call {
        world,
        caller: &gateway.caller,
        target: &target,
        speaks: inside,
        handled,
        head: &head,
    };
    Ok(combine(&call, query, &followed, story))
}

/// What becomes of a connection that a proxy of the mesh makes to a gateway workload.
pub(crate) fn follow(
    world: &World,
    workload: &Arc<Workload>,
    link: &Link,
    head: &Head,
    mut view: ServerView,
) -> ServerView {
    let Some(gateway) = of_workload(world, workload) else { return view };
    let arrival = Arrival {
        address: link.destination,
        source: link.source,
        transport: link.transport,
        identity: link.identity.clone(),
        server_name: link.server_name.clone(),
        speaks: link.speaks,
        has_client_proxy: link.has_client_proxy,
    };
    let mut story = Story::new();
    let (followed, handled) = gateway.pass(world, &arrival, head, &mut story);
    let (outcome, depends_on) = settle(&followed);
    view.verdict = outcome.verdict;
    view.status = outcome.status;
    view.reason = format!("at the gateway {}: {}", view.workload, outcome.reason);
    view.origin = outcome.origin;
    view.handled = handled;
    view.depends_on.extend(depends_on);
    for phase in story.finish() {
        for mut each in phase.considered {
            each.workload.get_or_insert_with(|| view.workload.clone());
            view.considered.push(each);
        }
    }
    view.then = followed.branches.into_iter().filter_map(|branch| branch.destination).collect();
    view
}

/// The gateway that a question names: a workload, or an object whose gateway nobody may run.
fn find(world: &World, query: &Query, name: &str) -> Result<Gateway, QueryError> {
    let (namespace, name) =
        caller::pair(name).ok_or_else(|| QueryError::From(query.from.clone()))?;
    let selector = world.gateway_selector(namespace, name);
    if let Some(selector) = &selector {
        let runs = world.workloads().iter().find(|workload| {
            let selected = selector
                .labels
                .iter()
                .all(|(key, value)| workload.labels.get(key).is_some_and(|own| own == value));
            selected
                && selector.namespace.as_ref().is_none_or(|own| *own == workload.namespace)
                && world.is_gateway(&workload.id)
        });
        if let Some(gateway) = runs.and_then(|workload| of_workload(world, workload)) {
            return Ok(gateway);
        }
    }
    if let Some(workload) = caller::find(world, namespace, name)
        && let Some(gateway) = of_workload(world, &workload)
    {
        return Ok(gateway);
    }
    let Some(selector) = selector else {
        return Err(QueryError::NoGateway {
            name: format!("{namespace}/{name}"),
            known: world.known_gateways(),
        });
    };
    let place = selector.namespace.clone().unwrap_or_else(|| namespace.into());
    let compiled = world.gateway_for(&place, &selector.labels);
    let account = name;
    let mut caller = Caller::assumed(world, &place, account, &selector.labels);
    caller.address = NOWHERE;
    caller.label = format!("the gateway {namespace}/{name}");
    caller.assumptions = vec![format!(
        "the gateway {namespace}/{name}: no workload of the files runs it, so that policies of workloads do not count there"
    )];
    Ok(Gateway { compiled, workload: None, caller })
}

fn of_workload(world: &World, workload: &Arc<Workload>) -> Option<Gateway> {
    let compiled = world.gateway(&workload.id)?;
    let mut caller = Caller::of_replica(world, workload);
    caller.has_proxy = true;
    caller.identity.get_or_insert_with(|| workload.identity.clone());
    Some(Gateway { compiled, workload: Some(workload.clone()), caller })
}

impl Gateway {
    /// The port that a client takes who names none.
    fn port(&self, asked: Option<Speaks>) -> u16 {
        let listeners = &self.compiled.gateway().listeners;
        let tls = asked == Some(Speaks::Tls);
        let wanted = if tls { 443 } else { 80 };
        let is_called = |listener: &heddle_ir::gateway::Listener| listener.called_port() == wanted;
        if listeners.is_empty() || listeners.iter().any(is_called) {
            return wanted;
        }
        let fits = |listener: &&heddle_ir::gateway::Listener| {
            listener.servers.iter().any(|server| server.tls.is_some() == tls)
        };
        let found = listeners.iter().find(fits).or(listeners.first());
        found.map_or(wanted, heddle_ir::gateway::Listener::called_port)
    }

    /// The port of the workload that a client gets to who calls one of the Service before it.
    fn own_port(&self, called: u16) -> u16 {
        let listeners = &self.compiled.gateway().listeners;
        let found = listeners.iter().find(|listener| listener.called_port() == called);
        found.map_or(called, |listener| listener.port)
    }

    /// Whether the port is one of datagrams alone.
    fn is_only_udp(&self, address: SocketAddr) -> bool {
        !self.compiled.listens(address) && self.compiled.by_datagram(address).is_some()
    }

    fn has_only_tls(&self, port: u16) -> bool {
        let listeners = self.compiled.gateway().listeners.iter().filter(|own| !own.is_udp());
        let mut servers =
            listeners.filter(|own| own.called_port() == port).flat_map(|own| &own.servers);
        let first = servers.next();
        first.is_some_and(|first| first.tls.is_some() && servers.all(|own| own.tls.is_some()))
    }

    /// What a client would speak to a server that says nothing else.
    fn inside(
        &self,
        address: SocketAddr,
        tls: bool,
        server_name: Option<&str>,
        says_request: bool,
    ) -> Speaks {
        let found = if tls {
            self.compiled.by_server_name(address, server_name)
        } else {
            self.compiled.by_port(address)
        };
        match found.map(|found| (&found.server.protocol, found.passes_tls_through())) {
            Some((_, true)) if !says_request => Speaks::Tls,
            Some((ServerProtocol::Tcp(_), _)) if !says_request => Speaks::Tcp,
            None if !says_request && self.is_only_udp(address) => Speaks::Udp,
            _ => Speaks::Http1,
        }
    }

    /// What the gateway does with a request, and as what it handles it.
    fn pass(
        &self,
        world: &World,
        arrival: &Arrival,
        head: &Head,
        story: &mut Story,
    ) -> (Followed, Handled) {
        let port = arrival.address.port();
        let listens = match arrival.speaks {
            Speaks::Udp => self.compiled.by_datagram(arrival.address).is_some(),
            _ => self.compiled.listens(arrival.address),
        };
        if !listens {
            let reason = format!("{} does not listen on port {port}", self.caller.label);
            story.outcome(Phase::Accept, &*reason, None);
            let own = Own::new(Verdict::Unreachable, None, reason);
            return (Followed::answered(own), arrival.speaks.handled_at_gateway(None));
        }
        let accepted = format!("{} takes the connection on port {port}", self.caller.label);
        story.outcome(Phase::Accept, accepted, None);
        let Some(found) = self.server(arrival, head) else {
            return Self::no_server(arrival, head, story);
        };
        story.outcome(Phase::Accept, format!("the server {}", label(&found)), Some(found.origin()));
        let handled = arrival.speaks.handled_at_gateway(Some(&found));
        let how = match &found.server.tls {
            Some(ServerTls::Terminate(_)) => "inside of TLS that is taken off here",
            Some(_) => "TLS that is passed on",
            None => "as it is sent",
        };
        story.outcome(Phase::Detect, format!("{} ({how})", handled.as_str()), Some(found.origin()));
        let mut depends_on = Vec::new();
        if let Some(own) = client_certificate(arrival, &found, &mut depends_on) {
            return (Followed::answered(own), handled);
        }
        let head = match self.authorize(world, arrival, head, handled, &mut depends_on, story) {
            Ok(head) => head,
            Err(own) => return (Followed { depends_on, ..Followed::answered(*own) }, handled),
        };
        let routes = found.routes(&head.authority);
        let decision = routes.and_then(|routes| routes.decide(&head, 0));
        let facts = DescriptorFacts {
            client: arrival.source,
            identity: arrival.identity.as_ref(),
            port,
            route: decision.as_ref().map_or("", |decision| &decision.rule.name),
            client_certificate: None,
        };
        for (origin, what) in limits_of(&found.server.rate_limits, &head, facts) {
            story.consider(Phase::Authorize, considered(origin, what.clone()));
            depends_on.push(format!("{what} ({origin})"));
        }
        let mut followed = self.route(world, arrival, &head, handled, &found, story);
        followed.depends_on.extend(depends_on);
        (followed, handled)
    }

    fn server(&self, arrival: &Arrival, head: &Head) -> Option<FoundServer<'_>> {
        let gateway = &self.compiled;
        if arrival.speaks == Speaks::Udp {
            return gateway.by_datagram(arrival.address);
        }
        let plain = || {
            let by_authority = gateway.by_authority(arrival.address, &head.authority);
            let http = by_authority.map(|(found, _)| found).filter(|_| arrival.speaks.is_http());
            http.or_else(|| gateway.by_port(arrival.address))
        };
        match arrival.transport {
            Transport::Plaintext => plain(),
            Transport::OpaqueTls => {
                gateway.by_server_name(arrival.address, arrival.server_name.as_deref())
            }
            // Sidecars may speak mutual TLS to a server that asks for none.
            Transport::MutualTls => gateway
                .by_server_name(arrival.address, arrival.server_name.as_deref())
                .or_else(|| gateway.by_server_name(arrival.address, Some(head.host())))
                .or_else(plain),
        }
    }

    fn no_server(arrival: &Arrival, head: &Head, story: &mut Story) -> (Followed, Handled) {
        let handled = arrival.speaks.handled_at_gateway(None);
        let own = if arrival.transport == Transport::Plaintext && handled.is_http() {
            let reason = format!("no server of the gateway has the host {}", head.host());
            Own { grpc_status: Some(12), ..Own::new(Verdict::NoRoute, Some(404), reason) }
        } else {
            let name = arrival.server_name.as_deref().unwrap_or("none");
            let reason = format!("no server of the gateway has the server name {name}");
            Own::new(Verdict::NoRoute, None, reason)
        };
        story.outcome(Phase::Route, &*own.reason, None);
        (Followed::answered(own), handled)
    }

    /// What the policies of the gateway's own workload say: the request as it goes on, or what is answered.
    fn authorize(
        &self,
        world: &World,
        arrival: &Arrival,
        head: &Head,
        handled: Handled,
        depends_on: &mut Vec<String>,
        story: &mut Story,
    ) -> Result<Head, Box<Own>> {
        let Some(workload) = self.workload.as_ref() else { return Ok(head.clone()) };
        let proven = arrival.identity.is_some() && arrival.transport == Transport::MutualTls;
        let link = Link {
            // What TLS is taken is the listener's business, not that of PeerAuthentication.
            transport: if proven { Transport::MutualTls } else { Transport::Plaintext },
            identity: arrival.identity.clone(),
            server_name: arrival.server_name.clone(),
            source: arrival.source,
            destination: arrival.address,
            declared_by_peer: Some(handled),
            speaks: arrival.speaks,
            has_client_proxy: arrival.has_client_proxy,
        };
        let label = format!("{}/{}", workload.namespace, workload.workload_name);
        let server = Server { world, link: &link, head };
        let (view, head) = server.at_edge(&workload.id, &label, handled);
        for each in &view.considered {
            story.consider(Phase::Authorize, each.clone());
        }
        story.note(Phase::Authorize, format!("{label}: {}", view.reason));
        depends_on.extend(view.depends_on);
        if matches!(view.verdict, Verdict::Forward | Verdict::Depends) {
            return Ok(head);
        }
        story.outcome(Phase::Authorize, "denied", view.origin.as_ref());
        let own = Own::new(view.verdict, view.status, view.reason);
        Err(Box::new(match &view.origin {
            Some(origin) => own.by(origin),
            None => own,
        }))
    }

    fn route(
        &self,
        world: &World,
        arrival: &Arrival,
        head: &Head,
        handled: Handled,
        found: &FoundServer<'_>,
        story: &mut Story,
    ) -> Followed {
        let destination = SocketAddr::new(arrival.address.ip(), found.listener.called_port());
        let target = Target {
            destination,
            authority: head.authority.clone(),
            host: Some(head.host().to_owned()),
            resolution: Resolution::Address,
        };
        let call = Call {
            world,
            caller: &self.caller,
            target: &target,
            speaks: arrival.speaks,
            handled,
            head,
        };
        match &found.server.protocol {
            ServerProtocol::HttpsRedirect => {
                let location = FoundServer::https_location(&head.authority, &head.target());
                let reason = format!("the server redirects to {location}");
                story.outcome(Phase::Route, "redirected", Some(found.origin()));
                let own = Own::new(Verdict::Redirect, Some(301), reason).by(found.origin());
                Followed::answered(Own { location: Some(location), ..own })
            }
            ServerProtocol::Http(_) => {
                // Of servers that share a host the one that has routes is found together with them.
                let plain = found.server.tls.is_none();
                let shared = plain
                    .then(|| self.compiled.by_authority(arrival.address, &head.authority))
                    .flatten();
                let routes = match shared {
                    Some((_, routes)) => routes,
                    None => found.routes(&head.authority),
                };
                let Some(routes) = routes else {
                    let reason = format!("nothing is routed for the host {}", head.host());
                    story.outcome(Phase::Route, &*reason, Some(found.origin()));
                    let own = Own::new(Verdict::NoRoute, Some(404), reason).by(found.origin());
                    return Followed::answered(Own { grpc_status: Some(12), ..own });
                };
                call.by_http(routes, story)
            }
            ServerProtocol::Tcp(_) | ServerProtocol::Tls(_) | ServerProtocol::Udp(_) => {
                match found.streams() {
                    Some(routes) => call.by_stream(routes, story),
                    None => Followed::answered(Own::new(Verdict::NoRoute, None, "no rule matches")),
                }
            }
        }
    }
}

impl Speaks {
    /// As what a gateway handles it at a server.
    fn handled_at_gateway(self, found: Option<&FoundServer<'_>>) -> Handled {
        let plain = match self {
            Self::Http1 => Handled::Http1,
            Self::Http2 => Handled::Http2,
            Self::Grpc => Handled::Grpc,
            Self::Tcp => Handled::Tcp,
            Self::Tls => Handled::Tls,
            Self::Udp => Handled::Udp,
        };
        match found.map(|found| (&found.server.protocol, found.passes_tls_through())) {
            Some((_, true)) => Handled::Tls,
            Some((ServerProtocol::Udp(_), _)) => Handled::Udp,
            Some((ServerProtocol::Tcp(_) | ServerProtocol::Tls(_), false)) => Handled::Tcp,
            Some((ServerProtocol::Http(_) | ServerProtocol::HttpsRedirect, false))
                if !plain.is_http() =>
            {
                Handled::Http1
            }
            _ => plain,
        }
    }
}

/// What a server's TLS asks of clients; some: the handshake fails.
fn client_certificate(
    arrival: &Arrival,
    found: &FoundServer<'_>,
    depends_on: &mut Vec<String>,
) -> Option<Own> {
    let Some(ServerTls::Terminate(termination)) = &found.server.tls else { return None };
    let TlsTermination { certificates, client_certificate, client_authority, .. } = termination;
    if certificates.is_empty() {
        let reason = "the server has no certificate that could be used: every handshake fails";
        return Some(Own::new(Verdict::Unreachable, None, reason).by(found.origin()));
    }
    if *client_certificate != ClientCertificate::Require {
        return None;
    }
    let mesh = *client_authority == Some(AuthoritySource::Mesh);
    if mesh && arrival.identity.is_none() {
        let reason = "the server asks for a certificate of the mesh, and the client has none";
        return Some(Own::new(Verdict::Deny, None, reason).by(found.origin()));
    }
    if !mesh {
        depends_on.push("the client's certificate, which the server asks for".to_owned());
    }
    None
}

fn label(found: &FoundServer<'_>) -> String {
    let hosts: Vec<String> = found.server.hosts.iter().map(ToString::to_string).collect();
    format!("for {} takes it", hosts.join(", "))
}
