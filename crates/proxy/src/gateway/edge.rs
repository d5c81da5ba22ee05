//! A request as it enters the mesh at a gateway: the server that takes it, policy, and what is told of its client.
//!
//! What is told of the client is what Envoy tells at an edge (`use_remote_address`): `x-forwarded-for` gets the peer's
//! address, `x-forwarded-proto` is what the connection speaks, and what only proxies of the mesh may say is taken away.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use heddle_ir::gateway::ServerProtocol;
use heddle_ir::request::RequestHead;
use heddle_route::{CompiledRoutes, FoundServer};
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::Direction;
use heddle_wire::http1::HeaderEdit;
use heddle_wire::path;

use crate::admission::{self, Admitted, Change, Changes, Party, View};
use crate::forward::answer::Answer;
use crate::outbound::{Accepted, request_id};
use crate::rate_limits::{Asking, ConnectionBuckets};
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
    pub(crate) accepted: Accepted,
    pub(crate) facts: heddle_authz::Connection,
    pub(crate) taken: Taken,
    /// What `x-forwarded-client-cert` says of the client; none: it has proven no certificate.
    pub(crate) client_certificate: Option<String>,
    /// For limits that count by connection.
    pub(crate) buckets: ConnectionBuckets,
}

/// A request that has entered, and the routes that decide about it.
pub(crate) type Routed = (Box<Entered>, Arc<OutboundState>);

/// A request that has entered.
pub(crate) struct Entered {
    /// Its path where normalisation has changed it.
    path: Option<String>,
    /// What its token says and what policy has changed in it; almost always nothing.
    changes: Option<Rc<Changes>>,
    pub(crate) https: bool,
    /// Where it comes from, as far as proxies before the gateway are believed.
    pub(crate) client: IpAddr,
    edits: Vec<Edit>,
}

const NO_CHANGES: Changes =
    Changes { request: Vec::new(), response: Vec::new(), query: None, token: None };

struct Edit {
    name: &'static str,
    /// None: removed.
    value: Option<Vec<u8>>,
}

impl Entered {
    /// The path where normalisation has changed it.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The query as it goes on, where policy has changed it; empty: none.
    pub(crate) fn query(&self) -> Option<&str> {
        self.changes.as_ref()?.query.as_deref()
    }

    /// The head as routes see it.
    pub(crate) fn seen<'s, H: RequestHead>(&'s self, head: &'s H) -> View<'s, H> {
        View { head, changes: self.changes.as_deref().unwrap_or(const { &NO_CHANGES }) }
    }

    /// The changes of headers, which come before those of routes.
    pub(crate) fn edits(&self) -> impl Iterator<Item = HeaderEdit<'_>> {
        let own = self.edits.iter().map(|edit| match &edit.value {
            Some(value) => HeaderEdit::Set(edit.name, value),
            None => HeaderEdit::Remove(edit.name),
        });
        let changes = self.changes.iter().flat_map(|changes| &changes.request);
        changes.map(Change::edit).chain(own)
    }

    /// What policy adds to the response.
    pub(crate) fn response_edits(&self) -> impl Iterator<Item = HeaderEdit<'_>> {
        let changes = self.changes.iter().flat_map(|changes| &changes.response);
        changes.map(Change::edit)
    }
}

impl Edge {
    fn is_https(&self) -> bool {
        matches!(self.taken, Taken::Tls(_))
    }

    /// Who asks, as policy sees it.
    pub(crate) fn party(&self) -> Party<'_> {
        let Accepted { source, destination } = self.accepted;
        let (direction, https) = (Direction::Outbound, self.is_https());
        Party { source, destination, facts: &self.facts, direction, https }
    }

    /// Takes a request in: the routes that decide about it, or what is answered. None: policy must wait for somebody, whose
    /// word is to be brought as `known`.
    pub(crate) fn enter(
        &self,
        worker: &Rc<Worker>,
        head: &impl RequestHead,
        known: Option<Admitted>,
    ) -> Result<Option<Routed>, Answer> {
        let snapshot = worker.shared.configuration.snapshot();
        let policy = snapshot.inbound.as_ref().ok_or_else(Answer::no_destination)?;
        let gateway = snapshot.gateway.as_ref().ok_or_else(Answer::no_route)?;
        let normalization = policy.inbound().path_normalization;
        let path =
            path::normalize(head.path(), normalization).map_err(|_| Answer::bad_request(400))?;
        let https = self.is_https();
        let seen = Seen { head, path: path.as_deref(), https };
        let (found, routes) = self.server(gateway, head.authority())?;
        let known = known.map(Ok);
        let known = known.or_else(|| admission::at_once(worker, self.party(), policy, &seen));
        let Some(Admitted { changes, .. }) = known.transpose()? else { return Ok(None) };
        let server = gateway.server(&found);
        let own = server.and_then(|server| server.limits.as_ref());
        for limits in own.into_iter().chain(&snapshot.inbound_limits) {
            let port = self.accepted.destination.port();
            let identity = self.facts.peer_identity();
            limits.check(worker, Asking { port, identity, buckets: &self.buckets }, &seen)?;
        }
        if found.server.protocol == ServerProtocol::HttpsRedirect {
            return Err(redirect(&seen));
        }
        let outbound = routes.and_then(|routes| gateway.outbound(routes));
        let outbound = outbound.ok_or_else(Answer::no_route)?.clone();
        let client = policy.client_address(&self.facts, head);
        let believes_proxies = policy.inbound().client_address.trusted_hops > 0;
        let edits = self.edits(worker, head, client, believes_proxies);
        Ok(Some((Box::new(Entered { path, changes, https, client, edits }), outbound)))
    }

    fn server<'g>(
        &self,
        gateway: &'g GatewayState,
        authority: &str,
    ) -> Result<(FoundServer<'g>, Option<&'g Arc<CompiledRoutes>>), Answer> {
        let (compiled, address) = (&gateway.compiled, self.accepted.destination);
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
        let peer = self.accepted.source.ip().to_string();
        let before = head.header("x-forwarded-for");
        let is_internal = before.is_none() && is_internal(client);
        let forwarded = match before {
            Some(before) => [&*before, b",", peer.as_bytes()].concat(),
            None => peer.into_bytes(),
        };
        set("x-forwarded-for", Some(forwarded));
        if !(believes_proxies && head.header("x-forwarded-proto").is_some()) {
            let scheme: &[u8] = if self.is_https() { b"https" } else { b"http" };
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
        let certificate = self.client_certificate.as_ref();
        set("x-forwarded-client-cert", certificate.map(|text| text.clone().into_bytes()));
        edits
    }
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
