//! Volumes of a pod.

use crate::value::{Free, Quantity};

object! {
    /// A volume.
    Volume {
        /// Its name within the pod.
        "name" => name: String [required, check(crate::check::dns_label)],
        /// Keys of a ConfigMap as files.
        "configMap" => config_map: Option<ConfigMapVolume>,
        /// Keys of a Secret as files.
        "secret" => secret: Option<SecretVolume>,
        /// An empty directory that ends with the pod.
        "emptyDir" => empty_dir: Option<EmptyDir>,
        /// A path of the host.
        "hostPath" => host_path: Option<HostPath>,
        /// Several sources in one directory.
        "projected" => projected: Option<Projected>,
        /// Fields of the pod as files.
        "downwardAPI" => downward_api: Option<Free>,
        /// A claim on storage.
        "persistentVolumeClaim" => persistent_volume_claim: Option<Free>,
    }
    ignored {
        "awsElasticBlockStore": "storage drivers are the kubelet's business",
        "azureDisk": "storage drivers are the kubelet's business",
        "azureFile": "storage drivers are the kubelet's business",
        "cephfs": "storage drivers are the kubelet's business",
        "cinder": "storage drivers are the kubelet's business",
        "csi": "storage drivers are the kubelet's business",
        "ephemeral": "storage drivers are the kubelet's business",
        "fc": "storage drivers are the kubelet's business",
        "flexVolume": "storage drivers are the kubelet's business",
        "flocker": "storage drivers are the kubelet's business",
        "gcePersistentDisk": "storage drivers are the kubelet's business",
        "gitRepo": "storage drivers are the kubelet's business",
        "glusterfs": "storage drivers are the kubelet's business",
        "image": "images are the container runtime's business",
        "iscsi": "storage drivers are the kubelet's business",
        "nfs": "storage drivers are the kubelet's business",
        "photonPersistentDisk": "storage drivers are the kubelet's business",
        "portworxVolume": "storage drivers are the kubelet's business",
        "quobyte": "storage drivers are the kubelet's business",
        "rbd": "storage drivers are the kubelet's business",
        "scaleIO": "storage drivers are the kubelet's business",
        "storageos": "storage drivers are the kubelet's business",
        "vsphereVolume": "storage drivers are the kubelet's business"
    }
}

object! {
    /// Keys of a ConfigMap as files.
    ConfigMapVolume {
        /// The ConfigMap.
        "name" => name: String,
        /// Which keys, and where; absent means all.
        "items" => items: Vec<KeyToPath>,
        /// Mode of the files.
        "defaultMode" => default_mode: Option<u32>,
        /// Whether it may be missing.
        "optional" => optional: Option<bool>,
    }
}

object! {
    /// Keys of a Secret as files.
    SecretVolume {
        /// The Secret.
        "secretName" => secret_name: String,
        /// Which keys, and where; absent means all.
        "items" => items: Vec<KeyToPath>,
        /// Mode of the files.
        "defaultMode" => default_mode: Option<u32>,
        /// Whether it may be missing.
        "optional" => optional: Option<bool>,
    }
}

object! {
    /// A key as a file.
    KeyToPath {
        /// The key.
        "key" => key: String [required],
        /// The file, relative to the volume.
        "path" => path: String [required],
        /// Mode of the file.
        "mode" => mode: Option<u32>,
    }
}

object! {
    /// An empty directory.
    EmptyDir {
        /// `Memory` for a file system in memory.
        "medium" => medium: Option<String>,
        /// At most this much.
        "sizeLimit" => size_limit: Option<Quantity>,
    }
}

object! {
    /// A path of the host.
    HostPath {
        /// The path.
        "path" => path: String [required],
        /// What must be there, for example `Directory`.
        "type" => kind: Option<String>,
    }
}

object! {
    /// Several sources in one directory.
    Projected {
        /// The sources.
        "sources" => sources: Vec<ProjectedSource>,
        /// Mode of the files.
        "defaultMode" => default_mode: Option<u32>,
    }
}

object! {
    /// A source of a projected volume.
    ProjectedSource {
        /// Keys of a ConfigMap.
        "configMap" => config_map: Option<ConfigMapVolume>,
        /// Keys of a Secret.
        "secret" => secret: Option<Free>,
        /// A token of the service account.
        "serviceAccountToken" => service_account_token: Option<ServiceAccountTokenProjection>,
        /// Fields of the pod.
        "downwardAPI" => downward_api: Option<Free>,
        /// Certificates that the cluster trusts.
        "clusterTrustBundle" => cluster_trust_bundle: Option<Free>,
        /// A certificate of the pod.
        "podCertificate" => pod_certificate: Option<Free>,
    }
}

object! {
    /// A token of the service account as a file.
    ServiceAccountTokenProjection {
        /// Whom the token is meant for.
        "audience" => audience: Option<String>,
        /// How long it is valid, in seconds.
        "expirationSeconds" => expiration_seconds: Option<i64>,
        /// The file, relative to the volume.
        "path" => path: String [required],
    }
}
