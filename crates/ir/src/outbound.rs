//! What a proxy needs to send to one host and port.

use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ident::{Cidr, Host, HostPattern};

use crate::destination::Destination;
use crate::http_route::RouteTable;
use crate::protocol::Protocol;

/// The clients that see the same configuration: namespace, labels, gateway and network of the local workload,
/// interned by the control plane.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ScopeId(pub Arc<str>);

/// Names an [`Outbound`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OutboundKey {
    /// Whose view.
    pub scope: ScopeId,
    /// The host: of a service, or of routes that are found by the request's authority (then a pattern's text).
    pub host: Arc<str>,
    /// The service port.
    pub port: u16,
}

/// Routes and destination policies of one (scope, host, port).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outbound {
    /// Which.
    pub key: OutboundKey,
    /// Declared protocol of the port.
    pub protocol: Protocol,
    /// The service the table speaks for, in telemetry and explanations; none for routes by authority alone.
    pub host: Option<Host>,
    /// Routes for HTTP; used when the protocol is HTTP or was detected so.
    pub http: RouteTable,
    /// Routes for TLS that is not terminated, in order; first match wins. No match: `tcp`.
    pub tls: Vec<TlsRule>,
    /// Routes for anything else, in order; first match wins. No match: the connection is refused.
    pub tcp: Vec<TcpRule>,
    /// The destinations that routes refer to by index.
    pub destinations: Vec<Arc<Destination>>,
}

/// A route by server name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsRule {
    /// Where it was written.
    pub origin: Origin,
    /// Any one must match the server name.
    pub server_names: Vec<HostPattern>,
    /// Any one must contain the destination address; empty: all do.
    pub destination_ranges: Vec<Cidr>,
    /// Where connections go, by weight.
    pub backends: Vec<TcpBackend>,
}

/// A route for opaque streams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpRule {
    /// Where it was written.
    pub origin: Origin,
    /// Any one must contain the destination address; empty: all do.
    pub destination_ranges: Vec<Cidr>,
    /// Where connections go, by weight.
    pub backends: Vec<TcpBackend>,
}

/// A backend of a stream, with its share of connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpBackend {
    /// Where it was written.
    pub origin: Origin,
    /// Index into [`Outbound::destinations`]; none: not valid, the connection is reset.
    pub destination: Option<usize>,
    /// The share is weight / sum of weights.
    pub weight: u32,
}
