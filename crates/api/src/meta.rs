//! `metadata`: who an object is.

use std::collections::BTreeMap;

use crate::check;
use crate::value::Free;

object! {
    /// `metadata` of any object.
    Meta {
        /// The name within namespace and kind. Empty when the object has `generateName` only.
        "name" => name: String,
        /// The namespace; filled in with the default for namespaced kinds, empty for cluster-scoped ones.
        "namespace" => namespace: String [check(check::dns_name_or_empty)],
        /// Prefix of a generated name.
        "generateName" => generate_name: Option<String>,
        /// Labels, by which selectors find the object.
        "labels" => labels: BTreeMap<String, String> [key_check(check::label_key), item_check(check::label_value)],
        /// Annotations.
        "annotations" => annotations: BTreeMap<String, String> [key_check(check::annotation_key)],
        /// Unique id, given by a cluster.
        "uid" => uid: Option<String>,
        /// Counts changes of `spec`, in a cluster.
        "generation" => generation: Option<i64>,
        /// Opaque version, given by a cluster.
        "resourceVersion" => resource_version: Option<String>,
        /// When it was created (RFC 3339), given by a cluster or the store; ties are broken by it.
        "creationTimestamp" => creation_timestamp: Option<String>,
        /// When deletion was asked for.
        "deletionTimestamp" => deletion_timestamp: Option<String>,
        /// Seconds between the request and the deletion.
        "deletionGracePeriodSeconds" => deletion_grace_period_seconds: Option<i64>,
        /// Objects this one belongs to.
        "ownerReferences" => owner_references: Vec<OwnerReference>,
        /// Who must agree to a deletion.
        "finalizers" => finalizers: Vec<String>,
        /// Who set which field; bookkeeping of a cluster.
        "managedFields" => managed_fields: Option<Free>,
        /// Long unused.
        "selfLink" => self_link: Option<String>,
    }
    ignored {
        "clusterName": "removed from Kubernetes",
        "initializers": "removed from Kubernetes"
    }
}

object! {
    /// An object that another belongs to.
    OwnerReference {
        /// Group and version.
        "apiVersion" => api_version: String [required],
        /// Kind.
        "kind" => kind: String [required],
        /// Name, in the same namespace.
        "name" => name: String [required],
        /// Unique id.
        "uid" => uid: Option<String>,
        /// Whether it is the managing controller.
        "controller" => controller: Option<bool>,
        /// Whether the owner's deletion waits for this object.
        "blockOwnerDeletion" => block_owner_deletion: Option<bool>,
    }
}
