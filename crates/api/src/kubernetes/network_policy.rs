//! NetworkPolicy (`networking.k8s.io`).

use super::container::Protocol;
use crate::codes;
use crate::decode::Decoder;
use crate::value::{IntOrText, LabelSelector};

object! {
    /// Who may talk to pods of a namespace, and whom they may talk to. A direction in which a policy selects a pod is
    /// closed but for what policies allow.
    NetworkPolicy {
        /// The pods; empty means all of the namespace.
        "podSelector" => pod_selector: LabelSelector,
        /// Who may connect to them.
        "ingress" => ingress: Vec<NetworkPolicyIngress>,
        /// Whom they may connect to.
        "egress" => egress: Vec<NetworkPolicyEgress>,
        /// The directions it is for; absent means ingress, and egress where `egress` has rules.
        "policyTypes" => policy_types: Option<Vec<Option<PolicyType>>>,
    }
}

choice! {
    /// A direction.
    PolicyType {
        /// Connections that go out.
        "Egress" => Egress,
        /// Connections that come in.
        "Ingress" => Ingress,
    }
}

object! {
    /// Who may connect: a peer and a port must match.
    NetworkPolicyIngress {
        /// Peers; empty means everybody.
        "from" => from: Vec<NetworkPolicyPeer>,
        /// Ports; empty means all of them.
        "ports" => ports: Vec<NetworkPolicyPort>,
    }
}

object! {
    /// Whom pods may connect to: a peer and a port must match.
    NetworkPolicyEgress {
        /// Peers; empty means everybody.
        "to" => to: Vec<NetworkPolicyPeer>,
        /// Ports; empty means all of them.
        "ports" => ports: Vec<NetworkPolicyPort>,
    }
}

object! {
    /// Who is at the other end. A pod must match both selectors.
    NetworkPolicyPeer {
        /// Addresses.
        "ipBlock" => ip_block: Option<IpBlock>,
        /// Namespaces of pods; absent means the policy's own.
        "namespaceSelector" => namespace_selector: Option<LabelSelector>,
        /// Pods; absent means all of those namespaces.
        "podSelector" => pod_selector: Option<LabelSelector>,
    }
    at_least_one ["ipBlock", "namespaceSelector", "podSelector"]
    check block_stands_alone
}

object! {
    /// A range of addresses.
    IpBlock {
        /// The range.
        "cidr" => cidr: String [required, check(crate::check::cidr)],
        /// Ranges within that are not meant.
        "except" => except: Vec<String> [item_check(crate::check::cidr)],
    }
}

object! {
    /// A port or a range of ports.
    NetworkPolicyPort {
        /// By number or name; absent means all of them.
        "port" => port: Option<IntOrText>,
        /// The last port of a range.
        "endPort" => end_port: Option<i32> [range(1.0, 65_535.0)],
        /// The protocol; absent means TCP.
        "protocol" => protocol: Option<Protocol>,
    }
    check range_has_a_begin
}

fn block_stands_alone(decoder: &mut Decoder<'_>, peer: &NetworkPolicyPeer) {
    if peer.ip_block.is_some() && (peer.namespace_selector.is_some() || peer.pod_selector.is_some())
    {
        let message = "`ipBlock` excludes the selectors";
        decoder.error(codes::ONE_OF, peer.at, message, None);
    }
}

fn range_has_a_begin(decoder: &mut Decoder<'_>, port: &NetworkPolicyPort) {
    let Some(end) = port.end_port else { return };
    match &port.port {
        Some(IntOrText::Int(begin)) if *begin <= i64::from(end) => {}
        Some(IntOrText::Int(_)) => {
            decoder.error(codes::RULE, port.at, "`endPort` is less than `port`", None);
        }
        Some(IntOrText::Text(_)) | None => {
            decoder.error(codes::RULE, port.at, "`endPort` needs a `port` by number", None);
        }
    }
}
