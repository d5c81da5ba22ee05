//! Encoded resources, made when first asked for and kept until they change or nobody subscribes any more.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use heddle_ident::WorkloadId;
use heddle_ir::endpoint::EndpointSetKey;
use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::trust::TrustBundle;
use heddle_proto::resource::{Encoded, encode};
use heddle_sync::references;
use heddle_translate::Translator;

/// The cache.
#[derive(Default)]
pub(crate) struct Catalog {
    encoded: HashMap<ResourceName, Option<Arc<Encoded>>>,
    bundle: Option<Arc<TrustBundle>>,
}

impl Catalog {
    /// The roots as they are now. True: they are others than before.
    pub(crate) fn set_bundle(&mut self, bundle: TrustBundle) -> bool {
        if self.bundle.as_deref() == Some(&bundle) {
            return false;
        }
        self.bundle = Some(Arc::new(bundle));
        self.encoded.remove(&ResourceName::TrustBundle);
        true
    }

    /// The roots as they are now.
    pub(crate) fn bundle(&self) -> Option<&Arc<TrustBundle>> {
        self.bundle.as_ref()
    }

    /// Something about the resource changed.
    pub(crate) fn invalidate(&mut self, name: &ResourceName) {
        self.encoded.remove(name);
    }

    /// The resource, encoded; none: it does not exist.
    pub(crate) fn encoded(
        &mut self,
        translator: &Translator,
        name: &ResourceName,
    ) -> Option<Arc<Encoded>> {
        if let Some(encoded) = self.encoded.get(name) {
            return encoded.clone();
        }
        let resource = match name {
            ResourceName::TrustBundle => self.bundle.clone().map(Resource::TrustBundle),
            other => translator.resource(other),
        };
        let encoded = resource.map(|resource| Arc::new(encode(&resource)));
        self.encoded.insert(name.clone(), encoded.clone());
        encoded
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.encoded.len()
    }
}

/// What one proxy may see.
pub(crate) struct View<'a> {
    pub(crate) catalog: &'a mut Catalog,
    pub(crate) translator: &'a Translator,
    pub(crate) workload: &'a WorkloadId,
    /// Under which its outbound configuration is found; none: the workload is gone.
    pub(crate) scope: Option<&'a ScopeId>,
    /// The destinations it subscribes to.
    pub(crate) outbounds: &'a BTreeSet<OutboundKey>,
}

impl View<'_> {
    /// Whether the proxy's identity entitles it to the resource.
    fn may_see(&self, name: &ResourceName) -> bool {
        let Some(scope) = self.scope else { return false };
        match name {
            ResourceName::Endpoints(key) => self.may_see_endpoints(scope, key),
            ResourceName::Gateway(workload)
            | ResourceName::Inbound(workload)
            | ResourceName::Proxy(workload) => workload == self.workload,
            ResourceName::Index(own) => own == scope,
            ResourceName::Outbound(key) => key.scope == *scope,
            ResourceName::Secret(_) => self.refers_to(scope, name),
            // Who is at an address: needed for telemetry of any peer, and no secret inside the mesh.
            ResourceName::TrustBundle | ResourceName::Workload(..) => true,
        }
    }

    /// Whether the proxy's own gateway, or a destination that it subscribes to, refers to the resource. Whether its
    /// namespace may use the secret at all was decided when the reference was made.
    fn refers_to(&self, scope: &ScopeId, name: &ResourceName) -> bool {
        let own = [
            ResourceName::Gateway(self.workload.clone()),
            ResourceName::Inbound(self.workload.clone()),
        ];
        let outbounds = self.outbounds.iter().filter(|outbound| outbound.scope == *scope);
        own.into_iter().chain(outbounds.cloned().map(ResourceName::Outbound)).any(|from| {
            let resource = self.translator.resource(&from);
            resource.is_some_and(|resource| references(&resource).contains(name))
        })
    }

    /// Endpoints of what is visible in the scope, or of what one of its routes leads to.
    fn may_see_endpoints(&self, scope: &ScopeId, key: &EndpointSetKey) -> bool {
        let index = self.translator.resource(&ResourceName::Index(scope.clone()));
        if let Some(Resource::Index(index)) = index
            && index.frontends.iter().any(|frontend| frontend.exact_host() == Some(&key.host))
        {
            return true;
        }
        self.refers_to(scope, &ResourceName::Endpoints(key.clone()))
    }
}

impl heddle_sync::Catalog for View<'_> {
    fn resource(&mut self, name: &ResourceName) -> Option<Arc<Encoded>> {
        if !self.may_see(name) {
            return None;
        }
        self.catalog.encoded(self.translator, name)
    }
}
