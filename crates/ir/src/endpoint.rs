//! Endpoints: where a service is reached at this moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::{Host, Locality, NetworkName, SpiffeId, WorkloadId};

use crate::workload::MeshTransport;

/// Names the endpoints of one service port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EndpointSetKey {
    /// The service's host.
    pub host: Host,
    /// The service port (not the workload's port).
    pub port: u16,
}

/// The endpoints of one service port, of all subsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSet {
    /// Which.
    pub key: EndpointSetKey,
    /// The endpoints in a stable order.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// Whether an endpoint may be picked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndpointHealth {
    /// It is stopping: requests under way go on, no new one is sent.
    Draining,
    /// Ready.
    Healthy,
    /// Its readiness probe fails.
    Unhealthy,
}

/// One address that serves a service port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The workload behind it; none for addresses outside the mesh.
    pub workload: Option<WorkloadId>,
    /// Where it listens.
    pub address: EndpointAddress,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// Whether it may be picked.
    pub health: EndpointHealth,
    /// Labels that subsets select by.
    pub labels: Arc<BTreeMap<Arc<str>, Arc<str>>>,
    /// The identity that its certificate must prove; none where it cannot be known.
    pub identity: Option<SpiffeId>,
    /// How it takes connections from the mesh.
    pub transport: MeshTransport,
    /// Region, zone, subzone.
    pub locality: Locality,
    /// The network of the address.
    pub network: NetworkName,
    /// Namespace of the workload, for telemetry; empty outside the mesh.
    pub namespace: Arc<str>,
    /// [`crate::workload::Workload::workload_name`], for telemetry; empty outside the mesh.
    pub workload_name: Arc<str>,
    /// [`crate::workload::Workload::canonical_name`], for telemetry.
    pub canonical_name: Arc<str>,
    /// [`crate::workload::Workload::canonical_revision`], for telemetry.
    pub canonical_revision: Arc<str>,
    /// Its own name below that of a headless service (`web-0` of `web-0.web.default.svc.cluster.local`); empty: it has none.
    pub hostname: Arc<str>,
    /// Proxies ask it themselves whether it is well: nobody beside it does; none: they do not.
    pub health_check: Option<Arc<HealthCheck>>,
}

/// Where an endpoint listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum EndpointAddress {
    /// An address.
    Address(SocketAddr),
    /// A name that the proxy resolves, and a port.
    Name(Host, u16),
}

impl std::fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// How a proxy asks whether an endpoint is well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// Where it was written.
    pub origin: Origin,
    /// What is asked.
    pub probe: HealthProbe,
    /// Between two checks.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Successes in a row that make it healthy.
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy.
    pub unhealthy_threshold: u32,
    /// The port; none: the endpoint's.
    pub port: Option<u16>,
}

/// What a health check asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HealthProbe {
    /// `grpc.health.v1.Health/Check`; SERVING is well.
    Grpc {
        /// The service asked for; empty: the server.
        service: Arc<str>,
    },
    /// `GET`; 200 to 399 is well.
    Http {
        /// Host; empty: the endpoint's address.
        host: Arc<str>,
        /// Path with query.
        path: Arc<str>,
        /// Further headers; names are lower case.
        headers: Vec<(Arc<str>, Arc<str>)>,
    },
    /// A connection that opens is well.
    Tcp,
}
