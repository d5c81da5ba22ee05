//! Istio's own integration cases of authorisation (`authz-request-cases.json`) in a running mesh: HTTP/1.1, HTTP/2, gRPC
//! and TCP, inside of it and through its gateways.
//!
//! The applications are this test program itself, started by the mesh ([`played`]).

mod played;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use aws_lc_rs::signature::Ed25519KeyPair;
use heddle_testkit::Mesh;
use serde_json::Value;

use crate::{mesh, tokens};

/// How this program is started as one of the parts, which the environment names.
pub(crate) fn played_command() -> Vec<String> {
    played::command()
}

/// The optional test data beside the repository.
fn data(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("HEDDLE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join("data").join(path);
    if !path.exists() {
        heddle_testkit::skip(&format!("{} is not there", path.display()));
        return None;
    }
    Some(path)
}

const NAMESPACES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: ns1}
---
apiVersion: v1
kind: Namespace
metadata: {name: ns2}
---
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
    - name: ext-authz
      envoyExtAuthzGrpc: {service: ext-authz.ns1.svc.cluster.local, port: 9000}
---
";

/// A workload of this program that plays a part.
fn deployment(namespace: &str, name: &str, part: &str, extra: &BTreeMap<String, String>) -> String {
    let mut labels = BTreeMap::from([("app".to_owned(), name.to_owned())]);
    labels.extend(extra.clone());
    let labels = serde_json::to_string(&labels).unwrap();
    let command = serde_json::to_string(&played::command()).unwrap();
    let probe = match part {
        "server" => "readinessProbe: {tcpSocket: {port: 19090}, periodSeconds: 1}",
        "authorizer" => "readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}",
        _ => "workingDir: /",
    };
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {labels}}}
    spec:
      serviceAccountName: {name}
      containers:
      - name: app
        command: {command}
        env: [{{name: {variable}, value: {part}}}]
        {probe}
---
",
        variable = played::PART
    )
}

fn service(namespace: &str, name: &str, ports: &[(String, u64, u64)]) -> String {
    let mut listed = String::new();
    for (port, number, target) in ports {
        write!(listed, "{{name: {port}, port: {number}, targetPort: {target}}}, ").unwrap();
    }
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{listed}]}}
---
"
    )
}

/// Sends rows from their workloads; those that do not come out as expected.
fn send(mesh: &Mesh, test: &str, rows: &[Value], ports: &Value) -> Vec<String> {
    let mut by_client: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for row in rows {
        by_client.entry(row["from"].as_str().unwrap()).or_default().push(row);
    }
    let mut wrong = Vec::new();
    for (client, rows) in by_client {
        let asked: Vec<Value> = rows
            .iter()
            .map(|row| {
                let mut asked = (*row).clone();
                let (namespace, app) = row["to"].as_str().unwrap().split_once('/').unwrap();
                let port = &ports[row["port"].as_str().unwrap()][0];
                asked["address"] = format!("{app}.{namespace}:{port}").into();
                // Istio's test sends the header with gRPC too, and the data leave it out.
                if test == "TestAuthz_CustomServer" && row["protocol"] == "GRPC" {
                    asked["headers"]["x-ext-authz"] = row["expect"].clone();
                }
                asked
            })
            .collect();
        let file = mesh.folder().join("rows.json");
        std::fs::write(&file, serde_json::to_vec(&asked).unwrap()).unwrap();
        let part = format!("{}=client", played::PART);
        let rows_file = format!("{}={}", played::ROWS, file.display());
        let mut command = vec!["env".to_owned(), part, rows_file];
        command.extend(played::command());
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let told = mesh.exec(client, &command).success();
        let answers: Vec<&str> =
            told.stdout.lines().filter_map(|line| line.strip_prefix("ROW ")).collect();
        assert_eq!(answers.len(), rows.len(), "{}\n{}", told.stdout, told.stderr);
        for (row, got) in rows.iter().zip(answers) {
            if row["expect"] != got {
                wrong.push(format!("{test} {row}: {got}"));
            }
        }
    }
    wrong
}

#[test]
fn of_istio_come_out_as_istios_in_a_running_mesh() {
    let Some(path) = data("istio/authz-request-cases.json") else { return };
    let folder = path.parent().unwrap().to_owned();
    let cases: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let ports: Vec<(String, u64, u64)> = cases["ports"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, port)| (name.clone(), port[0].as_u64().unwrap(), port[1].as_u64().unwrap()))
        .collect();
    let none = BTreeMap::new();
    let mesh = mesh();
    mesh.up(&[
        NAMESPACES.to_owned(),
        service("ns1", "b", &ports),
        deployment("ns1", "b", "server", &none),
        service("ns1", "ext-authz", &[("grpc".to_owned(), 9000, 9000)]),
        deployment("ns1", "ext-authz", "authorizer", &none),
        deployment("ns1", "a", "idle", &none),
        deployment("ns2", "a", "idle", &none),
    ]
    .concat());
    let (mut wrong, mut sent) = (Vec::new(), 0);
    for case in cases["cases"].as_array().unwrap() {
        if case["path"] != "mesh" {
            continue;
        }
        let test = case["test"].as_str().unwrap();
        let config = folder.join(case["config"].as_str().unwrap());
        let config = std::fs::read_to_string(config).unwrap();
        mesh.apply(&config);
        let all = case["requests"].as_array().unwrap();
        let (labelled, plain): (Vec<Value>, Vec<Value>) =
            all.iter().cloned().partition(|row| row["toExtraLabels"].is_object());
        wrong.extend(send(&mesh, test, &plain, &cases["ports"]));
        if let Some(row) = labelled.first() {
            let labels = serde_json::from_value(row["toExtraLabels"].clone()).unwrap();
            mesh.up(&deployment("ns1", "b", "server", &labels));
            wrong.extend(send(&mesh, test, &labelled, &cases["ports"]));
            mesh.up(&deployment("ns1", "b", "server", &none));
        }
        sent += all.len();
        mesh.delete(&config);
    }
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(sent, 205);
}

/// A gateway as Istio's charts install it.
fn gateway(kind: &str) -> String {
    let labels = format!("{{app: istio-{kind}gateway, istio: {kind}gateway}}");
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: istio-{kind}gateway, namespace: istio-system}}
---
apiVersion: v1
kind: Service
metadata: {{name: istio-{kind}gateway, namespace: istio-system}}
spec:
  type: {service_type}
  selector: {{istio: {kind}gateway}}
  ports: [{{name: http2, port: 80, targetPort: 8080}}, {{name: https, port: 443, targetPort: 8443}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: istio-{kind}gateway, namespace: istio-system}}
spec:
  selector: {{matchLabels: {labels}}}
  template:
    metadata: {{labels: {labels}}}
    spec: {{serviceAccountName: istio-{kind}gateway, containers: [{{name: istio-proxy, image: auto}}]}}
---
",
        service_type = if kind == "ingress" { "LoadBalancer" } else { "ClusterIP" },
    )
}

/// Who tells the keys of the issuers, at the address that Istio's test has for it.
fn keys(key: &Ed25519KeyPair) -> String {
    let command = serde_json::to_string(&played::command()).unwrap();
    let variables = serde_json::json!([
        {"name": played::PART, "value": "keys"},
        {"name": played::KEYS, "value": tokens::key_set(key)},
    ]);
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: jwt-server, namespace: istio-system}}
spec: {{selector: {{app: jwt-server}}, ports: [{{name: http, port: 8000}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: jwt-server, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{app: jwt-server}}}}
  template:
    metadata: {{labels: {{app: jwt-server}}}}
    spec:
      containers:
      - name: app
        command: {command}
        env: {variables}
        readinessProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1}}
---
"
    )
}

#[test]
fn of_istios_gateways_come_out_as_istios_in_a_running_mesh() {
    let Some(path) = data("istio/authz-request-cases.json") else { return };
    let folder = path.parent().unwrap().to_owned();
    let cases: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let key = Ed25519KeyPair::generate().unwrap();
    let none = BTreeMap::new();
    let mesh = mesh();
    let ports = [("http".to_owned(), 80, 18080)];
    mesh.up_alone(
        &[
            NAMESPACES.to_owned(),
            service("ns1", "b", &ports),
            deployment("ns1", "b", "server", &none),
            deployment("ns1", "a", "idle", &none),
            deployment("ns2", "a", "idle", &none),
            gateway("ingress"),
            gateway("egress"),
            keys(&key),
        ]
        .concat(),
    );
    let (mut wrong, mut sent) = (Vec::new(), 0);
    for case in cases["cases"].as_array().unwrap().iter().filter(|case| case["path"] != "mesh") {
        let test = case["test"].as_str().unwrap();
        let config =
            std::fs::read_to_string(folder.join(case["config"].as_str().unwrap())).unwrap();
        mesh.apply(&config);
        let mut rows = case["requests"].as_array().unwrap().clone();
        sent += rows.len();
        for row in &mut rows {
            if let Some(number) =
                row["jwt"].as_str().and_then(|name| name.strip_prefix("TokenIssuer"))
            {
                let (issuer, subject) =
                    (format!("test-issuer-{number}@istio.io"), format!("sub-{number}"));
                let token = tokens::token(&key, &issuer, &subject);
                row["headers"]["authorization"] = format!("Bearer {token}").into();
            }
        }
        if case["path"] == "ingress" {
            let all = mesh.workloads("istio-ingressgateway");
            let published = all.iter().flat_map(|one| one["published"].as_array().unwrap().clone());
            let mut published = published.filter(|one| one["wanted_port"] == 80);
            let port = published.find_map(|one| one["host_port"].as_u64()).unwrap();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for row in &mut rows {
                row["address"] = format!("{}:{port}", mesh.loopback()).into();
                let got = runtime.block_on(played::ask(row));
                if got.as_deref() != Ok(row["expect"].as_str().unwrap()) {
                    wrong.push(format!("{test} {row}: {got:?}"));
                }
            }
        } else {
            wrong.extend(send(&mesh, test, &rows, &cases["ports"]));
        }
        mesh.delete(&config);
    }
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(sent, 16);
}
