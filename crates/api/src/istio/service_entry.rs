//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    ServiceEntry {
        "addresses" => addresses: Vec<String> [count(0, 256), item_len(0, 64)],
        "endpoints" => endpoints: Vec<WorkloadEntry> [count(0, 4096)],
        "exportTo" => export_to: Vec<String>,
        "hosts" => hosts: Vec<String> [required, count(1, 256)],
        "location" => location: Option<Location>,
        "ports" => ports: Vec<ServicePort> [count(0, 256)],
        "resolution" => resolution: Option<Resolution>,
        "subjectAltNames" => subject_alt_names: Vec<String>,
        "workloadSelector" => workload_selector: Option<LabelsSelector>,
    }
    at_most_one ["workloadSelector", "endpoints"]
    // CEL !((has(self.addresses) ? self.addresses : []).exists(k, k.contains("/")) && !((has(self.resolution) ? self.resolution : "NONE") in ["STATIC", "NONE"]))
    // CEL ((has(self.resolution) ? self.resolution : "NONE") == "NONE") ? !has(self.endpoints) : true
    // CEL ((has(self.resolution) ? self.resolution : "") == "DNS_ROUND_ROBIN") ? ((has(self.endpoints) ? self.endpoints : []).size() <= 1) : true
}

object! {
    /// TODO.
    ServicePort {
        "name" => name: String [required, len(0, 256)],
        "number" => number: u16 [required, port],
        "protocol" => protocol: Option<String> [len(0, 256)],
        "targetPort" => target_port: Option<u16> [port],
    }
}

choice! {
    /// TODO.
    Location {
        "MESH_EXTERNAL" => MeshExternal,
        "MESH_INTERNAL" => MeshInternal,
    }
}

choice! {
    /// TODO.
    Resolution {
        "NONE" => None,
        "STATIC" => Static,
        "DNS" => Dns,
        "DNS_ROUND_ROBIN" => DnsRoundRobin,
        "DYNAMIC_DNS" => DynamicDns,
    }
}
