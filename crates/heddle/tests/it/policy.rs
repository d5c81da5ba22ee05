//! Who may talk to whom.

use heddle_testkit::Mesh;
use serde_json::Value;

use crate::{client, mesh, sample};

const OUTSIDER: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: legacy}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: outsider, namespace: legacy}
spec:
  selector: {matchLabels: {app: outsider}}
  template:
    metadata: {labels: {app: outsider, sidecar.istio.io/inject: "false"}}
    spec:
      containers: [{name: outsider, command: [sleep, infinity]}]
"#;

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
";

const DENY_ALL: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-all}
spec: {}
";

const ALLOW: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: viewers}
spec:
  selector: {matchLabels: {app: ratings}}
  action: ALLOW
  rules:
    - from: [{source: {principals: [cluster.local/ns/default/sa/friend]}}]
      to: [{operation: {methods: [GET], paths: ["/ratings/*"]}}]
"#;

/// One request: its status (0: no answer) and its body.
fn ask(mesh: &Mesh, workload: &str, method: &str, url: &str) -> (u64, String) {
    let summary = mesh.load(workload, &["--count", "1", "--show-body", "-X", method, url]);
    let statuses = summary["statuses"].as_object();
    let status = statuses.and_then(|all| all.keys().next()?.parse().ok()).unwrap_or(0);
    (status, summary["body"].as_str().unwrap_or("").to_owned())
}

#[test]
fn holds_for_every_caller_and_only_while_it_stands() {
    let mesh = mesh();
    let ratings = sample("ratings", "ratings", "v1", 1);
    mesh.up(&[ratings, client("friend"), client("stranger"), OUTSIDER.to_owned()].concat());
    let url = "http://ratings.default:9080/ratings/7";
    let refused = |workload: &str, method: &str, url: &str| {
        let (status, body) = ask(&mesh, workload, method, url);
        assert_eq!(
            (status, body.as_str()),
            (403, "RBAC: access denied"),
            "{workload} {method} {url}"
        );
    };
    let served = |workload: &str| {
        let (status, body) = ask(&mesh, workload, "GET", url);
        assert_eq!(status, 200, "{workload}: {body}");
    };
    for workload in ["friend", "stranger", "legacy/outsider"] {
        served(workload);
    }
    mesh.apply(STRICT);
    served("friend");
    assert_eq!(ask(&mesh, "legacy/outsider", "GET", url).0, 0, "plaintext is cut");
    mesh.apply(DENY_ALL);
    refused("friend", "GET", url);
    refused("stranger", "GET", url);
    mesh.apply(ALLOW);
    served("friend");
    refused("friend", "DELETE", url);
    refused("friend", "GET", "http://ratings:9080/status/200");
    refused("friend", "GET", "http://ratings:9080/ratings/../status/200");
    refused("stranger", "GET", url);
    mesh.delete(&format!("{DENY_ALL}---{ALLOW}---{STRICT}"));
    for workload in ["friend", "stranger", "legacy/outsider"] {
        served(workload);
    }
}

#[test]
fn a_second_virtual_service_for_a_host_is_told_of() {
    let virtual_service = |name: &str, seconds: u32| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [ratings]
  http:
    - timeout: {seconds}s
      route: [{{destination: {{host: ratings}}}}]
---"
        )
    };
    let mesh = mesh();
    mesh.up(&sample("ratings", "ratings", "v1", 1));
    mesh.apply(&virtual_service("first", 1));
    let told = mesh.run_with(&["apply", "-o", "json", "-f", "-"], &virtual_service("second", 2));
    let findings = told.json()["findings"].clone();
    let about = |finding: &Value| {
        let text = finding["message"].as_str().unwrap_or("");
        text.contains("ratings") && (text.contains("first") || text.contains("second"))
    };
    let findings = findings.as_array().unwrap();
    assert!(findings.iter().any(about), "nothing says that one shadows the other: {told:#?}");
}
