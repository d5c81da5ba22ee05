//! TrafficTarget (`access.smi-spec.io`).

use crate::value::IntOrText;

object! {
    /// Which service accounts may send what to the workloads of a service account.
    TrafficTarget {
        /// The workloads.
        "destination" => destination: TargetAccount [required],
        /// The clients; any of them.
        "sources" => sources: Vec<TargetAccount>,
        /// What they may send; any of it.
        "rules" => rules: Vec<TargetRule>,
        /// What they may send, as v1alpha1 spells it.
        "specs" => specs: Vec<TargetRule>,
    }
    at_most_one ["rules", "specs"]
}

object! {
    /// A service account.
    TargetAccount {
        /// `ServiceAccount`.
        "kind" => kind: String [required],
        /// Its name.
        "name" => name: String [required],
        /// Its namespace; absent means that of the object it stands in.
        "namespace" => namespace: Option<String>,
        /// The port of the destination, in the first two versions.
        "port" => port: Option<IntOrText>,
    }
}

object! {
    /// Routes of a group, of the same namespace.
    TargetRule {
        /// Of which kind it is.
        "kind" => kind: Option<TargetRuleKind> [required],
        /// Its name.
        "name" => name: String [required],
        /// Names of routes in a HTTPRouteGroup; absent means all of them.
        "matches" => matches: Vec<String>,
    }
}

choice! {
    /// What traffic is described by.
    TargetRuleKind {
        /// HTTP requests.
        "HTTPRouteGroup" => HttpRouteGroup,
        /// TCP streams.
        "TCPRoute" => TcpRoute,
        /// Datagrams.
        "UDPRoute" => UdpRoute,
    }
}
