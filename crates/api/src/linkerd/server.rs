//! Server and ServerAuthorization (`policy.linkerd.io`).

use std::collections::BTreeMap;

use super::authentication::NetworkRange;
use super::check as own;
use crate::codes;
use crate::decode::Decoder;
use crate::value::{IntOrText, LabelSelector};

object! {
    /// A port of some workloads. Where there is a Server, its port takes only what is authorised.
    Server {
        /// Who gets in without an authorisation; absent means nobody.
        "accessPolicy" => access_policy: Option<AccessPolicy>,
        /// Pods of the same namespace; empty means all of them.
        "podSelector" => pod_selector: Option<LabelSelector>,
        /// ExternalWorkloads of the same namespace; empty means all of them.
        "externalWorkloadSelector" => external_workload_selector: Option<LabelSelector>,
        /// A port of the container, by number or name.
        "port" => port: Option<IntOrText> [required],
        /// What is spoken there; absent means that it is found out.
        "proxyProtocol" => proxy_protocol: Option<ServerProxyProtocol>,
    }
    exactly_one ["podSelector", "externalWorkloadSelector"]
    check port_is_one
}

choice! {
    /// Who gets in where no authorisation says otherwise.
    AccessPolicy {
        /// Everybody, from anywhere.
        "all-unauthenticated" => AllUnauthenticated,
        /// Every client with an identity of the mesh, from anywhere.
        "all-authenticated" => AllAuthenticated,
        /// Every client with an identity of the mesh whose address is in the cluster's networks.
        "cluster-authenticated" => ClusterAuthenticated,
        /// Everybody whose address is in the cluster's networks.
        "cluster-unauthenticated" => ClusterUnauthenticated,
        /// Nobody.
        "deny" => Deny,
        /// Everybody, with a record of those who would not get in.
        "audit" => Audit,
    }
}

choice! {
    /// What is spoken on the port of a Server.
    ServerProxyProtocol {
        /// It is found out.
        "unknown" => Unknown,
        /// HTTP/1.
        "HTTP/1" => Http1,
        /// HTTP/2.
        "HTTP/2" => Http2,
        /// gRPC.
        "gRPC" => Grpc,
        /// Anything, which is not looked into.
        "opaque" => Opaque,
        /// TLS of the application's own.
        "TLS" => Tls,
    }
}

object! {
    /// Lets clients use Servers; the older form of AuthorizationPolicy.
    ServerAuthorization {
        /// The Servers, of the same namespace.
        "server" => server: ServerRef [required],
        /// The clients.
        "client" => client: AuthorizedClient [required],
    }
}

object! {
    /// Servers by name or by their labels.
    ServerRef {
        /// A Server's name.
        "name" => name: Option<String> [check(own::object_name)],
        /// Labels of Servers.
        "selector" => selector: Option<LabelSelector>,
    }
    exactly_one ["name", "selector"]
}

object! {
    /// Clients by address and identity; both must hold.
    AuthorizedClient {
        /// Ranges of addresses, any of which may match; absent means the cluster's networks.
        "networks" => networks: Vec<NetworkRange>,
        /// Whether clients need no identity.
        "unauthenticated" => unauthenticated: Option<bool>,
        /// The identities.
        "meshTLS" => mesh_tls: Option<AuthorizedMeshTls>,
    }
    check client_is_one
}

object! {
    /// Identities of clients; any may match.
    AuthorizedMeshTls {
        /// Whether the client's end of mutual TLS needs no identity.
        "unauthenticatedTLS" => unauthenticated_tls: Option<bool>,
        /// Names as the clients' certificates have them; `*` for every client with one.
        "identities" => identities: Vec<String> [item_check(own::identity)],
        /// Service accounts.
        "serviceAccounts" => service_accounts: Vec<AuthorizedAccount>,
    }
    check identities_are_needed_once
}

object! {
    /// A service account.
    AuthorizedAccount {
        /// Its name.
        "name" => name: String [required, check(own::object_name)],
        /// Its namespace; absent means the authorisation's own.
        "namespace" => namespace: Option<String> [check(own::object_name)],
    }
}

impl ServerRef {
    /// Whether a Server of this name and these labels is meant.
    pub fn selects(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        match (&self.name, &self.selector) {
            (Some(own), None) => own == name,
            (None, Some(selector)) => selector.matches(labels),
            _ => false,
        }
    }
}

fn port_is_one(decoder: &mut Decoder<'_>, server: &Server) {
    let Some(at) = decoder.tree().field(server.at, "port") else { return };
    let valid = match &server.port {
        Some(IntOrText::Int(number)) => (1..=65_535).contains(number),
        Some(IntOrText::Text(name)) => !name.is_empty() && name.len() <= 15,
        None => true,
    };
    if !valid {
        let message = "a port is a number from 1 to 65535 or the name of a container's port";
        decoder.value_error(codes::BAD_FORMAT, at, message, None);
    }
}

/// Linkerd drops an authorisation that does not say who is meant.
fn client_is_one(decoder: &mut Decoder<'_>, client: &AuthorizedClient) {
    match (client.unauthenticated == Some(true), &client.mesh_tls) {
        (true, Some(tls)) => {
            let message = "`unauthenticated: true` and `meshTLS` exclude each other";
            decoder.error(codes::ONE_OF, tls.at, message, None);
        }
        (false, None) => {
            let message = "either `unauthenticated: true` or `meshTLS` is needed";
            decoder.error(codes::MISSING_FIELD, client.at, message, None);
        }
        _ => {}
    }
}

fn identities_are_needed_once(decoder: &mut Decoder<'_>, tls: &AuthorizedMeshTls) {
    let listed = !tls.identities.is_empty() || !tls.service_accounts.is_empty();
    let open = tls.unauthenticated_tls == Some(true);
    if listed && open {
        let message = "`unauthenticatedTLS: true` leaves no room for identities";
        decoder.error(codes::ONE_OF, tls.at, message, None);
    } else if !listed && !open {
        let message = "`identities`, `serviceAccounts` or `unauthenticatedTLS: true` is needed";
        decoder.error(codes::MISSING_FIELD, tls.at, message, None);
    }
}
