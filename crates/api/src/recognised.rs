//! Kinds that are recognised and kept, and not enforced yet: each becomes a typed one with its own dialect.

use heddle_diag::Dialect;

use crate::kinds::{Body, CLUSTER, Kind, NAMESPACED};

const fn kind(
    dialect: Dialect,
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
    namespaced: bool,
) -> Kind {
    Kind { dialect, group, kind, plural, versions, namespaced, body: Body::Raw }
}

const GATEWAY_EXPERIMENTAL: &str = "gateway.networking.x-k8s.io";

/// The kinds of the other dialects, and those of Kubernetes that only matter to them.
pub(crate) const RECOGNISED: &[Kind] = &[
    kind(
        Dialect::Kubernetes,
        "networking.k8s.io",
        "Ingress",
        "ingresses",
        &["v1", "v1beta1"],
        NAMESPACED,
    ),
    kind(
        Dialect::Kubernetes,
        "networking.k8s.io",
        "IngressClass",
        "ingressclasses",
        &["v1"],
        CLUSTER,
    ),
    kind(Dialect::Kubernetes, "", "Endpoints", "endpoints", &["v1"], NAMESPACED),
    kind(
        Dialect::GatewayApi,
        GATEWAY_EXPERIMENTAL,
        "XBackendTrafficPolicy",
        "xbackendtrafficpolicies",
        &["v1alpha1"],
        NAMESPACED,
    ),
    kind(
        Dialect::GatewayApi,
        GATEWAY_EXPERIMENTAL,
        "XBackend",
        "xbackends",
        &["v1alpha1"],
        NAMESPACED,
    ),
    kind(Dialect::GatewayApi, GATEWAY_EXPERIMENTAL, "XMesh", "xmeshes", &["v1alpha1"], CLUSTER),
    kind(
        Dialect::Cilium,
        "cilium.io",
        "CiliumEnvoyConfig",
        "ciliumenvoyconfigs",
        &["v2"],
        NAMESPACED,
    ),
    kind(
        Dialect::Cilium,
        "cilium.io",
        "CiliumClusterwideEnvoyConfig",
        "ciliumclusterwideenvoyconfigs",
        &["v2"],
        CLUSTER,
    ),
    kind(
        Dialect::Flagger,
        "flagger.app",
        "Canary",
        "canaries",
        &["v1beta1", "v1alpha3"],
        NAMESPACED,
    ),
    kind(
        Dialect::Flagger,
        "flagger.app",
        "MetricTemplate",
        "metrictemplates",
        &["v1beta1"],
        NAMESPACED,
    ),
    kind(
        Dialect::Flagger,
        "flagger.app",
        "AlertProvider",
        "alertproviders",
        &["v1beta1"],
        NAMESPACED,
    ),
    kind(
        Dialect::Istio,
        "install.istio.io",
        "IstioOperator",
        "istiooperators",
        &["v1alpha1"],
        NAMESPACED,
    ),
];

/// What it means for its author that a kind is only recognised.
pub(crate) fn reason(kind: &Kind) -> &'static str {
    match (kind.dialect, kind.kind) {
        (Dialect::Flagger, "Canary") => {
            "no rollout is run: the workload stays as it is and no traffic is shifted; write the shares into a \
             VirtualService, HTTPRoute or TrafficSplit"
        }
        (Dialect::Flagger, _) => "it serves Canaries, which are not run",
        (Dialect::Istio, "IstioOperator") => {
            "`meshConfig` is read; nothing is installed, so the rest sets nothing"
        }
        (Dialect::Cilium, _) => "there is no Envoy to configure",
        _ => "nothing of it is in force",
    }
}
