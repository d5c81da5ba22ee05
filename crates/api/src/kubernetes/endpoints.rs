//! Endpoint slices: the addresses behind a Service.

use std::collections::BTreeMap;

use super::{ObjectReference, Protocol};

object! {
    /// A part of the endpoints of a Service, which the label `kubernetes.io/service-name` names.
    EndpointSlice {
        /// What the addresses are.
        "addressType" => address_type: Option<AddressType> [required],
        /// The endpoints.
        "endpoints" => endpoints: Vec<Endpoint> [count(0, 1000)],
        /// The ports of every endpoint.
        "ports" => ports: Vec<EndpointPort> [count(0, 100)],
    }
}

object! {
    /// One endpoint.
    Endpoint {
        /// Its addresses, of which the first is used.
        "addresses" => addresses: Vec<String> [required, count(1, 100)],
        /// Whether it can be used.
        "conditions" => conditions: Option<EndpointConditions>,
        /// Its host name.
        "hostname" => hostname: Option<String>,
        /// The pod behind it.
        "targetRef" => target_ref: Option<ObjectReference>,
        /// The node it runs on.
        "nodeName" => node_name: Option<String>,
        /// The zone it runs in.
        "zone" => zone: Option<String>,
        /// Whom it should serve.
        "hints" => hints: Option<EndpointHints>,
        /// The former form of node and zone.
        "deprecatedTopology" => deprecated_topology: BTreeMap<String, String>,
    }
}

object! {
    /// Whether an endpoint can be used.
    EndpointConditions {
        /// It takes traffic; absent means yes.
        "ready" => ready: Option<bool>,
        /// It serves, though it may be terminating.
        "serving" => serving: Option<bool>,
        /// It is about to end.
        "terminating" => terminating: Option<bool>,
    }
}

object! {
    /// Whom an endpoint should serve.
    EndpointHints {
        /// Clients of these zones.
        "forZones" => for_zones: Vec<ForZone>,
        /// Clients of these nodes.
        "forNodes" => for_nodes: Vec<ForNode>,
    }
}

object! {
    /// A zone.
    ForZone {
        /// Its name.
        "name" => name: String [required],
    }
}

object! {
    /// A node.
    ForNode {
        /// Its name.
        "name" => name: String [required],
    }
}

object! {
    /// A port of the endpoints.
    EndpointPort {
        /// The name of the service's port.
        "name" => name: Option<String>,
        /// The number; absent means every port.
        "port" => port: Option<u16>,
        /// Transport protocol; absent means TCP.
        "protocol" => protocol: Option<Protocol>,
        /// Application protocol.
        "appProtocol" => app_protocol: Option<String>,
    }
}

choice! {
    /// What addresses are.
    AddressType {
        /// IPv4.
        "IPv4" => Ipv4,
        /// IPv6.
        "IPv6" => Ipv6,
        /// Host names.
        "FQDN" => Fqdn,
    }
}
