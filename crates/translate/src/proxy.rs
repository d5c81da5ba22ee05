//! What a proxy learns first.

use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_ir::authorization::Authorization;
use heddle_ir::proxy::{Limits, ProxyRole, ProxySettings};

use crate::engine::{Derivation, Reader};
use crate::mesh::MeshKey;
use crate::network::{self, Direction};
use crate::object::ObjectKey;
use crate::workload::{WorkloadKey, workload};

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
            egress: network::system(reader, &facts, Direction::Egress).map(|system| {
                Arc::new(Authorization { systems: vec![system], authorizers: Vec::new() })
            }),
            role: if facts.is_gateway { ProxyRole::Gateway } else { ProxyRole::Sidecar },
        }))
    }
}
