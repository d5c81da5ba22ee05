//! The units in which configuration is named, sent and held.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use heddle_ident::{NetworkName, WorkloadId};

use crate::endpoint::{EndpointSet, EndpointSetKey};
use crate::gateway::Gateway;
use crate::inbound::Inbound;
use crate::index::Index;
use crate::outbound::{Outbound, OutboundKey, ScopeId};
use crate::proxy::ProxySettings;
use crate::secret::{Secret, SecretKey};
use crate::trust::TrustBundle;
use crate::workload::Workload;

/// Names a resource, its kind included.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ResourceName {
    /// An [`EndpointSet`].
    Endpoints(EndpointSetKey),
    /// The [`Gateway`] of a workload that is one.
    Gateway(WorkloadId),
    /// The [`Inbound`] of a workload.
    Inbound(WorkloadId),
    /// The [`Index`] of a scope.
    Index(ScopeId),
    /// An [`Outbound`].
    Outbound(OutboundKey),
    /// The [`ProxySettings`] of a workload's proxy.
    Proxy(WorkloadId),
    /// A [`Secret`].
    Secret(SecretKey),
    /// The [`TrustBundle`].
    TrustBundle,
    /// The [`Workload`] at an address.
    Workload(NetworkName, IpAddr),
}

impl fmt::Display for ResourceName {
    /// Kind and name, for logs; the wire has its own form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoints(key) => write!(f, "endpoints {}:{}", key.host, key.port),
            Self::Gateway(workload) => write!(f, "gateway {workload}"),
            Self::Inbound(workload) => write!(f, "inbound {workload}"),
            Self::Index(scope) => write!(f, "index {}", scope.0),
            Self::Outbound(key) => {
                write!(f, "outbound {}:{} ({})", key.host, key.port, key.scope.0)
            }
            Self::Proxy(workload) => write!(f, "proxy {workload}"),
            Self::Secret(key) => write!(f, "{:?} {}/{}", key.kind, key.namespace, key.name),
            Self::TrustBundle => f.write_str("trust bundle"),
            Self::Workload(network, address) => write!(f, "workload {network}/{address}"),
        }
    }
}

/// A resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Endpoints of a service port.
    Endpoints(Arc<EndpointSet>),
    /// Listeners of a gateway.
    Gateway(Arc<Gateway>),
    /// Policy of a workload.
    Inbound(Arc<Inbound>),
    /// Index of a scope.
    Index(Arc<Index>),
    /// Routes to a host and port.
    Outbound(Arc<Outbound>),
    /// Settings of a proxy.
    Proxy(Arc<ProxySettings>),
    /// A certificate, key or authority.
    Secret(Arc<Secret>),
    /// Roots.
    TrustBundle(Arc<TrustBundle>),
    /// Who is at an address.
    Workload(Arc<Workload>),
}
