//! ConfigMaps, Secrets and service accounts.

use std::collections::BTreeMap;

use crate::value::Base64;

object! {
    /// A ConfigMap.
    ConfigMap {
        /// Texts by key.
        "data" => data: BTreeMap<String, String>,
        /// Bytes by key.
        "binaryData" => binary_data: BTreeMap<String, Base64>,
        /// Whether it may change.
        "immutable" => immutable: Option<bool>,
    }
}

object! {
    /// A Secret.
    Secret {
        /// Bytes by key.
        "data" => data: BTreeMap<String, Base64>,
        /// Texts by key; they win over `data`.
        "stringData" => string_data: BTreeMap<String, String>,
        /// What kind of secret, for example `kubernetes.io/tls`; absent means `Opaque`.
        "type" => kind: Option<String>,
        /// Whether it may change.
        "immutable" => immutable: Option<bool>,
    }
}

object! {
    /// A service account: the identity of workloads.
    ServiceAccount {
        /// Secrets its pods may use.
        "secrets" => secrets: Vec<ObjectReference>,
        /// Secrets for pulling images.
        "imagePullSecrets" => image_pull_secrets: Vec<LocalReference>,
        /// Whether its token is mounted into pods; absent means yes.
        "automountServiceAccountToken" => automount_service_account_token: Option<bool>,
    }
}

object! {
    /// The name of an object in the same namespace.
    LocalReference {
        /// Its name.
        "name" => name: String,
    }
}

object! {
    /// Any object.
    ObjectReference {
        /// Group and version.
        "apiVersion" => api_version: Option<String>,
        /// Kind.
        "kind" => kind: Option<String>,
        /// Name.
        "name" => name: Option<String>,
        /// Namespace.
        "namespace" => namespace: Option<String>,
        /// Unique id.
        "uid" => uid: Option<String>,
        /// Version.
        "resourceVersion" => resource_version: Option<String>,
        /// Part of the object.
        "fieldPath" => field_path: Option<String>,
    }
}
