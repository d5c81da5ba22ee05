//! Names, interception and published ports of a pod.

use std::collections::BTreeMap;

use heddle_api::kubernetes::PodSpec;
use heddle_proto::node::{DnsSettings, HostAlias, PublishedPort, TrafficSettings};

use super::{Surroundings, container};

/// Kubernetes' default: a name with fewer dots is tried with the search list first.
const NDOTS: u32 = 5;

/// The search list of a pod, and its own entries of `/etc/hosts`.
pub(super) fn dns(surroundings: &Surroundings<'_>) -> DnsSettings {
    let domain = &surroundings.translator.options().cluster_domain;
    let namespace = &surroundings.pod.meta.namespace;
    let written = &surroundings.pod.written;
    let tree = written.tree();
    let aliases = surroundings.pod.spec.host_aliases.iter().filter_map(|alias| {
        let address = tree.text(tree.field(alias.0, "ip")?).to_string();
        let names = tree.children(tree.field(alias.0, "hostnames")?);
        Some(HostAlias { address, names: names.map(|name| tree.text(name).to_string()).collect() })
    });
    DnsSettings {
        search: vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.to_string(),
        ],
        ndots: NDOTS,
        host_aliases: aliases.collect(),
    }
}

/// Istio's annotations about interception (`traffic.sidecar.istio.io/…`). `*` and absence mean all.
pub(super) fn settings(annotations: &BTreeMap<String, String>) -> TrafficSettings {
    let list = |name: &str| {
        let text = annotations.get(&format!("traffic.sidecar.istio.io/{name}"));
        let text = text.map(String::as_str).filter(|text| text.trim() != "*").unwrap_or_default();
        let items = text.split(',').map(|item| item.trim().to_owned());
        items.filter(|item| !item.is_empty()).collect::<Vec<_>>()
    };
    // What is no number is a finding of whoever checks annotations; here it selects nothing.
    let ports = |name: &str| list(name).iter().filter_map(|port| port.parse().ok()).collect();
    TrafficSettings {
        include_inbound_ports: ports("includeInboundPorts"),
        exclude_inbound_ports: ports("excludeInboundPorts"),
        include_outbound_ports: ports("includeOutboundPorts"),
        exclude_outbound_ports: ports("excludeOutboundPorts"),
        include_outbound_ranges: list("includeOutboundIPRanges"),
        exclude_outbound_ranges: list("excludeOutboundIPRanges"),
    }
}

/// Ports of the host that lead to the pod.
pub(super) fn published(spec: &PodSpec) -> Vec<PublishedPort> {
    let containers = spec.init_containers.iter().chain(&spec.containers);
    let ports = containers.flat_map(|container| &container.ports).filter_map(|port| {
        Some(PublishedPort {
            host_address: port.host_ip.clone().unwrap_or_default(),
            host_port: port.host_port?.into(),
            workload_port: port.container_port.into(),
            protocol: container::protocol(port).into(),
        })
    });
    ports.collect()
}
