//! What there is to say about a Kubernetes Service.

use std::sync::Arc;

use heddle_api::kubernetes::{ConfigMap, Protocol, Service, ServiceType};
use heddle_api::{IntOrText, Object};

use crate::codes;
use crate::engine::Reader;
use crate::istio::selector;
use crate::protocol;
use crate::report::Report;

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, object: &Arc<Object<Service>>, report: &mut Report) {
    let spec = &object.spec;
    let of = |field: &str| object.origin_of(spec.at, field);
    let managed = object.meta.labels.contains_key("gateway.istio.io/managed");
    for port in spec.ports.iter().filter(|_| !managed) {
        let name = port.name.as_deref().unwrap_or_default();
        let declared = port.app_protocol.as_deref().and_then(protocol::parse).is_some()
            || protocol::of_port_name(name).is_some();
        if !declared && matches!(port.protocol, None | Some(Protocol::Tcp)) {
            let message = if name.is_empty() {
                format!(
                    "port {} has no name, so its protocol is told from the first bytes",
                    port.port
                )
            } else {
                format!(
                    "the port name `{name}` says no protocol, so it is told from the first bytes"
                )
            };
            report.info(codes::PORT_NAME, object.origin_at(port.at), message);
        }
    }
    if spec.session_affinity.as_deref().is_some_and(|affinity| affinity != "None") {
        let why = "clients are not bound to endpoints; use `consistentHash.useSourceIp` in a DestinationRule";
        report.unsupported(of("sessionAffinity"), why);
    }
    if spec.internal_traffic_policy.as_deref() == Some("Local") {
        let why = "endpoints of other nodes are picked too; `trafficDistribution: PreferSameNode` prefers those of the own";
        report.unsupported(of("internalTrafficPolicy"), why);
    }
    let known = ["PreferClose", "PreferSameZone", "PreferSameNode", "Any"];
    if let Some(text) = spec.traffic_distribution.as_deref().filter(|text| !known.contains(text)) {
        report.unsupported(of("trafficDistribution"), format!("`{text}` is not known"));
    }
    several_clusters(object, report);
    if spec.selector.is_empty() || spec.kind == Some(ServiceType::ExternalName) {
        return;
    }
    let namespace: Arc<str> = object.meta.namespace.as_str().into();
    let pods = selector::selected(reader, &namespace, &spec.selector);
    if pods.is_empty() {
        report.warning(
            codes::NO_PODS,
            of("selector"),
            "no workload has these labels: requests get 503",
        );
    }
    for port in &spec.ports {
        let Some(IntOrText::Text(name)) = &port.target_port else { continue };
        let known = pods.iter().any(|facts| facts.ports.iter().any(|(known, _)| **known == **name));
        if !pods.is_empty() && !known && name.parse::<u16>().is_err() {
            let message = format!("no container has a port with the name `{name}`");
            report.warning(codes::UNKNOWN_PORT, object.origin_of(port.at, "targetPort"), message);
        }
    }
}

/// What there is to say about a ConfigMap: which settings of an installation are nobody's here.
pub(crate) fn config_map(object: &Object<ConfigMap>, report: &mut Report) {
    let injector = object.meta.name == "istio-sidecar-injector"
        || object.meta.name.starts_with("istio-sidecar-injector-");
    if injector {
        let why = "settings of Istio's injector: heddle puts no sidecar into pods, so there is nothing to set";
        let at = object.written.field(object.written.root(), "data");
        report.ignored(object.origin_at(at.unwrap_or_else(|| object.written.root())), why);
    }
}

/// Labels and annotations that make a Service one of several clusters.
const SEVERAL_CLUSTERS: [&str; 6] = [
    "io.cilium/global-service",
    "service.cilium.io/global",
    "mirror.linkerd.io/exported",
    "mirror.linkerd.io/federated",
    "mirror.linkerd.io/remote-discovery",
    "mirror.linkerd.io/remote-svc-fq-name",
];

fn several_clusters(object: &Object<Service>, report: &mut Report) {
    let (written, meta) = (&object.written, &object.meta);
    for key in SEVERAL_CLUSTERS {
        for (field, entries) in [("annotations", &meta.annotations), ("labels", &meta.labels)] {
            if entries.get(key).is_some_and(|value| value != "false") {
                let why =
                    "other clusters are not linked yet: only workloads of this mesh are endpoints";
                report.unsupported(written.origin_of_entry(meta.at, field, key), why);
            }
        }
    }
}
