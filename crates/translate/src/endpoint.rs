//! Endpoints of a service port: pods, entries, slices or names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use heddle_api::istio::WorkloadEntry;
use heddle_api::{IntOrText, Meta, Object, Resource as AnyObject, kubernetes};
use heddle_ident::{Host, Locality, NetworkName, SpiffeId};
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth, EndpointSet, EndpointSetKey};
use heddle_ir::inbound::MutualTlsMode;
use heddle_ir::workload::MeshTransport;

use crate::client::selects;
use crate::engine::{Derivation, Reader, Topic};
use crate::istio::workload_group;
use crate::mesh::MeshKey;
use crate::object::ObjectKey;
use crate::pod;
use crate::service::{Endpoints, ServiceKey, ServicePort, identified_text};
use crate::workload::{Facts, MutualTlsKey, WorkloadKey};
use crate::workloads::{ENTRY_PORTS, ENTRY_WEIGHT};

/// The endpoints of a service port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct EndpointsKey(pub(crate) EndpointSetKey);

/// Label by which a workload outside of a cluster says that it takes mutual TLS.
const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

impl Derivation for EndpointsKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<EndpointSet>> {
        let service = reader.read(&ServiceKey(identified_text(&self.0.host)))?;
        let port = service.ports.iter().find(|port| port.number == self.0.port)?;
        let mut endpoints = match &port.endpoints {
            Endpoints::OriginalDestination | Endpoints::Requested | Endpoints::Nowhere => {
                Vec::new()
            }
            Endpoints::Name(name) => {
                let number = target_number(port, None).unwrap_or(port.number);
                let address = address_of(name, number, true);
                address.map(|address| outside(reader, address)).into_iter().collect()
            }
            Endpoints::Static { dns } => listed(reader, port, *dns),
            Endpoints::Slices => sliced(reader, &service.namespace, &service.name, port),
            Endpoints::Selected { labels, workload_entries, not_ready, ipv6_first } => {
                let wanted = Wanted {
                    service: &service.name,
                    namespace: &service.namespace,
                    labels,
                    workload_entries: *workload_entries,
                    not_ready: *not_ready,
                    ipv6_first: *ipv6_first,
                };
                selected(reader, &wanted, port)
            }
        };
        endpoints.sort_by(|left, right| {
            (&left.workload, sort_key(&left.address))
                .cmp(&(&right.workload, sort_key(&right.address)))
        });
        let endpoints = endpoints.into_iter().map(Arc::new).collect();
        Some(Arc::new(EndpointSet { key: self.0.clone(), endpoints }))
    }
}

fn sort_key(address: &EndpointAddress) -> (Option<SocketAddr>, &str, u16) {
    match address {
        EndpointAddress::Address(address) => (Some(*address), "", 0),
        EndpointAddress::Name(host, port) => (None, host.as_str(), *port),
    }
}

/// The number of the target port at a workload.
pub(crate) fn target_number(port: &ServicePort, facts: Option<&Facts>) -> Option<u16> {
    match &port.target {
        IntOrText::Int(number) => u16::try_from(*number).ok().filter(|number| *number > 0),
        IntOrText::Text(name) => facts
            .and_then(|facts| {
                facts.ports.iter().find(|(known, _)| **known == **name).map(|(_, number)| *number)
            })
            .or_else(|| name.parse().ok()),
    }
}

fn address_of(text: &str, port: u16, names: bool) -> Option<EndpointAddress> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(EndpointAddress::Address(SocketAddr::new(address, port)));
    }
    let host = Host::parse(text).ok().filter(|_| names)?;
    Some(EndpointAddress::Name(host, port))
}

/// An endpoint that is no workload of the mesh.
fn outside(reader: &Reader<'_>, address: EndpointAddress) -> Endpoint {
    Endpoint {
        workload: None,
        address,
        weight: 1,
        health: EndpointHealth::Healthy,
        labels: Arc::default(),
        identity: None,
        transport: MeshTransport::None,
        locality: Locality::default(),
        network: reader.options().network.clone(),
        namespace: Arc::default(),
        workload_name: Arc::default(),
        canonical_name: Arc::default(),
        canonical_revision: Arc::default(),
        hostname: Arc::default(),
        health_check: None,
    }
}

/// The entries that a ServiceEntry lists.
fn listed(reader: &Reader<'_>, port: &ServicePort, dns: bool) -> Vec<Endpoint> {
    let Some(AnyObject::ServiceEntry(object)) = reader.object(&port.object) else {
        return Vec::new();
    };
    let entries = object.spec.endpoints.iter().filter(|entry| !object.is_broken(entry.at));
    entries
        .filter_map(|entry| {
            entry_endpoint(reader, entry, &entry.labels, &object.meta.namespace, port, dns)
        })
        .collect()
}

/// A workload outside of a cluster.
fn entry_endpoint(
    reader: &Reader<'_>,
    entry: &WorkloadEntry,
    labels: &BTreeMap<String, String>,
    namespace: &str,
    port: &ServicePort,
    dns: bool,
) -> Option<Endpoint> {
    let number = entry.ports.get(&*port.name).copied().or_else(|| target_number(port, None))?;
    let address = address_of(entry.address.as_deref()?, number, dns)?;
    let mesh = reader.read(&MeshKey);
    let identity = entry.service_account.as_deref().filter(|account| !account.is_empty());
    let identity = identity.and_then(|account| {
        SpiffeId::for_service_account(&mesh.trust_domain, namespace, account).ok()
    });
    let meshed = labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == "istio");
    let text = |key: &str| labels.get(key).map(String::as_str);
    let name = text("service.istio.io/canonical-name")
        .or_else(|| text("app.kubernetes.io/name"))
        .or_else(|| text("app"));
    let revision = text("service.istio.io/canonical-revision")
        .or_else(|| text("app.kubernetes.io/version"))
        .or_else(|| text("version"));
    Some(Endpoint {
        weight: entry.weight.unwrap_or(1).max(1),
        labels: Arc::new(shared(labels)),
        identity,
        transport: if meshed { MeshTransport::MutualTls } else { MeshTransport::None },
        locality: Locality::parse(entry.locality.as_deref().unwrap_or_default()),
        network: match entry.network.as_deref().filter(|network| !network.is_empty()) {
            Some(network) => NetworkName::new(network),
            None => reader.options().network.clone(),
        },
        namespace: namespace.into(),
        canonical_name: name.unwrap_or_default().into(),
        canonical_revision: revision.unwrap_or("latest").into(),
        ..outside(reader, address)
    })
}

pub(crate) fn shared(labels: &BTreeMap<String, String>) -> BTreeMap<Arc<str>, Arc<str>> {
    labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

/// Which workloads a service selects.
struct Wanted<'a> {
    service: &'a Arc<str>,
    namespace: &'a Arc<str>,
    labels: &'a BTreeMap<String, String>,
    workload_entries: bool,
    not_ready: bool,
    ipv6_first: bool,
}

fn selected(reader: &Reader<'_>, wanted: &Wanted<'_>, port: &ServicePort) -> Vec<Endpoint> {
    let Some((key, value)) = wanted.labels.iter().next() else { return Vec::new() };
    let topic = Topic::WorkloadsByLabel(
        wanted.namespace.clone(),
        key.as_str().into(),
        value.as_str().into(),
    );
    let mut endpoints = Vec::new();
    for object in reader.objects(topic) {
        match object {
            AnyObject::Pod(pod) => endpoints.extend(pod_endpoint(reader, wanted, &pod, port)),
            AnyObject::WorkloadEntry(entry) if wanted.workload_entries => {
                let mut labels = entry.meta.labels.clone();
                labels.extend(entry.spec.labels.clone());
                if wanted.labels.iter().all(|(key, value)| labels.get(key) == Some(value)) {
                    let namespace = &entry.meta.namespace;
                    let found = entry_endpoint(reader, &entry.spec, &labels, namespace, port, true);
                    endpoints.extend(found.map(|endpoint| Endpoint {
                        health_check: workload_group::health_check(reader, &entry),
                        ..endpoint
                    }));
                }
            }
            _ => {}
        }
    }
    endpoints
}

fn pod_endpoint(
    reader: &Reader<'_>,
    wanted: &Wanted<'_>,
    pod: &Arc<Object<kubernetes::PodSpec>>,
    port: &ServicePort,
) -> Option<Endpoint> {
    if pod::is_over(&pod.written) {
        return None;
    }
    let key = WorkloadKey(ObjectKey::of(&AnyObject::Pod(pod.clone())));
    let facts = reader.read(&key)?;
    if !selects(wanted.labels, &facts.labels) {
        return None;
    }
    let addresses = pod::addresses(&pod.written);
    let address = if wanted.ipv6_first {
        addresses.iter().find(|address| address.is_ipv6())
    } else {
        addresses.first()
    };
    let number = entry_port(&pod.meta, &port.name).or_else(|| target_number(port, Some(&facts)))?;
    let address = SocketAddr::new(*address?, number);
    let health = if pod.meta.deletion_timestamp.is_some() {
        EndpointHealth::Draining
    } else if wanted.not_ready || pod::is_ready(&pod.written) {
        EndpointHealth::Healthy
    } else {
        EndpointHealth::Unhealthy
    };
    let endpoint = workload_endpoint(reader, &key, &facts, address, health);
    let weight = pod.meta.annotations.get(ENTRY_WEIGHT).and_then(|weight| weight.parse().ok());
    Some(Endpoint {
        weight: weight.map_or(endpoint.weight, |weight: u32| weight.max(1)),
        hostname: facts.hostname_below(wanted.service),
        ..endpoint
    })
}

/// Where a port of a service is found on a machine that a pod stands for; none: where it is found on any pod.
fn entry_port(meta: &Meta, name: &str) -> Option<u16> {
    let ports = meta.annotations.get(ENTRY_PORTS)?.split(',');
    let mut ports = ports.filter_map(|entry| entry.split_once('='));
    ports.find(|(own, _)| *own == name)?.1.parse().ok()
}

fn workload_endpoint(
    reader: &Reader<'_>,
    key: &WorkloadKey,
    facts: &Facts,
    address: SocketAddr,
    health: EndpointHealth,
) -> Endpoint {
    // A server that refuses mutual TLS on the port gets plaintext.
    let mode = reader.read(&MutualTlsKey(key.0.clone()));
    let disabled =
        mode.is_some_and(|mode| mode.of_port(address.port()).mode == MutualTlsMode::Disable);
    Endpoint {
        workload: Some(facts.id.clone()),
        address: EndpointAddress::Address(address),
        weight: 1,
        health,
        labels: facts.labels.clone(),
        identity: Some(facts.identity.clone()),
        // The listeners of a gateway are not for the mesh; who wants TLS there says so in a DestinationRule.
        transport: if disabled || facts.is_gateway { MeshTransport::None } else { facts.transport },
        locality: facts.locality.clone(),
        network: facts.network.clone(),
        namespace: facts.namespace.clone(),
        workload_name: facts.workload_name.clone(),
        canonical_name: facts.canonical_name.clone(),
        canonical_revision: facts.canonical_revision.clone(),
        hostname: Arc::default(),
        health_check: None,
    }
}

/// The endpoints that slices list for a service without selector.
fn sliced(
    reader: &Reader<'_>,
    namespace: &Arc<str>,
    service: &Arc<str>,
    port: &ServicePort,
) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for object in reader.objects(Topic::EndpointSlicesOf(namespace.clone(), service.clone())) {
        let AnyObject::EndpointSlice(slice) = object else { continue };
        let of_port = slice
            .spec
            .ports
            .iter()
            .find(|candidate| candidate.name.as_deref().unwrap_or_default() == &*port.name);
        let Some(number) = of_port.map(|port| port.port) else { continue };
        let Some(number) = number.or_else(|| target_number(port, None)) else { continue };
        for endpoint in &slice.spec.endpoints {
            let Some(address) = endpoint.addresses.first() else { continue };
            let Some(address) = address_of(address, number, true) else { continue };
            if endpoints.iter().any(|known| known.address == address) {
                continue;
            }
            let (ready, terminating) = match &endpoint.conditions {
                Some(conditions) => {
                    (conditions.ready.unwrap_or(true), conditions.terminating.unwrap_or(false))
                }
                None => (true, false),
            };
            let health = match (terminating, ready) {
                (true, _) => EndpointHealth::Draining,
                (false, true) => EndpointHealth::Healthy,
                (false, false) => EndpointHealth::Unhealthy,
            };
            let reference = endpoint.target_ref.as_ref();
            let pod = reference.filter(|reference| reference.kind.as_deref() == Some("Pod"));
            let key = pod
                .and_then(|pod| pod.name.as_deref())
                .map(|name| WorkloadKey(ObjectKey::new("", "Pod", namespace, name)));
            let facts = key.and_then(|key| Some((reader.read(&key)?, key)));
            let known = match (facts, &address) {
                (Some((facts, key)), EndpointAddress::Address(address)) => {
                    workload_endpoint(reader, &key, &facts, *address, health)
                }
                _ => Endpoint { health, ..outside(reader, address) },
            };
            let hostname = endpoint.hostname.as_deref().unwrap_or_default().into();
            endpoints.push(Endpoint { hostname, ..known });
        }
    }
    endpoints
}
