//! Namespaces and nodes: what matters of them is their labels.

object! {
    /// `spec` of a Namespace.
    Namespace {
        /// Who must agree to its deletion.
        "finalizers" => finalizers: Vec<String>,
    }
}

object! {
    /// `spec` of a Node.
    Node {
        /// Address range of its pods.
        "podCIDR" => pod_cidr: Option<String>,
        /// Address ranges of its pods, one a family.
        "podCIDRs" => pod_cidrs: Vec<String>,
        /// Id at the cloud provider.
        "providerID" => provider_id: Option<String>,
        /// Whether new pods are kept away.
        "unschedulable" => unschedulable: Option<bool>,
    }
    ignored {
        "taints": "scheduling is not a mesh's business",
        "configSource": "node configuration is not a mesh's business",
        "externalID": "long unused"
    }
}
