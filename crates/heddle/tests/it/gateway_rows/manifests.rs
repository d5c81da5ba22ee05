//! The requests that `heddle explain`'s tests ask at the suite's manifests, sent: what is explained is what happens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use heddle_testkit::Mesh;
use serde_json::{Value, json};

use super::{Got, address, base, data, manifest, played, send_until};
use crate::mesh;

const CASES: &str = include_str!("../../../../explain/tests/it/conformance_manifests.txt");

/// Manifests that need more than this test brings, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("mesh/", "requests inside of the mesh have tests of their own"),
    ("tls", "needs TLS"),
    ("tcproute", "streams; brings servers of its own"),
    ("backendtls", "needs TLS"),
    ("httproute-https-listener", "needs TLS"),
    ("httproute-backend-protocol-websocket", "needs a WebSocket server"),
    ("grpcroute-weight", "counts"),
];

struct Asked {
    /// Or the workload that asks.
    gateway: String,
    port: u64,
    row: Value,
}

/// A line's request; none where it needs TLS.
fn asked(from: &str, line: &str) -> Option<Asked> {
    let (mut gateway, mut headers) = (from.to_owned(), serde_json::Map::new());
    let (mut host, mut path, mut grpc) = (String::new(), "/".to_owned(), false);
    for word in line.split_whitespace() {
        if word == "grpc" {
            grpc = true;
        } else if let Some(other) = word.strip_prefix("from=") {
            other.clone_into(&mut gateway);
        } else if word.starts_with('/') {
            word.clone_into(&mut path);
        } else if host.is_empty() {
            word.clone_into(&mut host);
        } else {
            let (name, value) = word.split_once(':').unwrap();
            headers.insert(name.to_owned(), value.into());
        }
    }
    let port = host.split_once(':').map_or(80, |(_, port)| port.parse().unwrap());
    let row = if grpc {
        json!({"echoRequest": {}, "path": path, "requestMetadata": {"authority": host, "metadata": headers}})
    } else {
        json!({"request": {"host": host, "path": path, "headers": headers}})
    };
    (port != 443).then_some(Asked { gateway, port, row })
}

/// Which of the words about the outcome is not so.
fn difference(got: &Got, wanted: &[&str]) -> Option<String> {
    let backends: Vec<&str> = wanted
        .iter()
        .filter(|word| word.contains("backend-v") || word.starts_with("echo-v"))
        .filter(|word| !word.contains(['=', ':']))
        .map(|word| word.split('*').next().unwrap())
        .collect();
    let name = got.told["name"].as_str().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap();
    if !backends.is_empty() && !backends.contains(&name) {
        return Some(format!("{} from {name:?}", got.status));
    }
    let server = |name: &str| {
        let all = got.told["headers"].as_array().into_iter().flatten();
        let own = all.filter(|one| one[0] == name);
        let values: Vec<&str> = own.filter_map(|one| one[1].as_str()).collect();
        (!values.is_empty()).then(|| values.join(",").replace(", ", ","))
    };
    let is_grpc = got.told["headers"].is_null() && got.header("grpc-status").is_some();
    let told = |word: &&&str| -> bool {
        if let Some(name) = word.strip_prefix("resp.!!").or(word.strip_prefix("resp.!")) {
            got.header(name).is_none()
        } else if let Some((name, value)) =
            word.strip_prefix("resp.").and_then(|rest| rest.split_once(':'))
        {
            got.header(name) == Some(value)
        } else if let Some(name) = word.strip_prefix('!') {
            is_grpc || server(name).is_none()
        } else if let Some(status) = word.strip_prefix("grpc=") {
            got.header("grpc-status") == Some(status)
        } else if let Some(path) = word.strip_prefix("path=") {
            got.told["path"] == path
        } else if let Some(host) = word.strip_prefix("host=") {
            server("host").as_deref() == Some(host)
        } else if let Ok(status) = word.parse::<u64>() {
            got.status == status
        } else if word.contains("://") {
            got.header("location") == Some(word)
        } else if let (false, Some((name, value))) = (word.contains('='), word.split_once(':')) {
            is_grpc || server(name).as_deref() == Some(value)
        } else {
            true
        }
    };
    let wrong = wanted.iter().find(|word| !told(word));
    wrong.map(|word| format!("{word}: {} {:?} {}", got.status, got.headers, got.told))
}

#[test]
fn what_is_explained_of_the_suites_manifests_happens() {
    let Some(folder) = data() else { return };
    let mesh = mesh();
    mesh.up_alone(&base(&folder));
    let mut yaml: Option<String> = None;
    let (mut from, mut sent, mut wrong) = ("", 0, Vec::new());
    let mut section = "";
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((name, sender)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            (section, from) = (name, sender.trim());
            if let Some(yaml) = yaml.take() {
                mesh.delete(&yaml);
            }
            if LEFT_OUT.iter().any(|(prefix, _)| name.starts_with(prefix)) {
                continue;
            }
            let text = manifest(&folder, &format!("conformance/tests/{name}.yaml"));
            if text.contains("kind: Gateway\n") {
                mesh.up_alone(&text)
            } else {
                mesh.apply(&text)
            };
            yaml = Some(text);
            continue;
        }
        let Some((asked_text, wanted)) = line.split_once("->").filter(|_| yaml.is_some()) else {
            continue;
        };
        let Some(asked) = asked(from, asked_text) else { continue };
        let wanted: Vec<&str> = wanted.split_whitespace().collect();
        sent += 1;
        let to = || address(&mesh, &asked.gateway, asked.port);
        if let Some(why) = send_until(to, &asked.row, &|got| difference(got, &wanted)) {
            wrong.push(format!("[{section}] {line}\n    {why}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(sent > 150, "{sent}");
}

const MESH: &str = "gateway-conformance-mesh";

/// The suite's objects for a mesh, with servers of our own.
fn base_of_mesh(folder: &std::path::Path) -> String {
    let text = manifest(folder, "conformance/mesh/manifests.yaml");
    let kept = text.split("\n---").filter(|document| !document.contains("kind: Deployment"));
    let mut yaml = kept.collect::<Vec<_>>().join("\n---");
    let command = serde_json::to_string(&played::command()).unwrap();
    for (namespace, name) in
        [(MESH, "echo-v1"), (MESH, "echo-v2"), ("gateway-conformance-mesh-consumer", "echo-v1")]
    {
        let version = name.trim_start_matches("echo-");
        write!(
            yaml,
            "
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: echo, version: {version}}}}}
  template:
    metadata: {{labels: {{app: echo, version: {version}}}}}
    spec:
      containers:
      - name: app
        command: {command}
        env: [{{name: {}, value: mesh}}, {{name: {}, value: {namespace}/{name}}}]
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
",
            played::PART,
            played::NAME
        )
        .unwrap();
    }
    yaml
}

/// What comes back for rows that a workload sends.
fn send_from(mesh: &Mesh, client: &str, rows: &[Value]) -> Vec<Result<Got, String>> {
    let file = mesh.folder().join("rows.json");
    std::fs::write(&file, serde_json::to_vec(&rows).unwrap()).unwrap();
    let part = format!("{}=client", played::PART);
    let rows_file = format!("{}={}", played::ROWS, file.display());
    let mut command = vec!["env".to_owned(), part, rows_file];
    command.extend(played::command());
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let told = mesh.exec(client, &command).success();
    let answers = told.stdout.lines().filter_map(|line| line.strip_prefix("ROW "));
    let answers: Vec<_> = answers.map(Got::read).collect();
    assert_eq!(answers.len(), rows.len(), "{}\n{}", told.stdout, told.stderr);
    answers
}

/// Lines of a section, by who asks: the line, the row, and what is wanted.
type Lines<'a> = BTreeMap<String, Vec<(&'a str, Value, Vec<&'a str>)>>;

fn lines_of<'a>(from: &str, lines: &[&'a str]) -> Lines<'a> {
    let mut by_client = Lines::new();
    for line in lines {
        let (text, wanted) = line.split_once("->").unwrap();
        let Some(Asked { gateway: client, port, mut row }) = asked(from, text) else { continue };
        let host = row["request"]["host"].as_str().or(row["requestMetadata"]["authority"].as_str());
        let host = host.unwrap().split(':').next().unwrap().to_owned();
        row["address"] = format!("{host}:{port}").into();
        if row["request"].is_object() {
            row["request"]["host"] =
                if port == 80 { host } else { format!("{host}:{port}") }.into();
        }
        let client = if client.contains('/') { client } else { format!("{MESH}/{client}") };
        let wanted = wanted.split_whitespace().collect();
        by_client.entry(client).or_default().push((line, row, wanted));
    }
    by_client
}

#[test]
fn what_is_explained_inside_of_a_mesh_happens() {
    let Some(folder) = data() else { return };
    let mesh = mesh();
    mesh.up_alone(&base_of_mesh(&folder));
    let (mut sent, mut wrong) = (0, Vec::new());
    for section in CASES.split("\n[mesh/").skip(1) {
        let (head, rest) = section.split_once('\n').unwrap();
        let (name, from) = head.split_once("] ").unwrap();
        let text = manifest(&folder, &format!("conformance/tests/mesh/{name}.yaml"));
        mesh.apply(&text);
        let lines = rest.lines().take_while(|line| !line.is_empty());
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with('#')).collect();
        for (client, lines) in lines_of(from, &lines) {
            sent += lines.len();
            let rows: Vec<Value> = lines.iter().map(|(_, row, _)| row.clone()).collect();
            let end = Instant::now() + Duration::from_secs(10);
            loop {
                let got = send_from(&mesh, &client, &rows);
                let found = lines.iter().zip(got).filter_map(|((line, _, wanted), got)| {
                    let why = got.map_or_else(Some, |got| difference(&got, wanted))?;
                    Some(format!("[{name}] {line}\n    {why}"))
                });
                let found: Vec<String> = found.collect();
                if found.is_empty() || Instant::now() > end {
                    wrong.extend(found);
                    break;
                }
            }
        }
        mesh.delete(&text);
    }
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(sent > 35, "{sent}");
}
