//! A request as it enters the mesh at a gateway: the server that takes it, policy, and what is told of its client.
//!
//! What is told of the client is what Envoy tells at an edge (`use_remote_address`): `x-forwarded-for` gets the peer's
//! address, `x-forwarded-proto` is what the connection speaks, and what only proxies of the mesh may say is taken away.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use heddle_authz::CompiledAuthorization;
use heddle_ir::gateway::ServerProtocol;
use heddle_ir::request::{RequestHead, TokenFacts};
use heddle_route::{CompiledRoutes, FoundServer};
use heddle_telemetry::Reason;
use heddle_wire::http1::HeaderEdit;
use heddle_wire::path;
use http::request::Parts;

use crate::admission::http2::Received;
use crate::admission::{self, Admitted, Party};
use crate::forward::answer::Answer;
use crate::forward::client::{Client, Request};
use crate::forward::http2::Head;
use crate::forward::watch::Standing;
use crate::inbound::Peer;
use crate::inbound::standing::{Admission, Kept};
use crate::outbound::request_id;
use crate::snapshot::{GatewayState, OutboundState};
use crate::worker::Worker;

/// What a client outside of the mesh must not say, since proxies of the mesh act by it.
const INTERNAL_HEADERS: &[&str] = &[
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
];

/// How a connection came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// By a server of plaintext, which each request's authority tells.
    Plain,
    /// By the server that this name of the TLS hello tells.
    Tls(Option<String>),
}

/// A connection of HTTP to a gateway.
pub(crate) struct Edge {
    pub(crate) peer: Peer,
    pub(crate) taken: Taken,
}

/// A request that has entered.
pub(crate) struct Entered<'a> {
    /// Its path where normalisation has changed it.
    path: Option<String>,
    pub(crate) https: bool,
    /// Where it comes from, as far as proxies before the gateway are believed.
    pub(crate) client: IpAddr,
    edits: Vec<Edit>,
    /// What those who have a say about it have changed.
    admitted: Admitted,
    /// What tells that it is newly denied.
    standing: Option<Admission<'a>>,
    party: Party<'a>,
    /// The port that clients call, which a Service may map to the listener's.
    port: u16,
}

/// A request that has entered, and the routes that decide about it.
pub(crate) type Routed<'a> = (Box<Entered<'a>>, Arc<OutboundState>);

struct Edit {
    name: &'static str,
    /// None: removed.
    value: Option<Vec<u8>>,
}

impl Entered<'_> {
    /// The path where normalisation has changed it.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// What tells that it is newly denied.
    pub(crate) fn standing(&self) -> Option<&dyn Standing> {
        self.standing.as_ref().map(|standing| standing as &dyn Standing)
    }

    /// The port that its client called.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Who sent it.
    pub(crate) fn party(&self) -> Party<'_> {
        self.party
    }

    /// What its token says.
    pub(crate) fn token(&self) -> Option<&TokenFacts> {
        self.admitted.changes.as_ref()?.token.as_ref()
    }

    /// The query as it goes on, where that is another one; empty: none.
    pub(crate) fn query(&self) -> Option<&str> {
        self.admitted.query()
    }

    /// The changes of headers, which come before those of routes.
    pub(crate) fn edits(&self) -> impl Iterator<Item = HeaderEdit<'_>> {
        let own = self.edits.iter().map(|edit| match &edit.value {
            Some(value) => HeaderEdit::Set(edit.name, value),
            None => HeaderEdit::Remove(edit.name),
        });
        own.chain(self.admitted.request_edits())
    }

    /// Changes of the response's headers.
    pub(crate) fn response_edits(&self) -> impl Iterator<Item = HeaderEdit<'_>> {
        self.admitted.response_edits()
    }
}

impl Edge {
    /// Takes a request of HTTP/1 in: the routes that decide about it, or what is answered.
    pub(crate) async fn enter_http1<'e>(
        &'e self,
        worker: &'e Rc<Worker>,
        client: &mut Client,
        request: &mut Request,
    ) -> Result<Routed<'e>, Answer> {
        let head = request.head(&client.connection);
        let kept = Kept::Http1(head.bytes().to_vec(), client.limits.head);
        let standing = Admission::new(worker, &self.peer, kept);
        let policy = policy(worker)?;
        let head = request.head(&client.connection);
        if let Some((mut own, outbound)) = self.enter(worker, &policy, &head, None)? {
            own.standing = Some(standing);
            return Ok((own, outbound));
        }
        let asking = admission::http1::admit(worker, self.peer.party(), &policy, client, request);
        let known = asking.await?;
        standing.know(known.changes.as_ref());
        let head = request.head(&client.connection);
        let known = self.limit(worker, &policy, &head, known).await?;
        let entered = self.enter(worker, &policy, &head, Some(known))?;
        let (mut own, outbound) = entered.ok_or_else(Answer::denied)?;
        own.standing = Some(standing);
        Ok((own, outbound))
    }

    /// The same of HTTP/2.
    pub(crate) async fn enter_http2<'e>(
        &'e self,
        worker: &'e Rc<Worker>,
        parts: &'e Parts,
        body: &mut Received,
    ) -> Result<Routed<'e>, Answer> {
        let standing = Admission::new(worker, &self.peer, Kept::Http2(parts));
        let policy = policy(worker)?;
        let head = Head::new(parts);
        if let Some((mut own, outbound)) = self.enter(worker, &policy, &head, None)? {
            own.standing = Some(standing);
            return Ok((own, outbound));
        }
        let normal = path::normalize(head.path(), policy.inbound().path_normalization);
        let normal = normal.map_err(|_| Answer::bad_request(400))?;
        let normal = normal.as_deref();
        let party = self.peer.party();
        let asking = admission::http2::admit(worker, party, &policy, parts, body, normal);
        let known = asking.await?;
        standing.know(known.changes.as_ref());
        let known = self.limit(worker, &policy, &head, known).await?;
        let entered = self.enter(worker, &policy, &head, Some(known))?;
        let (mut own, outbound) = entered.ok_or_else(Answer::denied)?;
        own.standing = Some(standing);
        Ok((own, outbound))
    }

    /// Takes a token of each limit of the server that takes the request, and has it counted by whoever counts for several
    /// proxies.
    async fn limit(
        &self,
        worker: &Rc<Worker>,
        policy: &CompiledAuthorization,
        head: &impl RequestHead,
        mut known: Admitted,
    ) -> Result<Admitted, Answer> {
        let snapshot = worker.shared.configuration.snapshot();
        let gateway = snapshot.gateway.as_ref().ok_or_else(Answer::no_route)?;
        let path = path::normalize(head.path(), policy.inbound().path_normalization)
            .map_err(|_| Answer::bad_request(400))?;
        let seen = Seen { head, path: path.as_deref(), https: self.peer.https };
        let (found, routes) = self.server(gateway, head.authority())?;
        let own = gateway.server(&found).and_then(|server| server.limits.as_ref());
        let outbound = routes.and_then(|routes| gateway.outbound(routes));
        for limits in own.into_iter().chain(&snapshot.inbound_limits) {
            // Which rule takes a request is no matter of chance; only where that sends it is.
            let outbound = outbound.filter(|_| limits.needs_route());
            let decision = outbound.and_then(|outbound| outbound.routes.decide(&seen, 0));
            let route = decision.as_ref().map_or("", |decision| &decision.rule.name);
            known = self.peer.limit(worker, policy, limits, &seen, known, route).await?;
        }
        Ok(known)
    }

    /// Decides about a request; nothing in here waits. None: somebody must be waited for, whose word is to be brought as
    /// `known`, after the limits were asked.
    fn enter<'e>(
        &'e self,
        worker: &'e Rc<Worker>,
        policy: &CompiledAuthorization,
        head: &impl RequestHead,
        known: Option<Admitted>,
    ) -> Result<Option<Routed<'e>>, Answer> {
        if self.peer.is_revoked(worker) {
            self.peer.tell_revoked(worker);
            return Err(Answer::denied());
        }
        let snapshot = worker.shared.configuration.snapshot();
        let gateway = snapshot.gateway.as_ref().ok_or_else(Answer::no_route)?;
        let path = path::normalize(head.path(), policy.inbound().path_normalization)
            .map_err(|_| Answer::bad_request(400))?;
        let https = self.peer.https;
        let seen = Seen { head, path: path.as_deref(), https };
        let (found, routes) = self.server(gateway, head.authority())?;
        let server = gateway.server(&found);
        let own = server.and_then(|server| server.limits.as_ref());
        let limits = || own.into_iter().chain(&snapshot.inbound_limits);
        let is_known = known.is_some();
        if !is_known && limits().any(|limits| limits.asks()) {
            return Ok(None);
        }
        let known =
            known.map(Ok).or_else(|| admission::at_once(worker, self.peer.party(), policy, &seen));
        let Some(admitted) = known.transpose()? else { return Ok(None) };
        if !is_known {
            limits().try_for_each(|limits| limits.check(worker, self.peer.asking(), &seen))?;
        }
        if found.server.protocol == ServerProtocol::HttpsRedirect {
            return Err(redirect(&seen));
        }
        let outbound = routes.and_then(|routes| gateway.outbound(routes));
        let outbound = outbound.ok_or_else(Answer::no_route)?.clone();
        let client = policy.client_address(&self.peer.facts, head);
        let believes_proxies = policy.inbound().client_address.trusted_hops > 0;
        let edits = self.edits(worker, head, client, believes_proxies);
        let standing = None;
        let (party, port) = (self.peer.party(), found.listener.called_port());
        let entered = Entered { path, https, client, edits, admitted, standing, party, port };
        Ok(Some((Box::new(entered), outbound)))
    }

    fn server<'g>(
        &self,
        gateway: &'g GatewayState,
        authority: &str,
    ) -> Result<(FoundServer<'g>, Option<&'g Arc<CompiledRoutes>>), Answer> {
        let (compiled, address) = (&gateway.compiled, self.peer.accepted.destination);
        match &self.taken {
            Taken::Plain => compiled.by_authority(address, authority).ok_or_else(Answer::no_route),
            Taken::Tls(name) => {
                let name = name.as_deref();
                let found = compiled.by_server_name(address, name).ok_or_else(Answer::no_route)?;
                if compiled.is_misdirected(address, name, &found, authority) {
                    return Err(Answer::text(421, Reason::NoRoute, ""));
                }
                let routes = found.routes(authority);
                Ok((found, routes))
            }
        }
    }

    fn edits(
        &self,
        worker: &Worker,
        head: &impl RequestHead,
        client: IpAddr,
        believes_proxies: bool,
    ) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut set = |name, value| edits.push(Edit { name, value });
        let peer = self.peer.accepted.source.ip().to_string();
        let before = head.header("x-forwarded-for");
        let is_internal = before.is_none() && is_internal(client);
        let forwarded = match before {
            Some(before) => [&*before, b",", peer.as_bytes()].concat(),
            None => peer.into_bytes(),
        };
        set("x-forwarded-for", Some(forwarded));
        if !(believes_proxies && head.header("x-forwarded-proto").is_some()) {
            let scheme: &[u8] = if self.peer.https { b"https" } else { b"http" };
            set("x-forwarded-proto", Some(scheme.to_vec()));
        }
        if is_internal {
            set("x-envoy-internal", Some(b"true".to_vec()));
        } else {
            for name in INTERNAL_HEADERS {
                set(name, None);
            }
            set("x-envoy-external-address", Some(client.to_string().into_bytes()));
            // One that is absent is added as everywhere.
            if head.header("x-request-id").is_some() {
                let id = request_id::new(worker.random(), worker.random());
                set("x-request-id", Some(id.to_vec()));
            }
        }
        let certificate = self.peer.client_certificate.as_ref();
        set("x-forwarded-client-cert", certificate.map(|text| text.clone().into_bytes()));
        edits
    }
}

fn policy(worker: &Worker) -> Result<Arc<CompiledAuthorization>, Answer> {
    worker.shared.configuration.snapshot().inbound.clone().ok_or_else(Answer::no_destination)
}

/// The addresses that Envoy takes for those of its own network.
fn is_internal(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_private() || address.is_loopback(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_loopback(),
    }
}

fn redirect(head: &impl RequestHead) -> Answer {
    let target = match head.query() {
        Some(query) => format!("{}?{query}", head.path()),
        None => head.path().to_owned(),
    };
    let location = FoundServer::https_location(head.authority(), &target);
    let headers = vec![(Cow::Borrowed("location"), location)];
    Answer { status: 301, reason: None, body: Cow::Borrowed(&[]), headers, grpc_status: None }
}

/// A head as policy sees it.
struct Seen<'a, H> {
    head: &'a H,
    path: Option<&'a str>,
    https: bool,
}

impl<H: RequestHead> RequestHead for Seen<'_, H> {
    fn method(&self) -> &str {
        self.head.method()
    }

    fn path(&self) -> &str {
        self.path.unwrap_or_else(|| self.head.path())
    }

    fn query(&self) -> Option<&str> {
        self.head.query()
    }

    fn authority(&self) -> &str {
        self.head.authority()
    }

    fn scheme(&self) -> &str {
        if self.https { "https" } else { "http" }
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.head.header(name)
    }
}
