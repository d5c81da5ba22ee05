//! The registry of kinds: which group, versions and scope each has, and what it is decoded into.
//!
//! Dispatch is on group and kind, never on kind alone: `Gateway`, `HTTPRoute` and `AuthorizationPolicy` each exist in
//! two groups.

use std::sync::Arc;

use heddle_diag::{Dialect, Origin};

use crate::cilium;
use crate::decode::{Decode, Decoder, Findings};
use crate::gateway_api;
use crate::istio;
use crate::kubernetes;
use crate::linkerd;
use crate::meta::Meta;
use crate::object::{Object, Written};
use crate::smi;
use crate::tree::At;
use crate::value::Free;

/// A kind that heddle knows.
#[derive(PartialEq, Eq, Debug)]
pub struct Kind {
    /// Whose it is.
    pub dialect: Dialect,
    /// The API group; empty for Kubernetes' core group.
    pub group: &'static str,
    /// The kind as objects write it.
    pub kind: &'static str,
    /// The name in URLs and on the command line.
    pub plural: &'static str,
    /// Every version that its project serves or served, preferred first.
    pub versions: &'static [&'static str],
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Where its fields are.
    pub body: Body,
}

/// Where the fields of a kind are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// Under `spec`.
    Spec,
    /// Under `spec`, or beside `metadata` as older versions have it.
    SpecOrTop,
    /// Beside `metadata`.
    Top,
    /// It is kept as a tree and not decoded.
    Raw,
}

pub(crate) const NAMESPACED: bool = true;
pub(crate) const CLUSTER: bool = false;

/// The kind as objects write it: the variant's name, unless the table gives another.
macro_rules! kind_name {
    ($variant:ident) => {
        stringify!($variant)
    };
    ($variant:ident $name:literal) => {
        $name
    };
}

macro_rules! kinds {
    ($( $variant:ident($type:ty) $($name:literal)? = $dialect:ident $group:literal $plural:literal [$($version:literal),+] $namespaced:ident $body:ident; )+) => {
        /// An object of any kind.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Resource {
            $(
                #[doc = concat!("`", kind_name!($variant $($name)?), "` of the group `", $group, "`.")]
                $variant(Arc<Object<$type>>),
            )+
            /// The mesh configuration, out of the ConfigMap `istio` (or `istio-<revision>`), key `mesh`.
            MeshConfig(Arc<Object<istio::MeshConfig>>),
            /// The networks of the mesh, out of the same ConfigMap, key `meshNetworks`.
            MeshNetworks(Arc<Object<istio::MeshNetworks>>),
            /// A kind that is recognised and not enforced yet, or not known at all; nothing of it is decoded.
            Other(Arc<Object<Free>>),
        }

        impl Resource {
            /// `metadata`.
            pub fn meta(&self) -> &Meta {
                match self {
                    $( Self::$variant(object) => &object.meta, )+
                    Self::MeshConfig(object) => &object.meta,
                    Self::MeshNetworks(object) => &object.meta,
                    Self::Other(object) => &object.meta,
                }
            }

            /// `metadata`, for whoever keeps objects and fills in what a cluster would: time of creation, unique id.
            pub fn meta_mut(&mut self) -> &mut Meta {
                match self {
                    $( Self::$variant(object) => &mut Arc::make_mut(object).meta, )+
                    Self::MeshConfig(object) => &mut Arc::make_mut(object).meta,
                    Self::MeshNetworks(object) => &mut Arc::make_mut(object).meta,
                    Self::Other(object) => &mut Arc::make_mut(object).meta,
                }
            }

            /// Where and how it is written.
            pub fn written(&self) -> &Written {
                match self {
                    $( Self::$variant(object) => &object.written, )+
                    Self::MeshConfig(object) => &object.written,
                    Self::MeshNetworks(object) => &object.written,
                    Self::Other(object) => &object.written,
                }
            }
        }

        /// The kinds that are decoded.
        pub const TYPED: &[Kind] = &[$( Kind {
            dialect: Dialect::$dialect,
            group: $group,
            kind: kind_name!($variant $($name)?),
            plural: $plural,
            versions: &[$($version),+],
            namespaced: $namespaced,
            body: Body::$body,
        } ),+];

        /// Decodes the fields of a kind and makes the object. `body` is where they are; none where the object has no
        /// `spec`. The broken places of `written` are filled in.
        pub(crate) fn build(
            kind: Option<&'static Kind>,
            mut decoder: Decoder<'_>,
            body: Option<At>,
            meta: Meta,
            mut written: Written,
        ) -> (Resource, Findings) {
            match kind.map(|kind| (kind.group, kind.kind)) {
                $( Some(($group, kind_name!($variant $($name)?))) => {
                    let spec = decoder.body::<$type>(body);
                    let findings = decoder.finish();
                    written.broken = findings.broken_places();
                    (Resource::$variant(Arc::new(Object { meta, spec, written })), findings)
                } )+
                _ => {
                    let findings = decoder.finish();
                    written.broken = findings.broken_places();
                    let spec = Free(written.root());
                    (Resource::Other(Arc::new(Object { meta, spec, written })), findings)
                }
            }
        }

        /// The shape of each kind that is decoded, with its kind.
        pub fn schemas() -> Vec<(&'static Kind, crate::schema::TypeSchema)> {
            let schemas = [$( <$type as Decode>::SCHEMA ),+];
            TYPED.iter().zip(schemas).collect()
        }
    };
}

kinds! {
    Namespace(kubernetes::Namespace) = Kubernetes "" "namespaces" ["v1"] CLUSTER Spec;
    Node(kubernetes::Node) = Kubernetes "" "nodes" ["v1"] CLUSTER Spec;
    Service(kubernetes::Service) = Kubernetes "" "services" ["v1"] NAMESPACED Spec;
    ServiceAccount(kubernetes::ServiceAccount) = Kubernetes "" "serviceaccounts" ["v1"] NAMESPACED Top;
    ConfigMap(kubernetes::ConfigMap) = Kubernetes "" "configmaps" ["v1"] NAMESPACED Top;
    Secret(kubernetes::Secret) = Kubernetes "" "secrets" ["v1"] NAMESPACED Top;
    Pod(kubernetes::PodSpec) = Kubernetes "" "pods" ["v1"] NAMESPACED Spec;
    EndpointSlice(kubernetes::EndpointSlice) = Kubernetes "discovery.k8s.io" "endpointslices" ["v1", "v1beta1"] NAMESPACED Top;
    Deployment(kubernetes::Deployment) = Kubernetes "apps" "deployments" ["v1", "v1beta2", "v1beta1"] NAMESPACED Spec;
    ReplicaSet(kubernetes::ReplicaSet) = Kubernetes "apps" "replicasets" ["v1", "v1beta2"] NAMESPACED Spec;
    StatefulSet(kubernetes::StatefulSet) = Kubernetes "apps" "statefulsets" ["v1", "v1beta2", "v1beta1"] NAMESPACED Spec;
    DaemonSet(kubernetes::DaemonSet) = Kubernetes "apps" "daemonsets" ["v1", "v1beta2"] NAMESPACED Spec;
    Job(kubernetes::Job) = Kubernetes "batch" "jobs" ["v1"] NAMESPACED Spec;
    CronJob(kubernetes::CronJob) = Kubernetes "batch" "cronjobs" ["v1", "v1beta1"] NAMESPACED Spec;
    NetworkPolicy(kubernetes::NetworkPolicy) = Kubernetes "networking.k8s.io" "networkpolicies" ["v1"] NAMESPACED Spec;
    VirtualService(istio::VirtualService) = Istio "networking.istio.io" "virtualservices" ["v1", "v1beta1", "v1alpha3"] NAMESPACED Spec;
    DestinationRule(istio::DestinationRule) = Istio "networking.istio.io" "destinationrules" ["v1", "v1beta1", "v1alpha3"] NAMESPACED Spec;
    Gateway(istio::Gateway) = Istio "networking.istio.io" "gateways" ["v1", "v1beta1", "v1alpha3"] NAMESPACED Spec;
    ServiceEntry(istio::ServiceEntry) = Istio "networking.istio.io" "serviceentries" ["v1", "v1beta1", "v1alpha3"] NAMESPACED Spec;
    Sidecar(istio::Sidecar) = Istio "networking.istio.io" "sidecars" ["v1", "v1beta1", "v1alpha3"] NAMESPACED Spec;
    WorkloadEntry(istio::WorkloadEntry) = Istio "networking.istio.io" "workloadentries" ["v1", "v1beta1", "v1alpha3"] NAMESPACED Spec;
    WorkloadGroup(istio::WorkloadGroup) = Istio "networking.istio.io" "workloadgroups" ["v1", "v1beta1", "v1alpha3"] NAMESPACED Spec;
    ProxyConfig(istio::ProxyConfig) = Istio "networking.istio.io" "proxyconfigs" ["v1beta1"] NAMESPACED Spec;
    EnvoyFilter(istio::EnvoyFilter) = Istio "networking.istio.io" "envoyfilters" ["v1alpha3"] NAMESPACED Spec;
    PeerAuthentication(istio::PeerAuthentication) = Istio "security.istio.io" "peerauthentications" ["v1", "v1beta1"] NAMESPACED Spec;
    RequestAuthentication(istio::RequestAuthentication) = Istio "security.istio.io" "requestauthentications" ["v1", "v1beta1"] NAMESPACED Spec;
    AuthorizationPolicy(istio::AuthorizationPolicy) = Istio "security.istio.io" "authorizationpolicies" ["v1", "v1beta1"] NAMESPACED Spec;
    Telemetry(istio::Telemetry) = Istio "telemetry.istio.io" "telemetries" ["v1", "v1alpha1"] NAMESPACED Spec;
    WasmPlugin(istio::WasmPlugin) = Istio "extensions.istio.io" "wasmplugins" ["v1alpha1"] NAMESPACED Spec;
    TrafficExtension(istio::TrafficExtension) = Istio "extensions.istio.io" "trafficextensions" ["v1alpha1"] NAMESPACED Spec;
    GatewayClass(gateway_api::GatewayClass) = GatewayApi "gateway.networking.k8s.io" "gatewayclasses" ["v1", "v1beta1", "v1alpha2"] CLUSTER Spec;
    GatewayApiGateway(gateway_api::Gateway) "Gateway" = GatewayApi "gateway.networking.k8s.io" "gateways" ["v1", "v1beta1", "v1alpha2"] NAMESPACED Spec;
    ListenerSet(gateway_api::ListenerSet) = GatewayApi "gateway.networking.k8s.io" "listenersets" ["v1", "v1alpha1"] NAMESPACED Spec;
    XListenerSet(gateway_api::ListenerSet) = GatewayApi "gateway.networking.x-k8s.io" "xlistenersets" ["v1alpha1"] NAMESPACED Spec;
    HttpRoute(gateway_api::HttpRoute) "HTTPRoute" = GatewayApi "gateway.networking.k8s.io" "httproutes" ["v1", "v1beta1", "v1alpha2"] NAMESPACED Spec;
    GrpcRoute(gateway_api::GrpcRoute) "GRPCRoute" = GatewayApi "gateway.networking.k8s.io" "grpcroutes" ["v1", "v1alpha2"] NAMESPACED Spec;
    TlsRoute(gateway_api::TlsRoute) "TLSRoute" = GatewayApi "gateway.networking.k8s.io" "tlsroutes" ["v1", "v1alpha3", "v1alpha2"] NAMESPACED Spec;
    TcpRoute(gateway_api::TcpRoute) "TCPRoute" = GatewayApi "gateway.networking.k8s.io" "tcproutes" ["v1", "v1alpha2"] NAMESPACED Spec;
    UdpRoute(gateway_api::UdpRoute) "UDPRoute" = GatewayApi "gateway.networking.k8s.io" "udproutes" ["v1", "v1alpha2"] NAMESPACED Spec;
    ReferenceGrant(gateway_api::ReferenceGrant) = GatewayApi "gateway.networking.k8s.io" "referencegrants" ["v1", "v1beta1", "v1alpha2"] NAMESPACED Spec;
    BackendTlsPolicy(gateway_api::BackendTlsPolicy) "BackendTLSPolicy" = GatewayApi "gateway.networking.k8s.io" "backendtlspolicies" ["v1", "v1alpha3", "v1alpha2"] NAMESPACED Spec;
    LinkerdHttpRoute(gateway_api::HttpRoute) "HTTPRoute" = Linkerd "policy.linkerd.io" "httproutes" ["v1beta3", "v1beta2", "v1beta1", "v1alpha1"] NAMESPACED Spec;
    Server(linkerd::Server) = Linkerd "policy.linkerd.io" "servers" ["v1beta3", "v1beta2", "v1beta1", "v1alpha1"] NAMESPACED Spec;
    ServerAuthorization(linkerd::ServerAuthorization) = Linkerd "policy.linkerd.io" "serverauthorizations" ["v1beta1", "v1alpha1"] NAMESPACED Spec;
    LinkerdAuthorizationPolicy(linkerd::AuthorizationPolicy) "AuthorizationPolicy" = Linkerd "policy.linkerd.io" "authorizationpolicies" ["v1alpha1"] NAMESPACED Spec;
    MeshTlsAuthentication(linkerd::MeshTlsAuthentication) "MeshTLSAuthentication" = Linkerd "policy.linkerd.io" "meshtlsauthentications" ["v1alpha1"] NAMESPACED Spec;
    NetworkAuthentication(linkerd::NetworkAuthentication) = Linkerd "policy.linkerd.io" "networkauthentications" ["v1alpha1"] NAMESPACED Spec;
    EgressNetwork(linkerd::EgressNetwork) = Linkerd "policy.linkerd.io" "egressnetworks" ["v1alpha1"] NAMESPACED Spec;
    HttpLocalRateLimitPolicy(linkerd::HttpLocalRateLimitPolicy) "HTTPLocalRateLimitPolicy" = Linkerd "policy.linkerd.io" "httplocalratelimitpolicies" ["v1alpha1"] NAMESPACED Spec;
    ServiceProfile(linkerd::ServiceProfile) = Linkerd "linkerd.io" "serviceprofiles" ["v1alpha2", "v1alpha1"] NAMESPACED Spec;
    ExternalWorkload(linkerd::ExternalWorkload) = Linkerd "workload.linkerd.io" "externalworkloads" ["v1beta1", "v1alpha1"] NAMESPACED Spec;
    Link(linkerd::Link) = Linkerd "multicluster.linkerd.io" "links" ["v1alpha3", "v1alpha2", "v1alpha1"] NAMESPACED Spec;
    CiliumNetworkPolicy(cilium::NetworkPolicy) = Cilium "cilium.io" "ciliumnetworkpolicies" ["v2"] NAMESPACED Top;
    CiliumClusterwideNetworkPolicy(cilium::ClusterwideNetworkPolicy) = Cilium "cilium.io" "ciliumclusterwidenetworkpolicies" ["v2"] CLUSTER Top;
    CiliumCidrGroup(cilium::CidrGroup) "CiliumCIDRGroup" = Cilium "cilium.io" "ciliumcidrgroups" ["v2", "v2alpha1"] CLUSTER Spec;
    TrafficSplit(smi::TrafficSplit) = Smi "split.smi-spec.io" "trafficsplits" ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"] NAMESPACED Spec;
    TrafficTarget(smi::TrafficTarget) = Smi "access.smi-spec.io" "traffictargets" ["v1alpha3", "v1alpha2", "v1alpha1"] NAMESPACED SpecOrTop;
    HttpRouteGroup(smi::HttpRouteGroup) "HTTPRouteGroup" = Smi "specs.smi-spec.io" "httproutegroups" ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"] NAMESPACED SpecOrTop;
    SmiTcpRoute(smi::PortsRoute) "TCPRoute" = Smi "specs.smi-spec.io" "tcproutes" ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"] NAMESPACED SpecOrTop;
    SmiUdpRoute(smi::PortsRoute) "UDPRoute" = Smi "specs.smi-spec.io" "udproutes" ["v1alpha4"] NAMESPACED SpecOrTop;
}

impl Resource {
    /// The origin of the object.
    pub fn origin(&self) -> &Origin {
        self.written().origin()
    }

    /// Its kind; none for a kind that heddle does not know.
    pub fn kind(&self) -> Option<&'static Kind> {
        let origin = self.origin();
        find(&origin.group, &origin.kind)
    }
}

/// Every kind that heddle knows, decoded or only recognised.
pub fn all() -> impl Iterator<Item = &'static Kind> {
    TYPED.iter().chain(crate::recognised::RECOGNISED)
}

/// The kind of that name in that group.
pub fn find(group: &str, kind: &str) -> Option<&'static Kind> {
    all().find(|known| known.kind == kind && known.group == group)
}
