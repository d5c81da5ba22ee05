//! A pod as its node's supervisor wants it: everything resolved.

mod container;
mod environment;
pub(crate) mod machine;
pub(crate) mod plain;
mod traffic;
mod volumes;

use std::sync::Arc;

use heddle_api::kubernetes::{ConfigMap, PodSpec, RestartPolicy, Secret, Service};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ir::proxy::{ProxyRole, ProxySettings};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::MeshTransport;
use heddle_proto::node;
use heddle_translate::workloads::{is_proxy, pod_status};
use heddle_translate::{ObjectKey, Translator};

use crate::plan::PodEntry;

pub(crate) use traffic::published_services;

/// A pod that does not say otherwise has this long to end (Kubernetes' default).
const TERMINATION_GRACE_MS: u64 = 30_000;

/// What a pod is resolved against.
pub(crate) struct Surroundings<'a> {
    pub(crate) translator: &'a Translator,
    pub(crate) pod: &'a Object<PodSpec>,
    pub(crate) addresses: Vec<String>,
    /// Where commands start that name no other directory; may be empty.
    pub(crate) folder: &'a str,
}

impl<'a> Surroundings<'a> {
    /// A ConfigMap of the pod's namespace.
    fn config_map(&self, name: &str) -> Option<Arc<Object<ConfigMap>>> {
        match self.object("ConfigMap", name)? {
            AnyObject::ConfigMap(map) => Some(map),
            _ => None,
        }
    }

    /// A Secret of the pod's namespace.
    fn secret(&self, name: &str) -> Option<Arc<Object<Secret>>> {
        match self.object("Secret", name)? {
            AnyObject::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    fn object(&self, kind: &str, name: &str) -> Option<AnyObject> {
        self.translator.object(&ObjectKey::new("", kind, &self.pod.meta.namespace, name))
    }

    /// The service account that the pod runs as.
    fn service_account(&self) -> &'a str {
        let spec = &self.pod.spec;
        let name = spec.service_account_name.as_ref().or(spec.service_account.as_ref());
        name.map_or("default", String::as_str)
    }
}

/// What shall run for a pod. `folder` is where commands start that name no other directory, `services` are those whose
/// ports are opened on the host.
pub(crate) fn workload(
    entry: &PodEntry,
    translator: &Translator,
    folder: &str,
    services: &[Arc<Object<Service>>],
) -> Option<node::DesiredWorkload> {
    let AnyObject::Pod(pod) = &entry.pod else { return None };
    let addresses: Vec<String> =
        pod_status(&entry.pod).addresses.iter().map(ToString::to_string).collect();
    let surroundings = Surroundings { translator, pod, addresses: addresses.clone(), folder };
    let (meta, spec) = (&pod.meta, &pod.spec);
    let owner = meta.owner_references.iter().find(|owner| owner.controller == Some(true));
    let grace = spec.termination_grace_period_seconds.map(u64::try_from);
    // What stands for the proxy is not run as a container: the mesh brings its own.
    let containers = spec.containers.iter().filter(|container| !is_proxy(container));
    let containers: Vec<_> = containers.map(|c| container::container(c, &surroundings)).collect();
    let settings = settings(entry, translator);
    let role = settings.as_ref().map(|settings| settings.role);
    let meshed =
        settings.is_some_and(|settings| settings.workload.transport == MeshTransport::MutualTls);
    Some(node::DesiredWorkload {
        id: entry.workload.to_string(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: entry.uid.clone(),
        service_account: surroundings.service_account().to_owned(),
        labels: meta.labels.clone(),
        annotations: meta.annotations.clone(),
        owner_kind: owner.map(|owner| owner.kind.clone()).unwrap_or_default(),
        owner_name: owner.map(|owner| owner.name.clone()).unwrap_or_default(),
        addresses,
        meshed,
        gateway: role == Some(ProxyRole::Gateway),
        restart_policy: match spec.restart_policy {
            None | Some(RestartPolicy::Always) => node::RestartPolicy::Always,
            Some(RestartPolicy::Never) => node::RestartPolicy::Never,
            Some(RestartPolicy::OnFailure) => node::RestartPolicy::OnFailure,
        }
        .into(),
        termination_grace_ms: grace
            .and_then(Result::ok)
            .map_or(TERMINATION_GRACE_MS, |seconds| seconds.saturating_mul(1000)),
        init_containers: spec
            .init_containers
            .iter()
            .map(|c| container::container(c, &surroundings))
            .collect(),
        published_ports: traffic::published(pod, services),
        containers,
        dns: Some(traffic::dns(&surroundings)),
        traffic: Some(traffic::settings(&meta.annotations)),
        hostname: spec.hostname.clone().unwrap_or_else(|| meta.name.clone()),
    })
}

/// What the proxy of the pod is told about it.
fn settings(entry: &PodEntry, translator: &Translator) -> Option<Arc<ProxySettings>> {
    match translator.resource(&ResourceName::Proxy(entry.workload.clone()))? {
        Resource::Proxy(settings) => Some(settings),
        _ => None,
    }
}
