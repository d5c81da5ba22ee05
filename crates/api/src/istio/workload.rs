//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    WorkloadEntry {
        "address" => address: Option<String> [len(0, 256)],
        "labels" => labels: BTreeMap<String, String> [item_check(check::no_star), count(0, 256)],
        "locality" => locality: Option<String> [len(0, 2048)],
        "network" => network: Option<String> [len(0, 2048)],
        "ports" => ports: BTreeMap<String, u16> [count(0, 128), item_range(1.0, 65_535.0)],
        "serviceAccount" => service_account: Option<String> [len(0, 253)],
        "weight" => weight: Option<u32>,
    }
    // CEL has(self.address) || has(self.network)
    // CEL (has(self.address) ? self.address : "").startsWith("unix://") ? !has(self.ports) : true
}

object! {
    /// TODO.
    WorkloadGroup {
        "metadata" => metadata: Option<WorkloadGroupMetadata>,
        "probe" => probe: Option<ReadinessProbe>,
        "template" => template: WorkloadTemplate [required],
    }
}

object! {
    /// TODO.
    WorkloadGroupMetadata {
        "annotations" => annotations: BTreeMap<String, String> [count(0, 256)],
        "labels" => labels: BTreeMap<String, String> [item_check(check::no_star), count(0, 256)],
    }
}

object! {
    /// TODO.
    ReadinessProbe {
        "exec" => exec: Option<ExecProbe>,
        "failureThreshold" => failure_threshold: Option<i32> [range(0.0, f64::INFINITY)],
        "grpc" => grpc: Option<GrpcProbe>,
        "httpGet" => http_get: Option<HttpProbe>,
        "initialDelaySeconds" => initial_delay_seconds: Option<i32> [range(0.0, f64::INFINITY)],
        "periodSeconds" => period_seconds: Option<i32> [range(0.0, f64::INFINITY)],
        "successThreshold" => success_threshold: Option<i32> [range(0.0, f64::INFINITY)],
        "tcpSocket" => tcp_socket: Option<TcpProbe>,
        "timeoutSeconds" => timeout_seconds: Option<i32> [range(0.0, f64::INFINITY)],
    }
    at_most_one ["httpGet", "tcpSocket", "exec", "grpc"]
}

object! {
    /// TODO.
    ExecProbe {
        "command" => command: Vec<String> [required, item_len(1, usize::MAX)],
    }
}

object! {
    /// TODO.
    GrpcProbe {
        "port" => port: Option<u16> [port],
        "service" => service: Option<String>,
    }
}

object! {
    /// TODO.
    HttpProbe {
        "host" => host: Option<String>,
        "httpHeaders" => http_headers: Vec<ProbeHeader>,
        "path" => path: Option<String>,
        "port" => port: u16 [required, port],
        "scheme" => scheme: Option<String>,
    }
}

object! {
    /// TODO.
    ProbeHeader {
        "name" => name: Option<String> [check(check::header_name)],
        "value" => value: Option<String>,
    }
}

object! {
    /// TODO.
    TcpProbe {
        "host" => host: Option<String>,
        "port" => port: u16 [required, port],
    }
}

object! {
    /// TODO.
    WorkloadTemplate {
        "address" => address: Option<String> [len(0, 256)],
        "labels" => labels: BTreeMap<String, String> [item_check(check::no_star), count(0, 256)],
        "locality" => locality: Option<String> [len(0, 2048)],
        "network" => network: Option<String> [len(0, 2048)],
        "ports" => ports: BTreeMap<String, u16> [count(0, 128), item_range(1.0, 65_535.0)],
        "serviceAccount" => service_account: Option<String> [len(0, 253)],
        "weight" => weight: Option<u32>,
    }
    // CEL (has(self.address) ? self.address : "").startsWith("unix://") ? !has(self.ports) : true
}
