//! Link (`multicluster.linkerd.io`).

use crate::value::{IntOrText, LabelSelector};

object! {
    /// Another cluster whose services are mirrored here.
    Link {
        /// Name of the other cluster.
        "targetClusterName" => target_cluster_name: Option<String>,
        /// Its cluster domain.
        "targetClusterDomain" => target_cluster_domain: Option<String>,
        /// Namespace of its control plane.
        "targetClusterLinkerdNamespace" => target_cluster_linkerd_namespace: Option<String>,
        /// Secret with the credentials for its API.
        "clusterCredentialsSecret" => cluster_credentials_secret: Option<String>,
        /// Addresses of its gateway, separated by commas.
        "gatewayAddress" => gateway_address: Option<String>,
        /// Identity of its gateway.
        "gatewayIdentity" => gateway_identity: Option<String>,
        /// Port of its gateway.
        "gatewayPort" => gateway_port: Option<IntOrText>,
        /// How its gateway's health is asked.
        "probeSpec" => probe_spec: Option<ProbeSpec>,
        /// Which services are mirrored through the gateway.
        "selector" => selector: Option<LabelSelector>,
        /// Which services are mirrored with the addresses of their pods.
        "remoteDiscoverySelector" => remote_discovery_selector: Option<LabelSelector>,
        /// Which services join a federated service.
        "federatedServiceSelector" => federated_service_selector: Option<LabelSelector>,
        /// Annotations that are not copied.
        "excludeAnnotations" => exclude_annotations: Vec<String>,
        /// Labels that are not copied.
        "excludeLabels" => exclude_labels: Vec<String>,
    }
}

object! {
    /// How a gateway's health is asked.
    ProbeSpec {
        /// Failures in a row.
        "failureThreshold" => failure_threshold: Option<IntOrText>,
        /// Path.
        "path" => path: Option<String>,
        /// Time between probes.
        "period" => period: Option<IntOrText>,
        /// Port.
        "port" => port: Option<IntOrText>,
        /// Time for one.
        "timeout" => timeout: Option<IntOrText>,
    }
}
