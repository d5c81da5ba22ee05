//! Workloads: who runs, as whom, and in which scope.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::kubernetes::{Container, PodSpec, Protocol};
use heddle_api::{IntOrText, Meta, Object, Resource as AnyObject};
use heddle_ident::{Locality, NetworkName, SpiffeId, WorkloadId};
use heddle_ir::outbound::ScopeId;
use heddle_ir::workload::{MeshTransport, Workload};

use crate::endpoint::shared;
use crate::engine::{Derivation, Reader, Topic};
use crate::istio::peer_authentication::{self, Effective};
use crate::linkerd;
use crate::mesh::MeshKey;
use crate::object::ObjectKey;
use crate::options::Enrolment;
use crate::pod;
use crate::scope::Scope;
use crate::workloads::SUBDOMAIN;

/// What is known of a Pod besides its condition and addresses.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct WorkloadKey(pub(crate) ObjectKey);

/// Mutual TLS at a workload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct MutualTlsKey(pub(crate) ObjectKey);

/// Whose an address is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct AddressKey(pub(crate) NetworkName, pub(crate) IpAddr);

/// What is known of a workload besides its condition and addresses, so that policy depends on neither.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Facts {
    pub(crate) id: WorkloadId,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) labels: Arc<BTreeMap<Arc<str>, Arc<str>>>,
    pub(crate) identity: SpiffeId,
    pub(crate) workload_name: Arc<str>,
    pub(crate) canonical_name: Arc<str>,
    pub(crate) canonical_revision: Arc<str>,
    pub(crate) locality: Locality,
    pub(crate) network: NetworkName,
    pub(crate) transport: MeshTransport,
    pub(crate) scope: ScopeId,
    /// Its own name, and the service below whose name it is known.
    pub(crate) hostname: Option<(Arc<str>, Arc<str>)>,
    /// It runs no application but stands at an edge, see [`is_gateway`].
    pub(crate) is_gateway: bool,
    /// Ports of the containers by name, TCP only.
    pub(crate) ports: Vec<(Arc<str>, u16)>,
    /// Ports and paths of the probes.
    pub(crate) probes: Vec<(u16, Arc<str>)>,
    /// What Linkerd's annotations say about its ports.
    pub(crate) linkerd: linkerd::settings::Settings,
}

impl Facts {
    /// Its own name below that of a service of its namespace; empty: it has none.
    pub(crate) fn hostname_below(&self, service: &str) -> Arc<str> {
        let own = self.hostname.as_ref().filter(|(_, below)| **below == *service);
        own.map(|(name, _)| name.clone()).unwrap_or_default()
    }
}

/// The key of the Pod behind a workload id; none for an id of another cluster or kind.
pub(crate) fn pod_key(id: &WorkloadId, cluster: &str) -> Option<ObjectKey> {
    let (namespace, name) =
        id.as_str().strip_prefix(cluster)?.strip_prefix("/Pod/")?.split_once('/')?;
    (!name.contains('/')).then(|| ObjectKey::new("", "Pod", namespace, name))
}

impl Derivation for WorkloadKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Facts>> {
        let Some(AnyObject::Pod(pod)) = reader.object(&self.0) else { return None };
        let (meta, spec) = (&pod.meta, &pod.spec);
        let options = reader.options();
        let mesh = reader.read(&MeshKey);
        let account = spec.service_account_name.as_deref().or(spec.service_account.as_deref());
        let account = account.filter(|account| !account.is_empty()).unwrap_or("default");
        let identity =
            SpiffeId::for_service_account(&mesh.trust_domain, &meta.namespace, account).ok()?;
        let labels = Arc::new(shared(&meta.labels));
        let label = |key: &str| labels.get(key).cloned();
        let workload_name =
            label("service.istio.io/workload-name").unwrap_or_else(|| workload_name(meta));
        let network = label("topology.istio.io/network")
            .map_or_else(|| options.network.clone(), NetworkName::new);
        let meshed =
            is_meshed(&pod, options.enrolment) && !linkerd::settings::is_left_out(reader, &pod);
        Some(Arc::new(Facts {
            id: WorkloadId::new(format!(
                "{}/Pod/{}/{}",
                options.cluster, meta.namespace, meta.name
            )),
            name: meta.name.as_str().into(),
            namespace: meta.namespace.as_str().into(),
            identity,
            canonical_name: label("service.istio.io/canonical-name")
                .or_else(|| label("app.kubernetes.io/name"))
                .or_else(|| label("app"))
                .unwrap_or_else(|| workload_name.clone()),
            canonical_revision: label("service.istio.io/canonical-revision")
                .or_else(|| label("app.kubernetes.io/version"))
                .or_else(|| label("version"))
                .unwrap_or_else(|| "latest".into()),
            workload_name,
            locality: locality(reader, &labels, spec),
            scope: Scope::new(&meta.namespace, &labels, &network).id(),
            network,
            hostname: hostname(meta, spec),
            is_gateway: is_gateway(&pod.meta.labels, &pod.meta.annotations, &pod.spec),
            transport: if meshed { MeshTransport::MutualTls } else { MeshTransport::None },
            linkerd: linkerd::settings::of(reader, &pod, &ports(spec)),
            ports: ports(spec),
            probes: probes(spec),
            labels,
        }))
    }
}

/// What a cluster's endpoints controller goes by: both names, which the controller of StatefulSets writes into its pods.
fn hostname(meta: &Meta, spec: &PodSpec) -> Option<(Arc<str>, Arc<str>)> {
    if let Some(service) = meta.annotations.get(SUBDOMAIN) {
        return Some((meta.name.as_str().into(), service.as_str().into()));
    }
    Some((spec.hostname.as_deref()?.into(), spec.subdomain.as_deref()?.into()))
}

impl Derivation for MutualTlsKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Effective>> {
        let facts = reader.read(&WorkloadKey(self.0.clone()))?;
        Some(Arc::new(peer_authentication::effective(reader, &facts.namespace, &facts.labels)))
    }
}

impl Derivation for AddressKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Workload>> {
        for object in reader.objects(Topic::WorkloadsByAddress(self.1)) {
            let AnyObject::Pod(pod) = &object else { continue };
            if pod::is_over(&pod.written) {
                continue;
            }
            let key = WorkloadKey(ObjectKey::of(&object));
            let Some(facts) = reader.read(&key) else { continue };
            if facts.network == self.0 {
                return Some(Arc::new(workload(reader, &facts, pod)));
            }
        }
        None
    }
}

/// The workload of a Pod with its addresses.
pub(crate) fn workload(reader: &Reader<'_>, facts: &Facts, pod: &Object<PodSpec>) -> Workload {
    Workload {
        id: facts.id.clone(),
        name: facts.name.clone(),
        namespace: facts.namespace.clone(),
        cluster: reader.options().cluster.clone(),
        network: facts.network.clone(),
        addresses: pod::addresses(&pod.written),
        identity: facts.identity.clone(),
        labels: facts.labels.clone(),
        workload_name: facts.workload_name.clone(),
        canonical_name: facts.canonical_name.clone(),
        canonical_revision: facts.canonical_revision.clone(),
        locality: facts.locality.clone(),
        transport: facts.transport,
        is_gateway: facts.is_gateway,
    }
}

/// Whether a pod has a proxy.
fn is_meshed(pod: &Object<PodSpec>, enrolment: Enrolment) -> bool {
    let meta = &pod.meta;
    match enrolment {
        Enrolment::Injected => meta.annotations.contains_key("sidecar.istio.io/status"),
        Enrolment::Standalone => {
            const INJECT: &str = "sidecar.istio.io/inject";
            // The label wins over the older annotation.
            let inject = meta.labels.get(INJECT).or_else(|| meta.annotations.get(INJECT));
            inject.is_none_or(|inject| inject != "false") && pod.spec.host_network != Some(true)
        }
    }
}

/// Whether a pod is a gateway: its template says so (Istio's injection template, the label of pods that are made for a
/// Gateway of the Gateway API), or all its containers are proxies that an injector or Istio's charts bring.
pub(crate) fn is_gateway(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    spec: &PodSpec,
) -> bool {
    let templates = annotations.get("inject.istio.io/templates");
    let by_template = templates
        .is_some_and(|templates| templates.split(',').any(|template| template.trim() == "gateway"));
    let containers = &spec.containers;
    by_template
        || labels.contains_key("gateway.networking.k8s.io/gateway-name")
        || (!containers.is_empty() && containers.iter().all(is_proxy))
}

/// Whether a container stands for the proxy that the mesh brings: an image of Istio's, and nothing to run.
pub fn is_proxy(container: &Container) -> bool {
    let image = container.image.as_deref().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let name = name.split([':', '@']).next().unwrap_or_default();
    container.command.is_empty() && matches!(name, "auto" | "proxyv2")
}

/// The name of what made the pod: its controller, or the Deployment behind a ReplicaSet, else the pod itself.
fn workload_name(meta: &Meta) -> Arc<str> {
    let controller = meta
        .owner_references
        .iter()
        .find(|owner| owner.controller == Some(true))
        .or_else(|| meta.owner_references.first());
    let Some(owner) = controller else { return meta.name.as_str().into() };
    let hash = meta.labels.get("pod-template-hash");
    let deployment = hash.filter(|_| owner.kind == "ReplicaSet").and_then(|hash| {
        owner.name.strip_suffix(hash.as_str()).and_then(|name| name.strip_suffix('-'))
    });
    deployment.unwrap_or(&owner.name).into()
}

fn locality(
    reader: &Reader<'_>,
    labels: &BTreeMap<Arc<str>, Arc<str>>,
    spec: &PodSpec,
) -> Locality {
    if let Some(text) = labels.get("istio-locality") {
        // Dots stand for slashes, which label values cannot have.
        return Locality::parse(&text.replace('.', "/"));
    }
    let node = spec.node_name.as_deref().map(|name| ObjectKey::new("", "Node", "", name));
    let Some(AnyObject::Node(node)) = node.and_then(|key| reader.object(&key)) else {
        return Locality::default();
    };
    let label =
        |key: &str| node.meta.labels.get(key).map(String::as_str).unwrap_or_default().into();
    Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    }
}

fn ports(spec: &PodSpec) -> Vec<(Arc<str>, u16)> {
    let ports =
        spec.containers.iter().chain(&spec.init_containers).flat_map(|container| &container.ports);
    ports
        .filter(|port| matches!(port.protocol, None | Some(Protocol::Tcp)))
        .map(|port| (port.name.as_deref().unwrap_or_default().into(), port.container_port))
        .collect()
}

fn probes(spec: &PodSpec) -> Vec<(u16, Arc<str>)> {
    let mut paths: Vec<(u16, Arc<str>)> = Vec::new();
    for container in &spec.containers {
        let probes =
            [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
        for get in probes.into_iter().flatten().filter_map(|probe| probe.http_get.as_ref()) {
            let path = get.path.as_deref().unwrap_or("/");
            let path = path.split('?').next().unwrap_or_default();
            let path: Arc<str> =
                if path.starts_with('/') { path.into() } else { format!("/{path}").into() };
            if let Some(port) = container_port(container, &get.port)
                && !paths.contains(&(port, path.clone()))
            {
                paths.push((port, path));
            }
        }
    }
    paths
}

fn container_port(container: &Container, port: &IntOrText) -> Option<u16> {
    match port {
        IntOrText::Int(number) => u16::try_from(*number).ok(),
        IntOrText::Text(name) => container
            .ports
            .iter()
            .find(|known| known.name.as_ref() == Some(name))
            .map(|known| known.container_port)
            .or_else(|| name.parse().ok()),
    }
}
