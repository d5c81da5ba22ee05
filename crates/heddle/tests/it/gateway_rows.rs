//! Rows of the Gateway API's conformance suite (`conformance-cases.json`) in a running mesh: every request over HTTP/1.1,
//! HTTP/2 and gRPC that a Gateway gets; those with TLS, and streams and datagrams, are in [`tls`].
//!
//! Each Gateway is a proxy that heddle runs, with its port on this machine; the servers are this program ([`played`]).

mod manifests;
mod played;
mod tls;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heddle_testkit::Mesh;
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mesh;

const INFRA: &str = "gateway-conformance-infra";

/// The servers: namespace, name, and which part they play.
const SERVERS: &[(&str, &str, &str)] = &[
    (INFRA, "infra-backend-v1", "http"),
    (INFRA, "infra-backend-v2", "http"),
    (INFRA, "infra-backend-v3", "http"),
    (INFRA, "grpc-infra-backend-v1", "grpc"),
    (INFRA, "grpc-infra-backend-v2", "grpc"),
    (INFRA, "grpc-infra-backend-v3", "grpc"),
    ("gateway-conformance-app-backend", "app-backend-v1", "http"),
    ("gateway-conformance-web-backend", "web-backend", "http"),
];

/// Tests whose rows need TLS to the gateway or behind it.
const WITH_TLS: &[&str] = &[
    "BackendTLSPolicyGRPCRoute",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendInvalidDefaultClientCertificateValidation",
    "HTTPRouteHTTPSListener",
];

/// The optional test data beside the repository.
fn data() -> Option<PathBuf> {
    let root = std::env::var_os("HEDDLE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join("data/gateway-api");
    if !path.exists() {
        heddle_testkit::skip(&format!("{} is not there", path.display()));
        return None;
    }
    Some(path)
}

fn manifest(folder: &Path, path: &str) -> String {
    let text = std::fs::read_to_string(folder.join(path)).unwrap();
    text.replace("{GATEWAY_CLASS_NAME}", "heddle")
}

/// Namespaces, Services and the Gateways without TLS of the suite's base, with servers of our own.
fn base(folder: &Path) -> String {
    let text = manifest(folder, "conformance/base/manifests.yaml");
    let kept = text.split("\n---").filter(|document| {
        !document.contains("kind: Deployment") && !document.contains("-with-https-listener")
    });
    let mut yaml = kept.collect::<Vec<_>>().join("\n---");
    let command = serde_json::to_string(&played::command()).unwrap();
    for (namespace, name, part) in SERVERS {
        write!(
            yaml,
            "
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: app
        command: {command}
        env: [{{name: {}, value: {part}}}, {{name: {}, value: {namespace}/{name}}}]
        readinessProbe: {{tcpSocket: {{port: 3000}}, periodSeconds: 1}}
",
            played::PART,
            played::NAME
        )
        .unwrap();
    }
    yaml
}

/// Where the port of a Gateway is on this machine.
fn address(mesh: &Mesh, gateway: &str, port: u64) -> Option<SocketAddr> {
    let name = gateway.rsplit('/').next().unwrap();
    let all = mesh.workloads(&format!("{name}-heddle-0"));
    let published =
        all.iter().flat_map(|one| one["published"].as_array().cloned().unwrap_or_default());
    let mut found = published.filter(|one| one["wanted_port"] == port);
    let port = found.find_map(|one| one["host_port"].as_u64())?;
    Some(SocketAddr::from((mesh.loopback(), u16::try_from(port).unwrap())))
}

/// What came back: the status, the headers, and what the server says it got.
struct Got {
    status: u64,
    headers: Vec<(String, String)>,
    told: Value,
}

impl Got {
    fn write(&self) -> Value {
        json!({"status": self.status, "headers": self.headers, "told": self.told})
    }

    fn read(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).unwrap();
        if let Some(error) = value["error"].as_str() {
            return Err(error.to_owned());
        }
        let headers = serde_json::from_value(value["headers"].clone()).unwrap();
        let status = value["status"].as_u64().unwrap();
        Ok(Self { status, headers, told: value["told"].clone() })
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter().rev();
        headers.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

async fn over_http1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    row: &Value,
) -> std::io::Result<Got> {
    let request = &row["request"];
    let text = |field: &str, other: &str| request[field].as_str().unwrap_or(other).to_owned();
    let (method, path, host) =
        (text("method", "GET"), text("path", "/"), text("host", "any.example"));
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in pairs(&request["headers"]) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer).await;
    if answer.is_empty() {
        return Err(ended.err().unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into()));
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    let told = serde_json::from_str(body).unwrap_or_default();
    Ok(Got { status, headers: headers.collect(), told })
}

async fn over_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    row: &Value,
) -> Result<Got, h2::Error> {
    let known =
        [("echoRequest", "Echo"), ("echoTwoRequest", "EchoTwo"), ("echoThreeRequest", "EchoThree")];
    let method = known.iter().find(|(field, _)| row[field].is_object()).map(|(_, method)| *method);
    let metadata = &row["requestMetadata"];
    let path = match method {
        Some(_) if row["path"].is_string() => row["path"].as_str().unwrap().to_owned(),
        Some(method) => format!("/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/{method}"),
        None => row["request"]["path"].as_str().unwrap_or("/").to_owned(),
    };
    let host = metadata["authority"].as_str().unwrap_or("any.example");
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut sender = sender.ready().await?;
    let verb = if method.is_some() { "POST" } else { "GET" };
    let mut request = Request::builder().method(verb).uri(format!("http://{host}{path}"));
    if method.is_some() {
        request = request.header("content-type", "application/grpc").header("te", "trailers");
    }
    for (name, value) in pairs(&metadata["metadata"]) {
        request = request.header(name, value);
    }
    let (response, mut sink) = sender.send_request(request.body(()).unwrap(), method.is_none())?;
    if method.is_some() {
        sink.send_data(played::framed(), true)?;
    }
    let response = response.await?;
    let status = u64::from(response.status().as_u16());
    let word = |headers: &http::HeaderMap, name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let mut grpc = word(response.headers(), "grpc-status");
    let told = json!({"name": word(response.headers(), "x-name")});
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        let _ = body.flow_control().release_capacity(piece?.len());
    }
    if let Some(trailers) = body.trailers().await? {
        grpc = word(&trailers, "grpc-status").or(grpc);
    }
    let headers = grpc.map(|status| ("grpc-status".to_owned(), status)).into_iter().collect();
    Ok(Got { status, headers, told })
}

async fn ask(to: SocketAddr, row: &Value) -> Result<Got, String> {
    let limit = Duration::from_secs(10);
    let http1 = row["request"].is_object() && row["request"]["protocol"] != "H2C_PRIOR_KNOWLEDGE";
    let got = tokio::time::timeout(limit, async {
        let stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
        if row["tls"].is_object() {
            let stream = tls::connect(stream, &row["tls"]).await;
            let stream = stream.map_err(|error| error.to_string())?;
            return over_http1(stream, row).await.map_err(|error| error.to_string());
        }
        if http1 {
            over_http1(stream, row).await.map_err(|error| error.to_string())
        } else {
            over_http2(stream, row).await.map_err(|error| error.to_string())
        }
    });
    got.await.map_err(|_| "no answer".to_owned())?
}

/// What came back otherwise than the row says.
fn difference(row: &Value, got: &Got) -> Option<String> {
    let response = &row["response"];
    if !row["request"].is_object() {
        let wanted = if response["code"] == "Unimplemented" { "12" } else { "0" };
        if got.header("grpc-status") != Some(wanted) {
            return Some(format!("gRPC status {:?}", got.header("grpc-status")));
        }
        return backend(row, got);
    }
    let statuses = response["statusCodes"].as_array().cloned();
    let one = response["statusCode"].as_u64().unwrap_or(200);
    if !statuses.unwrap_or(vec![one.into()]).contains(&got.status.into()) {
        return Some(format!("status {}", got.status));
    }
    if let Some(redirect) = row["redirectRequest"].as_object() {
        let location = got.header("location").unwrap_or_default();
        let wrong = redirect.values().find(|part| !location.contains(part.as_str().unwrap()));
        return wrong.map(|part| format!("{part} is not in {location}"));
    }
    for (name, value) in pairs(&response["headers"]) {
        if got.header(&name) != Some(&value) {
            return Some(format!("{name}: {:?}", got.header(&name)));
        }
    }
    let plain = |text: &str| text.replace(' ', "");
    for (name, values) in response["validHeaderValues"].as_object().into_iter().flatten() {
        let is = got.header(name).map(plain);
        if !values.as_array().unwrap().iter().any(|value| value.as_str().map(plain) == is) {
            return Some(format!("{name}: {is:?}"));
        }
    }
    let mut absent = response["absentHeaders"].as_array().into_iter().flatten();
    if let Some(name) = absent.find(|name| got.header(name.as_str().unwrap()).is_some()) {
        return Some(format!("{name} is there"));
    }
    backend(row, got).or_else(|| expected_request(row, got))
}

fn backend(row: &Value, got: &Got) -> Option<String> {
    let backend = row["backend"].as_str()?;
    let wanted = format!("{}/{backend}", row["namespace"].as_str().unwrap());
    let name = got.told["name"].as_str().unwrap_or_default();
    (name != wanted).then(|| format!("{name} has answered"))
}

fn expected_request(row: &Value, got: &Got) -> Option<String> {
    let expected = &row["expectedRequest"];
    if let Some(path) = expected["path"].as_str().filter(|path| !path.is_empty())
        && got.told["path"] != path
    {
        return Some(format!("the server got {}", got.told["path"]));
    }
    let header = |name: &str| {
        let all = got.told["headers"].as_array().into_iter().flatten();
        let own =
            all.filter(|one| one[0].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name)));
        own.filter_map(|one| one[1].as_str()).collect::<Vec<_>>().join(",")
    };
    for (name, value) in pairs(&expected["headers"]) {
        if header(&name) != value {
            return Some(format!("the server got {name}: {}", header(&name)));
        }
    }
    let mut absent = expected["absentHeaders"].as_array().into_iter().flatten();
    let there = absent.find(|name| !header(name.as_str().unwrap()).is_empty());
    there.map(|name| format!("the server got {name}"))
}

/// Sends a row until it comes out as it should: a change reaches every proxy a moment later.
fn send_until(
    to: impl Fn() -> Option<SocketAddr>,
    row: &Value,
    difference: &dyn Fn(&Got) -> Option<String>,
) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let wrong = match to() {
            None => Some("the port is not published".to_owned()),
            Some(to) => match runtime.block_on(ask(to, row)) {
                Ok(got) => difference(&got),
                Err(error) => Some(error),
            },
        };
        if wrong.is_none() || Instant::now() > end {
            return wrong;
        }
        std::thread::yield_now();
    }
}

fn send(mesh: &Mesh, gateway: &str, row: &Value) -> Option<String> {
    let host = row["request"]["host"].as_str().unwrap_or_default();
    let port = host.split_once(':').map_or(80, |(_, port)| port.parse().unwrap());
    send_until(|| address(mesh, gateway, port), row, &|got| difference(row, got))
}

#[test]
fn of_the_conformance_suite_come_out_in_a_running_mesh() {
    let Some(folder) = data() else { return };
    let cases = std::fs::read(folder.join("conformance-cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    let mesh = mesh();
    mesh.up_alone(&base(&folder));
    let (mut wrong, mut sent) = (Vec::new(), 0);
    for test in cases["tests"].as_array().unwrap() {
        let name = test["test"].as_str().unwrap();
        let rows = test["requests"].as_array().unwrap().iter();
        let is_http = |row: &&Value| {
            row["request"].is_object()
                || row.get("echoRequest").is_some()
                || row.get("echoTwoRequest").is_some()
                || row.get("echoThreeRequest").is_some()
        };
        let rows: Vec<&Value> = rows.filter(is_http).collect();
        if rows.is_empty() || WITH_TLS.contains(&name) {
            continue;
        }
        let paths = test["manifests"].as_array().unwrap().iter();
        let yaml: Vec<String> =
            paths.map(|path| manifest(&folder, path.as_str().unwrap())).collect();
        let yaml = yaml.join("\n---\n");
        if yaml.contains("kind: Gateway\n") {
            mesh.up_alone(&yaml).success()
        } else {
            mesh.apply(&yaml).success()
        };
        for (index, row) in rows.iter().enumerate() {
            let gateway = match (name, index) {
                ("HTTPRouteMultipleGateways", 1) => format!("{INFRA}/same-namespace"),
                _ => test["gateway"].as_str().unwrap().to_owned(),
            };
            if (name, index) == ("HTTPRouteReferenceGrant", 1) {
                let documents =
                    yaml.split("\n---").filter(|one| one.contains("kind: ReferenceGrant"));
                mesh.delete(&documents.collect::<String>());
            }
            sent += 1;
            if let Some(why) = send(&mesh, &gateway, row) {
                wrong.push(format!("{name} {index}: {why}\n    {row}"));
            }
        }
        mesh.delete(&yaml);
    }
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(sent, 102);
}
