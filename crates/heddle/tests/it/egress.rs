//! What workloads may do to others: requests, names, datagrams, and what survives a proxy.

use heddle_testkit::{Mesh, has, skip, wait};

use crate::life::kill_own;
use crate::{client, mesh, sample};

const ECHO: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
        - name: echo
          command:
            - python3
            - -c
            - |
              import selectors, socket
              s = selectors.DefaultSelector()
              for port in (4000, 4001):
                  u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                  u.bind(("0.0.0.0", port))
                  s.register(u, selectors.EVENT_READ)
              while True:
                  for key, _ in s.select():
                      data, peer = key.fileobj.recvfrom(100)
                      key.fileobj.sendto(data, peer)
---
"#;

/// Of the client `friend`: GET of ratings, datagrams to `echo` on 4000, one name outside and the mesh's own.
fn policy(outside: &str, port: u16) -> String {
    format!(
        r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: friend}}
spec:
  endpointSelector: {{matchLabels: {{app: friend}}}}
  egress:
    - toEndpoints: [{{matchLabels: {{app: ratings}}}}]
      toPorts:
        - ports: [{{port: "9080", protocol: TCP}}]
          rules: {{http: [{{method: GET, path: "/ratings/.*"}}]}}
    - toEndpoints: [{{matchLabels: {{app: echo}}}}]
      toPorts: [{{ports: [{{port: "4000", protocol: UDP}}]}}]
    - toFQDNs: [{{matchName: "{outside}"}}]
      toPorts: [{{ports: [{{port: "{port}", protocol: TCP}}]}}]
    - toEndpoints: [{{matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}}}]
      toPorts:
        - ports: [{{port: "53", protocol: ANY}}]
          rules: {{dns: [{{matchPattern: "**.cluster.local"}}, {{matchName: "{outside}"}}]}}
"#
    )
}

fn status(mesh: &Mesh, workload: &str, method: &str, url: &str) -> u64 {
    let summary = mesh.load(workload, &["--count", "1", "-X", method, url]);
    let statuses = summary["statuses"].as_object();
    statuses.and_then(|all| all.keys().next()?.parse().ok()).unwrap_or(0)
}

/// What a line of Python says in a workload.
fn python(mesh: &Mesh, workload: &str, program: &str) -> String {
    let told = mesh.exec(workload, &["python3", "-c", program]);
    format!("{}{}", told.stdout, told.stderr).trim().lines().last().unwrap_or("").to_owned()
}

fn address(mesh: &Mesh, owner: &str) -> String {
    let workloads = mesh.workloads(owner);
    workloads[0]["addresses"][0].as_str().unwrap().to_owned()
}

fn echoes(mesh: &Mesh, workload: &str, to: &str, port: u16) -> bool {
    let program = format!(
        "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.settimeout(1)\n\
         try:\n s.sendto(b'x',('{to}',{port}))\n print(s.recv(9)==b'x')\nexcept OSError:\n print(False)"
    );
    python(mesh, workload, &program) == "True"
}

/// Connects and reads what the server says.
fn greeting(mesh: &Mesh, workload: &str, to: &str, port: u16) -> String {
    let program = format!(
        "import socket\ntry:\n s=socket.create_connection(('{to}',{port}),5)\n s.settimeout(5)\n \
         d=s.recv(9)\n print('got '+d.decode() if d else 'none')\nexcept OSError as e:\n print('none')"
    );
    python(mesh, workload, &program)
}

/// Greets whoever connects, on an address of this host that others may reach under its name.
fn greeter(address: std::net::IpAddr) -> Option<u16> {
    let listener = std::net::TcpListener::bind((address, 0)).ok()?;
    let port = listener.local_addr().ok()?.port();
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let _ = stream.write_all(b"welcome");
        }
    });
    Some(port)
}

/// An address of this host that is not its loopback; none where it has no network.
fn host() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: it only finds the way.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

/// Asks the workload's name server for a name: the code of the answer.
fn query(mesh: &Mesh, workload: &str, name: &str) -> String {
    let program = format!(
        "import socket\nq=b'\\x00\\x07\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00'\n\
         for l in '{name}'.split('.'): q+=bytes([len(l)])+l.encode()\n\
         q+=b'\\x00\\x00\\x01\\x00\\x01'\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
         s.settimeout(5)\ns.sendto(q,('10.244.0.1',53))\nprint(s.recv(512)[3]&15)"
    );
    python(mesh, workload, &program)
}

#[test]
fn a_workload_does_to_others_what_its_policies_allow() {
    if !has(&["python3"]) {
        return skip("there is no python3");
    }
    let mesh = mesh();
    let ratings = sample("ratings", "ratings", "v1", 1);
    mesh.up(&[ratings, client("friend"), client("stranger"), ECHO.to_owned()].concat());
    let echo = address(&mesh, "echo");
    let url = "http://ratings.default:9080/ratings/7";
    assert_eq!(status(&mesh, "friend", "GET", url), 200);
    wait("the echo server", || echoes(&mesh, "friend", &echo, 4001));
    let outside = host();
    // The host's resolver takes an address for the name of itself, so that no other name is needed.
    let (name, port) = match outside {
        Some(ip) => (ip.to_string(), greeter(ip).unwrap_or(1)),
        None => ("api.example.com".to_owned(), 1),
    };
    mesh.apply(&policy(&name, port));
    assert_eq!(status(&mesh, "friend", "GET", url), 200);
    assert_eq!(status(&mesh, "friend", "DELETE", url), 403);
    assert_eq!(status(&mesh, "friend", "GET", "http://ratings:9080/status/200"), 403);
    // The application itself has no such method.
    assert_eq!(status(&mesh, "stranger", "DELETE", url), 405);
    wait("the kernel's rules", || !echoes(&mesh, "friend", &echo, 4001));
    assert!(echoes(&mesh, "friend", &echo, 4000));
    assert!(echoes(&mesh, "stranger", &echo, 4001));
    assert_eq!(query(&mesh, "friend", "elsewhere.example.org"), "5");
    assert_eq!(query(&mesh, "friend", "ratings.default.svc.cluster.local"), "0");
    if outside.is_none() {
        return skip("this host has no network");
    }
    // The address alone is nobody's; once the name was asked for, it is, and stays so.
    assert_eq!(greeting(&mesh, "friend", &name, port), "none");
    assert_eq!(query(&mesh, "friend", &name), "0");
    assert_eq!(greeting(&mesh, "friend", &name, port), "got welcome");
    assert_eq!(greeting(&mesh, "friend", &name, port + 1), "none");
    let restarts = || mesh.workloads("friend")[0]["proxy"]["restarts"].clone();
    let before = restarts();
    // Names are written soon, not at once.
    std::thread::sleep(std::time::Duration::from_secs(1));
    kill_own(&mesh, "/friend-0 ");
    wait("another proxy", || restarts() != before);
    wait("names that outlive it", || greeting(&mesh, "friend", &name, port) == "got welcome");
}
