//! What several kinds share: references to other objects.

use super::{GROUP, rules};
use crate::check;

object! {
    /// What a route attaches to: a Gateway, a ListenerSet, or a Service of the mesh.
    ParentReference {
        /// Its API group; absent means the Gateway API's own. Empty for a Service.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind; absent means `Gateway`.
        "kind" => kind: Option<String> [len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
        /// Its namespace; absent means the route's.
        "namespace" => namespace: Option<String> [len(1, 63), check(check::dns_label)],
        /// Only listeners (or the service port) of this number.
        "port" => port: Option<u16> [port],
        /// Only the listener (or the service port) of this name.
        "sectionName" => section_name: Option<String> [len(1, 253), check(check::dns_name)],
    }
}

impl ParentReference {
    /// The group with its default.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(GROUP)
    }

    /// The kind with its default.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Gateway")
    }

    /// The namespace; `own` is the route's.
    pub fn namespace<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(own)
    }
}

object! {
    /// A backend with its share.
    BackendRef {
        /// Its API group; absent means the core group.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind; absent means `Service`.
        "kind" => kind: Option<String> [len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
        /// Its namespace; absent means the route's. Another one needs a ReferenceGrant.
        "namespace" => namespace: Option<String> [len(1, 63), check(check::dns_label)],
        /// The port of the service; required for a Service.
        "port" => port: Option<u16> [port],
        /// Its share relative to the others; absent means 1.
        "weight" => weight: Option<u32> [range(0.0, 1_000_000.0)],
    }
    check rules::backend_ref
}

object! {
    /// A backend without a share.
    BackendObjectReference {
        /// Its API group; absent means the core group.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind; absent means `Service`.
        "kind" => kind: Option<String> [len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
        /// Its namespace; absent means the route's. Another one needs a ReferenceGrant.
        "namespace" => namespace: Option<String> [len(1, 63), check(check::dns_label)],
        /// The port of the service; required for a Service.
        "port" => port: Option<u16> [port],
    }
    check rules::backend_object
}

object! {
    /// An object of the same namespace.
    LocalObjectReference {
        /// Its API group; empty for the core group.
        "group" => group: String [required, len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
    }
}

object! {
    /// An object of any namespace.
    ObjectReference {
        /// Its API group; empty for the core group.
        "group" => group: String [required, len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
        /// Its namespace; absent means the referring object's. Another one needs a ReferenceGrant.
        "namespace" => namespace: Option<String> [len(1, 63), check(check::dns_label)],
    }
}

object! {
    /// A Secret, unless it says otherwise.
    SecretObjectReference {
        /// Its API group; absent means the core group.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind; absent means `Secret`.
        "kind" => kind: Option<String> [len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
        /// Its namespace; absent means the referring object's. Another one needs a ReferenceGrant.
        "namespace" => namespace: Option<String> [len(1, 63), check(check::dns_label)],
    }
}

impl SecretObjectReference {
    /// Whether a Secret is meant.
    pub fn is_secret(&self) -> bool {
        self.group.as_deref().unwrap_or_default().is_empty()
            && self.kind.as_deref().is_none_or(|kind| kind == "Secret")
    }
}

object! {
    /// Parameters of a class.
    ParametersReference {
        /// API group.
        "group" => group: String [required, len(0, 253), check(check::dns_name_or_empty)],
        /// Kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Name.
        "name" => name: String [required, len(1, 253)],
        /// Namespace; absent for a cluster-scoped object.
        "namespace" => namespace: Option<String> [len(1, 63), check(check::dns_label)],
    }
}

choice! {
    /// Which default Gateways are meant.
    DefaultGateways {
        /// All of them.
        "All" => All,
        /// None.
        "None" => None,
    }
}
