//! Files that users paste decode without a false error.

use std::fmt::Write;
use std::path::Path;

use expect_test::{Expect, expect};
use heddle_api::{Reader, Resource};
use heddle_diag::Level;

/// Every error about an object of a known kind below a folder, and how many objects were decoded.
fn check(folder: &Path, extensions: &[&str], decoded_least: usize, expected: &Expect) {
    let mut out = String::new();
    let mut decoded = 0;
    for file in crate::files(folder, extensions) {
        let bytes = std::fs::read(&file).unwrap();
        let path = file.strip_prefix(folder).unwrap().display().to_string();
        let loaded = Reader::default().read_file(&path, &bytes);
        decoded += loaded
            .resources
            .iter()
            .filter(|resource| !matches!(resource, Resource::Other(_)))
            .count();
        for finding in &loaded.diagnostics {
            let known = heddle_api::kinds::find(&finding.origin.group, &finding.origin.kind);
            if finding.level == Level::Error && known.is_some() {
                writeln!(out, "{}: {}", finding.origin, finding.message).unwrap();
            }
        }
    }
    expected.assert_eq(&out);
    assert!(decoded >= decoded_least, "{decoded} objects decoded");
}

#[test]
fn istio_samples() {
    let Some(folder) = crate::shared("istio/samples") else { return };
    check(&folder, &["yaml", "yml", "json"], 250, &expect![[""]]);
}

#[test]
fn istio_analyzer_inputs() {
    let Some(folder) = crate::shared("istio/pkg/config/analysis/analyzers/testdata") else {
        return;
    };
    check(
        &folder,
        &["yaml"],
        50,
        &expect![[r"
            ServiceEntry default/negative-condition-svcEntry spec (condition-analyzer.yaml:20:1): `spec` is required and missing
            ServiceEntry default/negative-condition-svcEntry metadata.name (condition-analyzer.yaml:23:9): `name`: `negative-condition-svcEntry` is not a name of lower-case letters, digits, dashes and dots (at most 253)
            EnvoyFilter bookinfo/test-auth-4 spec.configPatches[0].match.app (envoy-filter-add-operation.yaml:89:7): unknown field `app`
            EnvoyFilter bookinfo/test-auth-5 spec.configPatches[0].match.app (envoy-filter-add-operation.yaml:115:7): unknown field `app`
            Telemetry default/telemetry-effective spec.targetRef (k8sgateway-selector.yaml:68:3): only one of `selector` and `targetRef` may be set
            Pod ns1/random-pod spec.containers[0].name (sidecar-default-selector.yaml:63:5): `name` is required and missing
            Pod ns-ambient/random-pod-ambient spec (sidecar-default-selector.yaml:74:1): `spec` is required and missing
            Pod default/productpage spec (sidecar-selector.yaml:1:1): `spec` is required and missing
            Pod other/productpage-other spec (sidecar-selector.yaml:9:1): `spec` is required and missing
            Pod default/reviews spec (sidecar-selector.yaml:17:1): `spec` is required and missing
            Pod default/ratings spec (sidecar-selector.yaml:25:1): `spec` is required and missing
            Pod default/productpage spec (telemetry-selector.yaml:1:1): `spec` is required and missing
            Pod other/productpage-other spec (telemetry-selector.yaml:9:1): `spec` is required and missing
            Pod default/reviews spec (telemetry-selector.yaml:17:1): `spec` is required and missing
            Pod default/ratings spec (telemetry-selector.yaml:25:1): `spec` is required and missing
            Service default/reviews-2port spec.ports[0].protocol (virtualservice_destinationhosts.yaml:21:15): `protocol`: `HTTP` is not one of the values it takes
            Service default/reviews-2port spec.ports[1].protocol (virtualservice_destinationhosts.yaml:24:15): `protocol`: `HTTPS` is not one of the values it takes
            ServiceEntry default-ignore/service-entry-ignore spec.hosts[0] (virtualservice_destinationhosts.yaml:53:5): `hosts[0]`: `*` is not a host; `*` alone is not allowed here
            VirtualService default/reviews-bogushost spec.http[0].route[0].destination (virtualservice_destinationhosts.yaml:97:7): `destination` is required and missing
            Service default/ratings spec.ports[0].protocol (virtualservice_route_rule_no_effects_ingress.yaml:74:15): `protocol`: `HTTP` is not one of the values it takes
        "]],
    );
}

#[test]
fn istio_injection_inputs() {
    let Some(folder) = crate::shared("istio/pkg/kube/inject/testdata/inject") else { return };
    check(
        &folder,
        &["yaml", "injected"],
        50,
        &expect![[r"
            Deployment default/istio-ingressgateway spec.template.spec.containers (only-proxy-container.yaml.injected:25:19): `containers`: 0 entries, at least 1 expected
            Deployment default/statusPort metadata.name (status_annotations.yaml:4:9): `name`: `statusPort` is not a name of lower-case letters, digits, dashes and dots (at most 253)
            Deployment default/statusPort metadata.name (status_annotations.yaml.injected:4:9): `name`: `statusPort` is not a name of lower-case letters, digits, dashes and dots (at most 253)
            Deployment default/statusPort metadata.name (status_annotations_zeroport.yaml:4:9): `name`: `statusPort` is not a name of lower-case letters, digits, dashes and dots (at most 253)
            Deployment default/statusPort metadata.name (status_annotations_zeroport.yaml.injected:4:9): `name`: `statusPort` is not a name of lower-case letters, digits, dashes and dots (at most 253)
            Deployment default/statusPort metadata.name (status_params.yaml:4:9): `name`: `statusPort` is not a name of lower-case letters, digits, dashes and dots (at most 253)
            Deployment default/statusPort metadata.name (status_params.yaml.injected:4:9): `name`: `statusPort` is not a name of lower-case letters, digits, dashes and dots (at most 253)
        "]],
    );
}

#[test]
fn istio_authorization_policies() {
    let Some(folder) = crate::shared("istio/authz-rendered") else { return };
    check(&folder, &["yaml"], 1, &expect![[""]]);
}

#[test]
fn emojivoto() {
    let Some(folder) = crate::shared("emojivoto") else { return };
    check(
        &folder,
        &["yaml", "yml"],
        20,
        &expect![[r"
            Deployment default/emoji spec.selector (kustomize/statefulset/service-name.yml:6:3): `selector` is required and missing
            Deployment default/emoji spec.serviceName (kustomize/statefulset/service-name.yml:6:3): unknown field `serviceName`
            Deployment default/emoji spec.template (kustomize/statefulset/service-name.yml:6:3): `template` is required and missing
            Deployment default/voting spec.selector (kustomize/statefulset/service-name.yml:13:3): `selector` is required and missing
            Deployment default/voting spec.serviceName (kustomize/statefulset/service-name.yml:13:3): unknown field `serviceName`
            Deployment default/voting spec.template (kustomize/statefulset/service-name.yml:13:3): `template` is required and missing
            Deployment default/web spec.selector (kustomize/statefulset/service-name.yml:20:3): `selector` is required and missing
            Deployment default/web spec.serviceName (kustomize/statefulset/service-name.yml:20:3): unknown field `serviceName`
            Deployment default/web spec.template (kustomize/statefulset/service-name.yml:20:3): `template` is required and missing
            Deployment default/vote-bot spec.selector (kustomize/statefulset/service-name.yml:27:3): `selector` is required and missing
            Deployment default/vote-bot spec.serviceName (kustomize/statefulset/service-name.yml:27:3): unknown field `serviceName`
            Deployment default/vote-bot spec.template (kustomize/statefulset/service-name.yml:27:3): `template` is required and missing
        "]],
    );
}

/// The errors that are left are in the documents themselves.
#[test]
fn corpus() {
    let Some(folder) = crate::shared("corpus") else { return };
    check(
        &folder,
        &["yaml"],
        50,
        &expect![[r"
            ServiceProfile default/backend.production.svc.cluster.local spec.routes[0].retryBudget.ttl (implementing-service-mesh/SKILL-06.yaml:13:7): `ttl` is required and missing
            CiliumNetworkPolicy default/http-host-policy spec.ingress[0].fromEndpoints[0].matchLabels (implementing-service-mesh/references-cilium-patterns-08.yaml:12:9): `matchLabels`: expected a mapping, found a text (`reserved:world`)
            CiliumNetworkPolicy default/fqdn-with-ttl spec.egressDeny[0].toFQDNs (implementing-service-mesh/references-cilium-patterns-13.yaml:16:5): unknown field `toFQDNs`
            AuthorizationPolicy default/ (implementing-service-mesh/references-troubleshooting-05.yaml:2:1): the object has no `metadata`
            EnvoyFilter istio-system/local-rate-limit apiVersion (service-mesh-standards/REFERENCE-19.yaml:1:1): `EnvoyFilter` has no version `v1beta1`
            Sidecar default/ (service-mesh-standards/resources-service-mesh-patterns-08.yaml:1:1): the object has no `metadata`
        "]],
    );
}
