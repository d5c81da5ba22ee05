//! Sidecar (`networking.istio.io`).

use super::common::{Destination, LabelsSelector};
use super::connection_pool::ConnectionPoolSettings;
use super::gateway::ServerTlsSettings;

object! {
    /// What proxies of a namespace know and accept.
    Sidecar {
        /// What they may reach.
        "egress" => egress: Vec<EgressListener>,
        /// Limits on connections and requests to the workload.
        "inboundConnectionPool" => inbound_connection_pool: Option<ConnectionPoolSettings>,
        /// What they accept; absent means every port of the workload.
        "ingress" => ingress: Vec<IngressListener>,
        /// What happens to unknown destinations.
        "outboundTrafficPolicy" => outbound_traffic_policy: Option<OutboundTrafficPolicy>,
        /// Workloads it applies to.
        "workloadSelector" => workload_selector: Option<LabelsSelector>,
    }
}

object! {
    /// Hosts that may be reached, on one port or all.
    EgressListener {
        /// Address to listen on.
        "bind" => bind: Option<String>,
        /// How traffic gets to it.
        "captureMode" => capture_mode: Option<CaptureMode>,
        /// As `namespace/host`; `.` is the own namespace, `*` any, `~` none.
        "hosts" => hosts: Vec<String> [required],
        /// Port to listen on; absent for the default listener.
        "port" => port: Option<SidecarPort>,
    }
}

object! {
    /// A port of a Sidecar's listener.
    SidecarPort {
        /// Its name.
        "name" => name: Option<String>,
        /// Its number.
        "number" => number: Option<u16>,
        /// Its protocol.
        "protocol" => protocol: Option<String>,
        /// Long without effect.
        "targetPort" => target_port: Option<u16>,
    }
}

object! {
    /// A port of the workload.
    IngressListener {
        /// Address to listen on.
        "bind" => bind: Option<String>,
        /// How traffic gets to it.
        "captureMode" => capture_mode: Option<CaptureMode>,
        /// Limits on connections and requests.
        "connectionPool" => connection_pool: Option<ConnectionPoolSettings>,
        /// Where the application listens.
        "defaultEndpoint" => default_endpoint: Option<String>,
        /// Port to listen on.
        "port" => port: SidecarPort [required],
        /// TLS of these connections.
        "tls" => tls: Option<ServerTlsSettings>,
    }
}

object! {
    /// What happens to unknown destinations.
    OutboundTrafficPolicy {
        /// A service that unknown traffic is sent through.
        "egressProxy" => egress_proxy: Option<Destination>,
        /// An object without mode means `REGISTRY_ONLY`.
        "mode" => mode: Option<OutboundTrafficMode>,
    }
}

choice! {
    /// How traffic gets to a listener.
    CaptureMode {
        "DEFAULT" => Default,
        "IPTABLES" => Iptables,
        "NONE" => None,
    }
}

choice! {
    /// What happens to unknown destinations.
    OutboundTrafficMode {
        /// They are refused.
        "REGISTRY_ONLY" => RegistryOnly,
        /// They are passed through.
        "ALLOW_ANY" => AllowAny,
    }
}
