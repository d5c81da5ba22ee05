//! What a proxy learns first.

use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_ir::authorization::Authorization;
use heddle_ir::proxy::{Limits, ProxyRole, ProxySettings};

use crate::engine::{Derivation, Reader};
use crate::linkerd;
use crate::mesh::MeshKey;
use crate::network::{self, Direction};
use crate::object::ObjectKey;
use crate::workload::{Facts, WorkloadKey, workload};

/// Settings of the proxy of a Pod.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ProxyKey(pub(crate) ObjectKey);

impl Derivation for ProxyKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<ProxySettings>> {
        let facts = reader.read(&WorkloadKey(self.0.clone()))?;
        let Some(AnyObject::Pod(pod)) = reader.object(&self.0) else { return None };
        let mesh = reader.read(&MeshKey);
        Some(Arc::new(ProxySettings {
            workload: Arc::new(workload(reader, &facts, &pod)),
            scope: facts.scope.clone(),
            trust_domain: mesh.trust_domain.clone(),
            trust_domain_aliases: mesh.trust_domain_aliases.clone(),
            limits: Limits::default(),
            drain_duration: mesh.drain_duration,
            detection_timeout: mesh.detection_timeout,
            access_log: mesh.access_log,
            access_log_path: mesh.access_log_path.clone(),
            access_log_format: mesh.access_log_format.clone(),
            egress: egress(reader, &facts),
            role: if facts.is_gateway { ProxyRole::Gateway } else { ProxyRole::Sidecar },
        }))
    }
}

/// What the workload may do to others: what network policies and Linkerd's EgressNetworks say; none where neither refuses
/// anything.
fn egress(reader: &Reader<'_>, facts: &Facts) -> Option<Arc<Authorization>> {
    let of_policies = network::system(reader, facts, Direction::Egress);
    let of_networks = linkerd::egress_network::system(reader, facts);
    let systems: Vec<_> = of_policies.into_iter().chain(of_networks).collect();
    (!systems.is_empty()).then(|| Arc::new(Authorization { systems, authorizers: Vec::new() }))
}
