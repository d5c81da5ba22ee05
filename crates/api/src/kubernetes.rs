//! Kubernetes' own kinds, as far as a mesh reads them.
//!
//! Fields that a mesh has no use for are recognised by name and reported as ignored with the reason, so that a misspelled
//! field still stands out.

mod config;
mod container;
mod endpoints;
mod namespace;
mod network_policy;
mod pod;
mod service;
mod volume;
mod workload;

pub use config::{ConfigMap, LocalReference, ObjectReference, Secret, ServiceAccount};
pub use container::{
    ConfigMapEnvSource, Container, ContainerPort, EnvFrom, EnvVar, EnvVarSource, ExecAction,
    FieldSelector, GrpcAction, HttpGetAction, HttpHeader, KeySelector, Lifecycle, LifecycleHandler,
    Probe, Protocol, ResourceFieldSelector, ResourceRequirements, SleepAction, TcpSocketAction,
    VolumeMount,
};
pub use endpoints::{
    AddressType, Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode,
    ForZone,
};
pub use namespace::{Namespace, Node};
pub use network_policy::{
    IpBlock, NetworkPolicy, NetworkPolicyEgress, NetworkPolicyIngress, NetworkPolicyPeer,
    NetworkPolicyPort, PolicyType,
};
pub use pod::{PodSpec, PodTemplate, PodTemplateMeta, RestartPolicy};
pub use service::{Service, ServicePort, ServiceType};
pub use volume::{
    ConfigMapVolume, EmptyDir, HostPath, KeyToPath, Projected, ProjectedSource, SecretVolume,
    ServiceAccountTokenProjection, Volume,
};
pub use workload::{CronJob, DaemonSet, Deployment, Job, JobTemplate, ReplicaSet, StatefulSet};
