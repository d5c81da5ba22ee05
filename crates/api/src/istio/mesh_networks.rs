//! Networks of the mesh: the key `meshNetworks` of the ConfigMap `istio`.

use std::collections::BTreeMap;

object! {
    /// Endpoints of a network.
    NetworkEndpoints {
        /// Those of an address range.
        "fromCidr" => from_cidr: Option<String>,
        /// Those of a cluster.
        "fromRegistry" => from_registry: Option<String>,
    }
    at_most_one ["fromCidr", "fromRegistry"]
}

object! {
    /// A gateway into a network.
    NetworkGateway {
        /// A service.
        "registryServiceName" => registry_service_name: Option<String>,
        /// Its address.
        "address" => address: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        /// Where it is.
        "locality" => locality: Option<String>,
    }
    at_most_one ["registryServiceName", "address"]
}

object! {
    /// A network.
    Network {
        /// What belongs to it.
        "endpoints" => endpoints: Vec<NetworkEndpoints>,
        /// How to get into it.
        "gateways" => gateways: Vec<NetworkGateway>,
    }
}

object! {
    /// Networks of the mesh.
    MeshNetworks {
        /// Networks by name.
        "networks" => networks: BTreeMap<String, Network>,
    }
}
