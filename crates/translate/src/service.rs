//! Services as clients address them, out of Kubernetes Services and ServiceEntries.
//!
//! A host has one definition for the whole mesh: a Kubernetes Service wins over ServiceEntries, of which the oldest wins
//! for each port. Which namespaces see it is told per port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::istio::{Location, Resolution, ServiceEntry};
use heddle_api::kubernetes::{self, ServiceType};
use heddle_api::{IntOrText, Object, Resource as AnyObject};
use heddle_diag::Origin;
use heddle_ident::{Cidr, Host, HostPattern};
use heddle_ir::protocol::Protocol;

use crate::engine::{Derivation, Kind, Reader, Topic};
use crate::export::Export;
use crate::istio::locality::{self, Distribution};
use crate::linkerd::opaque_ports;
use crate::mesh::MeshKey;
use crate::names::service_host;
use crate::object::{ObjectKey, by_age};
use crate::protocol;

/// Annotation in which [`crate::workloads`] notes the addresses that it gave the hosts of a ServiceEntry:
/// `host=address,host=address`.
pub(crate) const ALLOCATED_ADDRESSES: &str = "heddle.io/allocated-addresses";

/// The service of a host; the text of a pattern where the host is one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ServiceKey(pub(crate) Arc<str>);

/// Every service that a namespace sees, by host.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct VisibleKey(pub(crate) Arc<str>);

/// A service.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Service {
    pub(crate) host: HostPattern,
    pub(crate) namespace: Arc<str>,
    /// Name without domain; the host where it is outside of the mesh.
    pub(crate) name: Arc<str>,
    pub(crate) origin: Origin,
    /// Outside of the mesh.
    pub(crate) external: bool,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ranges: Vec<Cidr>,
    pub(crate) headless: bool,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) subject_alt_names: Vec<Arc<str>>,
    /// Where it wants its traffic to go; none: it says nothing.
    pub(crate) distribution: Option<Distribution>,
}

/// A port of a service.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ServicePort {
    pub(crate) number: u16,
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) origin: Origin,
    /// The object that defines it, from which its endpoints are made.
    pub(crate) object: ObjectKey,
    pub(crate) export: Export,
    pub(crate) target: IntOrText,
    pub(crate) endpoints: Endpoints,
}

/// Where the endpoints of a port come from.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Endpoints {
    /// A name that the proxy resolves.
    Name(Arc<str>),
    /// The address that the client connected to.
    OriginalDestination,
    /// EndpointSlices, by hand.
    Slices,
    /// Entries of a ServiceEntry; with `dns` their addresses may be names.
    Static { dns: bool },
    /// Pods, and for ServiceEntries WorkloadEntries too, with these labels.
    Selected {
        labels: BTreeMap<String, String>,
        workload_entries: bool,
        /// Those that are not ready count as ready.
        not_ready: bool,
        /// IPv6 addresses are wanted before IPv4 addresses.
        ipv6_first: bool,
    },
    /// The name that the client asks for, resolved by the proxy.
    Requested,
    /// None can be found.
    Nowhere,
}

impl ServicePort {
    /// Whether both lead to the same endpoints, whichever object defines them.
    pub(crate) fn shares_endpoints(&self, other: &Self) -> bool {
        let same = self.endpoints == other.endpoints && self.target == other.target;
        let by_host = matches!(
            self.endpoints,
            Endpoints::Name(_) | Endpoints::OriginalDestination | Endpoints::Requested
        );
        same && by_host
    }
}

impl Service {
    /// The port of that number, if a client of the namespace sees it.
    pub(crate) fn port(&self, number: u16, namespace: &str) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number && port.export.shows_to(namespace))
    }

    /// The ports that a client of the namespace sees.
    pub(crate) fn visible_ports<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a ServicePort> {
        let seen = self.ports.iter().filter(move |port| port.export.shows_to(namespace));
        // Of several definitions of one number the first counts for each client.
        seen.filter(move |port| {
            self.port(port.number, namespace).is_some_and(|first| std::ptr::eq(first, *port))
        })
    }

    /// The host, where it is one and not a pattern.
    pub(crate) fn exact_host(&self) -> Option<&Host> {
        match &self.host {
            HostPattern::Exact(host) => Some(host),
            HostPattern::Any | HostPattern::Suffix(_) => None,
        }
    }

    /// The host under which destinations and endpoints are kept; for a wildcard a name that no request can have.
    pub(crate) fn identifying_host(&self) -> Option<Host> {
        match &self.host {
            HostPattern::Exact(host) => Some(host.clone()),
            HostPattern::Suffix(suffix) => Host::parse(&format!("{WILDCARD}{suffix}")).ok(),
            HostPattern::Any => None,
        }
    }
}

/// What stands for the star of a wildcard in [`Service::identifying_host`].
const WILDCARD: &str = "_wildcard.";

/// The text under which the service of an identifying host is found.
pub(crate) fn identified_text(host: &Host) -> Arc<str> {
    match host.as_str().strip_prefix(WILDCARD) {
        Some(suffix) => format!("*.{suffix}").into(),
        None => host.as_str().into(),
    }
}

impl Derivation for ServiceKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Service>> {
        let objects = reader.objects(Topic::ServicesByHost(self.0.clone()));
        let mut entries: Vec<Arc<Object<ServiceEntry>>> = Vec::new();
        let mut service = None;
        for object in objects {
            match object {
                AnyObject::Service(object) => service = Some(object),
                AnyObject::ServiceEntry(entry) => entries.push(entry),
                _ => {}
            }
        }
        entries.sort_by(|left, right| by_age(&left.meta, &right.meta));
        let mut found = match &service {
            Some(service) => from_service(reader, service)?,
            None => from_entries(reader, &self.0, &entries)?,
        };
        for entry in &entries {
            let names = entry.spec.subject_alt_names.iter().map(|name| name.as_str().into());
            found.subject_alt_names.extend(names);
        }
        Some(Arc::new(found))
    }
}

impl Derivation for VisibleKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<[Arc<Service>]> {
        let mut hosts: std::collections::BTreeSet<Arc<str>> = std::collections::BTreeSet::new();
        for object in reader.objects(Topic::Kind(Kind::Service)) {
            let AnyObject::Service(service) = object else { continue };
            let (name, namespace) = (&service.meta.name, &service.meta.namespace);
            let host = service_host(name, namespace, &reader.options().cluster_domain);
            hosts.extend(host.map(|host| host.as_str().into()));
        }
        for object in reader.objects(Topic::Kind(Kind::ServiceEntry)) {
            let AnyObject::ServiceEntry(entry) = object else { continue };
            hosts.extend(entry.spec.hosts.iter().map(|host| host.to_ascii_lowercase().into()));
        }
        hosts
            .into_iter()
            .filter_map(|host| reader.read(&ServiceKey(host)))
            .filter(|service| {
                service.visible_ports(&self.0).next().is_some()
                    || (service.ports.is_empty() && service.headless)
            })
            .collect()
    }
}

/// What an annotation says about where traffic is to go.
fn traffic_distribution(annotations: &BTreeMap<String, String>) -> Option<&str> {
    annotations.get("networking.istio.io/traffic-distribution").map(String::as_str)
}

fn from_service(reader: &Reader<'_>, object: &Arc<Object<kubernetes::Service>>) -> Option<Service> {
    let mesh = reader.read(&MeshKey);
    let (meta, spec) = (&object.meta, &object.spec);
    let host = service_host(&meta.name, &meta.namespace, &reader.options().cluster_domain)?;
    let export = Export::of(
        meta.annotations
            .get("networking.istio.io/exportTo")
            .into_iter()
            .flat_map(|list| list.split(',')),
        &meta.namespace,
        &mesh.service_export,
    );
    let external = spec.kind == Some(ServiceType::ExternalName);
    let endpoints = match (&spec.external_name, external) {
        (Some(name), true) => Endpoints::Name(name.as_str().into()),
        (None, true) => Endpoints::Nowhere,
        (_, false) if spec.selector.is_empty() => Endpoints::Slices,
        (_, false) => Endpoints::Selected {
            labels: spec.selector.clone(),
            workload_entries: false,
            not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            ipv6_first: spec.ip_families.first().is_some_and(|family| family == "IPv6"),
        },
    };
    let key = ObjectKey::of(&AnyObject::Service(object.clone()));
    let ports = spec.ports.iter().map(|port| ServicePort {
        number: port.port,
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol: match port.protocol {
            Some(kubernetes::Protocol::Udp) => Protocol::Udp,
            Some(kubernetes::Protocol::Sctp) => Protocol::Tcp,
            Some(kubernetes::Protocol::Tcp) | None => {
                let declared = protocol::of_port(
                    port.app_protocol.as_deref(),
                    port.name.as_deref(),
                    port.port,
                );
                opaque_ports::protocol(reader, object, port, declared)
            }
        },
        origin: object.origin_at(port.at),
        object: key.clone(),
        export: export.clone(),
        target: port.target_port.clone().unwrap_or(IntOrText::Int(i64::from(port.port))),
        endpoints: endpoints.clone(),
    });
    let listed = spec.cluster_ips.iter().chain(&spec.cluster_ip);
    let headless = !external && listed.clone().any(|address| address == "None");
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in listed.filter_map(|text| text.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Some(Service {
        host: HostPattern::Exact(host),
        namespace: meta.namespace.as_str().into(),
        name: meta.name.as_str().into(),
        origin: object.origin().clone(),
        external,
        addresses,
        ranges: Vec::new(),
        headless,
        ports: ports.collect(),
        subject_alt_names: Vec::new(),
        distribution: locality::distribution(
            spec.traffic_distribution.as_deref(),
            traffic_distribution(&meta.annotations),
        ),
    })
}

fn from_entries(
    reader: &Reader<'_>,
    text: &str,
    entries: &[Arc<Object<ServiceEntry>>],
) -> Option<Service> {
    let first = entries.first()?;
    let host = HostPattern::parse(text).ok().filter(|host| *host != HostPattern::Any)?;
    let mesh = reader.read(&MeshKey);
    let mut service = Service {
        host,
        namespace: first.meta.namespace.as_str().into(),
        name: text.into(),
        origin: first.origin().clone(),
        external: first.spec.location != Some(Location::MeshInternal),
        addresses: Vec::new(),
        ranges: Vec::new(),
        headless: false,
        ports: Vec::new(),
        subject_alt_names: Vec::new(),
        distribution: locality::distribution(None, traffic_distribution(&first.meta.annotations)),
    };
    for entry in entries {
        let (meta, spec) = (&entry.meta, &entry.spec);
        let export = Export::of(
            spec.export_to.iter().map(String::as_str),
            &meta.namespace,
            &mesh.service_export,
        );
        let key = ObjectKey::of(&AnyObject::ServiceEntry(entry.clone()));
        for port in &spec.ports {
            let declared = port.protocol.as_deref().filter(|text| !text.is_empty());
            let defined = ServicePort {
                number: port.number,
                name: port.name.as_str().into(),
                protocol: protocol::of_port(declared, Some(&port.name), port.number),
                origin: entry.origin_at(port.at),
                object: key.clone(),
                export: export.clone(),
                target: IntOrText::Int(i64::from(port.target_port.unwrap_or(port.number))),
                endpoints: entry_endpoints(entry, text),
            };
            let known = service.ports.iter().position(|known| known.number == port.number);
            match known.and_then(|index| service.ports.get_mut(index)) {
                // What leads to the same endpoints may be defined anew for other namespaces.
                Some(known) if !known.shares_endpoints(&defined) => {}
                Some(known) if known.protocol == defined.protocol => {
                    known.export = known.export.or(&defined.export);
                }
                None | Some(_) => service.ports.push(defined),
            }
        }
        add_addresses(&mut service, entry, text);
    }
    Some(service)
}

fn add_addresses(service: &mut Service, entry: &Object<ServiceEntry>, host: &str) {
    for address in &entry.spec.addresses {
        match (address.parse::<IpAddr>(), Cidr::parse(address)) {
            (Ok(address), _) if !service.addresses.contains(&address) => {
                service.addresses.push(address);
            }
            (Err(_), Ok(range)) => service.ranges.push(range),
            _ => {}
        }
    }
    let allocated = entry.meta.annotations.get(ALLOCATED_ADDRESSES);
    let allocated = allocated.into_iter().flat_map(|pairs| pairs.split(','));
    for (name, address) in allocated.filter_map(|pair| pair.split_once('=')) {
        if let (true, Ok(address)) = (name == host, address.parse()) {
            service.addresses.push(address);
        }
    }
    let tree = entry.written.tree();
    let status = entry
        .written
        .field(entry.written.root(), "status")
        .and_then(|status| tree.field(status, "addresses"));
    for item in status.into_iter().flat_map(|list| tree.children(list)) {
        let of_host = tree.field(item, "host").is_none_or(|name| **tree.text(name) == *host);
        let address = tree.field(item, "value").and_then(|value| tree.text(value).parse().ok());
        if let (true, Some(address)) = (of_host, address) {
            service.addresses.push(address);
        }
    }
}

pub(crate) fn entry_endpoints(entry: &Object<ServiceEntry>, host: &str) -> Endpoints {
    let spec = &entry.spec;
    if let Some(selector) = &spec.workload_selector {
        return Endpoints::Selected {
            labels: selector.labels.clone(),
            workload_entries: true,
            not_ready: false,
            ipv6_first: false,
        };
    }
    match spec.resolution.unwrap_or(Resolution::None) {
        Resolution::None => Endpoints::OriginalDestination,
        Resolution::Static => Endpoints::Static { dns: false },
        Resolution::Dns | Resolution::DnsRoundRobin => {
            if spec.endpoints.is_empty() {
                Endpoints::Name(host.into())
            } else {
                Endpoints::Static { dns: true }
            }
        }
        Resolution::DynamicDns => Endpoints::Requested,
    }
}
