//! Destination policy: how requests to one host, port and subset are spread, limited, secured and watched.
//!
//! Defaults are those of API.md 2.2; `translate` writes every value out, so that a proxy never guesses.

use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::{Host, SpiffeId};

use crate::endpoint::EndpointSetKey;
use crate::protocol::Protocol;
use crate::secret::SecretKey;
use crate::workload::MeshTransport;

/// Identifies a destination across configuration changes: balancers, pools and ejections are kept under it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DestinationId {
    /// The service's host.
    pub host: Host,
    /// The service port.
    pub port: u16,
    /// The subset; empty: all endpoints.
    pub subset: Arc<str>,
}

/// Hosts of destinations under this domain stand for networks outside of the mesh (Linkerd's EgressNetworks): what is sent
/// there goes to the address that it was sent to. Nobody has a name in it (RFC 6761).
pub const NETWORKS_DOMAIN: &str = "egress-network.invalid";

impl DestinationId {
    /// The name under which policies on what a workload does to others find what the routes of a network send on; none for
    /// everything else, also for what no route of a network has taken (subset `unrouted`). No name of DNS is like it.
    pub fn network_name(&self) -> Option<String> {
        let host = self.host.as_str();
        let of_network = host.strip_suffix(NETWORKS_DOMAIN).is_some_and(|rest| rest.ends_with('.'));
        (of_network && self.subset.is_empty()).then(|| format!("/{host}"))
    }
}

/// One destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    /// Which.
    pub id: DestinationId,
    /// Namespace of the service, for telemetry; empty outside the mesh.
    pub service_namespace: Arc<str>,
    /// Name of the service without domain, for telemetry; the host outside the mesh.
    pub service_name: Arc<str>,
    /// What is spoken to the endpoints.
    pub protocol: Protocol,
    /// Where endpoints come from.
    pub endpoints: EndpointSource,
    /// Endpoints must have all these labels.
    pub subset_labels: Vec<(Arc<str>, Arc<str>)>,
    /// How one is picked.
    pub load_balancing: LoadBalancing,
    /// Limits.
    pub connection_pool: ConnectionPool,
    /// Watching of endpoints; none: no ejection.
    pub outlier_detection: Option<OutlierDetection>,
    /// Transport security towards the endpoints.
    pub tls: ClientTls,
    /// Identities that an endpoint's certificate may prove besides its own workload's; from `subjectAltNames`.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Server name sent in the mesh's TLS (Istio's `tls.sni` with ISTIO_MUTUAL), which gateways tell their servers apart
    /// by; none: `outbound_.<port>_.<subset>_.<host>`.
    pub mesh_server_name: Option<Arc<str>>,
    /// What set the policy; built-in where no object did.
    pub origin: Origin,
    /// Which localities are preferred.
    pub locality: LocalityPolicy,
    /// New endpoints get their share little by little; none: at once.
    pub warmup: Option<Warmup>,
    /// Endpoints that fail several times in a row are left alone for a while; none: not.
    pub failure_accrual: Option<FailureAccrual>,
    /// Bounds retries by the requests under way or made; none: Linkerd's default (a fifth of the requests, and ten a second,
    /// within ten seconds), which does not count retries of what has reached no endpoint.
    pub retry_budget: Option<RetryBudget>,
    /// Streams go through a tunnel that the endpoint opens; none: straight. TCP and TLS only.
    pub tunnel: Option<Tunnel>,
    /// Connections begin with a PROXY protocol header; none: not.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
}

/// Which localities are preferred. The locality of the client is its workload's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum LocalityPolicy {
    /// Where endpoints run does not matter.
    #[default]
    Ignore,
    /// By shares: the first whose `from` matches the client's locality. None matches: as `Ignore`.
    Distribute(Vec<LocalityShares>),
    /// By priority: the nearest first, further ones as far as nearer ones are not healthy (Envoy's priority levels with
    /// an overprovisioning factor of 1.4).
    Failover {
        /// Labels of endpoint and client compared in order: the more leading ones agree, the higher the priority.
        /// Empty: region, zone, subzone.
        priority: Vec<FailoverLabel>,
        /// From a region to the region that comes before all other foreign ones.
        regions: Vec<(Arc<str>, Arc<str>)>,
    },
    /// Spread over the zones of the client's region so that traffic stays in the client's zone as far as zones have
    /// equal shares of clients and endpoints; other regions as by `Failover` without labels.
    ZoneAware {
        /// With fewer endpoints than this, zones do not matter.
        endpoints_min: u32,
        /// As `Failover::priority`, without localities.
        priority: Vec<FailoverLabel>,
        /// As `Failover::regions`.
        regions: Vec<(Arc<str>, Arc<str>)>,
    },
}

/// Shares of localities for clients of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalityShares {
    /// The client's locality.
    pub from: LocalityPattern,
    /// Endpoints' localities and their weights; others get nothing.
    pub to: Vec<(LocalityPattern, u32)>,
}

/// A locality; `*` as its last part takes everything below (`us-west/*`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LocalityPattern {
    /// Region; empty: any.
    pub region: Arc<str>,
    /// Zone; empty: any.
    pub zone: Arc<str>,
    /// Subzone; empty: any.
    pub subzone: Arc<str>,
}

/// A label by which endpoints get their priority. `topology.kubernetes.io/region` and `/zone`, `topology.istio.io/subzone`,
/// `/network` and `/cluster` stand for the endpoint's own values, not for labels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FailoverLabel {
    /// The label.
    pub name: Arc<str>,
    /// The value that an endpoint must have; none: the client's.
    pub value: Option<Arc<str>>,
}

/// New endpoints get their share little by little (Envoy's slow start). Round robin and least request only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warmup {
    /// How long.
    pub duration: Duration,
    /// Percentage of its share that an endpoint begins with, 1 to 100.
    pub share_percent_min: u8,
    /// How the share grows: `(time / duration) ^ (1 / aggression)`, in thousandths, 1000 for a straight line.
    pub aggression_thousandths: u32,
}

/// Consecutive failures with exponential back-off (Linkerd's circuit breaker). After a pause one request tries the endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailureAccrual {
    /// Where it was written.
    pub origin: Origin,
    /// Failures in a row (5xx, gRPC UNKNOWN, INTERNAL, UNAVAILABLE and the like, failed connections); at least 1.
    pub failures_max: u32,
    /// First pause.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// Random part of a pause, in hundredths of it.
    pub jitter_percent: u16,
}

/// Bounds retries towards a destination.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RetryBudget {
    /// Retries under way, at most a share of the requests under way (Envoy, Istio).
    Concurrency {
        /// Share of the requests under way and waiting, in parts per million.
        share_ppm: u32,
        /// Retries that may always be under way.
        retries_min: u32,
        /// Requests of this last while count as under way; zero: only those that are.
        window: Duration,
    },
    /// Retries in a time, at most a share of the requests in it (Linkerd).
    Rate {
        /// Share of the requests, in parts per million.
        share_ppm: u32,
        /// Retries that are always allowed per second.
        retries_per_second_min: u32,
        /// The time, 1 s to 60 s.
        window: Duration,
    },
}

/// A tunnel to a host behind the endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// How it is asked for.
    pub method: TunnelMethod,
    /// The host behind.
    pub host: Arc<str>,
    /// The port behind.
    pub port: u16,
}

/// How a tunnel is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TunnelMethod {
    /// `CONNECT host:port` (RFC 9110 section 9.3.6).
    Connect,
    /// `POST` with the stream as body.
    Post,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProxyProtocolVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// Where the endpoints of a destination come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndpointSource {
    /// The address that the client connected to (ServiceEntry NONE, PASSTHROUGH).
    OriginalDestination,
    /// The name that the client asks for (authority or server name), resolved by the proxy (ServiceEntry DYNAMIC_DNS).
    RequestedName {
        /// The port connected to.
        port: u16,
    },
    /// A set that the control plane sends.
    Set(EndpointSetKey),
}

/// How an endpoint is picked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadBalancing {
    /// By a hash, on a ring or a table.
    ConsistentHash {
        /// What is hashed.
        key: HashKey,
        /// How the hash finds an endpoint.
        algorithm: HashAlgorithm,
    },
    /// The better of two at random, by requests under way (power of two choices).
    LeastRequest,
    /// The address that the client connected to.
    Passthrough,
    /// The better of two at random, by an estimate of latency that jumps to peaks and decays, times the requests under
    /// way (Linkerd).
    PeakEwma {
        /// Time constant of the decay.
        decay: Duration,
    },
    /// At random.
    Random,
    /// In turn, by weight.
    RoundRobin,
}

/// What a consistent hash is taken of. A request without it is spread at random.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashKey {
    /// A cookie.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Path of a generated cookie.
        path: Arc<str>,
        /// Set: a cookie is generated where the request has none; zero: for the session.
        ttl: Option<Duration>,
        /// Further attributes of a generated cookie, as `SameSite`; an empty value: the name alone. Neither has anything
        /// that would end it.
        attributes: Vec<(Arc<str>, Arc<str>)>,
    },
    /// A header, lower case.
    Header(Arc<str>),
    /// A query parameter.
    Query(Arc<str>),
    /// The client's address.
    SourceAddress,
}

/// How a hash finds an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashAlgorithm {
    /// Maglev with a table of this (prime) size.
    Maglev {
        /// Entries.
        table_size: u32,
    },
    /// Ketama-like ring of at least this many points.
    Ring {
        /// Points.
        size_min: u32,
    },
}

/// Limits towards a destination. Each is per destination and proxy process; going over is answered with 503, flag UO.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionPool {
    /// Connections; unlimited: `u32::MAX`.
    pub connections_max: u32,
    /// Time to connect, TLS handshake included.
    pub connect_timeout: Duration,
    /// TCP keepalive; none: off.
    pub keepalive: Option<TcpKeepalive>,
    /// Requests that wait for a connection.
    pub pending_requests_max: u32,
    /// Requests under way (HTTP/1 and HTTP/2).
    pub requests_max: u32,
    /// Requests on one connection; 0: unlimited, 1: no keep-alive.
    pub requests_per_connection_max: u32,
    /// Retries under way.
    pub retries_max: u32,
    /// An HTTP connection without request is closed after this; none: never.
    pub http_idle_timeout: Option<Duration>,
    /// A TCP connection without traffic is closed after this; none: never.
    pub tcp_idle_timeout: Option<Duration>,
    /// A connection is closed after this; none: never.
    pub connection_duration_max: Option<Duration>,
    /// Streams on one HTTP/2 connection.
    pub concurrent_streams_max: u32,
    /// Speak HTTP/2 to endpoints even when the client speaks HTTP/1.
    pub upgrade_to_http2: bool,
    /// Speak the client's version of HTTP to endpoints.
    pub use_client_protocol: bool,
    /// Ping HTTP/2 connections; none: not.
    pub http2_keepalive: Option<Http2Keepalive>,
    /// What set it; built-in where no object did.
    pub origin: Origin,
}

/// Pings on HTTP/2 connections (RFC 9113 section 6.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Http2Keepalive {
    /// Between pings.
    pub interval: Duration,
    /// Without an answer for this long the connection is given up.
    pub timeout: Duration,
}

/// TCP keepalive; an absent value is the operating system's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpKeepalive {
    /// Probes before the connection is given up.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Between probes.
    pub interval: Option<Duration>,
}

/// Ejection of endpoints that fail (Envoy's outlier detection).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutlierDetection {
    /// Server errors in a row (connect errors for TCP); 0: off.
    pub consecutive_5xx: u32,
    /// 502, 503 or 504 in a row; 0: off.
    pub consecutive_gateway_errors: u32,
    /// Locally seen failures in a row, counted apart; 0: they count as server errors.
    pub consecutive_local_failures: u32,
    /// How often ejected endpoints are looked at.
    pub interval: Duration,
    /// An endpoint is out for this times the number of its ejections.
    pub ejection_time_base: Duration,
    /// Of the endpoints, at most; at least one may always be ejected.
    pub ejection_percent_max: u8,
    /// With fewer healthy than this percentage, health is ignored; 0: never.
    pub health_percent_min: u8,
    /// Statuses that count as errors instead of 5xx; empty: 5xx.
    pub error_statuses: Vec<u16>,
    /// What set it.
    pub origin: Origin,
}

/// Transport security towards endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientTls {
    /// Mutual TLS with the mesh's identities where the endpoint takes it, else plaintext.
    Auto,
    /// Plaintext always.
    Disable,
    /// Mutual TLS with the mesh's identities always.
    Mesh,
    /// TLS to something outside the mesh.
    Originate(TlsOrigination),
}

impl ClientTls {
    /// Whether a connection is mutual TLS with the mesh's identities; `endpoint` is how the endpoint takes connections,
    /// none where nothing is known of it.
    pub fn is_mesh(&self, endpoint: Option<MeshTransport>) -> bool {
        match self {
            Self::Auto => endpoint == Some(MeshTransport::MutualTls),
            Self::Mesh => true,
            Self::Disable | Self::Originate(_) => false,
        }
    }
}

/// TLS to something outside the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsOrigination {
    /// Server name; empty: the request's authority.
    pub server_name: Arc<str>,
    /// Roots; none: the operating system's.
    pub ca_certificates_path: Option<Arc<str>>,
    /// The certificate to present and its key (MUTUAL); none: SIMPLE.
    pub client_certificate_paths: Option<(Arc<str>, Arc<str>)>,
    /// Names of which the certificate must have one; empty: the server name.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// The secret that holds roots, certificate and key instead of the paths; none: the paths count.
    pub credential: Option<SecretKey>,
    /// Secrets and ConfigMaps that hold roots, besides; empty: as `ca_certificates_path` says.
    pub ca_certificates: Vec<SecretKey>,
    /// Revocation list; none: none.
    pub revocations_path: Option<Arc<str>>,
}

impl TlsOrigination {
    /// TLS to a server of that name, whose certificate an authority of the operating system must vouch for.
    pub fn simple(server_name: &str) -> Self {
        Self {
            server_name: server_name.into(),
            ca_certificates_path: None,
            client_certificate_paths: None,
            subject_alt_names: Vec::new(),
            insecure_skip_verify: false,
            credential: None,
            ca_certificates: Vec::new(),
            revocations_path: None,
        }
    }
}

/// The identity expected of an endpoint, in words for logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExpectedIdentity {
    /// One of these.
    AnyOf(Vec<SpiffeId>),
    /// Any of the mesh's own trust domain.
    TrustDomain,
}
