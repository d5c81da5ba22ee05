//! The rows and lines of the suite that need TLS, and those of TCPRoutes and UDPRoutes, with certificates of our own.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use heddle_testkit::Mesh;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{Got, INFRA, SERVERS, address, data, manifest, played, send_until};
use crate::mesh;

/// What the servers are called, and what clients call them.
const NAMES: &[&str] = &[
    "a.example",
    "abc.example.com",
    "any.com",
    "any.org",
    "example.org",
    "*.wildcard.org",
    "other.example.com",
    "other.org",
    "second-example.org",
    "tls.example.com",
    "unknown-example.org",
];
/// Authorities of clients.
const CLIENTS: &str = "clients";
const PER_PORT: &str = "per-port";
const SERVING: &str = "servers";

/// Connects as a client that the row's `tls` describes: `folder` with certificates, server `name`, `client` certificate.
pub(super) async fn connect(
    stream: TcpStream,
    tls: &Value,
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let folder = Path::new(tls["folder"].as_str().unwrap());
    let mut roots = RootCertStore::empty();
    let authority = folder.join(format!("{SERVING}.ca"));
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match tls["client"].as_str() {
        Some(name) => {
            let (chain, key) = pair(folder, name);
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from(tls["name"].as_str().unwrap().to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Accepts as a server of the suite.
pub(super) async fn accept(
    stream: TcpStream,
    folder: &Path,
) -> std::io::Result<server::TlsStream<TcpStream>> {
    let (chain, key) = pair(folder, SERVING);
    let builder = ServerConfig::builder().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config)).accept(stream).await
}

fn pair(folder: &Path, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::from_pem_file(folder.join(format!("{name}.crt"))).unwrap();
    (vec![chain], PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap())
}

/// Makes an authority and a certificate of it.
fn make(folder: &Path, name: &str, hosts: &[&str]) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(hosts).unwrap().signed_by(&key, &issuer).unwrap();
    let write = |kind: &str, text: String| {
        std::fs::write(folder.join(format!("{name}.{kind}")), text).unwrap();
    };
    write("ca", issuer.pem());
    write("crt", leaf.pem());
    write("key", key.serialize_pem());
}

/// Secrets and ConfigMaps that the suite's program makes.
fn secrets(folder: &Path) -> String {
    let read = |name: &str, kind: &str| {
        std::fs::read_to_string(folder.join(format!("{name}.{kind}"))).unwrap()
    };
    let (chain, key) = (read(SERVING, "crt"), read(SERVING, "key"));
    let mut yaml = String::new();
    for name in [
        "tls-validity-checks-certificate",
        "tls-passthrough-checks-certificate",
        "tls-terminate-checks-certificate",
        "tls-checks-certificate",
    ] {
        write!(
            yaml,
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {INFRA}}}\n\
             type: kubernetes.io/tls\ndata: {{tls.crt: {}, tls.key: {}}}\n---\n",
            STANDARD.encode(&chain),
            STANDARD.encode(&key)
        )
        .unwrap();
    }
    for (name, authority) in [
        ("tls-checks-ca-certificate", SERVING),
        ("backend-tls-certificate", SERVING),
        ("mismatch-ca-certificate", CLIENTS),
        ("tls-validity-checks-ca-certificate", CLIENTS),
        ("tls-validity-checks-per-port-ca-certificate", PER_PORT),
    ] {
        let text = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": INFRA},
            "data": {"ca.crt": read(authority, "ca")},
        });
        write!(yaml, "{text}\n---\n").unwrap();
    }
    yaml
}

/// A Deployment of this program in place of one of the suite's.
fn deployment(folder: &Path, namespace: &str, name: &str, part: &str, port: u16) -> String {
    let command = serde_json::to_string(&played::command()).unwrap();
    let probe = match part {
        "datagrams" => "workingDir: /".to_owned(),
        _ => "readinessProbe: {tcpSocket: {port: 3000}, periodSeconds: 1}".to_owned(),
    };
    let variables = json!([
        {"name": played::PART, "value": part},
        {"name": played::NAME, "value": format!("{namespace}/{name}")},
        {"name": played::CERTIFICATES, "value": folder},
        {"name": played::PORT, "value": port.to_string()},
    ]);
    format!(
        "
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: app, command: {command}, env: {variables}, {probe}}}]}}
"
    )
}

/// Documents with servers of our own in place of their Deployments.
fn own_servers(folder: &Path, yaml: &str) -> String {
    let mut own = String::new();
    for document in yaml.split("\n---") {
        if !document.contains("kind: Deployment") {
            write!(own, "\n---\n{document}").unwrap();
            continue;
        }
        let field = |name: &str| {
            let line = document.lines().find(|line| line.starts_with(&format!("  {name}: ")));
            line.and_then(|line| line.split(": ").nth(1)).unwrap_or(INFRA).trim().to_owned()
        };
        let (name, namespace) = (field("name"), field("namespace"));
        if SERVERS.iter().any(|(_, own, _)| *own == name) && !name.contains("infra-backend-v") {
            continue;
        }
        let is_udp = document.contains("protocol: UDP") || document.contains("UDP_ECHO");
        let part = match () {
            () if name.starts_with("coredns") || is_udp => "datagrams",
            () if name.contains("grpc") => "streams",
            () => "streams",
        };
        // Servers of datagrams listen where their Service leads.
        let port = if name == "coredns" { 53 } else { 8080 };
        own.push_str(&deployment(folder, &namespace, &name, part, port));
    }
    own
}

fn in_mesh() -> Option<(std::path::PathBuf, Mesh)> {
    let suite = data()?;
    let mesh = mesh();
    let folder = mesh.folder().to_owned();
    make(&folder, SERVING, NAMES);
    make(&folder, CLIENTS, &["client.example"]);
    make(&folder, PER_PORT, &["client.example"]);
    Some((suite, mesh))
}

fn row(mesh: &Mesh, host: &str, path: &str) -> Value {
    let tls = json!({"folder": mesh.folder(), "name": host.split(':').next().unwrap()});
    json!({"request": {"host": host, "path": path}, "tls": tls})
}

/// Why a row did not come out as it should; `wanted` is a name, a status, or that nothing comes.
fn expect(mesh: &Mesh, gateway: &str, port: u64, row: &Value, wanted: &[&str]) -> Option<String> {
    let is = |got: &Got| {
        let name = got.told["name"].as_str().unwrap_or_default().rsplit('/').next().unwrap();
        let is = |wanted: &&str| *wanted == name || got.status.to_string() == **wanted;
        (!wanted.iter().any(is)).then(|| format!("{} from {name:?}", got.status))
    };
    let wrong = send_until(|| address(mesh, gateway, port), row, &is);
    match (wanted, wrong) {
        (["nothing"], None) => Some("there was an answer".to_owned()),
        (["nothing"], Some(why)) if why.contains("from") || why.contains("published") => Some(why),
        (["nothing"], Some(_)) => None,
        (_, wrong) => wrong.map(|why| format!("{gateway} {row}: {why}")),
    }
}

#[test]
fn rows_of_the_conformance_suite_with_tls_come_out_in_a_running_mesh() {
    let Some((suite, mesh)) = in_mesh() else { return };
    let folder = mesh.folder().to_owned();
    let base = manifest(&suite, "conformance/base/manifests.yaml");
    let mut yaml = format!("{}{}", secrets(&folder), own_servers(&folder, &base));
    for name in [
        "backendtlspolicy-grpcroute",
        "backendtlspolicy-tlsroute-terminate",
        "gateway-invalid-default-frontend-client-certificate-validation",
        "gateway-with-clientcertificate-validation",
        "httproute-https-listener",
        "tlsroute-simple-same-namespace",
    ] {
        yaml.push_str("\n---\n");
        yaml.push_str(&manifest(&suite, &format!("conformance/tests/{name}.yaml")));
    }
    mesh.up_alone(&yaml).success();
    let mut wrong = Vec::new();
    let mut sent = 0;
    let mut check = |gateway: &str, port: u64, row: &Value, wanted: &[&str]| {
        sent += 1;
        wrong.extend(expect(&mesh, gateway, port, row, wanted));
    };
    let https = "same-namespace-with-https-listener";
    check(https, 443, &row(&mesh, "example.org", "/"), &["infra-backend-v1"]);
    check(https, 443, &row(&mesh, "unknown-example.org", "/"), &["404"]);
    check(https, 443, &row(&mesh, "second-example.org", "/"), &["infra-backend-v2"]);
    let with = |host: &str, client: &str| {
        let mut row = row(&mesh, host, "/");
        row["tls"]["client"] = client.into();
        row
    };
    let validating = "client-validation-default";
    check(validating, 443, &with("example.org", CLIENTS), &["infra-backend-v1"]);
    check(validating, 443, &row(&mesh, "example.org", "/"), &["nothing"]);
    check(validating, 8443, &with("second-example.org", PER_PORT), &["infra-backend-v2"]);
    check(validating, 8443, &with("second-example.org", CLIENTS), &["nothing"]);
    let invalid = "invalid-default-client-validation-config";
    let plain = json!({"request": {"host": "example.org", "path": "/"}});
    check(invalid, 80, &plain, &["infra-backend-v1"]);
    check("gateway-tlsroute", 443, &row(&mesh, "abc.example.com", "/"), &["tcp-backend"]);
    let again = "gateway-btls-tlsroute-terminate";
    check(again, 8443, &row(&mesh, "tls.example.com", "/"), &["tcp-backend"]);
    let call =
        |host: &str, method: &str| json!({method: {}, "requestMetadata": {"authority": host}});
    let mut grpc = |row: &Value, wanted: &[&str]| {
        sent += 1;
        let is = |got: &Got| {
            let status = got.header("grpc-status").unwrap_or("-");
            let name = got.told["name"].as_str().unwrap_or_default().rsplit('/').next().unwrap();
            (!wanted.contains(&status) || (status == "0") != (name == "grpc-infra-backend-v1"))
                .then(|| format!("gRPC status {status} from {name:?}"))
        };
        let to = || address(&mesh, "same-namespace", 80);
        wrong.extend(send_until(to, row, &is).map(|why| format!("{row}: {why}")));
    };
    grpc(&call("abc.example.com", "echoRequest"), &["0"]);
    grpc(&call("abc.example.com", "echoTwoRequest"), &["14"]);
    grpc(&call("cert-mismatch.example.com", "echoRequest"), &["14"]);
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(sent, 13);
}

const CASES: &str = include_str!("../../../../explain/tests/it/conformance_manifests.txt");

#[test]
fn what_is_explained_of_tls_and_streams_happens() {
    let Some((suite, mesh)) = in_mesh() else { return };
    let folder = mesh.folder().to_owned();
    let base = manifest(&suite, "conformance/base/manifests.yaml");
    let base = format!("{}{}", secrets(&folder), own_servers(&folder, &base));
    mesh.up_alone(&base).success();
    let (mut from, mut sent, mut wrong) = ("", 0, Vec::new());
    let mut yaml: Option<String> = None;
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((name, sender)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            from = sender.trim();
            if let Some(yaml) = yaml.take() {
                mesh.delete(&yaml);
            }
            let streams = ["tlsroute", "tcproute", "backendtls", "httproute-https-listener"];
            if !streams.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let text = manifest(&suite, &format!("conformance/tests/{name}.yaml"));
            let text = own_servers(&folder, &text);
            mesh.up_alone(&text).success();
            yaml = Some(text);
            continue;
        }
        let Some((asked, wanted)) = line.split_once("->").filter(|_| yaml.is_some()) else {
            continue;
        };
        let (mut gateway, mut tls, mut host, mut path) = (from, true, "", "/");
        for word in asked.split_whitespace() {
            match word {
                "tls" => tls = true,
                "tcp" => tls = false,
                word if word.starts_with('/') => path = word,
                word => match word.strip_prefix("from=") {
                    Some(other) => gateway = other,
                    None if host.is_empty() => host = word,
                    None => {}
                },
            }
        }
        let port: u64 = host.split_once(':').map_or(80, |(_, port)| port.parse().unwrap());
        if port == 80 {
            continue;
        }
        let mut row = row(&mesh, host, path);
        if !tls {
            row["tls"] = Value::Null;
        }
        let wanted: Vec<&str> = wanted
            .split_whitespace()
            .map(|word| if word == "0" { "nothing" } else { word.split('*').next().unwrap() })
            .collect();
        sent += 1;
        wrong.extend(
            expect(&mesh, gateway, port, &row, &wanted).map(|why| format!("{line}: {why}")),
        );
    }
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(sent > 20, "{sent}");
}

/// Sends a datagram from a socket and gives the answer back.
fn datagram(socket: &UdpSocket, to: std::net::SocketAddr, text: &str) -> Option<String> {
    socket.send_to(text.as_bytes(), to).ok()?;
    let mut buffer = [0; 2048];
    let bytes = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..bytes]).into_owned())
}

/// Sends datagrams from one socket until one is answered.
fn answered(to: impl Fn() -> Option<std::net::SocketAddr>, text: &str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let got = to().and_then(|to| datagram(&socket, to, text));
        if got.is_some() || Instant::now() > end {
            return got.unwrap_or_default();
        }
        std::thread::yield_now();
    }
}

#[test]
fn datagrams_go_by_udp_routes() {
    let Some((suite, mesh)) = in_mesh() else { return };
    let folder = mesh.folder().to_owned();
    let base = manifest(&suite, "conformance/base/manifests.yaml");
    let mut yaml: String = base
        .split("\n---")
        .filter(|document| {
            !document.contains("kind: Deployment") && !document.contains("-with-https-listener")
        })
        .collect::<Vec<_>>()
        .join("\n---");
    yaml.push_str(&deployment(&folder, INFRA, "coredns", "datagrams", 53));
    yaml = yaml.replace("app: udp", "app: coredns");
    for name in ["udproute-simple", "udproute-weighted-routing", "udproute-reference-grant"] {
        let text = manifest(&suite, &format!("conformance/tests/{name}.yaml"));
        yaml.push_str("\n---\n");
        yaml.push_str(&own_servers(&folder, &text));
    }
    mesh.up_alone(&yaml).success();
    let simple = || address(&mesh, "udp-gateway", 5300);
    assert_eq!(answered(simple, "hello"), format!("{INFRA}/coredns hello"));
    let granted = || address(&mesh, "udp-gateway-reference-grant", 5300);
    let of_grant = "gateway-conformance-app-backend/udp-echo-reference-grant x";
    assert_eq!(answered(granted, "x"), of_grant);
    // Clients are shared out by weight: 70, 30 and none.
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..60 {
        let got = answered(|| address(&mesh, "udp-weighted-gateway", 5300), "x");
        *counts.entry(got).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert!(counts[&format!("{INFRA}/udp-backend-v1 x")] > 30, "{counts:?}");
    // One client stays where it is.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for number in 0..5 {
        let got = datagram(&socket, simple().unwrap(), &number.to_string());
        assert_eq!(got, Some(format!("{INFRA}/coredns {number}")));
    }
}
