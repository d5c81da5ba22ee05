//! The front: reads a question, follows it, and puts the answer together. Clients without proxy are followed here.

use heddle_diag::Origin;
use heddle_ident::Host;
use heddle_ir::endpoint::{EndpointHealth, EndpointSetKey};
use heddle_ir::protocol::Protocol;

use crate::answer::{Answer, DestinationView, HeaderChanges, Verdict};
use crate::branch::{Branch, Call, Secured, Sent, branch};
use crate::caller::Caller;
use crate::choice::by_workload;
use crate::combine::combine;
use crate::gateway;
use crate::head::{Head, Speaks};
use crate::outbound::{Followed, Own};
use crate::query::{Query, QueryError};
use crate::story::{Phase, Story};
use crate::target::{Resolution, Target, any_namespace, frontend, service_label};
use crate::world::{View, World};

/// Follows a request.
pub(crate) fn explain(world: &World, query: &Query) -> Result<Answer, QueryError> {
    if let Some(name) = query.from.trim().strip_prefix("gateway:") {
        return gateway::explain(world, query, name);
    }
    let caller = Caller::of(world, query)?;
    let view = world.view(&caller.scope);
    let asked = query.speaks()?;
    let mut target = Target::of(world, &caller, &view, query, asked)?;
    if !caller.has_proxy && target.resolution == Resolution::Missing {
        target = elsewhere(world, &caller, &view, query, asked).unwrap_or(target);
    }
    let declared = declared(&view, &target);
    let says_request = query.method.is_some() || query.path.is_some();
    let speaks = asked.unwrap_or_else(|| match Speaks::to_port(declared) {
        // A request for a port of TLS is made within TLS.
        Speaks::Tcp if says_request => Speaks::Http1,
        speaks => speaks,
    });
    let head = head(query, &target, speaks);
    // Rules on what is said must be able to hear it, whatever the port declares.
    let listens = || {
        let egress = world.egress(&caller);
        egress.is_some_and(|own| own.needs_requests() || own.needs_server_names())
    };
    let declared_to_proxy = match declared {
        _ if !caller.has_proxy => Protocol::Detect,
        Protocol::Tcp | Protocol::Tls if listens() => Protocol::Detect,
        declared => declared,
    };
    let handled = speaks.handled(declared_to_proxy);
    let call = Call { world, caller: &caller, target: &target, speaks, handled, head: &head };
    let mut story = Story::new();
    let followed = if caller.has_proxy {
        begin(&call, declared, &mut story);
        call.outbound(&view, &mut story)
    } else {
        call.without_proxy(&view, &mut story)
    };
    Ok(combine(&call, query, &followed, story))
}

/// What is declared of the port; a host that is known by its name alone has no address to find it by.
fn declared(view: &View, target: &Target) -> Protocol {
    let by_address = view.targets.declared(target.destination);
    if by_address != Protocol::Detect {
        return by_address;
    }
    let frontend = target.host.as_deref().and_then(|host| frontend(view, host));
    let port = target.destination.port();
    let by_name =
        frontend.and_then(|frontend| frontend.ports.iter().find(|own| own.number == port));
    match by_name.map(|own| own.protocol) {
        Some(Protocol::Udp) => Protocol::Udp,
        _ => by_address,
    }
}

/// A client that is nowhere may mean the only service of a name.
fn elsewhere(
    world: &World,
    caller: &Caller,
    view: &View,
    query: &Query,
    asked: Option<Speaks>,
) -> Option<Target> {
    let text = query.to.trim();
    let short = text.split(':').next().unwrap_or_default();
    let full = any_namespace(view, short)?;
    let query = Query { to: text.replacen(short, &full, 1), ..query.clone() };
    let found = Target::of(world, caller, view, &query, asked).ok()?;
    let authority = found.authority.replacen(&*full, short, 1);
    Some(Target { authority, ..found })
}

pub(crate) fn head(query: &Query, target: &Target, speaks: Speaks) -> Head {
    let written = query.path.as_deref().unwrap_or("/");
    let written = written.split('#').next().unwrap_or_default();
    let (path, parameters) = match written.split_once('?') {
        Some((path, parameters)) => (path, Some(parameters.to_owned())),
        None => (written, None),
    };
    let slash = if path.starts_with('/') || path == "*" { "" } else { "/" };
    let mut authority = query.authority.clone();
    let mut headers = Vec::new();
    for (name, value) in &query.headers {
        let name = name.to_ascii_lowercase();
        if name == "host" || name == ":authority" {
            authority.get_or_insert_with(|| value.clone());
        } else {
            headers.push((name, value.clone()));
        }
    }
    if let Some(token) = &query.jwt {
        headers.push(("authorization".to_owned(), format!("Bearer {token}")));
    }
    let has_type = headers.iter().any(|(name, _)| name == "content-type");
    if speaks == Speaks::Grpc && !has_type {
        headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
    }
    let method = query.method.clone().unwrap_or_else(|| {
        if speaks == Speaks::Grpc { "POST".to_owned() } else { "GET".to_owned() }
    });
    Head {
        method,
        path: format!("{slash}{path}"),
        query: parameters,
        authority: authority.unwrap_or_else(|| target.authority.clone()),
        scheme: "http".to_owned(),
        headers,
        token: None,
        route: None,
    }
}

/// What is known before anything is decided.
fn begin(call: &Call<'_>, declared: Protocol, story: &mut Story) {
    let (caller, target) = (call.caller, call.target);
    let address = target.destination;
    let taken = format!("the proxy of {} takes the connection", caller.label);
    match (&target.host, &target.resolution) {
        (Some(host), Resolution::Service | Resolution::Headless) => {
            story.note(Phase::Accept, format!("{} is {host}, {address}", target.authority));
        }
        (Some(host), Resolution::Outside) => {
            story.note(Phase::Accept, format!("{host} is asked of the name server outside"));
        }
        (Some(host), Resolution::Missing) => {
            story.note(Phase::Accept, format!("the host is unknown: nothing is called {host}"));
        }
        (None, _) | (_, Resolution::Address) => {}
    }
    story.outcome(Phase::Accept, taken, None);
    let how = match declared {
        Protocol::Detect => "told by the first bytes",
        _ => "declared of the port",
    };
    story.outcome(Phase::Detect, format!("{} ({how})", call.handled.as_str()), None);
    let identity =
        caller.identity.as_ref().map_or_else(|| "no identity".to_owned(), ToString::to_string);
    story.outcome(Phase::Identify, identity, None);
}

impl Call<'_> {
    /// What happens to a client that no proxy takes the connections of.
    fn without_proxy(&self, view: &View, story: &mut Story) -> Followed {
        let address = self.target.destination;
        let label = &self.caller.label;
        story.outcome(Phase::Accept, format!("{label}: no proxy at the client's side"), None);
        story.outcome(Phase::Detect, format!("{} (as it is sent)", self.handled.as_str()), None);
        story.outcome(Phase::Identify, "no identity: nothing is proven without mutual TLS", None);
        story.outcome(Phase::Route, "no routes: they act in the client's proxy", None);
        if self.target.resolution == Resolution::Missing {
            let host = self.target.host.as_deref().unwrap_or_default();
            let reason = format!("the host is unknown: nothing is called {host}");
            return Followed::answered(Own::new(Verdict::Unreachable, None, reason));
        }
        let sent =
            Sent { weight: 1, head: self.head.clone(), response_headers: HeaderChanges::new() };
        if let Some(found) = view.targets.frontend(address)
            && let Ok(host) = Host::parse(&found.table)
        {
            let key = EndpointSetKey { host, port: address.port() };
            return Followed::to(self.service(&key, sent));
        }
        if let Some(workload) = self.world.at(&self.caller.network, address.ip()) {
            return Followed::to(self.reach_workload(&workload, sent));
        }
        let known = self.target.host.as_deref().and_then(|host| frontend(view, host));
        if self.target.resolution == Resolution::Service && known.is_some() {
            let reason = format!("the service has no port {}", address.port());
            return Followed::answered(Own::new(Verdict::Unreachable, None, reason));
        }
        let reason = "it leaves as it is: no proxy sees it";
        Followed::answered(Own::new(Verdict::Passthrough, None, reason))
    }

    /// A service as Kubernetes spreads connections to it: to any endpoint that is ready.
    fn service(&self, key: &EndpointSetKey, sent: Sent) -> Branch {
        let set = self.world.endpoints(key);
        let ready: Vec<_> = set
            .iter()
            .flat_map(|set| &set.endpoints)
            .map(|endpoint| (&**endpoint, 1.0))
            .filter(|(endpoint, _)| endpoint.health == EndpointHealth::Healthy)
            .collect();
        let servers: Vec<_> = by_workload(&ready)
            .iter()
            .map(|chosen| self.server(&Secured::Not, chosen, &sent.head))
            .collect();
        let host = key.host.as_str();
        let mut parts = host.split('.');
        let (name, namespace) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let destination = DestinationView {
            service: service_label(namespace, name, host),
            port: key.port,
            subset: None,
            weight: sent.weight,
            workloads: servers.iter().map(|server| server.workload.clone()).collect(),
            request: sent.head.view(self.handled),
            response_headers: sent.response_headers,
            servers,
            origin: Origin::built_in("a service, as Kubernetes spreads connections"),
        };
        let picked = format!("{} endpoints", ready.len());
        branch(sent.weight, destination, picked, self.handled)
    }
}
