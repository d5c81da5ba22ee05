//! Workloads: what runs, where, and as whom.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use heddle_ident::{ClusterName, Locality, NetworkName, SpiffeId, WorkloadId};

/// How a workload takes connections from the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MeshTransport {
    /// It has no proxy: plaintext only.
    None,
    /// A sidecar: mutual TLS on the application's own port, told by ALPN.
    MutualTls,
}

/// One replica of something that runs: a pod, a standalone process, a virtual machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// Mesh-wide unique id.
    pub id: WorkloadId,
    /// Name of the replica.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// The cluster it runs in.
    pub cluster: ClusterName,
    /// The network its addresses belong to.
    pub network: NetworkName,
    /// Its addresses; never empty for one that runs.
    pub addresses: Vec<IpAddr>,
    /// The identity it must prove.
    pub identity: SpiffeId,
    /// All labels.
    pub labels: Arc<BTreeMap<Arc<str>, Arc<str>>>,
    /// The name of the controlling Deployment (or kin), else of the replica itself; metrics call it `workload`.
    pub workload_name: Arc<str>,
    /// `service.istio.io/canonical-name`, else `app.kubernetes.io/name`, else `app`, else the workload name.
    pub canonical_name: Arc<str>,
    /// `service.istio.io/canonical-revision`, else `app.kubernetes.io/version`, else `version`, else `latest`.
    pub canonical_revision: Arc<str>,
    /// Region, zone, subzone.
    pub locality: Locality,
    /// How it takes connections from the mesh.
    pub transport: MeshTransport,
    /// It stands at an edge: its listeners say themselves what TLS they take, so that connections to them are not wrapped in
    /// the mesh's. Those that it makes are.
    pub is_gateway: bool,
}

impl Workload {
    /// How connections to it are to be made.
    pub fn taken_transport(&self) -> MeshTransport {
        if self.is_gateway { MeshTransport::None } else { self.transport }
    }
}
