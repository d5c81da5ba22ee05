//! Requests, peers and policies in few words.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::{Cidr, SpiffeId, WorkloadId};
use heddle_ir::authorization::{
    Attribute, Authorization, Clause, Condition, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies, ValueMatch,
};
use heddle_ir::destination::ConnectionPool;
use heddle_ir::http_route::RetryPolicy;
use heddle_ir::inbound::{
    ClientAddress, Forwarders, Inbound, MutualTls, MutualTlsMode, PathNormalization,
};
use heddle_ir::matching::TextMatch;
use heddle_ir::rate_limit::RateLimits;
use heddle_ir::request::{ConnectionFacts, RequestHead};

use crate::{CompiledAuthorization, Connection, Decision, Transport, Verdict};

/// A request; `GET http://reviews:9080/` unless said otherwise.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) authority: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

impl Request {
    pub(super) fn get(path: &str) -> Self {
        Self {
            method: "GET".into(),
            path: path.into(),
            authority: "reviews:9080".into(),
            headers: Vec::new(),
        }
    }

    pub(super) fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    pub(super) fn authority(mut self, authority: &str) -> Self {
        self.authority = authority.into();
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
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
        None
    }
    fn authority(&self) -> &str {
        &self.authority
    }
    fn scheme(&self) -> &'static str {
        "http"
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| Cow::Borrowed(&value[..]))
    }
}

pub(super) fn origin(name: &str) -> Origin {
    Origin::built_in(name)
}

/// The facts of a connection from 10.1.0.11 to 10.1.0.12:9080.
pub(super) fn facts(identity: Option<&str>) -> ConnectionFacts {
    ConnectionFacts {
        peer_identity: identity.map(|identity| SpiffeId::parse(identity).unwrap()),
        source: SocketAddr::new("10.1.0.11".parse().unwrap(), 40000),
        destination: SocketAddr::new("10.1.0.12".parse().unwrap(), 9080),
        server_name: None,
    }
}

/// A connection of this service account of `cluster.local`.
pub(super) fn from(namespace: &str, account: &str) -> Connection {
    let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
    Connection::new(Transport::MutualTls, facts(Some(&identity)))
}

pub(super) fn plaintext() -> Connection {
    Connection::new(Transport::Plaintext, facts(None))
}

pub(super) fn exact(text: &str) -> ValueMatch {
    ValueMatch::Text(TextMatch::Exact(text.into()))
}

pub(super) fn condition(attribute: Attribute, values: Vec<ValueMatch>) -> Condition {
    Condition { attribute, values, negate: false }
}

pub(super) fn not(attribute: Attribute, values: Vec<ValueMatch>) -> Condition {
    Condition { attribute, values, negate: true }
}

/// A rule with one clause of one alternative; without conditions it matches everything.
pub(super) fn rule(name: &str, conditions: Vec<Condition>) -> Rule {
    let clauses = if conditions.is_empty() {
        Vec::new()
    } else {
        vec![Clause { alternatives: vec![conditions] }]
    };
    Rule { origin: origin(name), clauses }
}

pub(super) fn policy(action: PolicyAction, rules: Vec<Rule>) -> Policy {
    Policy { origin: origin("policy"), action, dry_run: false, authorizer: None, rules }
}

pub(super) fn system(policies: Vec<Policy>) -> SystemPolicies {
    let policies = policies.into_iter().map(Arc::new).collect();
    SystemPolicies::new(Fallback::Allow, policies)
}

/// Everything permissive, with these systems.
pub(super) fn inbound(systems: Vec<SystemPolicies>) -> Inbound {
    let pool = ConnectionPool {
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
    };
    Inbound {
        workload: WorkloadId::new("standalone/Pod/default/reviews-0"),
        ports: Vec::new(),
        mutual_tls: mutual_tls(MutualTlsMode::Permissive),
        mutual_tls_by_port: Vec::new(),
        authorization: Arc::new(Authorization { systems, authorizers: Vec::new() }),
        jwt_rules: Vec::new(),
        client_address: ClientAddress { forwarders: Forwarders::Everyone, trusted_hops: 0 },
        path_normalization: PathNormalization::Base,
        connection_pool: pool,
        retry: RetryPolicy::never(),
        probe_sources: Vec::new(),
        rate_limits: RateLimits::default(),
    }
}

pub(super) fn mutual_tls(mode: MutualTlsMode) -> MutualTls {
    MutualTls { mode, origin: origin("mutual TLS") }
}

pub(super) fn range(text: &str) -> ValueMatch {
    ValueMatch::Range(Cidr::parse(text).unwrap())
}

/// Compiles what must compile, as generation 7.
pub(super) fn compiled(inbound: Inbound) -> CompiledAuthorization {
    let (compiled, problems) = CompiledAuthorization::compile(Arc::new(inbound), 7);
    assert_eq!(problems, []);
    compiled
}

/// Compiles one system of policies.
pub(super) fn policies(policies: Vec<Policy>) -> CompiledAuthorization {
    compiled(inbound(vec![system(policies)]))
}

pub(super) fn allows(decision: &Decision<'_>) -> bool {
    matches!(decision.verdict, Verdict::Allow { .. })
}
