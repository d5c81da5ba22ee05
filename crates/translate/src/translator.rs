//! The front of this crate: objects in, resources and reports out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_diag::{Diagnostics, OutcomeRecord};
use heddle_ident::{TrustDomain, WorkloadId};
use heddle_ir::gateway::Gateway;
use heddle_ir::outbound::ScopeId;
use heddle_ir::rate_limit::CountedDomain;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::Workload;

use crate::endpoint::EndpointsKey;
use crate::engine::{Engine, Kind, Topic};
use crate::gateway::{GatewayKey, ListenersKey, of_workload};
use crate::inbound::InboundKey;
use crate::index::IndexKey;
use crate::mesh::{MeshKey, TrustSettings};
use crate::object::ObjectKey;
use crate::options::Options;
use crate::outbound::OutboundQuery;
use crate::proxy::ProxyKey;
use crate::rate_limits::CountedDomainsKey;
use crate::report::{ObjectReportKey, Report};
use crate::scope::Scope;
use crate::secret::SecretQuery;
use crate::status::Status;
use crate::tables::Node;
use crate::workload::{AddressKey, WorkloadKey, pod_key};

/// A change of one object.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is gone.
    Delete(ObjectKey),
    /// The object is there, new or in the place of the one of its name.
    Upsert(AnyObject),
}

/// What a change may have touched.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changed {
    /// Resources that have been asked for, and not forgotten, of which the value may be another one now.
    pub resources: BTreeSet<ResourceName>,
    /// Objects of which a report has been asked for that may be another one now.
    pub reports: BTreeSet<ObjectKey>,
    /// Workloads that were put or removed, in name.
    pub workloads: BTreeSet<ObjectKey>,
}

/// Holds objects and everything derived from them.
///
/// It has no clock and no I/O: the same objects in any order give the same resources. Nothing is derived before it is
/// asked for, and nothing twice unless something it was derived from has changed.
pub struct Translator {
    engine: Engine,
}

impl Translator {
    /// A translator without objects.
    pub fn new(options: Options) -> Self {
        Self { engine: Engine::new(options) }
    }

    /// What was fixed when it was made.
    pub fn options(&self) -> &Options {
        &self.engine.options
    }

    /// Takes changes over. Cheap: nothing is derived here.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Changed {
        let mut dirty = Vec::new();
        let mut changed = Changed::default();
        for change in changes {
            let (key, object) = match change {
                Change::Delete(key) => (key, None),
                Change::Upsert(object) => (ObjectKey::of(&object), Some(object)),
            };
            if &*key.kind == "Pod" && key.group.is_empty() {
                changed.workloads.insert(key.clone());
            }
            // A ConfigMap that is gone takes the mesh configuration in it along.
            let within = (&*key.kind == "ConfigMap" && object.is_none())
                .then(|| ObjectKey { kind: "MeshConfig".into(), ..key.clone() });
            let gone = object.is_none().then(|| ObjectReportKey(key.clone()));
            self.engine.change(&key, object, &mut dirty);
            if let Some(gone) = gone {
                self.engine.forget(&gone);
            }
            if let Some(within) = within {
                self.engine.change(&within, None, &mut dirty);
            }
        }
        for node in dirty {
            match self.resource_name(&node) {
                Some(name) => {
                    changed.resources.insert(name);
                }
                None => {
                    if let Node::Report(ObjectReportKey(key)) = node {
                        changed.reports.insert(key);
                    }
                }
            }
        }
        changed
    }

    /// The value of a resource; none where there is none. The trust bundle is not this crate's: none.
    pub fn resource(&self, name: &ResourceName) -> Option<Resource> {
        match name {
            ResourceName::Endpoints(key) => {
                self.engine.value(&EndpointsKey(key.clone())).map(Resource::Endpoints)
            }
            ResourceName::Gateway(workload) => {
                self.engine.value(&GatewayKey(self.pod_key(workload)?)).map(Resource::Gateway)
            }
            ResourceName::Inbound(workload) => {
                self.engine.value(&InboundKey(self.pod_key(workload)?)).map(Resource::Inbound)
            }
            ResourceName::Index(scope) => {
                self.engine.value(&IndexKey(scope.clone())).map(Resource::Index)
            }
            ResourceName::Outbound(key) => {
                self.engine.value(&OutboundQuery(key.clone())).map(Resource::Outbound)
            }
            ResourceName::Proxy(workload) => {
                self.engine.value(&ProxyKey(self.pod_key(workload)?)).map(Resource::Proxy)
            }
            ResourceName::Secret(key) => {
                self.engine.value(&SecretQuery(key.clone())).map(Resource::Secret)
            }
            ResourceName::TrustBundle => None,
            ResourceName::Workload(network, address) => {
                self.engine.value(&AddressKey(network.clone(), *address)).map(Resource::Workload)
            }
        }
    }

    /// Says that a resource is not wanted any more: its value, and what only it needed, is dropped.
    pub fn forget(&mut self, name: &ResourceName) {
        match name {
            ResourceName::Endpoints(key) => self.engine.forget(&EndpointsKey(key.clone())),
            ResourceName::Gateway(workload) => {
                if let Some(key) = self.pod_key(workload) {
                    self.engine.forget(&GatewayKey(key));
                }
            }
            ResourceName::Inbound(workload) => {
                if let Some(key) = self.pod_key(workload) {
                    self.engine.forget(&InboundKey(key));
                }
            }
            ResourceName::Index(scope) => self.engine.forget(&IndexKey(scope.clone())),
            ResourceName::Outbound(key) => self.engine.forget(&OutboundQuery(key.clone())),
            ResourceName::Proxy(workload) => {
                if let Some(key) = self.pod_key(workload) {
                    self.engine.forget(&ProxyKey(key));
                }
            }
            ResourceName::Secret(key) => self.engine.forget(&SecretQuery(key.clone())),
            ResourceName::TrustBundle => {}
            ResourceName::Workload(network, address) => {
                self.engine.forget(&AddressKey(network.clone(), *address));
            }
        }
    }

    /// The scope that a workload's outbound configuration is found under.
    pub fn scope_of(&self, workload: &WorkloadId) -> Option<ScopeId> {
        let facts = self.engine.peek(&WorkloadKey(self.pod_key(workload)?))?;
        Some(facts.scope.clone())
    }

    /// The scope of a client in a namespace with these labels, whether or not there is one.
    pub fn scope_in(&self, namespace: &str, labels: &BTreeMap<Arc<str>, Arc<str>>) -> ScopeId {
        Scope::new(namespace, labels, &self.engine.options.network).id()
    }

    /// The trust domain, as the mesh configuration or the options have it.
    pub fn trust_domain(&self) -> TrustDomain {
        self.engine.peek(&MeshKey).trust_domain.clone()
    }

    /// What heddle counts itself, by the domains of rate limits.
    pub fn counted_domains(&self) -> Arc<[CountedDomain]> {
        self.engine.value(&CountedDomainsKey)
    }

    /// Whom the mesh configuration trusts.
    pub fn trust_settings(&self) -> TrustSettings {
        let mesh = self.engine.peek(&MeshKey);
        TrustSettings {
            trust_domain: mesh.trust_domain.clone(),
            aliases: mesh.trust_domain_aliases.clone(),
            authorities: mesh.authorities.clone(),
            root_namespace: mesh.root_namespace.clone(),
        }
    }

    /// What a gateway workload of the namespace and labels would listen on, whether one runs or not. The workload in it
    /// has an empty id.
    pub fn gateway_for(&self, namespace: &str, labels: &BTreeMap<Arc<str>, Arc<str>>) -> Gateway {
        let scope = Scope::new(namespace, labels, &self.engine.options.network);
        let listeners = self.engine.peek(&ListenersKey(scope.id()));
        of_workload(&listeners, WorkloadId::new(""))
    }

    /// Every workload, in the order of namespaces and names.
    pub fn workloads(&self) -> Vec<Arc<Workload>> {
        let ids = self.engine.store.of(&Topic::Kind(Kind::Pod));
        ids.iter()
            .filter_map(|pod| self.engine.peek(&ProxyKey(ObjectKey::of(pod))))
            .map(|proxy| proxy.workload.clone())
            .collect()
    }

    /// Everything there is to say about all objects, by file and line. Findings of reading are not among them.
    pub fn findings(&self) -> Diagnostics {
        let mut findings = Diagnostics::new();
        for key in self.engine.store.keys() {
            findings.extend(self.report(key).findings.iter().cloned());
        }
        findings.sort();
        findings
    }

    /// What became of every field of all objects. Outcomes of reading are not among them.
    pub fn outcomes(&self) -> Vec<OutcomeRecord> {
        let keys = self.engine.store.keys();
        keys.flat_map(|key| self.report(key).outcomes.clone()).collect()
    }

    /// What there is to say about one object, and what became of its fields; empty for one that is not there.
    pub fn report(&self, key: &ObjectKey) -> Arc<Report> {
        self.engine.value(&ObjectReportKey(key.clone()))
    }

    /// The status of an object; none for one that is not there.
    pub fn status(&self, key: &ObjectKey) -> Option<Status> {
        self.object(key)?;
        Some(Status::of(&self.report(key)))
    }

    /// An object as it was put.
    pub fn object(&self, key: &ObjectKey) -> Option<AnyObject> {
        self.engine.store.object(key)
    }

    /// The names of all objects.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectKey> {
        self.engine.store.keys()
    }

    /// How many derived values and inputs are held, for bounds in tests and metrics.
    pub fn derived_len(&self) -> usize {
        self.engine.len()
    }

    fn pod_key(&self, workload: &WorkloadId) -> Option<ObjectKey> {
        pod_key(workload, self.engine.options.cluster.as_str())
    }

    fn resource_name(&self, node: &Node) -> Option<ResourceName> {
        let workload = |key: &ObjectKey| {
            let ObjectKey { name, .. } = key;
            let cluster = &self.engine.options.cluster;
            WorkloadId::new(format!("{cluster}/Pod/{}/{}", name.namespace, name.name))
        };
        Some(match node {
            Node::Endpoints(key) => ResourceName::Endpoints(key.0.clone()),
            Node::Gateway(key) => ResourceName::Gateway(workload(&key.0)),
            Node::Inbound(key) => ResourceName::Inbound(workload(&key.0)),
            Node::Index(key) => ResourceName::Index(key.0.clone()),
            Node::Outbound(key) => ResourceName::Outbound(key.0.clone()),
            Node::Proxy(key) => ResourceName::Proxy(workload(&key.0)),
            Node::Secret(key) => ResourceName::Secret(key.0.clone()),
            Node::Address(key) => ResourceName::Workload(key.0.clone(), key.1),
            _ => return None,
        })
    }
}
