//! What a proxy enforces for its own workload.

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ident::{Cidr, SpiffeId, WorkloadId};

use crate::authentication::JwtRule;
use crate::authorization::Authorization;
use crate::destination::ConnectionPool;
use crate::http_route::{RetryPolicy, RouteTable};
use crate::protocol::Protocol;
use crate::rate_limit::RateLimits;

/// Ports, mutual TLS and authorisation of one workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inbound {
    /// Whose.
    pub workload: WorkloadId,
    /// Ports that are known; any other port is [`Protocol::Detect`] with the same policy.
    pub ports: Vec<InboundPort>,
    /// Mutual TLS on ports that `mutual_tls_by_port` does not name.
    pub mutual_tls: MutualTls,
    /// Mutual TLS by workload port.
    pub mutual_tls_by_port: Vec<(u16, MutualTls)>,
    /// Who may do what.
    pub authorization: Arc<Authorization>,
    /// Which tokens requests may carry; empty: tokens are not looked at. In the order in which their identity counts, where
    /// a request carries several.
    pub jwt_rules: Vec<Arc<JwtRule>>,
    /// Whom to believe about where a request comes from.
    pub client_address: ClientAddress,
    /// How paths are normalised before rules see them.
    pub path_normalization: PathNormalization,
    /// Limits towards the application.
    pub connection_pool: ConnectionPool,
    /// Retries towards the application.
    pub retry: RetryPolicy,
    /// Addresses that the node's health checks come from. Empty: no request is taken for a health check.
    pub probe_sources: Vec<Cidr>,
    /// Limits on the rate of requests.
    pub rate_limits: RateLimits,
}

impl Inbound {
    /// The same for the listeners of a gateway, each of which says itself what TLS it takes.
    #[must_use]
    pub fn at_edge(&self) -> Self {
        let origin = Origin::built_in("the listener says what TLS is taken");
        let mutual_tls = MutualTls { mode: MutualTlsMode::Permissive, origin };
        Self { mutual_tls, mutual_tls_by_port: Vec::new(), ..self.clone() }
    }
}

/// A port of the workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InboundPort {
    /// The workload's port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The services that lead to it, for telemetry; may be empty.
    pub services: Vec<ServiceReference>,
    /// Paths that the node's health checks use; GET and HEAD from [`Inbound::probe_sources`] are admitted whatever the
    /// policy says.
    pub probe_paths: Vec<Arc<str>>,
    /// Rules of which every HTTP request on the port must take one; none matches: 404. They forward to the workload
    /// itself, whatever backends they have, and their name is [`crate::authorization::Attribute::Route`]. None: requests
    /// need no route.
    pub routes: Option<Arc<RouteTable>>,
    /// Where the application listens for this port; none: on the port itself, at the address that was called
    /// (Istio's Sidecar `defaultEndpoint`).
    pub application: Option<SocketAddr>,
    /// The abstract Unix socket on which the application listens for this port, in the workload's network namespace,
    /// without the zero byte in front; none: it is reached by TCP.
    pub application_socket: Option<Arc<str>>,
    /// Limits towards the application on this port; none: those of the workload.
    pub connection_pool: Option<ConnectionPool>,
}

/// How the address of a client is told from that of the peer.
///
/// An entry of `X-Forwarded-For` counts as far as whoever wrote it is believed: the last one when the peer is believed, one
/// more for each trusted hop before it. Otherwise the peer's own address is the client's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientAddress {
    /// Peers that are believed without being named.
    pub forwarders: Forwarders,
    /// Proxies before the peer, or with no believed peer before this proxy, that each append an address
    /// (`numTrustedProxies`).
    pub trusted_hops: u32,
}

/// Peers that are believed about where a request comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Forwarders {
    /// Every one, plaintext included (what stock Istio does in a sidecar).
    Everyone,
    /// Those that prove one of these identities: gateways.
    Identities(Vec<SpiffeId>),
    /// Nobody.
    #[default]
    Nobody,
}

/// A service, as telemetry names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceReference {
    /// Full name.
    pub host: Arc<str>,
    /// Name without domain.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Service port.
    pub port: u16,
}

/// Whether connections must be mutual TLS, and who says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MutualTls {
    /// The mode.
    pub mode: MutualTlsMode,
    /// What set it; built-in where no object did.
    pub origin: Origin,
}

/// Whether connections must be mutual TLS.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MutualTlsMode {
    /// Plaintext only; TLS is the application's own.
    Disable,
    /// Mutual TLS and plaintext, told apart per connection; TLS that is not the mesh's goes to the application.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// How a path is normalised before authorisation (Istio's `pathNormalization`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PathNormalization {
    /// RFC 3986: dot segments removed, unreserved characters decoded, `\` becomes `/`.
    #[default]
    Base,
    /// `MergeSlashes`, and `%2f`, `%5c` decoded before.
    DecodeAndMergeSlashes,
    /// `Base`, and runs of slashes become one.
    MergeSlashes,
    /// As received.
    None,
}
