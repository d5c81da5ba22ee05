//! Requests and tables in few words.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::Host;
use heddle_ir::destination::{
    ClientTls, ConnectionPool, Destination, DestinationId, EndpointSource, LoadBalancing,
    LocalityPolicy,
};
use heddle_ir::endpoint::EndpointSetKey;
use heddle_ir::http_route::{
    BackendTarget, HeaderEdits, HttpAction, HttpMatch, HttpRule, RetryPolicy, Rewrite, RouteTable,
    RuleOrder, StreamTimeouts, WeightedBackend,
};
use heddle_ir::matching::PathMatch;
use heddle_ir::outbound::{Outbound, OutboundKey, ScopeId};
use heddle_ir::protocol::Protocol;
use heddle_ir::request::{RequestHead, TokenFacts};

use crate::CompiledRoutes;

/// A request; `GET http://reviews:9080/` unless said otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) authority: String,
    pub(crate) scheme: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) token: Option<TokenFacts>,
}

impl Request {
    /// A request for `target`, which may have a query.
    pub(crate) fn get(target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self {
            method: "GET".into(),
            path: path.into(),
            query,
            authority: "reviews:9080".into(),
            scheme: "http".into(),
            headers: Vec::new(),
            token: None,
        }
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    pub(crate) fn authority(mut self, authority: &str) -> Self {
        self.authority = authority.into();
        self
    }

    pub(crate) fn scheme(mut self, scheme: &str) -> Self {
        self.scheme = scheme.into();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl RequestHead for Request {
    fn method(&self) -> &str {
        &self.method
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
    fn authority(&self) -> &str {
        &self.authority
    }
    fn scheme(&self) -> &str {
        &self.scheme
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value);
        let first = values.next()?;
        let rest: Vec<&Vec<u8>> = values.collect();
        if rest.is_empty() {
            return Some(Cow::Borrowed(first));
        }
        let mut joined = first.clone();
        for value in rest {
            joined.push(b',');
            joined.extend(value);
        }
        Some(Cow::Owned(joined))
    }
    fn token(&self) -> Option<&TokenFacts> {
        self.token.as_ref()
    }
}

pub(crate) fn origin(name: &str) -> Origin {
    Origin::built_in(name)
}

/// A match without conditions.
pub(crate) fn any() -> HttpMatch {
    HttpMatch {
        origin: origin("match"),
        name: Arc::default(),
        path: None,
        ignore_path_case: false,
        scheme: None,
        method: None,
        authority: None,
        headers: Vec::new(),
        query: Vec::new(),
        claims: Vec::new(),
        parts: Vec::new(),
    }
}

/// A match of a path.
pub(crate) fn path(path: PathMatch) -> HttpMatch {
    HttpMatch { path: Some(path), ..any() }
}

/// A rule that forwards to destination 0.
pub(crate) fn rule(name: &str, matches: Vec<HttpMatch>) -> HttpRule {
    HttpRule {
        origin: origin(name),
        name: name.into(),
        matches,
        action: HttpAction::Forward(vec![backend(0, 1)]),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: Rewrite::default(),
        timeout: None,
        retry: RetryPolicy::never(),
        cors: None,
        fault: None,
        mirrors: Vec::new(),
        session: None,
        stream_timeouts: StreamTimeouts::default(),
        failures: Vec::new(),
        authorizer: None,
    }
}

pub(crate) fn backend(destination: usize, weight: u32) -> WeightedBackend {
    WeightedBackend {
        origin: origin("backend"),
        target: BackendTarget::Destination(destination),
        weight,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: Rewrite::default(),
    }
}

/// Rules in written order, with three destinations.
pub(crate) fn outbound(rules: Vec<HttpRule>) -> Outbound {
    Outbound {
        key: OutboundKey { scope: ScopeId("s".into()), host: "reviews".into(), port: 9080 },
        protocol: Protocol::Http1,
        host: None,
        http: RouteTable { order: RuleOrder::Written, rules, tiers: Vec::new() },
        tls: Vec::new(),
        tcp: Vec::new(),
        destinations: ["v1", "v2", "v3"].map(destination).to_vec(),
    }
}

/// Compiles what must compile.
pub(crate) fn compiled(outbound: Outbound) -> CompiledRoutes {
    let (routes, problems) = CompiledRoutes::compile(Arc::new(outbound));
    assert_eq!(problems, []);
    routes
}

/// The name of the rule that matches.
pub(crate) fn matched<'a>(routes: &'a CompiledRoutes, request: &Request) -> Option<&'a str> {
    routes.decide(request, 0).map(|decision| &*decision.rule.name)
}

/// The middle of the `i`th of `count` equal parts of `u64`.
pub(crate) fn evenly(i: u64, count: u64) -> u64 {
    let part = u64::MAX / count;
    part * i + part / 2
}

fn destination(subset: &str) -> Arc<Destination> {
    let host = Host::parse("reviews").unwrap();
    Arc::new(Destination {
        id: DestinationId { host: host.clone(), port: 9080, subset: subset.into() },
        service_namespace: "default".into(),
        service_name: "reviews".into(),
        protocol: Protocol::Http1,
        endpoints: EndpointSource::Set(EndpointSetKey { host, port: 9080 }),
        subset_labels: Vec::new(),
        load_balancing: LoadBalancing::LeastRequest,
        connection_pool: ConnectionPool {
            connections_max: u32::MAX,
            connect_timeout: Duration::from_secs(10),
            keepalive: None,
            pending_requests_max: u32::MAX,
            requests_max: u32::MAX,
            requests_per_connection_max: 0,
            retries_max: u32::MAX,
            http_idle_timeout: None,
            tcp_idle_timeout: None,
            connection_duration_max: None,
            concurrent_streams_max: 100,
            upgrade_to_http2: false,
            origin: origin("pool"),
            use_client_protocol: false,
            http2_keepalive: None,
        },
        outlier_detection: None,
        tls: ClientTls::Auto,
        subject_alt_names: Vec::new(),
        origin: origin("destination"),
        locality: LocalityPolicy::Ignore,
        warmup: None,
        failure_accrual: None,
        retry_budget: None,
        tunnel: None,
        proxy_protocol: None,
        mesh_server_name: None,
    })
}
