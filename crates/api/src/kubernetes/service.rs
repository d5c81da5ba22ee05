//! Services.

use std::collections::BTreeMap;

use super::Protocol;
use crate::check;
use crate::value::IntOrText;

object! {
    /// `spec` of a Service.
    Service {
        /// Labels of the pods behind it; none means that its endpoints are managed by hand.
        "selector" => selector: BTreeMap<String, String> [key_check(check::label_key), item_check(check::label_value)],
        /// Its ports; empty is allowed for headless services.
        "ports" => ports: Vec<ServicePort> [unique("name")],
        /// Its address; `None` for a headless service, absent where the cluster gives one.
        "clusterIP" => cluster_ip: Option<String>,
        /// Its addresses, one a family.
        "clusterIPs" => cluster_ips: Vec<String>,
        /// How it is reached; absent means `ClusterIP`.
        "type" => kind: Option<ServiceType>,
        /// The host that `ExternalName` stands for.
        "externalName" => external_name: Option<String>,
        /// Addresses outside of the cluster.
        "externalIPs" => external_ips: Vec<String>,
        /// Address families, primary first.
        "ipFamilies" => ip_families: Vec<String>,
        /// Single or dual stack.
        "ipFamilyPolicy" => ip_family_policy: Option<String>,
        /// Whether endpoints that are not ready are published.
        "publishNotReadyAddresses" => publish_not_ready_addresses: Option<bool>,
        /// `Local` keeps traffic on its node.
        "internalTrafficPolicy" => internal_traffic_policy: Option<String>,
        /// The same for traffic from outside.
        "externalTrafficPolicy" => external_traffic_policy: Option<String>,
        /// `PreferClose`, `PreferSameZone` or `PreferSameNode`.
        "trafficDistribution" => traffic_distribution: Option<String>,
        /// `ClientIP` or `None`.
        "sessionAffinity" => session_affinity: Option<String>,
    }
    ignored {
        "sessionAffinityConfig": "heddle balances by DestinationRule, not by client address",
        "loadBalancerIP": "addresses of load balancers are the cloud's business",
        "loadBalancerClass": "load balancers are the cloud's business",
        "loadBalancerSourceRanges": "load balancers are the cloud's business",
        "allocateLoadBalancerNodePorts": "node ports are the cluster's business",
        "healthCheckNodePort": "node ports are the cluster's business",
        "topologyKeys": "removed from Kubernetes"
    }
}

object! {
    /// A port of a Service.
    ServicePort {
        /// Its name; required when there are several. Its prefix declares the protocol (`http-web`).
        "name" => name: Option<String>,
        /// The port of the service.
        "port" => port: u16 [required, port],
        /// The port of the pods, by number or name; absent means the same number.
        "targetPort" => target_port: Option<IntOrText>,
        /// Transport protocol; absent means TCP.
        "protocol" => protocol: Option<Protocol>,
        /// Application protocol, before the prefix of the name.
        "appProtocol" => app_protocol: Option<String>,
        /// Port on every node.
        "nodePort" => node_port: Option<u16>,
    }
}

choice! {
    /// How a Service is reached.
    ServiceType {
        /// At an address within the cluster.
        "ClusterIP" => ClusterIp,
        /// As an alias of a host outside.
        "ExternalName" => ExternalName,
        /// At a load balancer.
        "LoadBalancer" => LoadBalancer,
        /// At a port of every node.
        "NodePort" => NodePort,
    }
}
