//! Pods and addresses out of Deployments and their kin, where no cluster makes them.
//!
//! A pure controller: the standalone control plane runs it on every change, the offline tools on files. The same
//! objects and the same previous [`Allocation`] always give the same result, and what had an address keeps it.

mod address;
pub(crate) mod fields;
mod gateways;
mod replicas;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use heddle_api::istio::{Resolution, ServiceEntry};
use heddle_api::kubernetes::{Service, ServiceType};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ident::HostPattern;

pub use self::address::{Allocation, Slots};
use self::address::{RangeV4, address_v6};
pub use self::fields::{is_known_field, report};
pub use self::gateways::{MADE_FOR, gateways};
pub use self::replicas::{
    COMPLETION_INDEX, PodPhase, PodStatus, pod_status, stand_in_name, with_status,
};
use crate::object::ObjectKey;
use crate::service::ALLOCATED_ADDRESSES;
pub use crate::workload::is_proxy;

/// Annotation of a pod that stands for a machine: where the ports of services are found on it, by their names
/// (`http=8080,grpc=9090`), as a WorkloadEntry says it.
pub const ENTRY_PORTS: &str = "internal.heddle.io/entry-ports";
/// Annotation of a pod that stands for a machine: its share of traffic, as a WorkloadEntry says it.
pub const ENTRY_WEIGHT: &str = "internal.heddle.io/entry-weight";
/// Annotation of a pod of a StatefulSet: the Service below whose name it is known by its own.
pub(crate) const SUBDOMAIN: &str = "internal.heddle.io/subdomain";
/// Addresses of pods.
pub const POD_RANGE_V4: &str = "10.244.0.0/16";
/// Addresses of pods, IPv6.
pub const POD_RANGE_V6: &str = "fd68:6564:646c:10::/64";
/// Virtual addresses of Services.
pub const SERVICE_RANGE_V4: &str = "10.96.0.0/12";
/// Virtual addresses of Services, IPv6.
pub const SERVICE_RANGE_V6: &str = "fd68:6564:646c:96::/112";
/// Virtual addresses of ServiceEntries that list none.
pub const ENTRY_RANGE_V4: &str = "240.240.0.0/16";

/// The first addresses of each range stay free, for the host's end of the network and for cluster services.
const FIRST: u32 = 10;
const PODS: RangeV4 = RangeV4 { base: Ipv4Addr::new(10, 244, 0, 0), prefix_bits: 16, first: FIRST };
const SERVICES: RangeV4 =
    RangeV4 { base: Ipv4Addr::new(10, 96, 0, 0), prefix_bits: 12, first: FIRST };
const ENTRIES: RangeV4 =
    RangeV4 { base: Ipv4Addr::new(240, 240, 0, 0), prefix_bits: 16, first: FIRST };
const PODS_V6: Ipv6Addr = Ipv6Addr::new(0xfd68, 0x6564, 0x646c, 0x10, 0, 0, 0, 0);
const SERVICES_V6: Ipv6Addr = Ipv6Addr::new(0xfd68, 0x6564, 0x646c, 0x96, 0, 0, 0, 0);
/// More Services than this have no address: the IPv6 range has no more numbers.
const SERVICES_MAX: u32 = 65_000;

/// What became of the objects.
#[derive(Clone, Debug)]
pub struct Expansion {
    /// All objects: those that were passed in, Services, ServiceEntries and Pods with their addresses, and the Pods that
    /// were made, in the order of their names after the others.
    pub objects: Vec<AnyObject>,
    /// Which of them were made here.
    pub made: Vec<ObjectKey>,
    /// To be passed in the next time.
    pub allocation: Allocation,
}

/// Makes the Pods of Deployments, StatefulSets, ReplicaSets, DaemonSets and Jobs, named `<workload>-<number>`, and gives
/// addresses to Pods, Services and ServiceEntries that have none. An address that an object names is honoured, and
/// `clusterIP: None` stays headless. `ready` is what new Pods say of themselves: offline everything counts as ready, a
/// running mesh knows better and says so by [`with_status`].
pub fn expand(objects: Vec<AnyObject>, previous: Allocation, ready: bool) -> Expansion {
    let mut allocation = previous;
    let objects = give_ages(objects);
    let objects = give_addresses(objects, &mut allocation);
    let (mut objects, pods) = replicas::make(objects, ready);
    let names: BTreeSet<String> = pods.iter().map(|draft| draft.name.to_string()).collect();
    allocation.pods.keep(|name| {
        names.contains(name)
            || replicas::stood_in_for(name).is_some_and(|replaced| names.contains(replaced))
    });
    let reserved: BTreeSet<u32> = pods
        .iter()
        .flat_map(|draft| &draft.status.addresses)
        .filter_map(|address| match address {
            IpAddr::V4(address) => PODS.number(*address),
            IpAddr::V6(_) => None,
        })
        .collect();
    let mut made = Vec::new();
    for mut draft in pods {
        if draft.status.addresses.is_empty()
            && let Some(number) =
                allocation.pods.number(&draft.name.to_string(), PODS.size(), &reserved)
        {
            draft.status.addresses = vec![PODS.address(number), address_v6(PODS_V6, FIRST, number)];
        }
        if let Some(pod) = draft.into_pod() {
            made.push(ObjectKey::of(&pod));
            objects.push(pod);
        }
    }
    Expansion { objects, made, allocation }
}

/// Where age decides, what is written first is older: objects that nothing has created yet get times in the order of
/// their appearance, after all times of clocks.
fn give_ages(mut objects: Vec<AnyObject>) -> Vec<AnyObject> {
    for (number, object) in objects.iter_mut().enumerate() {
        if object.meta().creation_timestamp.is_none() {
            let time = format!("9999-12-31T23:59:59.{number:09}Z");
            object.meta_mut().creation_timestamp = Some(time);
        }
    }
    objects
}

/// The Pod that stands in for one that is being replaced, with an address of its own; none where no address is left.
pub fn stand_in(pod: &AnyObject, allocation: &mut Allocation) -> Option<AnyObject> {
    let meta = pod.meta();
    let name = stand_in_name(&meta.name);
    let full = heddle_ident::ObjectName::new(meta.namespace.as_str(), name.as_str()).to_string();
    let number = allocation.pods.number(&full, PODS.size(), &BTreeSet::new())?;
    let addresses = vec![PODS.address(number), address_v6(PODS_V6, FIRST, number)];
    replicas::renamed(pod, &name, addresses)
}

fn give_addresses(objects: Vec<AnyObject>, allocation: &mut Allocation) -> Vec<AnyObject> {
    let mut services = BTreeSet::new();
    let mut entries = BTreeSet::new();
    let mut reserved = BTreeSet::new();
    for object in &objects {
        match object {
            AnyObject::Service(service) => {
                services.insert(service_name(service));
                let own = service.spec.cluster_ip.iter().chain(&service.spec.cluster_ips);
                let own = own.filter_map(|text| text.parse::<Ipv4Addr>().ok());
                reserved.extend(own.filter_map(|address| SERVICES.number(address)));
            }
            AnyObject::ServiceEntry(entry) => entries.extend(entry_names(entry).into_keys()),
            _ => {}
        }
    }
    allocation.services.keep(|name| services.contains(name));
    allocation.entries.keep(|name| entries.contains(name));
    // Numbers are given in the order of names, so that the order of files does not matter.
    let wanting: BTreeSet<String> = objects
        .iter()
        .filter_map(|object| match object {
            AnyObject::Service(service) if wants_address(service) => Some(service_name(service)),
            _ => None,
        })
        .collect();
    let mut numbers = BTreeMap::new();
    for name in wanting {
        if let Some(number) = allocation.services.number(&name, SERVICES_MAX, &reserved) {
            numbers.insert(name, number);
        }
    }
    for name in &entries {
        allocation.entries.number(name, ENTRIES.size(), &BTreeSet::new());
    }
    objects
        .into_iter()
        .map(|object| match object {
            AnyObject::Service(service) => match numbers.get(&service_name(&service)) {
                Some(number) => AnyObject::Service(Arc::new(with_cluster_ips(&service, *number))),
                None => AnyObject::Service(service),
            },
            AnyObject::ServiceEntry(entry) => {
                AnyObject::ServiceEntry(with_allocated(&entry, &allocation.entries))
            }
            other => other,
        })
        .collect()
}

fn service_name(service: &Object<Service>) -> String {
    format!("{}/{}", service.meta.namespace, service.meta.name)
}

/// Whether a Service is to get an address.
fn wants_address(service: &Object<Service>) -> bool {
    let spec = &service.spec;
    let says = spec.cluster_ip.iter().chain(&spec.cluster_ips).any(|text| !text.is_empty());
    !says && spec.kind != Some(ServiceType::ExternalName)
}

fn with_cluster_ips(service: &Object<Service>, number: u32) -> Object<Service> {
    let mut service = service.clone();
    let v4 = SERVICES.address(number).to_string();
    let v6 = address_v6(SERVICES_V6, FIRST, number).to_string();
    let spec = &mut service.spec;
    let single = spec.ip_family_policy.as_deref() == Some("SingleStack");
    let mut addresses: Vec<String> = match spec.ip_families.as_slice() {
        [] => vec![v4, v6],
        families => families
            .iter()
            .map(|family| if family == "IPv6" { v6.clone() } else { v4.clone() })
            .collect(),
    };
    if single {
        addresses.truncate(1);
    }
    spec.cluster_ip = addresses.first().cloned();
    spec.cluster_ips = addresses;
    service
}

/// The hosts of a ServiceEntry that get an address, by the name under which it is kept.
fn entry_names(entry: &Object<ServiceEntry>) -> BTreeMap<String, String> {
    const OPT_OUT: &str = "networking.istio.io/enable-autoallocate-ip";
    let spec = &entry.spec;
    let resolved =
        !matches!(spec.resolution, None | Some(Resolution::None | Resolution::DynamicDns));
    let wants = spec.addresses.is_empty()
        && (resolved || spec.workload_selector.is_some())
        && entry.meta.labels.get(OPT_OUT).is_none_or(|value| value != "false");
    if !wants {
        return BTreeMap::new();
    }
    let exact = |host: &&String| matches!(HostPattern::parse(host), Ok(HostPattern::Exact(_)));
    spec.hosts
        .iter()
        .filter(exact)
        .map(|host| {
            let host = host.to_ascii_lowercase();
            (format!("{}/{}/{host}", entry.meta.namespace, entry.meta.name), host)
        })
        .collect()
}

fn with_allocated(entry: &Arc<Object<ServiceEntry>>, slots: &Slots) -> Arc<Object<ServiceEntry>> {
    let pairs: Vec<String> = entry_names(entry)
        .into_iter()
        .filter_map(|(name, host)| {
            let number = slots.taken.get(&name)?;
            Some(format!("{host}={}", ENTRIES.address(*number)))
        })
        .collect();
    if pairs.is_empty() {
        return entry.clone();
    }
    let mut entry = Object::clone(entry);
    entry.meta.annotations.insert(ALLOCATED_ADDRESSES.to_owned(), pairs.join(","));
    Arc::new(entry)
}
