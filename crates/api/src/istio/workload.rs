//! WorkloadEntry and WorkloadGroup (`networking.istio.io`).

use std::collections::BTreeMap;

use crate::check;
use crate::codes;
use crate::decode::Decoder;
use crate::tree::At;

object! {
    /// A workload outside of Kubernetes.
    WorkloadEntry {
        /// Its address; a host name or Unix socket where the service allows it.
        "address" => address: Option<String> [len(0, 256), check(check::endpoint_address)],
        /// Its labels.
        "labels" => labels: BTreeMap<String, String> [item_check(check::no_star), count(0, 256)],
        /// `region/zone/subzone`.
        "locality" => locality: Option<String> [len(0, 2048)],
        /// Its network.
        "network" => network: Option<String> [len(0, 2048)],
        /// Ports by name of the service's port.
        "ports" => ports: BTreeMap<String, u16> [count(0, 128), item_range(1.0, 65_535.0), key_check(check::port_name)],
        /// Its identity, in the same namespace.
        "serviceAccount" => service_account: Option<String> [len(0, 253)],
        /// Its share of traffic.
        "weight" => weight: Option<u32>,
    }
    at_least_one ["address", "network"]
    check socket_has_no_ports
}

object! {
    /// A template for workloads outside of Kubernetes.
    WorkloadGroup {
        /// Labels and annotations of its entries.
        "metadata" => metadata: Option<WorkloadGroupMetadata>,
        /// How to tell that a workload is ready.
        "probe" => probe: Option<ReadinessProbe>,
        /// What its entries look like.
        "template" => template: WorkloadTemplate [required],
    }
}

object! {
    /// Labels and annotations of the entries of a group.
    WorkloadGroupMetadata {
        /// Annotations.
        "annotations" => annotations: BTreeMap<String, String> [count(0, 256)],
        /// Labels.
        "labels" => labels: BTreeMap<String, String> [item_check(check::no_star), count(0, 256)],
    }
}

object! {
    /// How to tell that a workload is ready.
    ReadinessProbe {
        /// By a command.
        "exec" => exec: Option<ExecProbe>,
        /// Failures in a row that count; absent means 3.
        "failureThreshold" => failure_threshold: Option<i32> [range(0.0, f64::INFINITY)],
        /// By a gRPC health check.
        "grpc" => grpc: Option<GrpcProbe>,
        /// By a request.
        "httpGet" => http_get: Option<HttpProbe>,
        /// Seconds before the first probe.
        "initialDelaySeconds" => initial_delay_seconds: Option<i32> [range(0.0, f64::INFINITY)],
        /// Seconds between probes; absent means 10.
        "periodSeconds" => period_seconds: Option<i32> [range(0.0, f64::INFINITY)],
        /// Successes in a row that count; absent means 1.
        "successThreshold" => success_threshold: Option<i32> [range(0.0, f64::INFINITY)],
        /// By connecting.
        "tcpSocket" => tcp_socket: Option<TcpProbe>,
        /// Seconds a probe may take; absent means 1.
        "timeoutSeconds" => timeout_seconds: Option<i32> [range(0.0, f64::INFINITY)],
    }
    at_most_one ["httpGet", "tcpSocket", "exec", "grpc"]
}

object! {
    /// A command.
    ExecProbe {
        /// The program and its arguments.
        "command" => command: Vec<String> [required, item_len(1, usize::MAX)],
    }
}

object! {
    /// A gRPC health check.
    GrpcProbe {
        "port" => port: Option<u16> [port],
        "service" => service: Option<String>,
    }
}

object! {
    /// A request.
    HttpProbe {
        "host" => host: Option<String>,
        "httpHeaders" => http_headers: Vec<ProbeHeader>,
        "path" => path: Option<String>,
        "port" => port: u16 [required, port],
        "scheme" => scheme: Option<String> [check(check::http_scheme)],
    }
}

object! {
    /// A header.
    ProbeHeader {
        "name" => name: Option<String> [check(check::header_name)],
        "value" => value: Option<String>,
    }
}

object! {
    /// A connection.
    TcpProbe {
        "host" => host: Option<String>,
        "port" => port: u16 [required, port],
    }
}

object! {
    /// What the entries of a group look like.
    WorkloadTemplate {
        /// Its address; a host name or Unix socket where the service allows it.
        "address" => address: Option<String> [len(0, 256), check(check::endpoint_address)],
        /// Labels.
        "labels" => labels: BTreeMap<String, String> [item_check(check::no_star), count(0, 256)],
        /// `region/zone/subzone`.
        "locality" => locality: Option<String> [len(0, 2048)],
        /// Its network.
        "network" => network: Option<String> [len(0, 2048)],
        /// Ports by name of the service's port.
        "ports" => ports: BTreeMap<String, u16> [count(0, 128), item_range(1.0, 65_535.0), key_check(check::port_name)],
        /// Its identity, in the same namespace.
        "serviceAccount" => service_account: Option<String> [len(0, 253)],
        /// Share of traffic.
        "weight" => weight: Option<u32>,
    }
    check template_socket_has_no_ports
}

fn socket_has_no_ports(decoder: &mut Decoder<'_>, entry: &WorkloadEntry) {
    no_ports(decoder, entry.at, entry.address.as_deref());
}

fn template_socket_has_no_ports(decoder: &mut Decoder<'_>, template: &WorkloadTemplate) {
    no_ports(decoder, template.at, template.address.as_deref());
}

/// A Unix socket has no ports.
fn no_ports(decoder: &mut Decoder<'_>, at: At, address: Option<&str>) {
    let socket = address.is_some_and(|address| address.starts_with("unix://"));
    if let (true, Some(ports)) = (socket, decoder.tree().field(at, "ports")) {
        decoder.error(codes::RULE, ports, "a Unix socket has no `ports`", None);
    }
}
