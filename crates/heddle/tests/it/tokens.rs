//! Tokens, external authorisers and the audit log in a mesh: an issuer's keys and an authoriser are services of it.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use heddle_testkit::{Mesh, has, wait};
use serde_json::{Value, json};

use crate::{client, mesh, sample};

const ISSUER: &str = "https://issuer.test";

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn key_set(key: &Ed25519KeyPair) -> String {
    let x = encoded(key.public_key());
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x}]}).to_string()
}

pub(crate) fn token(key: &Ed25519KeyPair, issuer: &str, subject: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let header = json!({"alg": "EdDSA", "kid": "1"}).to_string();
    let claims = json!({"iss": issuer, "sub": subject, "exp": now + 3600, "role": "reader"});
    let content = format!("{}.{}", encoded(header), encoded(claims.to_string()));
    format!("{content}.{}", encoded(key.sign(content.as_bytes())))
}

/// The server of keys and answers, and its Service.
fn outsider(key: &Ed25519KeyPair) -> String {
    let script = include_str!("tokens_server.py").replace('\n', "\n    ");
    format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: trust}}
data:
  jwks.json: '{keys}'
  server.py: |
    {script}
---
apiVersion: v1
kind: Service
metadata: {{name: trust}}
spec:
  selector: {{app: trust}}
  ports: [{{name: http, port: 80, targetPort: 8000}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: trust}}
spec:
  selector: {{matchLabels: {{app: trust}}}}
  template:
    metadata: {{labels: {{app: trust}}}}
    spec:
      containers:
        - name: trust
          command: [python3, -u, /srv/heddle-test/server.py]
          ports: [{{containerPort: 8000}}]
          readinessProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1}}
          volumeMounts: [{{name: script, mountPath: /srv/heddle-test}}]
      volumes:
        - name: script
          configMap: {{name: trust}}
---
",
        keys = key_set(key)
    )
}

const POLICIES: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: trust
      envoyExtAuthzHttp:
        service: trust.default.svc.cluster.local
        port: 80
        pathPrefix: /check
        includeRequestHeadersInCheck: [x-ext-authz]
        headersToUpstreamOnAllow: [x-checked-for]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec:
  selector: {matchLabels: {app: ratings}}
  jwtRules:
  - issuer: https://issuer.test
    jwksUri: http://trust.default.svc.cluster.local/jwks
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec:
  selector: {matchLabels: {app: ratings}}
  rules:
  - from: [{source: {requestPrincipals: ["https://issuer.test/alice"]}}]
    when: [{key: "request.auth.claims[role]", values: [reader]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: asked}
spec:
  selector: {matchLabels: {app: ratings}}
  action: CUSTOM
  provider: {name: trust}
  rules:
  - to: [{operation: {paths: ["/status/*"]}}]
"#;

fn ask(mesh: &Mesh, path: &str, headers: &[String]) -> (u64, String) {
    let url = format!("http://ratings:9080{path}");
    let mut arguments = vec!["--count", "1", "--show-body", &url];
    for header in headers {
        arguments.extend(["-H", header]);
    }
    let summary = mesh.load("client", &arguments);
    let statuses = summary["statuses"].as_object();
    let status = statuses.and_then(|all| all.keys().next()?.parse().ok()).unwrap_or(0);
    (status, summary["body"].as_str().unwrap_or("").to_owned())
}

#[test]
fn of_the_mesh_itself_decide_and_are_accounted_for() {
    if !has(&["python3"]) {
        return;
    }
    let key = Ed25519KeyPair::generate().unwrap();
    let mesh = mesh();
    mesh.up(&[sample("ratings", "ratings", "v1", 1), client("client"), outsider(&key)].concat());
    assert_eq!(ask(&mesh, "/ratings/7", &[]).0, 200);
    mesh.apply(POLICIES);
    let bearer = |token: String| format!("authorization: Bearer {token}");
    let alice = bearer(token(&key, ISSUER, "alice"));
    // The keys come over the mesh, from a service that the proxy had not used before.
    wait("alice's token to be taken", || {
        ask(&mesh, "/ratings/7", std::slice::from_ref(&alice)).0 == 200
    });
    let denied = (403, "RBAC: access denied".to_owned());
    assert_eq!(ask(&mesh, "/ratings/7", &[]), denied);
    assert_eq!(ask(&mesh, "/ratings/7", &[bearer(token(&key, ISSUER, "bob"))]), denied);
    let stranger = Ed25519KeyPair::generate().unwrap();
    for (token, body) in [
        (token(&stranger, ISSUER, "alice"), "Jwt verification fails"),
        (token(&key, "https://other.test", "alice"), "Jwt issuer is not configured"),
        ("no.token.at-all".to_owned(), "Jwt header is an invalid JSON"),
    ] {
        assert_eq!(ask(&mesh, "/ratings/7", &[bearer(token)]), (401, body.to_owned()));
    }

    let (leave, refusal) = ("x-ext-authz: allow".to_owned(), "x-ext-authz: no".to_owned());
    assert_eq!(ask(&mesh, "/status/200", &[alice.clone(), leave.clone()]).0, 200);
    let refused = (418, "not for you".to_owned());
    assert_eq!(ask(&mesh, "/status/200", &[alice, refusal]), refused);
    // Leave is not enough: ALLOW wants a token.
    assert_eq!(ask(&mesh, "/status/200", &[leave]), denied);

    let records = || {
        let log = mesh.must(&["logs", "ratings", "-c", "proxy"]);
        let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter(|record| record["event"] == "authorization").collect::<Vec<_>>()
    };
    wait("the audit log", || records().iter().any(|record| record["by"] == "external-authorizer"));
    let records = records();
    let find = |by: &str| records.iter().find(|record| record["by"] == by).unwrap();
    let client = "spiffe://cluster.local/ns/default/sa/client";
    for by in ["authorization", "token", "external-authorizer"] {
        let record = find(by);
        assert_eq!((&record["decision"], &record["identity"]), (&json!("deny"), &json!(client)));
        assert!(record["rule"]["line"].is_u64() && record["rule"]["file"].is_string(), "{record}");
    }
    assert_eq!(find("external-authorizer")["rule"]["name"], "asked");
}
