//! ServiceEntry (`networking.istio.io`).

use super::common::LabelsSelector;
use super::workload::WorkloadEntry;
use crate::check;
use crate::codes;
use crate::decode::Decoder;

object! {
    /// A service that is not in Kubernetes.
    ServiceEntry {
        /// Virtual addresses or ranges.
        "addresses" => addresses: Vec<String> [count(0, 256), item_len(0, 64)],
        /// Its endpoints, instead of a selector.
        "endpoints" => endpoints: Vec<WorkloadEntry> [count(0, 4096)],
        /// Namespaces it is visible in.
        "exportTo" => export_to: Vec<String>,
        /// Its hosts; a wildcard only at the left.
        "hosts" => hosts: Vec<String> [required, count(1, 256), item_check(check::not_every_host)],
        /// Whether it is part of the mesh; absent means outside.
        "location" => location: Option<Location>,
        /// Its ports.
        "ports" => ports: Vec<ServicePort> [count(0, 256), unique("name")],
        /// How its endpoints are found; absent means the address the client chose.
        "resolution" => resolution: Option<Resolution>,
        /// Names the peer's certificate may have.
        "subjectAltNames" => subject_alt_names: Vec<String>,
        /// Pods and WorkloadEntries behind it.
        "workloadSelector" => workload_selector: Option<LabelsSelector>,
    }
    at_most_one ["workloadSelector", "endpoints"]
    check addresses_and_endpoints_fit
}

object! {
    /// A port of a service.
    ServicePort {
        /// Its name.
        "name" => name: String [required, len(0, 256)],
        /// Its number.
        "number" => number: u16 [required, port],
        /// Its protocol; absent means it is detected.
        "protocol" => protocol: Option<String> [len(0, 256)],
        /// The port of the endpoints; absent means the same.
        "targetPort" => target_port: Option<u16> [port],
    }
}

choice! {
    /// Whether a service is part of the mesh.
    Location {
        "MESH_EXTERNAL" => MeshExternal,
        "MESH_INTERNAL" => MeshInternal,
    }
}

choice! {
    /// How endpoints of a service are found.
    Resolution {
        /// The address the client chose.
        "NONE" => None,
        /// The addresses that are listed.
        "STATIC" => Static,
        /// By DNS, using all answers.
        "DNS" => Dns,
        /// By DNS, using the first answer.
        "DNS_ROUND_ROBIN" => DnsRoundRobin,
        /// By DNS of the host of each request.
        "DYNAMIC_DNS" => DynamicDns,
    }
}

/// What the resolution needs and excludes.
fn addresses_and_endpoints_fit(decoder: &mut Decoder<'_>, entry: &ServiceEntry) {
    let resolution = entry.resolution.unwrap_or(Resolution::None);
    let range = entry.addresses.iter().any(|address| address.contains('/'));
    if range
        && !matches!(resolution, Resolution::None | Resolution::Static)
        && let Some(at) = decoder.tree().field(entry.at, "addresses")
    {
        let message = "address ranges need the resolution `NONE` or `STATIC`";
        decoder.error(codes::RULE, at, message, None);
    }
    if let Some(at) = decoder.tree().field(entry.at, "endpoints") {
        if resolution == Resolution::None {
            let message = "endpoints need a resolution other than `NONE`";
            let hint = "set `resolution: STATIC`, or `DNS` for host names".to_owned();
            decoder.error(codes::RULE, at, message, Some(hint));
        } else if resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
            let message = "`DNS_ROUND_ROBIN` takes at most one endpoint";
            decoder.error(codes::RULE, at, message, None);
        }
    }
    let mut numbers = std::collections::BTreeSet::new();
    for port in &entry.ports {
        if port.number != 0 && !numbers.insert(port.number) {
            let message = format!("the port {} stands twice", port.number);
            decoder.error(codes::RULE, port.at, message, None);
        }
    }
}
