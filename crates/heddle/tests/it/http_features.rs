//! HTTP as clients and servers really speak it, through two proxies.
//!
//! Client and server are sockets with the bytes written out, so that every byte that arrives can be looked at. HTTP/2
//! with prior knowledge needs a server that Debian's Python does not bring; the proxy's own tests have one.

use heddle_testkit::{Mesh, has};
use serde_json::Value;

use crate::{client, mesh};

/// The raw server, its Service, and where a test asks it.
fn server() -> String {
    let script = include_str!("http_features_server.py").replace('\n', "\n    ");
    format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: raw}}
data:
  server.py: |
    {script}
---
apiVersion: v1
kind: Service
metadata: {{name: raw}}
spec:
  selector: {{app: raw}}
  ports: [{{name: http, port: 80, targetPort: 8000}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: raw}}
spec:
  selector: {{matchLabels: {{app: raw}}}}
  template:
    metadata: {{labels: {{app: raw}}}}
    spec:
      containers:
        - name: raw
          command: [python3, -u, /srv/heddle-test/server.py]
          ports: [{{containerPort: 8000}}]
          readinessProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1}}
          volumeMounts: [{{name: script, mountPath: /srv/heddle-test}}]
      volumes:
        - name: script
          configMap: {{name: raw}}
---
"
    )
}

#[test]
fn come_through_two_proxies_as_they_were_sent() {
    if !has(&["curl", "python3"]) {
        return;
    }
    let mesh = mesh();
    mesh.up(&[server(), client("client")].concat());
    header_case_and_keep_alive(&mesh);
    bodies(&mesh);
    upgrade(&mesh);
    smuggling(&mesh);
}

fn curl(mesh: &Mesh, options: &[&str]) -> (String, String) {
    let words = ["curl", "-sv", "--max-time", "20"];
    let words: Vec<&str> = words.iter().chain(options).copied().collect();
    let told = mesh.exec("client", &words).success();
    (told.stdout, told.stderr)
}

fn header_case_and_keep_alive(mesh: &Mesh) {
    let options = ["-H", "X-MiXeD-CaSe: Value", "http://raw/first", "http://raw/second"];
    let (stdout, stderr) = curl(mesh, &options);
    assert_eq!(stdout.matches("\nX-MiXeD-CaSe: Value\r\n").count(), 2, "{stdout}");
    assert_eq!(stderr.matches("< X-ReSpOnSe-CaSe: Kept\r\n").count(), 2, "{stderr}");
    assert_eq!(stderr.matches("Connected to raw").count(), 1, "one connection: {stderr}");
    assert!(stdout.starts_with("GET /first HTTP/1.1\r\n"), "{stdout}");
}

fn bodies(mesh: &Mesh) {
    // curl waits for 100 Continue before it sends; the server counts what it was asked.
    let (stdout, stderr) =
        curl(mesh, &["-H", "Expect: 100-continue", "-d", "a body", "http://raw/echo"]);
    assert!(stderr.contains("< HTTP/1.1 100 Continue"), "{stderr}");
    assert_eq!(stdout, "a body");
    let (stdout, stderr) =
        curl(mesh, &["-H", "Transfer-Encoding: chunked", "-d", "in chunks", "http://raw/echo"]);
    assert_eq!(stdout, "in chunks");
    assert!(stderr.contains("Transfer-Encoding: chunked"), "{stderr}");
    let answer = raw(
        mesh,
        "POST /trailers HTTP/1.1\r\nHost: raw\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: X-Sum\r\nConnection: close\r\n\r\n\
         4\r\nwiki\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    assert!(answer.contains("\r\n0\r\nX-Echoed-Sum: 7\r\n\r\n"), "trailers, both ways: {answer:?}");
}

/// After 101 the connection is the two ends' own.
fn upgrade(mesh: &Mesh) {
    let answer = raw(
        mesh,
        "GET /socket HTTP/1.1\r\nHost: raw\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nframes of any kind",
    );
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer:?}");
    assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer:?}");
    assert!(answer.ends_with("\r\n\r\nframes of any kind"), "{answer:?}");
}

/// What two servers could read in two ways is read by none.
fn smuggling(mesh: &Mesh) {
    let head = "POST /echo HTTP/1.1\r\nHost: raw\r\n";
    let many = format!("X-Long: {}\r\n", "x".repeat(8000)).repeat(20);
    for (what, request) in [
        ("two lengths", "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde".to_owned()),
        (
            "length and chunks",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        ("a folded line", "X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a space before the colon", "Content-Length : 4\r\n\r\nabcd".to_owned()),
        ("lines without CR", "X-A: b\nContent-Length: 0\n\n".to_owned()),
        ("an unknown encoding", "Transfer-Encoding: xchunked\r\n\r\n".to_owned()),
        ("a head too long", format!("{many}\r\n")),
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: raw\r\n\r\n";
        let answer = raw(mesh, &format!("{head}{request}{smuggled}"));
        let status = answer.split(' ').nth(1).unwrap_or("");
        assert!(["400", "431", "501"].contains(&status), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "closed after {what}: {answer:?}");
    }
    let seen = curl(mesh, &["http://raw/seen"]).0;
    assert!(!seen.contains("/smuggled"), "{seen}");
}

/// Sends bytes from the client's workload, and gives all that comes back until the connection is closed or silent.
fn raw(mesh: &Mesh, request: &str) -> String {
    const CLIENT: &str = "
import json, socket, sys
connection = socket.create_connection(('raw', 80), timeout=20)
try:
    connection.sendall(json.load(sys.stdin).encode())
    connection.settimeout(5)
    answer = b''
    while not answer.endswith(b'of any kind'):
        data = connection.recv(65536)
        if not data:
            break
        answer += data
except (ConnectionResetError, BrokenPipeError):
    pass
print(json.dumps(answer.decode('latin-1')))
";
    let input = Value::from(request).to_string();
    let told = mesh.run_with(&["exec", "client", "--", "python3", "-c", CLIENT], &input);
    told.success().json().as_str().unwrap_or("").to_owned()
}
