//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    Sidecar {
        "egress" => egress: Vec<EgressListener>,
        "inboundConnectionPool" => inbound_connection_pool: Option<ConnectionPoolSettings>,
        "ingress" => ingress: Vec<IngressListener>,
        "outboundTrafficPolicy" => outbound_traffic_policy: Option<OutboundTrafficPolicy>,
        "workloadSelector" => workload_selector: Option<LabelsSelector>,
    }
}

object! {
    /// TODO.
    EgressListener {
        "bind" => bind: Option<String>,
        "captureMode" => capture_mode: Option<CaptureMode>,
        "hosts" => hosts: Vec<String> [required],
        "port" => port: Option<SidecarPort>,
    }
}

object! {
    /// TODO.
    SidecarPort {
        "name" => name: Option<String>,
        "number" => number: Option<u16>,
        "protocol" => protocol: Option<String>,
        "targetPort" => target_port: Option<u16>,
    }
}

object! {
    /// TODO.
    IngressListener {
        "bind" => bind: Option<String>,
        "captureMode" => capture_mode: Option<CaptureMode>,
        "connectionPool" => connection_pool: Option<ConnectionPoolSettings>,
        "defaultEndpoint" => default_endpoint: Option<String>,
        "port" => port: SidecarPort [required],
        "tls" => tls: Option<ServerTlsSettings>,
    }
}

object! {
    /// TODO.
    OutboundTrafficPolicy {
        "egressProxy" => egress_proxy: Option<Destination>,
        "mode" => mode: Option<OutboundTrafficMode>,
    }
}

choice! {
    /// TODO.
    CaptureMode {
        "DEFAULT" => Default,
        "IPTABLES" => Iptables,
        "NONE" => None,
    }
}

choice! {
    /// TODO.
    OutboundTrafficMode {
        "REGISTRY_ONLY" => RegistryOnly,
        "ALLOW_ANY" => AllowAny,
    }
}
