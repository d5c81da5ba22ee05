//! The requests that `heddle explain`'s tests ask at the suite's manifests, sent: what is explained is what happens.

use serde_json::{Value, json};

use super::{Got, INFRA, address, base, data, manifest, send_until};
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
    (port != 443).then(|| Asked { gateway: format!("{INFRA}/{gateway}"), port, row })
}

/// Which of the words about the outcome is not so.
fn difference(got: &Got, wanted: &[&str]) -> Option<String> {
    let backends: Vec<&str> = wanted
        .iter()
        .filter(|word| word.contains("backend-v") && !word.contains(['=', ':']))
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
    mesh.up(&base(&folder));
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
                mesh.up(&text)
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
