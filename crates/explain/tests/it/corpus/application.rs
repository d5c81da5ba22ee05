//! The application that the documents of the corpus are written for: the services they name, each with a workload per
//! version, and gateways.

use std::fmt::Write;

/// Namespace, name, port, and the values of the label `version`; none: one workload without.
type Service = (&'static str, &'static str, u16, &'static [&'static str]);

const BACKEND: &[&str] = &["v1", "v2", "v2-shadow", "mobile", "canary", "stable", "blue", "green"];

const SERVICES: &[Service] = &[
    ("default", "backend", 8080, BACKEND),
    ("default", "backend-v1", 8080, &[]),
    ("default", "backend-v2", 8080, &[]),
    ("default", "backend-blue", 8080, &[]),
    ("default", "backend-green", 8080, &[]),
    ("default", "backend-canary", 8080, &[]),
    ("default", "backend-mobile", 8080, &[]),
    ("default", "backend-stable", 8080, &[]),
    ("default", "frontend", 80, &["variant-a", "variant-b", "premium-ui"]),
    ("default", "reviews", 9080, &["v1", "v2", "v3"]),
    ("default", "myapp", 8080, &["blue", "green"]),
    ("default", "api", 8080, &["v1", "v2", "mobile-optimized", "desktop"]),
    ("default", "api-v1", 8080, &[]),
    ("default", "api-v2", 8080, &[]),
    ("default", "api-gateway", 8080, &[]),
    ("default", "new-api", 8080, &[]),
    ("default", "webapp", 8080, &[]),
    ("default", "myservice", 8080, &[]),
    ("default", "mongodb", 27017, &[]),
    ("default", "admin-api", 8080, &[]),
    ("default", "admin-panel", 8080, &[]),
    ("default", "admin", 8080, &[]),
    ("default", "public-api", 8080, &[]),
    ("default", "payment-api", 8080, &[]),
    ("default", "reporting-service", 8080, &[]),
    ("production", "backend", 8080, &["v1", "v2"]),
    ("production", "backend-v1", 8080, &[]),
    ("production", "backend-v2", 8080, &[]),
    ("production", "backend-blue", 8080, &[]),
    ("production", "backend-green", 8080, &[]),
    ("production", "slow-service", 8080, &[]),
    ("production", "frontend", 8080, &[]),
    ("production", "api", 8080, &[]),
    ("production", "api-v1", 8080, &[]),
    ("production", "api-v2", 8080, &[]),
    ("production", "api-us-east", 8080, &[]),
    ("production", "api-eu-west", 8080, &[]),
    ("production", "api-gateway", 8080, &[]),
    ("production", "admin-api", 8080, &[]),
    ("production", "admin-gateway", 8080, &[]),
    ("production", "database", 8080, &[]),
    ("production", "legacy-service", 8080, &[]),
    ("staging", "tester", 8080, &[]),
    ("frontend", "frontend-service", 8080, &[]),
    ("backend", "backend-service", 8080, &[]),
    ("monitoring", "prometheus", 9090, &[]),
    ("legacy", "old", 8080, &[]),
];

/// The objects of the application, as far as a text names them: a document needs no others, and each costs time.
pub(crate) fn yaml(named_in: &str) -> String {
    let mut yaml = String::new();
    for (namespace, name, port, versions) in SERVICES {
        if !named_in.contains(name) {
            continue;
        }
        let protocol = if *name == "mongodb" { "tcp" } else { "http" };
        service(&mut yaml, namespace, name, &format!("{{app: {name}}}"), protocol, *port);
        if versions.is_empty() {
            workload(&mut yaml, namespace, name, name, &format!("{{app: {name}}}"));
        }
        for version in *versions {
            let labels = format!("{{app: {name}, version: {version}}}");
            workload(&mut yaml, namespace, &format!("{name}-pod-{version}"), name, &labels);
        }
    }
    for kind in ["ingress", "egress"] {
        let name = format!("istio-{kind}gateway");
        let labels = format!("{{app: {name}, istio: {kind}gateway}}");
        let selector = format!("{{istio: {kind}gateway}}");
        write!(
            yaml,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: istio-system}}\n\
             spec: {{selector: {selector}, ports: [{{name: http2, port: 80}}, {{name: https, port: 443}}]}}\n---\n"
        )
        .unwrap();
        workload(&mut yaml, "istio-system", &name, &name, &labels);
    }
    yaml
}

fn service(
    yaml: &mut String,
    namespace: &str,
    name: &str,
    selector: &str,
    port_name: &str,
    port: u16,
) {
    write!(
        yaml,
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{selector: {selector}, ports: [{{name: {port_name}, port: {port}}}]}}\n---\n"
    )
    .unwrap();
}

fn workload(yaml: &mut String, namespace: &str, name: &str, account: &str, labels: &str) {
    write!(
        yaml,
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  selector: {{matchLabels: {labels}}}\n  template:\n    metadata: {{labels: {labels}}}\n\
         \x20   spec: {{serviceAccountName: {account}, containers: [{{name: app, image: app}}]}}\n---\n"
    )
    .unwrap();
}
