//! Listeners, and the ListenerSets that add some to a Gateway.

use std::collections::BTreeMap;

use super::common::SecretObjectReference;
use super::{GROUP, rules};
use crate::check;
use crate::value::LabelSelector;

object! {
    /// Listeners that are added to a Gateway.
    ListenerSet {
        /// The listeners.
        "listeners" => listeners: Vec<Listener> [required, count(1, 64), unique("name")],
        /// The Gateway.
        "parentRef" => parent_ref: ParentGateway [required],
    }
    check rules::listener_set
}

object! {
    /// The Gateway of a ListenerSet.
    ParentGateway {
        /// API group; absent means the Gateway API's own.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Kind; absent means `Gateway`.
        "kind" => kind: Option<String> [len(1, 63), check(check::kind_name)],
        /// Name.
        "name" => name: String [required, len(1, 253)],
        /// Namespace; absent means the set's.
        "namespace" => namespace: Option<String> [len(1, 63), check(check::dns_label)],
    }
}

impl ParentGateway {
    /// Whether a Gateway is meant.
    pub fn is_gateway(&self) -> bool {
        self.group.as_deref().unwrap_or(GROUP) == GROUP
            && self.kind.as_deref().is_none_or(|kind| kind == "Gateway")
    }
}

object! {
    /// Where connections are accepted, and which routes may attach.
    Listener {
        /// Which routes may attach.
        "allowedRoutes" => allowed_routes: Option<AllowedRoutes>,
        /// Hosts it serves: one name, or `*.` and a suffix; absent means every host.
        "hostname" => hostname: Option<String> [len(1, 253), check(rules::hostname)],
        /// Its name.
        "name" => name: String [required, len(1, 253), check(check::dns_name)],
        /// Where it listens.
        "port" => port: u16 [required, port],
        /// `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP`, or one of an implementation as `domain/NAME`.
        "protocol" => protocol: String [required, len(1, 255), check(rules::protocol)],
        /// TLS, for the protocols that have it.
        "tls" => tls: Option<ListenerTls>,
    }
}

object! {
    /// TLS of a listener.
    ListenerTls {
        /// Key and certificates, by Secrets.
        "certificateRefs" => certificate_refs: Vec<SecretObjectReference> [count(0, 64)],
        /// Who ends TLS; absent means `Terminate`.
        "mode" => mode: Option<ListenerTlsMode>,
        /// Settings of an implementation.
        "options" => options: BTreeMap<String, String> [count(0, 16), item_len(0, 4096)],
    }
    check rules::listener_tls
}

impl ListenerTls {
    /// The mode with its default.
    pub fn mode(&self) -> ListenerTlsMode {
        self.mode.unwrap_or(ListenerTlsMode::Terminate)
    }
}

choice! {
    /// Who ends TLS.
    ListenerTlsMode {
        /// The gateway.
        "Terminate" => Terminate,
        /// The backend.
        "Passthrough" => Passthrough,
    }
}

object! {
    /// Which routes may attach.
    AllowedRoutes {
        /// Kinds; absent means those that fit the protocol.
        "kinds" => kinds: Vec<RouteGroupKind> [count(0, 8)],
        /// Namespaces; absent means the Gateway's.
        "namespaces" => namespaces: Option<RouteNamespaces>,
    }
}

object! {
    /// A kind of route.
    RouteGroupKind {
        /// API group; absent means the Gateway API's own.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
    }
}

object! {
    /// Namespaces from which routes may attach.
    RouteNamespaces {
        /// Which; absent means `Same`.
        "from" => from: Option<RouteNamespacesFrom>,
        /// Labels of the namespaces, for `Selector`.
        "selector" => selector: Option<LabelSelector>,
    }
}

choice! {
    /// Namespaces from which routes may attach.
    RouteNamespacesFrom {
        /// Every one.
        "All" => All,
        /// Those that the selector takes.
        "Selector" => Selector,
        /// The Gateway's own.
        "Same" => Same,
    }
}
