//! What is fixed when a translator is made.

use std::sync::Arc;

use heddle_ident::{Cidr, ClusterName, NetworkName, TrustDomain};

/// Whose meaning the objects get.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Profile {
    /// Upstream's meaning, with the rows of the table of translations (silent failures become what authors mean).
    #[default]
    Heddle,
    /// Exactly what Istio with sidecars does, its silent failures included.
    IstioSidecar,
    /// Exactly what Linkerd does, its silent failures included.
    Linkerd,
}

/// Which pods have a proxy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Enrolment {
    /// Those that an injector has marked (`sidecar.istio.io/status`), as in a cluster.
    Injected,
    /// All but those that say `sidecar.istio.io/inject: "false"` and those in the host's network.
    #[default]
    Standalone,
}

/// What is fixed when a translator is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose meaning the objects get.
    pub profile: Profile,
    /// Which pods have a proxy.
    pub enrolment: Enrolment,
    /// The trust domain, unless the mesh configuration says another.
    pub trust_domain: TrustDomain,
    /// Namespace of the mesh-wide objects, unless the mesh configuration says another.
    pub root_namespace: Arc<str>,
    /// The cluster that the objects are of.
    pub cluster: ClusterName,
    /// The network of pods that do not say another (`topology.istio.io/network`).
    pub network: NetworkName,
    /// Suffix of service names: `<name>.<namespace>.svc.<domain>`.
    pub cluster_domain: Arc<str>,
    /// Address ranges that belong to the mesh: of services, pods and allocated addresses.
    pub mesh_ranges: Vec<Cidr>,
    /// What Linkerd has as settings of its installation.
    pub linkerd: LinkerdOptions,
    /// Addresses that the node's health checks come from; their paths pass whatever policy says. Empty: none do.
    pub probe_sources: Vec<Cidr>,
}

impl Default for Options {
    /// A standalone mesh of the trust domain `cluster.local`.
    fn default() -> Self {
        let range = |text| Cidr::parse(text).ok();
        let ranges = [
            crate::workloads::POD_RANGE_V4,
            crate::workloads::POD_RANGE_V6,
            crate::workloads::SERVICE_RANGE_V4,
            crate::workloads::SERVICE_RANGE_V6,
            crate::workloads::ENTRY_RANGE_V4,
        ];
        Self {
            profile: Profile::default(),
            enrolment: Enrolment::default(),
            trust_domain: TrustDomain::parse("cluster.local").expect("it is a valid trust domain"),
            root_namespace: "istio-system".into(),
            cluster: ClusterName::new("standalone"),
            network: NetworkName::new(""),
            cluster_domain: "cluster.local".into(),
            mesh_ranges: ranges.into_iter().filter_map(range).collect(),
            probe_sources: Vec::new(),
            linkerd: LinkerdOptions::default(),
        }
    }
}

/// What Linkerd has as settings of its installation.
#[derive(Clone, Debug)]
pub struct LinkerdOptions {
    /// `clusterNetworks`: the addresses that count as the cluster's own.
    pub cluster_networks: Vec<Cidr>,
    /// `egress.globalEgressNetworkNamespace`: EgressNetworks there are for clients of all namespaces that have none.
    pub egress_namespace: Arc<str>,
}

impl Default for LinkerdOptions {
    /// The private address ranges, as Linkerd has them by default.
    fn default() -> Self {
        const NETWORKS: [&str; 5] =
            ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"];
        Self {
            cluster_networks: NETWORKS.iter().filter_map(|text| Cidr::parse(text).ok()).collect(),
            egress_namespace: "linkerd-egress".into(),
        }
    }
}
