//! ExternalWorkload (`workload.linkerd.io`).

use crate::check;

object! {
    /// A workload outside of the cluster that is part of the mesh.
    ExternalWorkload {
        /// How it proves who it is.
        "meshTLS" => mesh_tls: Option<ExternalMeshTls>,
        /// How it proves who it is, as v1alpha1 spells it.
        "meshTls" => mesh_tls_alpha: Option<ExternalMeshTls>,
        /// Its ports.
        "ports" => ports: Vec<ExternalPort>,
        /// Its addresses: one, or one of each family.
        "workloadIPs" => workload_ips: Vec<WorkloadIp> [count(0, 2)],
    }
    exactly_one ["meshTLS", "meshTls"]
}

object! {
    /// How a workload proves who it is.
    ExternalMeshTls {
        /// The identity in its certificate.
        "identity" => identity: String [required, len(1, 253)],
        /// The server name that it terminates TLS for.
        "serverName" => server_name: String [required, len(1, 253)],
    }
}

object! {
    /// A port of a workload.
    ExternalPort {
        /// Its name, by which Services and Servers may mean it.
        "name" => name: Option<String> [check(check::port_name)],
        /// Its number.
        "port" => port: u16 [required, port],
        /// Transport protocol; absent means TCP.
        "protocol" => protocol: Option<ExternalPortProtocol>,
    }
}

choice! {
    /// Transport protocol of a port.
    ExternalPortProtocol {
        /// TCP.
        "TCP" => Tcp,
        /// UDP.
        "UDP" => Udp,
    }
}

object! {
    /// An address.
    WorkloadIp {
        /// The address.
        "ip" => ip: Option<String> [check(super::check::network)],
    }
}
