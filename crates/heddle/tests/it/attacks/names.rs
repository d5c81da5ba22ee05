//! Names that a hostile resolver gives: they count for what was asked, and open nothing that policies on names did not mean.

use std::process::Command;

use heddle_testkit::{Mesh, Running, has, skip, wait};

use super::{VICTIM, addresses, records, scripted};
use crate::{client, mesh};

const RESOLVER: &str = include_str!("resolver.py");
/// The victim's address in a mesh of its own: the first that is given out.
const REBOUND: &str = "10.244.0.10";

/// What the friend may connect to, by names alone; and the rogue resolver beside it.
const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: friend}
spec:
  endpointSelector: {matchLabels: {app: friend}}
  egress:
    - toFQDNs: [{matchPattern: "*.example.com"}]
      toPorts: [{ports: [{port: "7000", protocol: TCP}, {port: "8080", protocol: TCP}]}]
    - toFQDNs: [{matchName: target.test}]
      toPorts: [{ports: [{port: "7001", protocol: TCP}]}]
    - toEndpoints: [{matchLabels: {app: rogue}}]
    - toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]
      toPorts:
        - ports: [{port: "53", protocol: ANY}]
          rules: {dns: [{matchPattern: "**.example.com"}]}
"#;

/// A network namespace in which the only resolver lies, and the addresses that it names.
fn hostile_host(mesh: &Mesh) -> Option<Running> {
    if !has(&["unshare", "nsenter", "ip", "mount", "python3", "sh"]) {
        return None;
    }
    let (resolv, script) = (mesh.folder().join("resolv.conf"), mesh.folder().join("resolver.py"));
    std::fs::write(&resolv, "nameserver 127.0.0.53\noptions timeout:2 attempts:2\n").unwrap();
    std::fs::write(&script, RESOLVER).unwrap();
    let setup = "ip link set lo up && for a in 1 66 67; do ip addr add 198.51.100.$a/32 dev lo; done && \
                 mount --bind \"$0\" /etc/resolv.conf && exec python3 -u \"$1\" 127.0.0.53 53 \"$2\" greet";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c", setup]);
    command.args([resolv.as_os_str(), script.as_os_str()]).arg(REBOUND);
    let mut host = Running::start(command, "");
    let mut is_up = false;
    wait("a host of its own", || {
        is_up = host.stdout().contains("resolving");
        is_up || !host.runs()
    });
    if !is_up {
        skip(&format!("no namespaces: {}", host.stderr()));
        return None;
    }
    Some(host)
}

/// `heddle up` on that host.
fn up(mesh: &Mesh, host: &Running, yaml: &str) {
    let inner = mesh.command(&["up", "-d", "-f", "-"]);
    let mut command = Command::new("nsenter");
    let pid = host.pid().to_string();
    command.args(["-t", &pid, "-U", "-m", "-n", "--preserve-credentials"]);
    command.arg(inner.get_program()).args(inner.get_args());
    for (key, value) in inner.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    Running::start(command, yaml).end().success();
}

/// Asks a name server for a name, as a datagram: the code of the answer and the address in it, `-` for none.
fn query(mesh: &Mesh, server: (&str, u16), name: &str) -> String {
    let program = format!(
        "import socket\nq=b'\\x00\\x07\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00'\n\
         for l in '{name}'.split('.'): q+=bytes([len(l)])+l.encode()\n\
         q+=b'\\x00\\x00\\x01\\x00\\x01'\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
         s.settimeout(10)\ns.sendto(q,('{}',{}))\nd=s.recv(512)\n\
         print(d[3]&15, socket.inet_ntoa(d[-4:]) if d[7] else '-')",
        server.0, server.1
    );
    mesh.exec("friend", &["python3", "-c", &program]).success().stdout.trim().to_owned()
}

/// Whether somebody answers the friend there.
fn reaches(mesh: &Mesh, address: &str, port: u16) -> bool {
    let program = format!(
        "import socket\ntry:\n s=socket.create_connection(('{address}',{port}),5)\n s.settimeout(3)\n \
         s.sendall(b'GET / HTTP/1.1\\r\\nHost: {address}\\r\\n\\r\\n')\n print(b'welcome' in s.recv(999))\n\
         except OSError as e:\n print(False)"
    );
    mesh.exec("friend", &["python3", "-c", &program]).success().stdout.trim() == "True"
}

#[test]
fn answers_for_names_that_were_never_asked_open_nothing() {
    let mesh = mesh();
    let Some(host) = hostile_host(&mesh) else { return };
    // The victim comes first by its name, and so gets the first address.
    let rogue = scripted("rogue", RESOLVER)
        .replace("run.py]", "run.py, 0.0.0.0, \"5353\", \"198.51.100.66\"]");
    up(&mesh, &host, &[scripted("alpha", VICTIM), rogue, client("friend")].concat());
    wait("the rogue", || mesh.must(&["logs", "rogue"]).contains("resolving"));
    assert_eq!(addresses(&mesh, "alpha")[0], REBOUND);
    mesh.apply(POLICY);
    let own = ("10.244.0.1", 53);
    let (right, wrong, alias) = ("198.51.100.1", "198.51.100.66", "198.51.100.67");
    assert!(!reaches(&mesh, right, 7000), "nobody has asked for its name");

    // An address in an answer counts for what was asked; what is besides in the message is no answer.
    assert_eq!(query(&mesh, own, "right.example.com"), format!("0 {right}"));
    assert!(reaches(&mesh, right, 7000));
    assert!(!reaches(&mesh, right, 7001), "another port");
    assert!(!reaches(&mesh, wrong, 7000), "a record that came along");
    for name in ["wrong-number", "wrong-source", "wrong-question"] {
        let answer = query(&mesh, own, &format!("{name}.example.com"));
        assert!(!answer.contains(wrong), "{name}: {answer}");
        assert!(!reaches(&mesh, wrong, 7000), "{name}");
    }
    assert!(!query(&mesh, own, "stray.example.com").contains(wrong));
    assert!(!reaches(&mesh, wrong, 7000), "a record of another name");
    // Of a chain of names only the one that was asked for is the workload's.
    assert_eq!(query(&mesh, own, "alias.example.com"), format!("0 {alias}"));
    assert!(reaches(&mesh, alias, 7000));
    assert!(!reaches(&mesh, alias, 7001), "a name in the middle of a chain");
    // A name outside that is said to be an address inside opens nothing inside.
    assert_eq!(query(&mesh, own, "rebound.example.com"), format!("0 {REBOUND}"));
    assert!(!reaches(&mesh, REBOUND, 8080), "an address of the mesh");
    // Names that may not be asked for are not asked for.
    assert_eq!(query(&mesh, own, "target.test"), "5 -");

    // A resolver that the workload asks by itself teaches the proxy nothing; and on the port of names only the proxy answers.
    let rogue = &addresses(&mesh, "rogue")[0];
    assert_eq!(query(&mesh, (rogue, 5353), "lie.example.com"), format!("0 {wrong}"));
    assert!(!reaches(&mesh, wrong, 7000), "what a rogue resolver said");
    assert_eq!(query(&mesh, (rogue, 53), "right.example.com"), format!("0 {right}"));
    assert!(!reaches(&mesh, wrong, 7000));
    is_recorded(&mesh);
}

/// Whoever asked for what was not allowed is in the audit log, with where to and the policy that has no rule for it.
fn is_recorded(mesh: &Mesh) {
    let friend = "spiffe://cluster.local/ns/default/sa/friend";
    let found = |what: &str, is: &dyn Fn(&serde_json::Value) -> bool| {
        wait(what, || {
            records(mesh, "friend").iter().any(|record| {
                record["decision"] == "deny"
                    && record["direction"] == "outbound"
                    && record["identity"] == friend
                    && record["rule"]["name"] == "friend"
                    && record["rule"]["line"].is_u64()
                    && is(record)
            })
        });
    };
    found("an address under a name, on another port", &|record| {
        record["by"] == "egress"
            && record["destination"] == "198.51.100.1:7001"
            && record["host"].as_str().is_some_and(|host| host.contains("right.example.com"))
    });
    found("an address that has no name", &|record| {
        record["by"] == "egress"
            && record["destination"] == "198.51.100.66:7000"
            && record["request"]["method"] == "GET"
    });
    found("a name", &|record| record["by"] == "name" && record["host"] == "target.test");
}
