//! What annotations of a workload and its namespace say about the workload's own ports (API.md 7.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::linkerd::AccessPolicy;
use heddle_api::{Object, Resource as AnyObject, kubernetes};
use heddle_diag::Origin;

use crate::codes;
use crate::engine::Reader;
use crate::linkerd::annotations::Annotated;
use crate::linkerd::opaque_ports;
use crate::report::Report;

const DEFAULT_POLICY: &str = "config.linkerd.io/default-inbound-policy";
const REQUIRE_IDENTITY: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";
const REQUIRE_TLS: &str = "config.linkerd.io/proxy-require-tls-inbound-ports";

/// What annotations say about the ports of a workload.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Settings {
    /// Who gets in where no Server says otherwise; none: everybody.
    pub(crate) default_policy: Option<(AccessPolicy, Origin)>,
    /// Ports that take clients with an identity of the mesh only.
    pub(crate) require_identity: Option<(Vec<u16>, Origin)>,
    /// Ports that take connections with mutual TLS only.
    pub(crate) require_tls: Option<(Vec<u16>, Origin)>,
    /// Ports that are not looked into.
    pub(crate) opaque_ports: Vec<u16>,
}

/// The settings of a pod: each annotation is the pod's own, else its namespace's.
pub(crate) fn of(
    reader: &Reader<'_>,
    pod: &Object<kubernetes::PodSpec>,
    ports: &[(Arc<str>, u16)],
) -> Settings {
    let namespace = opaque_ports::namespace(reader, &pod.meta.namespace);
    let objects: Vec<Annotated<'_>> = std::iter::once(Annotated::of(pod))
        .chain(namespace.as_deref().map(Annotated::of))
        .collect();
    let find =
        |key: &str| objects.iter().find_map(|object| Some((object.get(key)?, object.origin(key))));
    let named: BTreeMap<&str, u16> = ports.iter().map(|(name, port)| (&**name, *port)).collect();
    let list = |key| find(key).map(|(text, origin)| (opaque_ports::numbers(text, &named), origin));
    Settings {
        // One that cannot be read lets nobody in.
        default_policy: find(DEFAULT_POLICY)
            .map(|(text, origin)| (parse(text).unwrap_or(AccessPolicy::Deny), origin)),
        require_identity: list(REQUIRE_IDENTITY),
        require_tls: list(REQUIRE_TLS),
        opaque_ports: list(opaque_ports::ANNOTATION).map(|(ports, _)| ports).unwrap_or_default(),
    }
}

/// Whether Linkerd would put no proxy beside a pod of the mesh since it, or its namespace, says `linkerd.io/inject: disabled`.
/// What it says to Istio's injector goes before.
pub(crate) fn is_left_out(reader: &Reader<'_>, pod: &Object<kubernetes::PodSpec>) -> bool {
    const INJECT: &str = "linkerd.io/inject";
    let namespace = opaque_ports::namespace(reader, &pod.meta.namespace);
    let own = Annotated::of(pod).get(INJECT);
    let says = own.or_else(|| namespace.as_deref().and_then(|one| Annotated::of(one).get(INJECT)));
    let meta = &pod.meta;
    let asks = meta
        .labels
        .get("sidecar.istio.io/inject")
        .or_else(|| meta.annotations.get("sidecar.istio.io/inject"));
    says == Some("disabled") && asks.is_none_or(|asks| asks != "true")
}

fn parse(text: &str) -> Option<AccessPolicy> {
    Some(match text {
        "all-unauthenticated" => AccessPolicy::AllUnauthenticated,
        "all-authenticated" => AccessPolicy::AllAuthenticated,
        "cluster-authenticated" => AccessPolicy::ClusterAuthenticated,
        "cluster-unauthenticated" => AccessPolicy::ClusterUnauthenticated,
        "deny" => AccessPolicy::Deny,
        "audit" => AccessPolicy::Audit,
        _ => return None,
    })
}

/// Annotations of pods and namespaces that are acted on.
const KNOWN: [&str; 4] = [DEFAULT_POLICY, REQUIRE_IDENTITY, REQUIRE_TLS, opaque_ports::ANNOTATION];

/// Annotations of pods and namespaces that a proxy of heddle has no use for, and why.
const WITHOUT_USE: &[(&str, &str)] = &[
    ("config.linkerd.io/access-log", "the access log is set for the whole mesh"),
    ("config.linkerd.io/skip-inbound-ports", SKIPPED),
    ("config.linkerd.io/skip-outbound-ports", SKIPPED),
    ("config.linkerd.io/skip-subnets", SKIPPED),
    ("config.linkerd.io/pod-inbound-ports", SKIPPED),
    ("config.linkerd.io/enable-gateway", "ingress mode: a proxy routes by address and authority"),
];
const SKIPPED: &str = "every connection is taken by the proxy; write `config.linkerd.io/opaque-ports` for ports that are not to be looked into";

/// What there is to say about the annotations of a namespace, or of the template of a workload's pods.
pub(crate) fn report(object: Annotated<'_>, report: &mut Report) {
    if let Some(text) = object.get(DEFAULT_POLICY)
        && parse(text).is_none()
    {
        let message = format!(
            "`{text}` is no policy: nobody gets in; write all-unauthenticated, all-authenticated, cluster-unauthenticated, cluster-authenticated, deny or audit"
        );
        report.error(codes::ANNOTATION, object.origin(DEFAULT_POLICY), message);
    }
    for key in [REQUIRE_IDENTITY, REQUIRE_TLS, opaque_ports::ANNOTATION] {
        opaque_ports::check(object, key, report);
    }
    for key in object.keys("config.linkerd.io/").filter(|key| !KNOWN.contains(key)) {
        match WITHOUT_USE.iter().find(|(known, _)| *known == key) {
            Some((_, why)) => report.unsupported(object.origin(key), *why),
            None => report.ignored(object.origin(key), "a setting of Linkerd's own proxy"),
        }
    }
    for family in ["balancer.linkerd.io/", "retry.linkerd.io/", "timeout.linkerd.io/"] {
        for key in object.keys(family) {
            misplaced(object, key, "it is read at Services and routes, not at pods", report);
        }
    }
    if object.get("linkerd.io/inject") == Some("ingress") {
        let why = "requests are routed by address and authority, not by `l5d-dst-override`";
        report.unsupported(object.origin("linkerd.io/inject"), why);
    }
}

/// What there is to say about Linkerd's annotations of an object that has pods.
pub(crate) fn report_of(object: &AnyObject, out: &mut Report) {
    let written = object.written();
    let template = match object {
        AnyObject::Namespace(object) => return report(Annotated::of(&**object), out),
        AnyObject::Pod(object) => return report(Annotated::of(&**object), out),
        AnyObject::Deployment(object) => &object.spec.template,
        AnyObject::StatefulSet(object) => &object.spec.template,
        AnyObject::DaemonSet(object) => &object.spec.template,
        AnyObject::Job(object) => &object.spec.template,
        AnyObject::ReplicaSet(object) => match &object.spec.template {
            Some(template) => template,
            None => return,
        },
        _ => return,
    };
    report(Annotated::of_template(written, &template.metadata), out);
    let own = Annotated::of_meta(written, object.meta());
    let of_pods = own.keys("config.linkerd.io/").chain(own.keys("linkerd.io/inject"));
    for key in of_pods {
        misplaced(own, key, "it is read at pods: write it into `spec.template.metadata`", out);
    }
}

/// An annotation where nobody reads it.
fn misplaced(object: Annotated<'_>, key: &str, why: &str, out: &mut Report) {
    out.warning(codes::ANNOTATION, object.origin(key), why);
    out.ignored(object.origin(key), why);
}

/// What there is to say about annotations of a Service that are for pods.
pub(crate) fn report_service(object: Annotated<'_>, out: &mut Report) {
    for key in object.keys("config.linkerd.io/").filter(|key| *key != opaque_ports::ANNOTATION) {
        misplaced(object, key, "it is read at namespaces and pods, not at Services", out);
    }
}
