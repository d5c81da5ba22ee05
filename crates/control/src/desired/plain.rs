//! Services for workloads without a proxy: nobody beside them knows virtual addresses, so the kernel and the resolver
//! are told. Of UDP, which no proxy takes, the kernel is told for the others too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use heddle_api::Resource as AnyObject;
use heddle_api::kubernetes::{Protocol, Service};
use heddle_ident::Host;
use heddle_ir::endpoint::{EndpointAddress, EndpointHealth, EndpointSetKey};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_proto::node::{NameRecord, VirtualAddress};
use heddle_translate::Translator;

/// More endpoints than this of one port are not told apart by who only needs some.
const ENDPOINTS_MAX: usize = 32;
/// So many endpoints the kernel is told of, over all services; the names of what comes later lead to endpoints.
const ENDPOINTS_TOTAL_MAX: usize = 1024;

/// What workloads without a proxy are told.
#[derive(Debug, Default)]
pub(crate) struct Services {
    pub(crate) names: Vec<NameRecord>,
    pub(crate) addresses: Vec<VirtualAddress>,
}

/// All services of the mesh; where there is no such workload, only what of them is UDP.
pub(crate) fn services(translator: &Translator, has_plain: bool) -> Services {
    let domain = &translator.options().cluster_domain;
    let mut names = BTreeMap::new();
    let mut addresses = Vec::new();
    let mut total = 0;
    let keys = translator.objects().filter(|key| &*key.kind == "Service" && key.group.is_empty());
    let objects = keys.filter_map(|key| match translator.object(key)? {
        AnyObject::Service(service) => Some(service),
        _ => None,
    });
    for service in objects {
        let name = format!("{}.{}.svc.{domain}", service.meta.name, service.meta.namespace);
        let Ok(host) = Host::parse(&name) else { continue };
        let mut ready = BTreeSet::new();
        let mut own: Vec<VirtualAddress> = Vec::new();
        for port in &service.spec.ports {
            let udp = port.protocol == Some(Protocol::Udp);
            if !udp && !has_plain {
                continue;
            }
            let key = EndpointSetKey { host: host.clone(), port: port.port };
            let endpoints = endpoints(translator, key);
            ready.extend(endpoints.iter().map(SocketAddr::ip));
            if port.protocol != Some(Protocol::Sctp) {
                own.extend(virtual_addresses(&service.spec, (port.port, udp), &endpoints));
            }
        }
        let size: usize = own.iter().map(|address| address.endpoints.len()).sum();
        if size == 0 || total + size > ENDPOINTS_TOTAL_MAX {
            names.insert(name, ready.iter().map(ToString::to_string).collect());
            continue;
        }
        total += size;
        // An address that leads nowhere would be tried first, for as long as a client has patience.
        let own = own.into_iter().filter(|address| !address.endpoints.is_empty());
        let known = addresses.len();
        addresses.extend(own);
        let ips = cluster_ips(&service.spec).filter(|ip| {
            let leads = |one: &VirtualAddress| one.address.starts_with(&text_of(*ip));
            addresses.iter().skip(known).any(leads)
        });
        names.insert(name, ips.map(|ip| ip.to_string()).collect());
    }
    if !has_plain {
        names.clear();
    }
    let names = names.into_iter().map(|(name, addresses)| NameRecord { name, addresses });
    Services { names: names.collect(), addresses }
}

fn virtual_addresses(
    service: &Service,
    (port, udp): (u16, bool),
    endpoints: &[SocketAddr],
) -> impl Iterator<Item = VirtualAddress> {
    cluster_ips(service).map(move |ip| {
        let same = endpoints.iter().filter(|endpoint| endpoint.is_ipv4() == ip.is_ipv4());
        VirtualAddress {
            address: format!("{}{port}", text_of(ip)),
            endpoints: same.take(ENDPOINTS_MAX).map(ToString::to_string).collect(),
            udp,
        }
    })
}

/// The address of a socket up to its port.
fn text_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:"),
        IpAddr::V6(ip) => format!("[{ip}]:"),
    }
}

/// None for a headless service.
fn cluster_ips(service: &Service) -> impl Iterator<Item = IpAddr> {
    let own = service.cluster_ip.iter().chain(&service.cluster_ips);
    let own: BTreeSet<IpAddr> = own.filter_map(|text| text.parse().ok()).collect();
    own.into_iter()
}

fn endpoints(translator: &Translator, key: EndpointSetKey) -> Vec<SocketAddr> {
    let Some(Resource::Endpoints(set)) = translator.resource(&ResourceName::Endpoints(key)) else {
        return Vec::new();
    };
    let ready = set.endpoints.iter().filter(|e| e.health == EndpointHealth::Healthy);
    let addresses = ready.filter_map(|endpoint| match &endpoint.address {
        EndpointAddress::Address(address) => Some(*address),
        EndpointAddress::Name(..) => None,
    });
    addresses.collect()
}
