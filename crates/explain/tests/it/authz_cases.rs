//! Istio's own integration cases of authorisation (`authz-request-cases.json`), every row.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use heddle_explain::{Head, Query, TokenVerdict, Tokens, Verdict};
use heddle_ir::authentication::JwtRule;
use heddle_ir::request::{RequestHead, TokenFacts};
use serde_json::Value;

use super::shared::{data, world};

/// The authoriser that Istio's CUSTOM cases name.
const AUTHORIZER: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: ext-authz
      envoyExtAuthzGrpc: {service: ext-authz.ns1.svc.cluster.local, port: 9000}
---
";

/// Istio's tokens by their names: who they are of is all that its cases need.
struct NamedTokens;

impl Tokens for NamedTokens {
    fn verify(&self, rules: &[Arc<JwtRule>], head: &Head) -> TokenVerdict {
        let accepted =
            |facts| TokenVerdict::Accepted { facts, edits: Vec::new(), depends_on: Vec::new() };
        let Some(value) = head.header("authorization") else { return accepted(None) };
        let name = String::from_utf8(value.into_owned()).unwrap();
        let number = name.strip_prefix("Bearer TokenIssuer").unwrap();
        let issuer = format!("test-issuer-{number}@istio.io");
        if !rules.iter().any(|rule| *rule.issuer == issuer) {
            return TokenVerdict::Refused { status: 401, reason: "unknown issuer".to_owned() };
        }
        let subject = format!("sub-{number}");
        accepted(Some(TokenFacts { issuer, subject, ..TokenFacts::default() }))
    }
}

/// What Istio's framework deploys: a server `b`, clients of both namespaces, and both gateways.
fn deployed(cases: &Value, labels_of_b: &BTreeMap<String, String>) -> String {
    let mut yaml = String::new();
    for namespace in ["ns1", "ns2", "istio-system"] {
        write!(yaml, "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n---\n")
            .unwrap();
    }
    let ports = cases["ports"].as_object().unwrap();
    for name in cases["workloads"].as_object().unwrap().keys() {
        let (namespace, app) = name.split_once('/').unwrap();
        let mut labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        if name == "ns1/b" {
            labels.extend(labels_of_b.clone());
        }
        let labels = serde_json::to_string(&labels).unwrap();
        let listed: Vec<String> = ports
            .iter()
            .map(|(port, numbers)| {
                format!("{{name: {port}, port: {}, targetPort: {}}}", numbers[0], numbers[1])
            })
            .collect();
        let listed = listed.join(", ");
        write!(
            yaml,
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {app}, namespace: {namespace}}}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: {app}, namespace: {namespace}}}\n\
             spec: {{selector: {{app: {app}}}, ports: [{listed}]}}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {app}, namespace: {namespace}}}\n\
             spec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  template:\n    metadata: {{labels: {labels}}}\n\
             \x20   spec: {{serviceAccountName: {app}, containers: [{{name: app, image: app}}]}}\n---\n"
        )
        .unwrap();
    }
    for kind in ["ingress", "egress"] {
        let labels = format!("{{app: istio-{kind}gateway, istio: {kind}gateway}}");
        write!(
            yaml,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: istio-{kind}gateway, namespace: istio-system}}\n\
             spec: {{selector: {{istio: {kind}gateway}}, ports: [{{name: http2, port: 80}}, {{name: https, port: 443}}]}}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: istio-{kind}gateway, namespace: istio-system}}\n\
             spec:\n  selector: {{matchLabels: {labels}}}\n  template:\n    metadata: {{labels: {labels}}}\n\
             \x20   spec: {{serviceAccountName: istio-{kind}gateway, containers: [{{name: istio-proxy, image: auto}}]}}\n---\n"
        )
        .unwrap();
    }
    yaml
}

fn question(case: &Value, row: &Value, ports: &Value) -> Query {
    let text = |field: &str| row[field].as_str().map(str::to_owned);
    let port = &ports[row["port"].as_str().unwrap()][0];
    let (namespace, app) = row["to"].as_str().unwrap().split_once('/').unwrap();
    let host = text("host").unwrap_or_else(|| format!("{app}.{namespace}"));
    let from = match case["path"].as_str() {
        Some("ingress") => "gateway:ns1/gw-b".to_owned(),
        _ => text("from").unwrap(),
    };
    let mut query = Query {
        from,
        to: format!("{host}:{port}"),
        protocol: text("protocol"),
        method: text("method"),
        path: text("path"),
        jwt: text("jwt"),
        ..Query::default()
    };
    for (name, value) in row["headers"].as_object().into_iter().flatten() {
        query.headers.push((name.clone(), value.as_str().unwrap().to_owned()));
    }
    query
}

#[test]
fn every_row_of_istios_cases_comes_out_as_istios() {
    let Some(path) = data("istio/authz-request-cases.json") else { return };
    let folder = path.parent().unwrap().to_owned();
    let cases: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut different: Vec<String> = Vec::new();
    let (mut rows, mut asked) = (0, 0);
    for case in cases["cases"].as_array().unwrap() {
        let test = case["test"].as_str().unwrap();
        let config = folder.join(case["config"].as_str().unwrap());
        let config = std::fs::read_to_string(config).unwrap();
        for row in case["requests"].as_array().unwrap() {
            rows += 1;
            let labels = serde_json::from_value(row["toExtraLabels"].clone()).unwrap_or_default();
            let base = deployed(&cases, &labels);
            let texts = [("mesh.yaml", AUTHORIZER), ("base.yaml", &base), (test, &config)];
            let world = world(&texts).with_tokens(Box::new(NamedTokens));
            let answer = world.explain(&question(case, row, &cases["ports"]));
            let got = answer.as_ref().map(|answer| answer.verdict).ok();
            // What an authoriser says is for it to know: both of its answers are possible.
            let is_asked = got == Some(Verdict::Depends)
                && answer.as_ref().is_ok_and(|own| own.reason.contains("authoriser ext-authz"));
            asked += usize::from(is_asked);
            let expected = match row["expect"].as_str() {
                Some("allow") => Verdict::Forward,
                _ => Verdict::Deny,
            };
            if got != Some(expected) && !(is_asked && test == "TestAuthz_CustomServer") {
                let why = answer.map_or_else(|error| error.to_string(), |answer| answer.reason);
                different.push(format!("{test} {row}: {got:?}: {why}"));
            }
        }
    }
    // Of the CUSTOM rows, those that a CUSTOM rule matches.
    assert_eq!((rows, asked), (221, 7));
    assert!(different.is_empty(), "{}", different.join("\n"));
}
