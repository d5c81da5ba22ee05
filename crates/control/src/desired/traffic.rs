//! Names, interception and published ports of a pod.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use heddle_api::kubernetes::{PodSpec, Protocol, Service, ServicePort, ServiceType};
use heddle_api::{IntOrText, Object, Resource as AnyObject};
use heddle_proto::node::{
    DnsSettings, HostAlias, PublishedPort, TrafficSettings, TransportProtocol,
};
use heddle_translate::Translator;

use super::{Surroundings, container};

/// Kubernetes' default: a name with fewer dots is tried with the search list first.
const NDOTS: u32 = 5;
/// Kubernetes' default range of node ports.
const NODE_PORTS: Range<u32> = 30_000..32_768;

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

/// Services whose ports are opened on the host (`LoadBalancer`, `NodePort`).
pub(crate) fn published_services(translator: &Translator) -> Vec<Arc<Object<Service>>> {
    let keys = translator.objects().filter(|key| &*key.kind == "Service" && key.group.is_empty());
    let services = keys.filter_map(|key| match translator.object(key)? {
        AnyObject::Service(service) => Some(service),
        _ => None,
    });
    services
        .filter(|service| {
            let kind = service.spec.kind;
            matches!(kind, Some(ServiceType::LoadBalancer | ServiceType::NodePort))
                && !service.spec.selector.is_empty()
        })
        .collect()
}

/// Ports of the host that lead to the pod: those of its containers, and those of Services that select it.
pub(super) fn published(
    pod: &Object<PodSpec>,
    services: &[Arc<Object<Service>>],
) -> Vec<PublishedPort> {
    let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let own = containers.clone().flat_map(|container| &container.ports).filter_map(|port| {
        Some(PublishedPort {
            host_address: port.host_ip.clone().unwrap_or_default(),
            host_port: port.host_port?.into(),
            workload_port: port.container_port.into(),
            protocol: container::protocol(port).into(),
            service: String::new(),
        })
    });
    let mut ports: Vec<PublishedPort> = own.collect();
    let selecting = services.iter().filter(|service| {
        let mut selector = service.spec.selector.iter();
        service.meta.namespace == pod.meta.namespace
            && selector.all(|(key, value)| pod.meta.labels.get(key) == Some(value))
    });
    for service in selecting {
        let name = format!("{}/{}", service.meta.namespace, service.meta.name);
        for port in &service.spec.ports {
            let protocol = match port.protocol {
                None | Some(Protocol::Tcp) => TransportProtocol::Tcp,
                Some(Protocol::Udp) => TransportProtocol::Udp,
                Some(Protocol::Sctp) => continue,
            };
            let target = match &port.target_port {
                None => Some(port.port),
                Some(IntOrText::Int(number)) => u16::try_from(*number).ok(),
                Some(IntOrText::Text(name)) => containers
                    .clone()
                    .flat_map(|container| &container.ports)
                    .find(|own| own.name.as_deref() == Some(name))
                    .map(|own| own.container_port)
                    .or_else(|| name.parse().ok()),
            };
            let Some(target) = target else { continue };
            ports.extend(host_ports(service, port).into_iter().map(|host_port| PublishedPort {
                host_address: String::new(),
                host_port: host_port.into(),
                workload_port: target.into(),
                protocol: protocol.into(),
                service: name.clone(),
            }));
        }
    }
    ports
}

/// The ports of the host that a port of a Service is reached at.
fn host_ports(service: &Object<Service>, port: &ServicePort) -> Vec<u16> {
    let is_balancer = service.spec.kind == Some(ServiceType::LoadBalancer);
    let node_port = port.node_port.filter(|number| *number > 0).or_else(|| {
        // A cluster would draw one; here it follows from the name, so that it is the same the next time.
        let name = format!("{}/{}/{}", service.meta.namespace, service.meta.name, port.port);
        let sum = name
            .bytes()
            .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let number = NODE_PORTS.start + sum % (NODE_PORTS.end - NODE_PORTS.start);
        u16::try_from(number).ok().filter(|_| !is_balancer)
    });
    is_balancer.then_some(port.port).into_iter().chain(node_port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published_for(service: &str) -> Vec<(u32, u32)> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop, labels: {{app: a}}}}\nspec: {{containers: [{{name: c, ports: \
             [{{name: web, containerPort: 8081}}]}}]}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: shop}}\nspec: {service}\n"
        );
        let mut resources =
            heddle_api::Reader::default().read_file("f.yaml", text.as_bytes()).resources;
        let Some(AnyObject::Service(service)) = resources.pop() else { panic!() };
        let Some(AnyObject::Pod(pod)) = resources.pop() else { panic!() };
        let ports = published(&pod, &[service]);
        assert!(ports.iter().all(|port| port.service == "shop/s"), "{ports:?}");
        ports.iter().map(|port| (port.host_port, port.workload_port)).collect()
    }

    #[test]
    fn services_publish_their_ports_as_a_cluster_would() {
        let balancer = "{type: LoadBalancer, selector: {app: a}, ports: [{port: 80, targetPort: web}, {name: u, port: 53, protocol: UDP}]}";
        assert_eq!(published_for(balancer), [(80, 8081), (53, 53)]);
        let both = "{type: LoadBalancer, selector: {app: a}, ports: [{port: 80, nodePort: 30080}]}";
        assert_eq!(published_for(both), [(80, 80), (30080, 80)]);
        let node = "{type: NodePort, selector: {app: a}, ports: [{port: 80, targetPort: 8081, nodePort: 31000}]}";
        assert_eq!(published_for(node), [(31000, 8081)]);
        let drawn = published_for("{type: NodePort, selector: {app: a}, ports: [{port: 80}]}");
        assert!(matches!(drawn.as_slice(), [(port, 80)] if NODE_PORTS.contains(port)), "{drawn:?}");
        assert!(
            published_for("{type: NodePort, selector: {app: b}, ports: [{port: 80}]}").is_empty()
        );
    }
}
