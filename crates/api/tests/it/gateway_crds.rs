//! The Gateway API's types against its CRDs, and against its own examples of right and wrong objects.

use std::collections::BTreeSet;
use std::fmt::Write;

use expect_test::expect;
use heddle_api::{Reader, Resource, kinds};
use heddle_diag::Level;

use crate::crds::{Comparison, Upstream};

/// What differs is on purpose: the experimental channel's schema is the widest, so it is compared; former spellings of
/// session persistence are read; statuses are told apart by a rule; rules on TLSRoutes depend on the version.
#[test]
fn every_field_of_every_version_is_known_with_its_rules() {
    let Some(folder) = crate::shared("gateway-api/config/crd/experimental") else { return };
    let schemas = kinds::schemas();
    let mut comparison = Comparison::default();
    let mut kinds_seen = 0;
    for file in crate::files(&folder, &["yaml"]) {
        let loaded = Reader::default().read_file("crd.yaml", &std::fs::read(file).unwrap());
        for resource in &loaded.resources {
            let Resource::Other(crd) = resource else { panic!("{:?}", resource.origin()) };
            if &*resource.origin().kind != "CustomResourceDefinition" {
                continue;
            }
            let root = Upstream { tree: crd.written.tree(), at: crd.written.root() };
            let spec = root.get("spec").unwrap();
            let names = spec.get("names").unwrap();
            let (group, name) = (spec.text("group").unwrap(), names.text("kind").unwrap());
            let known = kinds::find(group, name).unwrap();
            assert_eq!(names.text("plural"), Some(known.plural));
            assert_eq!(spec.text("scope") == Some("Namespaced"), known.namespaced, "{name}");
            let versions = spec.get("versions").unwrap().items();
            let theirs: BTreeSet<&str> = versions.iter().filter_map(|v| v.text("name")).collect();
            assert!(theirs.iter().all(|version| known.versions.contains(version)), "{name}");
            let Some((_, schema)) = schemas.iter().find(|(kind, _)| *kind == known) else {
                continue;
            };
            kinds_seen += 1;
            for version in versions {
                let upstream =
                    version.path(&["schema", "openAPIV3Schema", "properties", "spec"]).unwrap();
                let path = format!("{name}/{}", version.text("name").unwrap());
                comparison.value(&path, schema, upstream);
            }
        }
    }
    expect![[r#"
        Gateway/v1.allowedListeners.namespaces.selector.matchExpressions[].operator: values are {"DoesNotExist", "Exists", "In", "NotIn"}, upstream {}
        Gateway/v1.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].operator: values are {"DoesNotExist", "Exists", "In", "NotIn"}, upstream {}
        Gateway/v1beta1.allowedListeners.namespaces.selector.matchExpressions[].operator: values are {"DoesNotExist", "Exists", "In", "NotIn"}, upstream {}
        Gateway/v1beta1.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].operator: values are {"DoesNotExist", "Exists", "In", "NotIn"}, upstream {}
        GRPCRoute/v1.rules[].sessionPersistence.cookieConfig: upstream has no such field
        GRPCRoute/v1.rules[].sessionPersistence.idleTimeout: upstream has no such field
        GRPCRoute/v1.rules[].sessionPersistence.sessionName: upstream has no such field
        HTTPRoute/v1.rules[].backendRefs[].filters[].cors.allowMethods[]: the values are not checked
        HTTPRoute/v1.rules[].backendRefs[].filters[].requestRedirect.statusCode: the values are not checked
        HTTPRoute/v1.rules[].filters[].cors.allowMethods[]: the values are not checked
        HTTPRoute/v1.rules[].filters[].requestRedirect.statusCode: the values are not checked
        HTTPRoute/v1.rules[].sessionPersistence.cookieConfig: upstream has no such field
        HTTPRoute/v1.rules[].sessionPersistence.idleTimeout: upstream has no such field
        HTTPRoute/v1.rules[].sessionPersistence.sessionName: upstream has no such field
        HTTPRoute/v1beta1.rules[].backendRefs[].filters[].cors.allowMethods[]: the values are not checked
        HTTPRoute/v1beta1.rules[].backendRefs[].filters[].requestRedirect.statusCode: the values are not checked
        HTTPRoute/v1beta1.rules[].filters[].cors.allowMethods[]: the values are not checked
        HTTPRoute/v1beta1.rules[].filters[].requestRedirect.statusCode: the values are not checked
        HTTPRoute/v1beta1.rules[].sessionPersistence.cookieConfig: upstream has no such field
        HTTPRoute/v1beta1.rules[].sessionPersistence.idleTimeout: upstream has no such field
        HTTPRoute/v1beta1.rules[].sessionPersistence.sessionName: upstream has no such field
        ListenerSet/v1.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].operator: values are {"DoesNotExist", "Exists", "In", "NotIn"}, upstream {}
        TCPRoute/v1.rules: count differs
        TLSRoute/v1.hostnames: required differs
        TLSRoute/v1.hostnames: count differs
        TLSRoute/v1.rules: count differs
        TLSRoute/v1alpha3.hostnames: required differs
        TLSRoute/v1alpha3.hostnames: count differs
        TLSRoute/v1alpha3.rules: count differs
        UDPRoute/v1.rules: count differs
    "#]].assert_eq(&(comparison.differences.join("\n") + "\n"));
    assert!(kinds_seen == 10 && comparison.fields > 800, "{kinds_seen} {}", comparison.fields);
}

/// Errors of every file below a folder.
fn errors(folder: &str) -> Option<Vec<(String, Vec<String>)>> {
    let folder = crate::shared(folder)?;
    let mut found = Vec::new();
    for file in crate::files(&folder, &["yaml"]) {
        let path = file.strip_prefix(&folder).unwrap().display().to_string();
        let loaded = Reader::default().read_file(&path, &std::fs::read(&file).unwrap());
        let errors = loaded.diagnostics.iter().filter(|finding| finding.level == Level::Error);
        found.push((path, errors.map(|one| format!("{}: {}", one.origin, one.message)).collect()));
    }
    Some(found)
}

#[test]
fn what_upstream_calls_invalid_is_an_error() {
    let Some(files) = errors("gateway-api/hack/invalid-examples") else { return };
    let accepted: Vec<&str> = files
        .iter()
        .filter(|(_, errors)| errors.is_empty())
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(accepted, [""; 0]);
    assert!(files.len() > 30, "{}", files.len());
}

#[test]
fn what_upstream_applies_has_no_error() {
    let mut out = String::new();
    let mut count = 0;
    for folder in ["gateway-api/examples", "gateway-api/conformance"] {
        let Some(files) = errors(folder) else { return };
        for (_, errors) in files {
            count += 1;
            for error in errors {
                writeln!(out, "{error}").unwrap();
            }
        }
    }
    expect![[r"
        Gateway gateway-conformance-infra/gateway-static-addresses spec.addresses[1].value (tests/gateway-static-addresses.yaml:20:12): `PLACEHOLDER_UNUSABLE_ADDRS` is not an address
        Gateway gateway-conformance-infra/gateway-static-addresses spec.addresses[2].value (tests/gateway-static-addresses.yaml:23:12): `PLACEHOLDER_USABLE_ADDRS` is not an address
        GatewayClass gatewayclass-observed-generation-bump spec.controllerName (tests/gatewayclass-observed-generation-bump.yaml:6:19): `controllerName`: `{GATEWAY_CONTROLLER_NAME}` is not a name as `example.com/controller`
    "]].assert_eq(&out);
    assert!(count > 150, "{count}");
}
