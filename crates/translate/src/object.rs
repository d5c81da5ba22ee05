//! Names and ages of objects.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use heddle_api::{Meta, Resource as AnyObject};
use heddle_diag::Diagnostic;
use heddle_ident::ObjectName;

use crate::codes;

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

/// What several files, or one, define more than once: the last one counts, as when each is applied in turn.
pub fn duplicates(objects: &[AnyObject]) -> Vec<Diagnostic> {
    let mut last: HashMap<ObjectKey, &AnyObject> = HashMap::new();
    let mut findings = Vec::new();
    for object in objects {
        if matches!(object, AnyObject::MeshConfig(_) | AnyObject::MeshNetworks(_)) {
            continue;
        }
        let key = ObjectKey::of(object);
        let Some(former) = last.insert(key, object) else { continue };
        let message = "this object is written again further on, and the last one counts";
        findings.push(
            Diagnostic::warning(codes::WRITTEN_TWICE, former.origin().clone(), message)
                .related("written again here", object.origin().clone())
                .hint("delete one of the two, or give it another name"),
        );
        findings.extend(crate::losses(former, object));
    }
    findings
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
