//! Cilium's kinds, with every field of `cilium.io/v2`.
//!
//! The rules are those of the CRDs and of Cilium's own validation, which refuses a whole policy; what a field means is
//! `translate`'s business. CiliumEnvoyConfig holds Envoy's own configuration and is not decoded.

mod check;
mod peer;
mod policy;
mod port;

pub use peer::{
    AwsGroup, CidrRule, EndpointRequirement, EndpointSelector, Entity, FqdnSelector, IcmpFamily,
    IcmpField, IcmpRule, KubernetesService, KubernetesServiceSelector, PeerGroup, ServiceReference,
};
pub use policy::{
    Authentication, AuthenticationMode, CidrGroup, ClusterwideNetworkPolicy, DefaultDeny,
    EgressDenyRule, EgressRule, IngressDenyRule, IngressRule, LogTag, NetworkPolicy, PolicyLabel,
    PolicyRule,
};
pub use port::{
    DenyPort, EnvoyConfigKind, EnvoyConfigReference, HeaderMatch, HeaderMismatch, HttpRule,
    KafkaRole, KafkaRule, L7Rules, ListenerReference, PortProtocol, PortRule, SecretReference,
    TlsContext, Transport,
};
