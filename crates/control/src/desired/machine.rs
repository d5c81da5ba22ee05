//! What a machine's own supervisor shall do for its workload.

use std::collections::BTreeSet;

use heddle_api::kubernetes::Protocol;
use heddle_api::{IntOrText, Resource as AnyObject};
use heddle_proto::node::{DesiredState, DesiredWorkload, PublishedPort, TransportProtocol};
use heddle_translate::Translator;

/// The whole state of a machine: its one workload, at whose address every port is opened that the mesh reaches it at.
pub(crate) fn state(
    mut workload: DesiredWorkload,
    translator: &Translator,
    trust_domain: &str,
    workload_ranges: Vec<String>,
) -> DesiredState {
    let address = workload.addresses.first().cloned().unwrap_or_default();
    let port = |number: u16| PublishedPort {
        host_address: address.clone(),
        host_port: number.into(),
        workload_port: number.into(),
        protocol: TransportProtocol::Tcp.into(),
        service: String::new(),
    };
    workload.published_ports = ports(&workload, translator).into_iter().map(port).collect();
    let state = DesiredState {
        workloads: vec![workload],
        trust_domain: trust_domain.to_owned(),
        workload_ranges,
        ..DesiredState::default()
    };
    state.with_version()
}

/// The ports at which services send requests to it.
fn ports(workload: &DesiredWorkload, translator: &Translator) -> BTreeSet<u16> {
    let own = workload.containers.iter().flat_map(|container| &container.ports);
    let named: Vec<(&str, u16)> = own
        .filter_map(|port| Some((port.name.as_str(), u16::try_from(port.number).ok()?)))
        .collect();
    let of_name = |name: &str| named.iter().find(|(own, _)| *own == name).map(|(_, port)| *port);
    let mut ports: BTreeSet<u16> = named.iter().map(|(_, port)| *port).collect();
    let selects = |selector: &std::collections::BTreeMap<String, String>| {
        !selector.is_empty()
            && selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
    };
    for key in translator.objects() {
        if *key.name.namespace != *workload.namespace {
            continue;
        }
        match translator.object(key) {
            Some(AnyObject::Service(service)) if selects(&service.spec.selector) => {
                for port in &service.spec.ports {
                    if !matches!(port.protocol, None | Some(Protocol::Tcp)) {
                        continue;
                    }
                    let own = port.name.as_deref().and_then(of_name);
                    ports.extend(own.or_else(|| match &port.target_port {
                        None => Some(port.port),
                        Some(IntOrText::Int(number)) => u16::try_from(*number).ok(),
                        Some(IntOrText::Text(name)) => of_name(name).or_else(|| name.parse().ok()),
                    }));
                }
            }
            Some(AnyObject::ServiceEntry(entry)) => {
                let Some(selector) = &entry.spec.workload_selector else { continue };
                if !selects(&selector.labels) {
                    continue;
                }
                for port in &entry.spec.ports {
                    let target = port.target_port.unwrap_or(port.number);
                    ports.insert(of_name(&port.name).unwrap_or(target));
                }
            }
            _ => {}
        }
    }
    ports
}
