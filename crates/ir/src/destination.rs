//! Destination policy: how requests to one host, port and subset are spread, limited, secured and watched.
//!
//! Defaults are those of API.md 2.2; `translate` writes every value out, so that a proxy never guesses.

use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::{Host, SpiffeId};

use crate::endpoint::EndpointSetKey;
use crate::protocol::Protocol;
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
    /// What set the policy; built-in where no object did.
    pub origin: Origin,
}

/// Where the endpoints of a destination come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndpointSource {
    /// The address that the client connected to (ServiceEntry NONE, PASSTHROUGH).
    OriginalDestination,
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
    /// What set it; built-in where no object did.
    pub origin: Origin,
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
}

/// The identity expected of an endpoint, in words for logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExpectedIdentity {
    /// One of these.
    AnyOf(Vec<SpiffeId>),
    /// Any of the mesh's own trust domain.
    TrustDomain,
}
