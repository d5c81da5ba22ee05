//! Gateway.

use std::collections::BTreeMap;

use super::common::{
    DefaultGateways, LocalObjectReference, ObjectReference, SecretObjectReference,
};
use super::listener::Listener;
use super::rules;
use crate::check;
use crate::value::LabelSelector;

object! {
    /// Where traffic enters (or leaves): addresses and listeners.
    Gateway {
        /// Addresses that are wanted.
        "addresses" => addresses: Vec<GatewayAddress> [count(0, 16)],
        /// Who may add listeners by a ListenerSet; absent means no one.
        "allowedListeners" => allowed_listeners: Option<AllowedListeners>,
        /// Whether routes that ask for default Gateways attach; absent means no.
        "defaultScope" => default_scope: Option<DefaultGateways>,
        /// The class.
        "gatewayClassName" => gateway_class_name: String [required, len(1, 253)],
        /// What is copied to the objects that are made for the Gateway.
        "infrastructure" => infrastructure: Option<GatewayInfrastructure>,
        /// The listeners.
        "listeners" => listeners: Vec<Listener> [required, count(1, 64), unique("name")],
        /// TLS that belongs to no single listener.
        "tls" => tls: Option<GatewayTls>,
    }
    check rules::gateway
}

object! {
    /// An address that is wanted.
    GatewayAddress {
        /// `IPAddress`, `Hostname`, or one of an implementation; absent means `IPAddress`.
        "type" => kind: Option<String> [len(1, 253), check(rules::address_type)],
        /// The address; absent or empty means any of the type.
        "value" => value: Option<String> [len(0, 253)],
    }
    check rules::address
}

impl GatewayAddress {
    /// The type with its default.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("IPAddress")
    }
}

object! {
    /// Who may add listeners.
    AllowedListeners {
        /// Namespaces of the ListenerSets; absent means none.
        "namespaces" => namespaces: Option<ListenerNamespaces>,
    }
}

object! {
    /// Namespaces of ListenerSets.
    ListenerNamespaces {
        /// Which; absent means `None`.
        "from" => from: Option<ListenerNamespacesFrom>,
        /// Labels of the namespaces, for `Selector`.
        "selector" => selector: Option<LabelSelector>,
    }
}

choice! {
    /// Namespaces of ListenerSets.
    ListenerNamespacesFrom {
        /// Every one.
        "All" => All,
        /// Those that the selector takes.
        "Selector" => Selector,
        /// The Gateway's own.
        "Same" => Same,
        /// None.
        "None" => None,
    }
}

object! {
    /// What is copied to the objects that are made for a Gateway.
    GatewayInfrastructure {
        /// Annotations.
        "annotations" => annotations: BTreeMap<String, String> [count(0, 16), item_len(0, 4096), key_check(rules::qualified_key)],
        /// Labels.
        "labels" => labels: BTreeMap<String, String> [count(0, 8), item_len(0, 63), item_check(check::label_value), key_check(rules::qualified_key)],
        /// Parameters of the implementation.
        "parametersRef" => parameters_ref: Option<LocalObjectReference>,
    }
}

object! {
    /// TLS of a Gateway that belongs to no single listener.
    GatewayTls {
        /// Towards backends.
        "backend" => backend: Option<GatewayBackendTls>,
        /// Towards clients.
        "frontend" => frontend: Option<FrontendTls>,
    }
}

object! {
    /// TLS of a Gateway towards backends.
    GatewayBackendTls {
        /// The certificate it presents where a backend asks for one.
        "clientCertificateRef" => client_certificate_ref: Option<SecretObjectReference>,
    }
}

object! {
    /// TLS of a Gateway towards clients.
    FrontendTls {
        /// For every HTTPS listener of a port that is not listed.
        "default" => default: FrontendTlsConfig [required],
        /// For the HTTPS listeners of a port.
        "perPort" => per_port: Vec<PortFrontendTls> [count(0, 64), unique("port")],
    }
}

object! {
    /// TLS of one port towards clients.
    PortFrontendTls {
        /// The port.
        "port" => port: u16 [required, port],
        /// Its settings.
        "tls" => tls: FrontendTlsConfig [required],
    }
}

object! {
    /// Settings of TLS towards clients.
    FrontendTlsConfig {
        /// How clients' certificates are checked; absent means none is asked for.
        "validation" => validation: Option<FrontendValidation>,
    }
}

object! {
    /// How clients' certificates are checked.
    FrontendValidation {
        /// ConfigMaps with the roots under `ca.crt`.
        "caCertificateRefs" => ca_certificate_refs: Vec<ObjectReference> [required, count(1, 16)],
        /// What happens to a client without a valid certificate; absent means it is refused.
        "mode" => mode: Option<FrontendValidationMode>,
    }
}

choice! {
    /// What happens to a client without a valid certificate.
    FrontendValidationMode {
        /// It is refused.
        "AllowValidOnly" => AllowValidOnly,
        /// It is let in.
        "AllowInsecureFallback" => AllowInsecureFallback,
    }
}
