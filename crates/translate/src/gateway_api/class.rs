//! GatewayClasses: whose Gateways heddle serves.

use std::sync::Arc;

use heddle_api::gateway_api::{GROUP, Gateway, GatewayClass};
use heddle_api::{Object, Resource as AnyObject};

use crate::engine::Reader;
use crate::object::ObjectKey;
use crate::options::Enrolment;

/// The controller that heddle's classes name.
pub const CONTROLLER: &str = "heddle.dev/gateway-controller";

/// Istio's class of proxies inside the mesh, which are no gateways.
pub(crate) const WAYPOINT: &str = "istio-waypoint";

/// Whether heddle serves the Gateways of a class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ownership {
    Ours,
    /// Another controller does, or nobody; with the reason.
    Foreign(Arc<str>),
}

/// Whose a class is. In a cluster only classes of heddle's own controller are heddle's. Where no cluster is, no other
/// controller can be either, so that every class is, whether it is written down or not (docs/decisions/0055).
pub(crate) fn ownership(reader: &Reader<'_>, class: &str) -> Ownership {
    if class == WAYPOINT {
        return Ownership::Foreign("waypoints are not run yet".into());
    }
    let found = reader.object(&ObjectKey::new(GROUP, "GatewayClass", "", class));
    let controller = match &found {
        Some(AnyObject::GatewayClass(object)) => Some(object.spec.controller_name.as_str()),
        _ => None,
    };
    match (reader.options().enrolment, controller) {
        (Enrolment::Standalone, _) | (Enrolment::Injected, Some(CONTROLLER)) => Ownership::Ours,
        (Enrolment::Injected, Some(other)) => {
            Ownership::Foreign(format!("`{other}` is responsible for the class `{class}`").into())
        }
        (Enrolment::Injected, None) => {
            Ownership::Foreign(format!("no GatewayClass `{class}` exists").into())
        }
    }
}

/// How account, Deployment and Service of a Gateway are called where they are made for it, as Istio's controller does.
pub(crate) fn workload_name(gateway: &Object<Gateway>) -> String {
    /// Names of Services and labels have no more characters (RFC 1123).
    const NAME_MAX: usize = 63;
    let own = gateway.meta.annotations.get(NAME_OVERRIDE);
    let full = own
        .cloned()
        .unwrap_or_else(|| format!("{}-{}", gateway.meta.name, gateway.spec.gateway_class_name));
    if full.len() <= NAME_MAX {
        return full;
    }
    // What is too long is cut, and told apart by a digest of the whole.
    let digest = full.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let kept: String = full.chars().take(NAME_MAX - 9).collect();
    format!("{}-{:08x}", kept.trim_end_matches(['-', '.']), digest >> 32)
}

/// Istio's annotation for another name.
const NAME_OVERRIDE: &str = "gateway.istio.io/name-override";

/// Why a class of heddle's cannot be accepted: it knows no parameters. Those of another controller, which heddle serves
/// where no cluster is, do not count.
pub(crate) fn problem(object: &Object<GatewayClass>) -> Option<&'static str> {
    let own = object.spec.controller_name == CONTROLLER && object.spec.parameters_ref.is_some();
    own.then_some("heddle's classes take no parameters")
}

/// The class of a Gateway that is not accepted, in words.
pub(crate) fn refusal(reader: &Reader<'_>, class: &str) -> Option<String> {
    match reader.object(&ObjectKey::new(GROUP, "GatewayClass", "", class)) {
        Some(AnyObject::GatewayClass(object)) => {
            problem(&object).map(|why| format!("the class `{class}` is not accepted: {why}"))
        }
        _ => None,
    }
}

/// What heddle supports of the Gateway API, by the names of the conformance suite, sorted. Claimed is what the tests of
/// this repository hold.
pub(crate) const SUPPORTED_FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "Gateway",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
    "UDPRoute",
];
