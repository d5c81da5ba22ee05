//! Istio's standard metrics: names, labels and buckets exactly as its dashboards, alerts and canary tools query
//! them, and recorders that the forwarding path holds.
//!
//! A [`RequestRecorder`] belongs to a route and a pair of workloads; what differs from request to request (status,
//! flags, gRPC status) picks one of its series. A value that is not known is `unknown`, as in Istio.

use std::sync::Arc;

use crate::metrics::{Buckets, Group, GroupDefinition, Kind, Metric, Registry};

mod recorder;

pub use recorder::{RequestOutcome, RequestRecorder, TcpRecorder};

/// Which proxy of a pair reports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reporter {
    /// The called side's.
    Destination,
    /// The calling side's.
    Source,
    /// A waypoint between them.
    Waypoint,
}

impl Reporter {
    fn as_str(self) -> &'static str {
        match self {
            Self::Destination => "destination",
            Self::Source => "source",
            Self::Waypoint => "waypoint",
        }
    }
}

/// `request_protocol`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// HTTP of any version.
    Http,
    /// Opaque.
    Tcp,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// `connection_security_policy`. The calling side always reports it as unknown, as Istio does, whatever is given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Security {
    /// Mutual TLS with a verified peer.
    MutualTls,
    /// Plaintext.
    None,
    /// Not known.
    Unknown,
}

impl Security {
    fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// `destination_service_name` of a connection that is passed through because its destination is not known.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// `destination_service_name` of a connection that is refused because its destination is not known.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// `destination_service_name` of an inbound connection to a port that no service has.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// One side of a connection. Empty is `unknown`, but for the revision, which then is `latest`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Workload<'a> {
    /// Name of the workload (of the Deployment, not of the Pod).
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its identity, with `spiffe://`.
    pub principal: &'a str,
    /// Label `app`.
    pub app: &'a str,
    /// Label `version`.
    pub version: &'a str,
    /// Canonical service.
    pub canonical_service: &'a str,
    /// Canonical revision.
    pub canonical_revision: &'a str,
    /// Cluster.
    pub cluster: &'a str,
}

/// The service that was called. Empty is `unknown`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Service<'a> {
    /// Its host, for example `reviews.default.svc.cluster.local`.
    pub host: &'a str,
    /// Its name, for example `reviews`.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

/// What all requests of a route between two workloads have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route<'a> {
    /// Which side reports.
    pub reporter: Reporter,
    /// The calling side.
    pub source: Workload<'a>,
    /// The called side.
    pub destination: Workload<'a>,
    /// The called service.
    pub service: Service<'a>,
    /// The protocol.
    pub protocol: Protocol,
    /// How the connection is secured.
    pub security: Security,
}

/// `istio_requests_total`.
pub const REQUESTS_TOTAL: &str = "istio_requests_total";
/// `istio_request_duration_milliseconds`.
pub const REQUEST_DURATION_MILLISECONDS: &str = "istio_request_duration_milliseconds";
/// `istio_request_bytes`.
pub const REQUEST_BYTES: &str = "istio_request_bytes";
/// `istio_response_bytes`.
pub const RESPONSE_BYTES: &str = "istio_response_bytes";
/// `istio_request_messages_total`.
pub const REQUEST_MESSAGES_TOTAL: &str = "istio_request_messages_total";
/// `istio_response_messages_total`.
pub const RESPONSE_MESSAGES_TOTAL: &str = "istio_response_messages_total";
/// `istio_tcp_connections_opened_total`.
pub const TCP_CONNECTIONS_OPENED_TOTAL: &str = "istio_tcp_connections_opened_total";
/// `istio_tcp_connections_closed_total`.
pub const TCP_CONNECTIONS_CLOSED_TOTAL: &str = "istio_tcp_connections_closed_total";
/// `istio_tcp_sent_bytes_total`.
pub const TCP_SENT_BYTES_TOTAL: &str = "istio_tcp_sent_bytes_total";
/// `istio_tcp_received_bytes_total`.
pub const TCP_RECEIVED_BYTES_TOTAL: &str = "istio_tcp_received_bytes_total";
/// `istio_build`.
pub const BUILD: &str = "istio_build";

/// Labels of the HTTP metrics, in Istio's order.
pub const REQUEST_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

/// Labels of the TCP metrics: those of HTTP without the two statuses.
pub const TCP_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

/// Istio's buckets, here in thousandths: microseconds of a duration in milliseconds.
static DURATION_BUCKETS: Buckets = Buckets { bounds: &BOUNDS_MILLI, per_unit: 1_000 };
/// The same buckets for bytes. The least, half a byte, holds what is empty, as with whole bounds.
static BYTE_BUCKETS: Buckets = Buckets { bounds: &BOUNDS_MILLI, per_unit: 1_000 };

const BOUNDS_MILLI: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// The HTTP request metrics.
pub static REQUESTS: GroupDefinition = GroupDefinition {
    labels: REQUEST_LABELS,
    metrics: &[
        Metric {
            name: REQUESTS_TOTAL,
            help: "Requests, counted when they end.",
            kind: Kind::Counter,
        },
        Metric {
            name: REQUEST_DURATION_MILLISECONDS,
            help: "Duration of requests.",
            kind: Kind::Histogram(&DURATION_BUCKETS),
        },
        Metric {
            name: REQUEST_BYTES,
            help: "Size of requests with their heads.",
            kind: Kind::Histogram(&BYTE_BUCKETS),
        },
        Metric {
            name: RESPONSE_BYTES,
            help: "Size of responses with their heads.",
            kind: Kind::Histogram(&BYTE_BUCKETS),
        },
    ],
    expires: true,
};

/// The gRPC message metrics.
pub static MESSAGES: GroupDefinition = GroupDefinition {
    labels: REQUEST_LABELS,
    metrics: &[
        Metric {
            name: REQUEST_MESSAGES_TOTAL,
            help: "gRPC messages from clients.",
            kind: Kind::Counter,
        },
        Metric {
            name: RESPONSE_MESSAGES_TOTAL,
            help: "gRPC messages to clients.",
            kind: Kind::Counter,
        },
    ],
    expires: true,
};

/// The TCP metrics. Sent is what the called side sends, received what it receives, whoever reports.
pub static TCP: GroupDefinition = GroupDefinition {
    labels: TCP_LABELS,
    metrics: &[
        Metric {
            name: TCP_CONNECTIONS_OPENED_TOTAL,
            help: "Connections opened.",
            kind: Kind::Counter,
        },
        Metric {
            name: TCP_CONNECTIONS_CLOSED_TOTAL,
            help: "Connections closed.",
            kind: Kind::Counter,
        },
        Metric { name: TCP_SENT_BYTES_TOTAL, help: "Bytes of responses.", kind: Kind::Counter },
        Metric { name: TCP_RECEIVED_BYTES_TOTAL, help: "Bytes of requests.", kind: Kind::Counter },
    ],
    expires: true,
};

/// The version of a component.
pub static BUILDS: GroupDefinition = GroupDefinition {
    labels: &["component", "tag"],
    metrics: &[Metric { name: BUILD, help: "Version of this component.", kind: Kind::Gauge }],
    expires: false,
};

/// Makes recorders for routes.
#[derive(Debug, Clone)]
pub struct StandardMetrics {
    requests: Group,
    messages: Group,
    tcp: Group,
}

impl StandardMetrics {
    /// The standard metrics of a registry.
    pub fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.group(&REQUESTS),
            messages: registry.group(&MESSAGES),
            tcp: registry.group(&TCP),
        }
    }

    /// A recorder of requests. Allocates: once per route and pair of workloads.
    pub fn requests(&self, route: &Route<'_>) -> Arc<RequestRecorder> {
        let (requests, messages) = (self.requests.clone(), self.messages.clone());
        Arc::new(RequestRecorder::new(requests, messages, route))
    }

    /// A recorder of opaque connections. Allocates: once per destination and pair of workloads.
    pub fn tcp(&self, route: &Route<'_>) -> Arc<TcpRecorder> {
        Arc::new(TcpRecorder::new(self.tcp.clone(), route))
    }
}

/// States the version of a component (`proxy` or `pilot`) in `istio_build`.
pub fn record_build(registry: &Registry, component: &str, tag: &str) {
    if let Some(gauge) = registry.group(&BUILDS).series(&[component, tag]).gauge(0) {
        gauge.set(1);
    }
}

#[cfg(test)]
mod tests;
