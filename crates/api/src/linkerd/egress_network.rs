//! EgressNetwork (`policy.linkerd.io`).

use super::authentication::NetworkRange;
use crate::codes;
use crate::decode::Decoder;

object! {
    /// Destinations outside of the cluster, and what happens to traffic towards them that no route describes.
    EgressNetwork {
        /// What happens to traffic that no route describes.
        "trafficPolicy" => traffic_policy: Option<TrafficPolicy> [required],
        /// Where they are; absent means everything outside of the cluster's networks.
        "networks" => networks: Option<Vec<NetworkRange>>,
    }
    check networks_not_empty
}

choice! {
    /// What happens to traffic that no route describes.
    TrafficPolicy {
        /// It goes on.
        "Allow" => Allow,
        /// It is refused.
        "Deny" => Deny,
    }
}

fn networks_not_empty(decoder: &mut Decoder<'_>, network: &EgressNetwork) {
    let list = decoder.tree().field(network.at, "networks");
    if let (Some([]), Some(list)) = (network.networks.as_deref(), list) {
        let hint = "leave the field out for everything outside of the cluster".to_owned();
        decoder.error(codes::RULE, list, "at least one network is needed", Some(hint));
    }
}
