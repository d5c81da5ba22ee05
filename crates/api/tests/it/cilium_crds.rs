//! Cilium's types against the schemas of its CRDs, and against the policies of its own connectivity tests.

use expect_test::expect;
use heddle_api::{Reader, Resource, kinds};
use heddle_diag::Level;

use crate::crds::{Comparison, Upstream};

/// What differs is on purpose: newer versions have more (`VRRP`, `IGMP`, `removed` fields); patterns are checked by code.
#[test]
fn every_field_is_known_with_its_rules() {
    let Some(folder) = crate::shared("crds-catalog/cilium.io") else { return };
    let schemas = kinds::schemas();
    let mut comparison = Comparison::default();
    for (kind, file, fields) in [
        // The other three places (`specs`, and both of the clusterwide kind) have the same type.
        ("CiliumNetworkPolicy", "ciliumnetworkpolicy_v2.json", &["spec"][..]),
        ("CiliumCIDRGroup", "ciliumcidrgroup_v2.json", &[]),
    ] {
        let schema = std::fs::read_to_string(folder.join(file)).unwrap();
        // The catalogue has bare schemas; an object around one makes it readable.
        let text = format!(
            "{{\"apiVersion\": \"a.b/v1\", \"kind\": \"Schema\", \"metadata\": {{\"name\": \"a\"}}, \"spec\": {schema}}}"
        );
        let loaded = Reader::default().read_file("schema.json", text.as_bytes());
        let Some(Resource::Other(object)) = loaded.resources.first() else { panic!("{file}") };
        let root = Upstream { tree: object.written.tree(), at: object.written.root() };
        let properties = root.path(&["spec", "properties"]).unwrap();
        let known = kinds::find("cilium.io", kind).unwrap();
        let (_, ours) = schemas.iter().find(|(own, _)| *own == known).unwrap();
        if fields.is_empty() {
            comparison.value(kind, ours, properties.get("spec").unwrap());
            continue;
        }
        let heddle_api::schema::TypeSchema::Object(ours) = ours else { panic!("{kind}") };
        for name in fields {
            let field = ours.fields.iter().find(|field| field.name == *name).unwrap();
            comparison.value(&format!("{kind}.{name}"), field.takes, properties.get(name).unwrap());
        }
    }
    assert!(comparison.fields > 150, "{}", comparison.fields);
    comparison.differences.sort();
    comparison.differences.dedup();
    expect![[r#"
        CiliumCIDRGroup.externalCIDRs: count differs
        CiliumNetworkPolicy.spec.egressDeny[].icmps[].fields[].type: IntOrText is not upstream's 
        CiliumNetworkPolicy.spec.egressDeny[].icmps[].fields[].type: pattern is not checked
        CiliumNetworkPolicy.spec.egressDeny[].toEntities[]: values are {"all", "cluster", "health", "host", "ingress", "init", "kube-apiserver", "none", "remote-node", "unmanaged", "world", "world-ipv4", "world-ipv6"}, upstream {"all", "cluster", "health", "host", "ingress", "init", "kube-apiserver", "none", "remote-node", "unmanaged", "world"}
        CiliumNetworkPolicy.spec.egressDeny[].toPorts[].ports[].protocol: values are {"ANY", "IGMP", "SCTP", "TCP", "UDP", "VRRP"}, upstream {"ANY", "SCTP", "TCP", "UDP"}
        CiliumNetworkPolicy.spec.egress[].icmps[].fields[].type: IntOrText is not upstream's 
        CiliumNetworkPolicy.spec.egress[].icmps[].fields[].type: pattern is not checked
        CiliumNetworkPolicy.spec.egress[].toEntities[]: values are {"all", "cluster", "health", "host", "ingress", "init", "kube-apiserver", "none", "remote-node", "unmanaged", "world", "world-ipv4", "world-ipv6"}, upstream {"all", "cluster", "health", "host", "ingress", "init", "kube-apiserver", "none", "remote-node", "unmanaged", "world"}
        CiliumNetworkPolicy.spec.egress[].toPorts[].ports[].protocol: values are {"ANY", "IGMP", "SCTP", "TCP", "UDP", "VRRP"}, upstream {"ANY", "SCTP", "TCP", "UDP"}
        CiliumNetworkPolicy.spec.ingressDeny[].fromEntities[]: values are {"all", "cluster", "health", "host", "ingress", "init", "kube-apiserver", "none", "remote-node", "unmanaged", "world", "world-ipv4", "world-ipv6"}, upstream {"all", "cluster", "health", "host", "ingress", "init", "kube-apiserver", "none", "remote-node", "unmanaged", "world"}
        CiliumNetworkPolicy.spec.ingressDeny[].icmps[].fields[].type: IntOrText is not upstream's 
        CiliumNetworkPolicy.spec.ingressDeny[].icmps[].fields[].type: pattern is not checked
        CiliumNetworkPolicy.spec.ingressDeny[].toPorts[].ports[].protocol: values are {"ANY", "IGMP", "SCTP", "TCP", "UDP", "VRRP"}, upstream {"ANY", "SCTP", "TCP", "UDP"}
        CiliumNetworkPolicy.spec.ingress[].fromEntities[]: values are {"all", "cluster", "health", "host", "ingress", "init", "kube-apiserver", "none", "remote-node", "unmanaged", "world", "world-ipv4", "world-ipv6"}, upstream {"all", "cluster", "health", "host", "ingress", "init", "kube-apiserver", "none", "remote-node", "unmanaged", "world"}
        CiliumNetworkPolicy.spec.ingress[].icmps[].fields[].type: IntOrText is not upstream's 
        CiliumNetworkPolicy.spec.ingress[].icmps[].fields[].type: pattern is not checked
        CiliumNetworkPolicy.spec.ingress[].toPorts[].ports[].protocol: values are {"ANY", "IGMP", "SCTP", "TCP", "UDP", "VRRP"}, upstream {"ANY", "SCTP", "TCP", "UDP"}"#]].assert_eq(&comparison.differences.join("\n"));
}

/// Policies that Cilium itself tests with are read without an error. Templates are left out: they are no YAML yet.
#[test]
fn policies_of_the_connectivity_tests_are_read() {
    let Some(folder) = crate::shared("cilium/connectivity-manifests") else { return };
    let mut policies = 0;
    for file in crate::files(&folder, &["yaml"]) {
        let text = std::fs::read_to_string(&file).unwrap();
        if text.contains("{{") {
            continue;
        }
        let loaded = Reader::default().read_file(&file.display().to_string(), text.as_bytes());
        let errors: Vec<String> = loaded
            .diagnostics
            .iter()
            .filter(|finding| finding.level == Level::Error)
            // A template of a kind that is not a policy has no name yet.
            .filter(|finding| &*finding.origin.kind != "CiliumLocalRedirectPolicy")
            .map(|finding| format!("{}: {}", finding.origin, finding.message))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        policies += loaded
            .resources
            .iter()
            .filter(|resource| {
                matches!(
                    resource,
                    Resource::CiliumNetworkPolicy(_)
                        | Resource::CiliumClusterwideNetworkPolicy(_)
                        | Resource::NetworkPolicy(_)
                )
            })
            .count();
    }
    assert!(policies > 60, "{policies}");
}
