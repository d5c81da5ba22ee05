//! Names and ages of objects.

use std::cmp::Ordering;
use std::sync::Arc;

use heddle_api::{Meta, Resource as AnyObject};
use heddle_ident::ObjectName;

/// Names an object of any kind. The version is no part of it: all versions of a kind are one object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ObjectKey {
    /// API group; empty for Kubernetes' core group.
    pub group: Arc<str>,
    /// Kind. The mesh configuration that a ConfigMap holds has the kind `MeshConfig` and the ConfigMap's name.
    pub kind: Arc<str>,
    /// Namespace and name.
    pub name: ObjectName,
}

impl ObjectKey {
    /// Puts the parts together.
    pub fn new(group: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self { group: group.into(), kind: kind.into(), name: ObjectName::new(namespace, name) }
    }

    /// The name of an object.
    pub fn of(object: &AnyObject) -> Self {
        let origin = object.origin();
        let kind = match object {
            AnyObject::MeshConfig(_) => "MeshConfig".into(),
            AnyObject::MeshNetworks(_) => "MeshNetworks".into(),
            _ => origin.kind.clone(),
        };
        Self {
            group: origin.group.clone(),
            kind,
            name: ObjectName::new(origin.namespace.clone(), origin.name.clone()),
        }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Orders objects by age, the oldest first, as Istio does: by creation, then by name and namespace. One without time of
/// creation is not in a cluster yet, so it is the youngest. The times are RFC 3339 in UTC, which sort as texts.
pub(crate) fn by_age(left: &Meta, right: &Meta) -> Ordering {
    let time = |meta: &Meta| {
        let time = meta.creation_timestamp.clone().unwrap_or_default();
        (time.is_empty(), time)
    };
    time(left)
        .cmp(&time(right))
        .then_with(|| left.name.cmp(&right.name))
        .then_with(|| left.namespace.cmp(&right.namespace))
}
