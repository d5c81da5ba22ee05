//! A proxy without a control plane: configuration made by hand, certificates of a root made on the spot.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use heddle_cert::{Crypto, Root, Serial, Svid, TrustBundle, Validity};
use heddle_diag::Origin;
use heddle_ident::{
    ClusterName, Host, HostPattern, Locality, NetworkName, SpiffeId, TrustDomain, WorkloadId,
};
use heddle_ir::authentication::JwtRule;
use heddle_ir::authorization::Authorization;
use heddle_ir::destination::{
    ClientTls, ConnectionPool, Destination, DestinationId, EndpointSource, LoadBalancing,
    LocalityPolicy,
};
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth, EndpointSet, EndpointSetKey};
use heddle_ir::gateway::{Gateway, Listener};
use heddle_ir::http_route::{
    BackendTarget, HeaderEdits, HttpAction, HttpRule, RetryOn, RetryPolicy, Rewrite, RouteTable,
    RuleOrder, StreamTimeouts, WeightedBackend,
};
use heddle_ir::inbound::{
    ClientAddress, Inbound, InboundPort, MutualTls, MutualTlsMode, PathNormalization,
    ServiceReference,
};
use heddle_ir::index::{Frontend, FrontendPort, Index, RoutedHost};
use heddle_ir::outbound::{Outbound, OutboundKey, ScopeId, TcpBackend, TcpRule};
use heddle_ir::protocol::Protocol;
use heddle_ir::proxy::{AccessLog, Limits, ProxyRole, ProxySettings};
use heddle_ir::rate_limit::RateLimits;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::secret::Secret;
use heddle_ir::workload::{MeshTransport, Workload};
use heddle_net::socket::SocketFactory;
use heddle_proxy::configuration::{Configuration, Demand, Publisher};
use heddle_proxy::snapshot::Snapshot;
use heddle_proxy::worker::{Overrides, Shared};
use heddle_sync::Effect;
use heddle_telemetry::audit::AuditLog;
use heddle_telemetry::istio::StandardMetrics;
use heddle_telemetry::mesh::MeshMetrics;
use heddle_telemetry::metrics::Registry;
use heddle_tls::{Clock, Identity, Keys, SigningRoot, SystemClock, default_provider};

/// The service port of the only service.
pub(crate) const PORT: u16 = 8080;
/// Its address.
pub(crate) const VIRTUAL_ADDRESS: &str = "10.96.0.1";
const HOST: &str = "server.default.svc.cluster.local";

/// The root of a mesh of two workloads, `client` and `server`.
#[derive(Clone)]
pub(crate) struct Mesh {
    root: Rc<SigningRoot>,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        Self::of(&trust_domain())
    }

    /// The root of a trust domain.
    pub(crate) fn of(domain: &TrustDomain) -> Self {
        let (provider, now) = (default_provider(), SystemTime::now());
        let lifetime = Duration::from_hours(24);
        Self { root: Rc::new(SigningRoot::generate(provider, domain, now, lifetime).unwrap()) }
    }

    /// The bundle of a later generation, in which these leaves are revoked.
    pub(crate) fn revoking(&self, generation: u64, serials: Vec<Serial>) -> TrustBundle {
        let root = self.root.root().clone();
        TrustBundle::new(generation, trust_domain(), root.id.clone(), vec![root])
            .unwrap()
            .revoke(serials, Vec::new())
            .unwrap()
    }

    /// The bundle of a later generation, in which another root vouches for the mesh's identities too.
    pub(crate) fn trusting(&self, generation: u64, other: Root) -> TrustBundle {
        let root = self.root.root().clone();
        let signer = root.id.clone();
        TrustBundle::new(generation, trust_domain(), signer, vec![root, other]).unwrap()
    }

    /// The identity of a workload, installed.
    pub(crate) fn identity(&self, workload: &str) -> Arc<Identity> {
        let now = SystemTime::now();
        let validity = Validity {
            not_before: now - Duration::from_mins(1),
            not_after: now + Duration::from_hours(1),
        };
        self.identity_of(identity(workload), validity, Arc::new(SystemClock), self)
    }

    /// An identity of these times, whose holder goes by this clock and believes the root of `trusted` too.
    pub(crate) fn identity_of(
        &self,
        id: SpiffeId,
        validity: Validity,
        clock: Arc<dyn Clock>,
        trusted: &Mesh,
    ) -> Arc<Identity> {
        let provider = default_provider();
        let own = self.root.root();
        let mut roots = vec![own.clone()];
        if own.id != trusted.root.root().id {
            roots.push(trusted.root.root().clone());
        }
        let bundle = TrustBundle::new(1, id.trust_domain().clone(), own.id.clone(), roots).unwrap();
        let keys = Keys::new(provider.clone());
        let (key, request) = keys.make_key(&id).unwrap();
        let serial = self.root.new_serial().unwrap();
        let chain = self.root.sign(&request, &id, validity, serial).unwrap();
        let validity = keys.check_chain(&key, &id, &chain, &bundle).unwrap();
        let root = own.id.clone();
        let holder = Identity::new(provider, clock);
        holder
            .install(Arc::new(Svid { identity: id, key, chain, validity, root }), &bundle)
            .unwrap();
        Arc::new(holder)
    }
}

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").unwrap()
}

pub(crate) fn identity(workload: &str) -> SpiffeId {
    SpiffeId::for_service_account(&trust_domain(), "default", workload).unwrap()
}

pub(crate) fn origin() -> Origin {
    Origin::built_in("test")
}

pub(crate) fn workload(name: &str) -> Workload {
    Workload {
        id: WorkloadId::new(format!("standalone/Pod/default/{name}-0")),
        name: format!("{name}-0").into(),
        namespace: "default".into(),
        cluster: ClusterName::new("standalone"),
        network: NetworkName::new(""),
        addresses: Vec::new(),
        identity: identity(name),
        labels: Arc::new(BTreeMap::from([("app".into(), name.into())])),
        workload_name: name.into(),
        canonical_name: name.into(),
        canonical_revision: "v1".into(),
        locality: Locality::default(),
        transport: MeshTransport::MutualTls,
        is_gateway: false,
    }
}

fn settings(name: &str, limits: Limits) -> ProxySettings {
    ProxySettings {
        workload: Arc::new(workload(name)),
        scope: scope(),
        trust_domain: trust_domain(),
        trust_domain_aliases: Vec::new(),
        limits,
        drain_duration: Duration::from_secs(5),
        detection_timeout: Duration::from_millis(100),
        access_log: AccessLog::Off,
        access_log_path: "".into(),
        access_log_format: Vec::new(),
        egress: None,
        role: ProxyRole::Sidecar,
    }
}

fn scope() -> ScopeId {
    ScopeId("default".into())
}

pub(crate) fn pool() -> ConnectionPool {
    ConnectionPool {
        connections_max: u32::MAX,
        connect_timeout: Duration::from_secs(10),
        keepalive: None,
        pending_requests_max: u32::MAX,
        requests_max: u32::MAX,
        requests_per_connection_max: 0,
        retries_max: u32::MAX,
        http_idle_timeout: Some(Duration::from_hours(1)),
        tcp_idle_timeout: Some(Duration::from_hours(1)),
        connection_duration_max: None,
        concurrent_streams_max: 1024,
        upgrade_to_http2: false,
        origin: origin(),
        use_client_protocol: false,
        http2_keepalive: None,
    }
}

/// The retries that Istio has by default.
pub(crate) fn default_retries() -> RetryPolicy {
    RetryPolicy {
        attempts: 2,
        on: vec![
            RetryOn::ConnectFailure,
            RetryOn::RefusedStream,
            RetryOn::GrpcStatus(14),
            RetryOn::GrpcStatus(1),
        ],
        per_try_timeout: None,
        backoff_base: Duration::from_millis(25),
        avoid_tried: true,
        origin: origin(),
        backoff_max: None,
        other_localities: false,
    }
}

pub(crate) fn endpoint(address: SocketAddr, transport: MeshTransport) -> Endpoint {
    let of = workload("server");
    Endpoint {
        workload: Some(of.id.clone()),
        address: EndpointAddress::Address(address),
        weight: 1,
        health: EndpointHealth::Healthy,
        labels: of.labels,
        identity: Some(of.identity),
        transport,
        locality: of.locality,
        network: of.network,
        namespace: of.namespace,
        workload_name: of.workload_name,
        canonical_name: of.canonical_name,
        canonical_revision: of.canonical_revision,
        hostname: Arc::default(),
        health_check: None,
    }
}

/// The resources of the client's proxy: one service with these endpoints.
pub(crate) struct ClientSide {
    pub(crate) limits: Limits,
    pub(crate) protocol: Protocol,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) destination: Destination,
    /// Further destinations that rules refer to, from 1 on, and their endpoints; each of another host.
    pub(crate) others: Vec<(Destination, Vec<Endpoint>)>,
    pub(crate) rules: Vec<HttpRule>,
    /// What the workload may do to others; none: everything.
    pub(crate) egress: Option<Authorization>,
}

impl ClientSide {
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            limits: Limits::default(),
            protocol: Protocol::Http1,
            endpoints,
            destination: destination(),
            others: Vec::new(),
            rules: vec![rule()],
            egress: None,
        }
    }

    pub(crate) fn effects(self) -> Vec<Effect> {
        let host = Host::parse(HOST).unwrap();
        let set_key = EndpointSetKey { host: host.clone(), port: PORT };
        let key = OutboundKey { scope: scope(), host: HOST.into(), port: PORT };
        let index = Index {
            frontends: vec![Frontend {
                host: HostPattern::Exact(host.clone()),
                addresses: vec![VIRTUAL_ADDRESS.parse().unwrap()],
                ranges: Vec::new(),
                ports: vec![FrontendPort { number: PORT, protocol: self.protocol }],
                headless: false,
            }],
            routed_hosts: vec![RoutedHost {
                host: HostPattern::Exact(host.clone()),
                port: PORT,
                table: HOST.into(),
            }],
            mesh_ranges: vec![heddle_ident::Cidr::parse("10.96.0.0/16").unwrap()],
            ..Index::default()
        };
        let outbound = Outbound {
            key: key.clone(),
            protocol: self.protocol,
            host: Some(host),
            http: RouteTable { order: RuleOrder::Written, rules: self.rules, tiers: Vec::new() },
            tls: Vec::new(),
            tcp: vec![TcpRule {
                origin: origin(),
                destination_ranges: Vec::new(),
                backends: vec![TcpBackend { origin: origin(), destination: Some(0), weight: 1 }],
            }],
            destinations: std::iter::once(self.destination)
                .chain(self.others.iter().map(|(destination, _)| destination.clone()))
                .map(Arc::new)
                .collect(),
        };
        let others = self.others.into_iter().filter_map(|(destination, endpoints)| {
            let EndpointSource::Set(key) = destination.endpoints else { return None };
            let endpoints = endpoints.into_iter().map(Arc::new).collect();
            let set = EndpointSet { key: key.clone(), endpoints };
            Some(Effect::Set(ResourceName::Endpoints(key), Resource::Endpoints(Arc::new(set))))
        });
        let others: Vec<Effect> = others.collect();
        let set = EndpointSet {
            key: set_key.clone(),
            endpoints: self.endpoints.into_iter().map(Arc::new).collect(),
        };
        let mut own = settings("client", self.limits);
        own.egress = self.egress.map(Arc::new);
        let id = own.workload.id.clone();
        let mut effects = vec![
            Effect::Set(ResourceName::Proxy(id), Resource::Proxy(Arc::new(own))),
            Effect::Set(ResourceName::Index(scope()), Resource::Index(Arc::new(index))),
            Effect::Set(ResourceName::Endpoints(set_key), Resource::Endpoints(Arc::new(set))),
            Effect::Set(ResourceName::Outbound(key), Resource::Outbound(Arc::new(outbound))),
        ];
        effects.extend(others);
        effects
    }
}

pub(crate) fn destination() -> Destination {
    let host = Host::parse(HOST).unwrap();
    Destination {
        id: DestinationId { host: host.clone(), port: PORT, subset: "".into() },
        service_namespace: "default".into(),
        service_name: "server".into(),
        protocol: Protocol::Http1,
        endpoints: EndpointSource::Set(EndpointSetKey { host, port: PORT }),
        subset_labels: Vec::new(),
        load_balancing: LoadBalancing::LeastRequest,
        connection_pool: pool(),
        outlier_detection: None,
        tls: ClientTls::Auto,
        subject_alt_names: Vec::new(),
        origin: origin(),
        locality: LocalityPolicy::Ignore,
        warmup: None,
        failure_accrual: None,
        retry_budget: None,
        tunnel: None,
        proxy_protocol: None,
        mesh_server_name: None,
    }
}

/// A destination of another host.
pub(crate) fn other_destination(name: &str) -> Destination {
    let host = Host::parse(&format!("{name}.default.svc.cluster.local")).unwrap();
    Destination {
        id: DestinationId { host: host.clone(), port: PORT, subset: "".into() },
        service_name: name.into(),
        endpoints: EndpointSource::Set(EndpointSetKey { host, port: PORT }),
        ..destination()
    }
}

/// Everything goes to the only destination.
pub(crate) fn rule() -> HttpRule {
    HttpRule {
        origin: origin(),
        name: "default".into(),
        matches: Vec::new(),
        action: HttpAction::Forward(vec![WeightedBackend {
            origin: origin(),
            target: BackendTarget::Destination(0),
            weight: 1,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: Rewrite::default(),
        }]),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: Rewrite::default(),
        timeout: None,
        retry: default_retries(),
        cors: None,
        fault: None,
        mirrors: Vec::new(),
        session: None,
        stream_timeouts: StreamTimeouts::default(),
        failures: Vec::new(),
        authorizer: None,
    }
}

/// The resources of the server's proxy.
pub(crate) struct ServerSide {
    pub(crate) limits: Limits,
    pub(crate) protocol: Protocol,
    pub(crate) mode: MutualTlsMode,
    pub(crate) authorization: Authorization,
    pub(crate) connection_pool: ConnectionPool,
    pub(crate) rate_limits: RateLimits,
    pub(crate) port: u16,
    /// Where the application listens, and limits; none: on the port itself, those of `connection_pool`.
    pub(crate) application: Option<SocketAddr>,
    pub(crate) application_socket: Option<Arc<str>>,
    pub(crate) port_pool: Option<ConnectionPool>,
    pub(crate) path_normalization: PathNormalization,
    pub(crate) jwt_rules: Vec<Arc<JwtRule>>,
    /// Services that its proxy may ask, by name, each without a proxy of its own.
    pub(crate) services: Vec<(&'static str, SocketAddr)>,
}

impl ServerSide {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            limits: Limits::default(),
            protocol: Protocol::Http1,
            mode: MutualTlsMode::Strict,
            authorization: Authorization::default(),
            connection_pool: pool(),
            rate_limits: RateLimits::default(),
            port,
            application: None,
            application_socket: None,
            port_pool: None,
            path_normalization: PathNormalization::Base,
            jwt_rules: Vec::new(),
            services: Vec::new(),
        }
    }

    pub(crate) fn effects(self) -> Vec<Effect> {
        let own = settings("server", self.limits);
        let id = own.workload.id.clone();
        let inbound = Inbound {
            workload: id.clone(),
            ports: vec![InboundPort {
                port: self.port,
                protocol: self.protocol,
                services: vec![ServiceReference {
                    host: HOST.into(),
                    name: "server".into(),
                    namespace: "default".into(),
                    port: PORT,
                }],
                probe_paths: Vec::new(),
                routes: None,
                application: self.application,
                application_socket: self.application_socket,
                connection_pool: self.port_pool,
            }],
            mutual_tls: MutualTls { mode: self.mode, origin: origin() },
            mutual_tls_by_port: Vec::new(),
            authorization: Arc::new(self.authorization),
            jwt_rules: self.jwt_rules,
            client_address: ClientAddress::default(),
            path_normalization: self.path_normalization,
            connection_pool: self.connection_pool,
            retry: RetryPolicy::never(),
            probe_sources: Vec::new(),
            rate_limits: self.rate_limits,
        };
        let mut effects = vec![
            Effect::Set(ResourceName::Proxy(id.clone()), Resource::Proxy(Arc::new(own))),
            Effect::Set(ResourceName::Inbound(id), Resource::Inbound(Arc::new(inbound))),
        ];
        let mut index = Index::default();
        for (name, address) in self.services {
            let (frontend, own) = service(name, address);
            index.frontends.push(frontend);
            effects.extend(own);
        }
        if !index.frontends.is_empty() {
            let index = Resource::Index(Arc::new(index));
            effects.push(Effect::Set(ResourceName::Index(scope()), index));
        }
        effects
    }
}

/// The host of a service that a proxy may ask.
pub(crate) fn service_host(name: &str) -> Host {
    Host::parse(&format!("{name}.default.svc.cluster.local")).unwrap()
}

/// A service of one endpoint, as the server's proxy has it.
fn service(name: &str, address: SocketAddr) -> (Frontend, Vec<Effect>) {
    let host = service_host(name);
    let frontend = Frontend {
        host: HostPattern::Exact(host.clone()),
        addresses: Vec::new(),
        ranges: Vec::new(),
        ports: vec![FrontendPort { number: PORT, protocol: Protocol::Http1 }],
        headless: false,
    };
    let destination = other_destination(name);
    let set_key = EndpointSetKey { host: host.clone(), port: PORT };
    let own = Endpoint { identity: None, ..endpoint(address, MeshTransport::None) };
    let set = EndpointSet { key: set_key.clone(), endpoints: vec![Arc::new(own)] };
    let key = OutboundKey { scope: scope(), host: host.as_str().into(), port: PORT };
    let outbound = Outbound {
        key: key.clone(),
        protocol: Protocol::Http1,
        host: Some(host),
        http: RouteTable { order: RuleOrder::Written, rules: vec![rule()], tiers: Vec::new() },
        tls: Vec::new(),
        tcp: Vec::new(),
        destinations: vec![Arc::new(destination)],
    };
    let effects = vec![
        Effect::Set(ResourceName::Endpoints(set_key), Resource::Endpoints(Arc::new(set))),
        Effect::Set(ResourceName::Outbound(key), Resource::Outbound(Arc::new(outbound))),
    ];
    (frontend, effects)
}

/// What was asked for, which never comes.
#[derive(Clone, Default)]
pub(crate) struct Wanted(Arc<Mutex<Vec<ResourceName>>>);

impl Demand for Wanted {
    fn want(&self, name: ResourceName) {
        self.0.lock().unwrap().push(name);
    }
}

impl Wanted {
    pub(crate) fn names(&self) -> Vec<ResourceName> {
        self.0.lock().unwrap().clone()
    }
}

/// What a proxy's threads share, with this configuration.
pub(crate) fn shared(
    effects: &[Effect],
    identity: Arc<Identity>,
    registry: &Registry,
    overrides: Overrides,
) -> (Shared, Publisher) {
    shared_asking(effects, identity, registry, overrides, Wanted::default())
}

/// The same, where it matters what is asked for.
pub(crate) fn shared_asking(
    effects: &[Effect],
    identity: Arc<Identity>,
    registry: &Registry,
    overrides: Overrides,
    wanted: Wanted,
) -> (Shared, Publisher) {
    let (snapshot, problems) = Snapshot::default().with(effects, 1, 0);
    assert!(problems.is_empty(), "{problems:?}");
    let (configuration, publisher) = Configuration::new(snapshot, Arc::new(wanted));
    let shared = Shared {
        is_outside: false,
        configuration,
        identity,
        sockets: SocketFactory::here(),
        application_sockets: SocketFactory::here(),
        outside: None,
        metrics: Some(StandardMetrics::new(registry)),
        mesh_metrics: Some(MeshMetrics::new(registry)),
        names: Arc::default(),
        audit: AuditLog::default(),
        token_keys: Arc::default(),
        control_plane: heddle_proxy::rate_limits::ControlPlane::default(),
        started: tokio::time::Instant::now(),
        overrides,
    };
    (shared, publisher)
}

/// The resources of a gateway: listeners, and one service that they lead to.
pub(crate) struct GatewaySide {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) destination: Destination,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) authorization: Authorization,
    pub(crate) trusted_hops: u32,
    pub(crate) jwt_rules: Vec<Arc<JwtRule>>,
    /// What the server declares.
    pub(crate) server_protocol: Protocol,
    pub(crate) limits: Limits,
}

impl GatewaySide {
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            listeners: Vec::new(),
            destination: destination(),
            endpoints,
            secrets: Vec::new(),
            authorization: Authorization::default(),
            trusted_hops: 0,
            jwt_rules: Vec::new(),
            server_protocol: Protocol::Http1,
            limits: Limits::default(),
        }
    }

    pub(crate) fn effects(self) -> Vec<Effect> {
        let client = ClientSide::new(self.endpoints);
        let mut effects = client.effects();
        let mut own = settings("gateway", self.limits);
        own.role = ProxyRole::Gateway;
        let id = own.workload.id.clone();
        effects.retain(|effect| !matches!(effect, Effect::Set(ResourceName::Proxy(_), _)));
        let proxy = Effect::Set(ResourceName::Proxy(id.clone()), Resource::Proxy(Arc::new(own)));
        effects.push(proxy);
        let mut server = ServerSide::new(80);
        server.authorization = self.authorization;
        server.jwt_rules = self.jwt_rules;
        for effect in server.effects() {
            let Effect::Set(ResourceName::Inbound(_), Resource::Inbound(inbound)) = effect else {
                continue;
            };
            let mut inbound = (*inbound).clone();
            inbound.workload = id.clone();
            inbound.client_address.trusted_hops = self.trusted_hops;
            let name = ResourceName::Inbound(id.clone());
            effects.push(Effect::Set(name, Resource::Inbound(Arc::new(inbound))));
        }
        for secret in self.secrets {
            let name = ResourceName::Secret(secret.key.clone());
            effects.push(Effect::Set(name, Resource::Secret(Arc::new(secret))));
        }
        let gateway = Gateway {
            workload: id.clone(),
            listeners: self.listeners,
            destinations: vec![Arc::new(self.destination)],
        };
        let gateway = Resource::Gateway(Arc::new(gateway));
        effects.push(Effect::Set(ResourceName::Gateway(id), gateway));
        effects
    }
}
