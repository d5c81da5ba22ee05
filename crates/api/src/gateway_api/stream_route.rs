//! Routes for TLS, TCP and UDP.

use super::common::{BackendRef, DefaultGateways, ParentReference};
use super::rules;
use crate::check;

object! {
    /// Routes TLS by server name.
    TlsRoute {
        /// Server names: one name each, or `*.` and a suffix. Required since `v1`; absent means every name.
        "hostnames" => hostnames: Vec<String> [count(0, 1024), item_len(1, 253), item_check(rules::hostname)],
        /// What it attaches to.
        "parentRefs" => parent_refs: Vec<ParentReference> [count(0, 32)],
        /// Its one rule; older versions took more.
        "rules" => rules: Vec<StreamRule> [required, count(1, 16)],
        /// Attaches to Gateways that say so too.
        "useDefaultGateways" => use_default_gateways: Option<DefaultGateways>,
    }
    check rules::tls_route
}

object! {
    /// Routes TCP connections by port.
    TcpRoute {
        /// What it attaches to.
        "parentRefs" => parent_refs: Vec<ParentReference> [count(0, 32)],
        /// Its one rule; older versions took more.
        "rules" => rules: Vec<StreamRule> [required, count(1, 16)],
        /// Attaches to Gateways that say so too.
        "useDefaultGateways" => use_default_gateways: Option<DefaultGateways>,
    }
    check rules::tcp_route
}

object! {
    /// Routes UDP flows by port.
    UdpRoute {
        /// What it attaches to.
        "parentRefs" => parent_refs: Vec<ParentReference> [count(0, 32)],
        /// Its one rule; older versions took more.
        "rules" => rules: Vec<StreamRule> [required, count(1, 16)],
        /// Attaches to Gateways that say so too.
        "useDefaultGateways" => use_default_gateways: Option<DefaultGateways>,
    }
    check rules::udp_route
}

object! {
    /// A rule for connections or flows.
    StreamRule {
        /// Where they go, by weight.
        "backendRefs" => backend_refs: Vec<BackendRef> [required, count(1, 16)],
        /// Its name.
        "name" => name: Option<String> [len(1, 253), check(check::dns_name)],
    }
}
