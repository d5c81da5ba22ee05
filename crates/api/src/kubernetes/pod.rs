//! Pods.

use std::collections::BTreeMap;

use super::{Container, LocalReference, Volume};
use crate::check;
use crate::value::Free;

object! {
    /// `spec` of a Pod.
    PodSpec {
        /// Its containers.
        "containers" => containers: Vec<Container> [required, count(1, usize::MAX), unique("name")],
        /// Containers that run to their end, in order, before the others start.
        "initContainers" => init_containers: Vec<Container> [unique("name")],
        /// Its volumes.
        "volumes" => volumes: Vec<Volume> [unique("name")],
        /// Its identity; absent means `default`.
        "serviceAccountName" => service_account_name: Option<String>,
        /// The former name of `serviceAccountName`.
        "serviceAccount" => service_account: Option<String>,
        /// Whether the identity's token is mounted.
        "automountServiceAccountToken" => automount_service_account_token: Option<bool>,
        /// Whether it shares the network of its host; then it cannot be in the mesh.
        "hostNetwork" => host_network: Option<bool>,
        /// Whether it sees the processes of its host.
        "hostPID" => host_pid: Option<bool>,
        /// Whether it shares memory and messages with its host.
        "hostIPC" => host_ipc: Option<bool>,
        /// When its containers are started again; absent means `Always`.
        "restartPolicy" => restart_policy: Option<RestartPolicy>,
        /// Seconds between the signal to stop and the end; absent means 30.
        "terminationGracePeriodSeconds" => termination_grace_period_seconds: Option<i64>,
        /// The node it runs on.
        "nodeName" => node_name: Option<String>,
        /// Its host name.
        "hostname" => hostname: Option<String>,
        /// The domain of its host name.
        "subdomain" => subdomain: Option<String>,
        /// Where its names are resolved.
        "dnsPolicy" => dns_policy: Option<String>,
        /// How its names are resolved.
        "dnsConfig" => dns_config: Option<Free>,
        /// Additional names of addresses.
        "hostAliases" => host_aliases: Vec<Free>,
        /// User, group and the like of its processes.
        "securityContext" => security_context: Option<Free>,
        /// Whether its containers see each other's processes.
        "shareProcessNamespace" => share_process_namespace: Option<bool>,
        /// Conditions that count as ready in addition to the containers.
        "readinessGates" => readiness_gates: Vec<Free>,
        /// Secrets for pulling images.
        "imagePullSecrets" => image_pull_secrets: Vec<LocalReference>,
        /// Seconds it may run altogether.
        "activeDeadlineSeconds" => active_deadline_seconds: Option<i64>,
    }
    ignored {
        "affinity": "scheduling is not a mesh's business",
        "enableServiceLinks": "environment variables for services are the kubelet's business",
        "ephemeralContainers": "debugging containers are the kubelet's business",
        "hostUsers": "namespaces of the host are the kubelet's business",
        "hostnameOverride": "host names are the kubelet's business",
        "nodeSelector": "scheduling is not a mesh's business",
        "os": "scheduling is not a mesh's business",
        "overhead": "scheduling is not a mesh's business",
        "preemptionPolicy": "scheduling is not a mesh's business",
        "priority": "scheduling is not a mesh's business",
        "priorityClassName": "scheduling is not a mesh's business",
        "resourceClaims": "scheduling is not a mesh's business",
        "resources": "resources of a whole pod are the kubelet's business",
        "runtimeClassName": "the container runtime is the kubelet's business",
        "schedulerName": "scheduling is not a mesh's business",
        "schedulingGates": "scheduling is not a mesh's business",
        "setHostnameAsFQDN": "host names are the kubelet's business",
        "tolerations": "scheduling is not a mesh's business",
        "topologySpreadConstraints": "scheduling is not a mesh's business",
        "workloadRef": "scheduling is not a mesh's business"
    }
}

choice! {
    /// When containers are started again.
    RestartPolicy {
        /// Whenever they end.
        "Always" => Always,
        /// Never.
        "Never" => Never,
        /// When they end with an error.
        "OnFailure" => OnFailure,
    }
}

object! {
    /// What the pods of a workload look like.
    PodTemplate {
        /// Their labels and annotations.
        "metadata" => metadata: PodTemplateMeta,
        /// Their `spec`.
        "spec" => spec: PodSpec [required],
    }
}

object! {
    /// Labels and annotations of the pods of a workload.
    PodTemplateMeta {
        /// Labels.
        "labels" => labels: BTreeMap<String, String> [key_check(check::label_key), item_check(check::label_value)],
        /// Annotations.
        "annotations" => annotations: BTreeMap<String, String> [key_check(check::annotation_key)],
        /// Has no effect; the workload gives the names.
        "name" => name: Option<String>,
        /// Has no effect; pods live in the namespace of their workload.
        "namespace" => namespace: Option<String>,
        /// Has no effect; set by tools that export objects.
        "creationTimestamp" => creation_timestamp: Option<String>,
        /// Who must agree to their deletion.
        "finalizers" => finalizers: Vec<String>,
    }
    ignored {
        "deletionGracePeriodSeconds": "pods get their own",
        "deletionTimestamp": "pods get their own",
        "generateName": "the workload gives the names",
        "generation": "pods get their own",
        "managedFields": "pods get their own",
        "ownerReferences": "pods belong to their workload",
        "resourceVersion": "pods get their own",
        "selfLink": "long unused",
        "uid": "pods get their own"
    }
}
