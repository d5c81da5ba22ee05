//! What whoever goes around a proxy, or lies to it, gets: nothing, and a record of the audit log.
//!
//! Lies about identities, tokens and the framing of requests are told in `heddle-proxy`'s own tests; `docs/threat-model.md`
//! lists all.

mod names;

use heddle_testkit::{Mesh, has, wait};
use serde_json::Value;

use crate::{client, mesh};

const VICTIM: &str = include_str!("attacks/victim.py");
const ATTACKER: &str = include_str!("attacks/attacker.py");

/// A script in a ConfigMap, and a Deployment that runs it.
fn scripted(name: &str, script: &str) -> String {
    let script = script.replace('\n', "\n    ");
    format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}-script}}
data:
  run.py: |
    {script}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: {name}
          command: [python3, -u, /srv/heddle-test/run.py]
          ports: [{{containerPort: 8080}}]
          volumeMounts: [{{name: script, mountPath: /srv/heddle-test}}]
      volumes:
        - name: script
          configMap: {{name: {name}-script}}
---
"
    )
}

/// A workload without a proxy.
const OUTSIDER: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: outsider}
spec:
  selector: {matchLabels: {app: outsider}}
  template:
    metadata: {labels: {app: outsider, sidecar.istio.io/inject: "false"}}
    spec:
      containers: [{name: outsider, command: [sleep, infinity]}]
---
"#;

/// The friend may ask the declared port and send datagrams; nobody else may do anything.
const POLICIES: &str = r#"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: friends}
spec:
  selector: {matchLabels: {app: victim}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/default/sa/friend]}}]
      to: [{operation: {ports: ["8080"]}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: datagrams}
spec:
  endpointSelector: {matchLabels: {app: victim}}
  ingress:
    - fromEntities: [all]
      toPorts: [{ports: [{port: "1", endPort: 65535, protocol: TCP}]}]
    - fromEndpoints: [{matchLabels: {app: friend}}]
      toPorts: [{ports: [{port: "5000", protocol: UDP}]}]
"#;

const GET: &str = "GET / HTTP/1.1\\r\\nHost: victim:8080\\r\\n\\r\\n";

/// Runs attempts in a workload: what came back for each, `nothing` where nothing did.
fn attempts(mesh: &Mesh, workload: &str, lines: &[String]) -> Vec<String> {
    let mut command = vec!["python3", "-c", ATTACKER];
    command.extend(lines.iter().map(String::as_str));
    let told = mesh.exec(workload, &command).success();
    let answers: Vec<String> = told.stdout.lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), lines.len(), "{told:?}");
    answers
}

/// The addresses of a workload: of IPv4, then of IPv6.
fn addresses(mesh: &Mesh, owner: &str) -> Vec<String> {
    let workloads = mesh.workloads(owner);
    let addresses = workloads[0]["addresses"].as_array().unwrap();
    addresses.iter().map(|address| address.as_str().unwrap().to_owned()).collect()
}

/// What has reached the victim.
fn reached(mesh: &Mesh) -> Vec<String> {
    let log = mesh.must(&["logs", "victim"]);
    log.lines().filter(|line| line.contains("REACHED")).map(str::to_owned).collect()
}

/// What the proxy of a workload has written into its audit log.
fn records(mesh: &Mesh, workload: &str) -> Vec<Value> {
    let log = mesh.must(&["logs", workload, "-c", "proxy"]);
    let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|record| record["event"] == "authorization").collect()
}

/// Every port that something behind the proxy, or the proxy itself, listens on, asked in several tongues.
fn around(victim: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for address in victim {
        for port in [8080, 8090, 8091] {
            lines.push(format!("tcp {address} {port} {GET}"));
        }
        // The proxy's own listeners, which must not lead to where the interception leads.
        for port in [15001, 15006, 15008] {
            lines.push(format!("tcp {address} {port} {GET}"));
            for inner in ["127.0.0.1:8091", "[::1]:8091", "127.0.0.1:8080"] {
                lines.push(format!(
                    "tcp {address} {port} CONNECT {inner} HTTP/1.1\\r\\nHost: {inner}\\r\\n\\r\\n"
                ));
                lines.push(format!(
                    "tcp {address} {port} GET http://{inner}/ HTTP/1.1\\r\\nHost: {inner}\\r\\n\\r\\n"
                ));
            }
        }
    }
    lines
}

#[test]
fn nothing_reaches_an_application_around_its_proxy() {
    if !has(&["python3"]) {
        return;
    }
    let mesh = mesh();
    let all = [scripted("victim", VICTIM), client("friend"), client("stranger"), OUTSIDER.into()];
    mesh.up(&all.concat());
    wait("the victim", || mesh.must(&["logs", "victim"]).contains("listening"));
    mesh.apply(POLICIES);
    let victim = addresses(&mesh, "victim");
    assert_eq!(victim.len(), 2, "an address of each family: {victim:?}");
    let datagrams = || victim.iter().map(|address| format!("udp {address} 5000 x"));

    // What is allowed is allowed, so that what follows proves something.
    let allowed = victim.iter().map(|address| format!("tcp {address} 8080 {GET}"));
    let allowed: Vec<String> = allowed.chain(datagrams()).collect();
    wait("the friend's way", || {
        attempts(&mesh, "friend", &allowed).iter().all(|answer| answer.contains("welcome"))
    });
    wait("the kernel's rules", || {
        let sent: Vec<String> = datagrams().collect();
        attempts(&mesh, "outsider", &sent).iter().all(|answer| answer == "nothing")
    });

    let before = reached(&mesh).len();
    let mut lines = around(&victim);
    lines.extend(datagrams());
    // An address of IPv4 that is written as one of IPv6.
    lines.push(format!("tcp ::ffff:{} 8080 {GET}", victim[0]));
    for attacker in ["stranger", "outsider"] {
        for (line, answer) in lines.iter().zip(attempts(&mesh, attacker, &lines)) {
            let refusals = ["nothing", "b'HTTP/1.1 4", "b'HTTP/1.1 5"];
            let is_refused = refusals.iter().any(|refusal| answer.starts_with(refusal));
            assert!(is_refused, "{attacker}: {line}: {answer}");
        }
    }
    // The friend may ask one port, and that is all.
    let elsewhere: Vec<String> =
        around(&victim).into_iter().filter(|line| !line.contains(" 8080 GET")).collect();
    for (line, answer) in elsewhere.iter().zip(attempts(&mesh, "friend", &elsewhere)) {
        assert!(!answer.contains("welcome"), "friend: {line}: {answer}");
    }
    from_the_nodes_namespace(&mesh, &lines);
    from_the_host(&victim);
    let after = reached(&mesh);
    assert_eq!(after.len(), before, "{:#?}", &after[before..]);
    is_recorded(&mesh);
}

/// From where the supervisor of the workloads stands, as somebody with its privileges.
fn from_the_nodes_namespace(mesh: &Mesh, lines: &[String]) {
    if !has(&["nsenter"]) {
        return;
    }
    let own = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let host = own(std::process::id());
    let processes = mesh.processes();
    let supervisor = processes.iter().find(|process| {
        process.words.contains("internal mesh")
            && own(process.pid).is_some_and(|of| Some(of) != host)
    });
    let pid = supervisor.expect("a supervisor in a namespace of its own").pid.to_string();
    let mut command = std::process::Command::new("nsenter");
    command.args(["-t", &pid, "-U", "-n", "--preserve-credentials", "python3", "-c", ATTACKER]);
    let told = heddle_testkit::Running::start(
        {
            command.args(lines);
            command
        },
        "",
    )
    .end()
    .success();
    for (line, answer) in lines.iter().zip(told.stdout.lines()) {
        assert!(!answer.contains("welcome"), "the node: {line}: {answer}");
    }
}

/// The host has no way in at all; whoever answers there, it is not the victim.
fn from_the_host(victim: &[String]) {
    for address in victim {
        let address = std::net::SocketAddr::new(address.parse().unwrap(), 8080);
        let within = std::time::Duration::from_millis(500);
        if let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, within) {
            let _ =
                std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: victim\r\n\r\n");
        }
    }
}

/// Each kind of attempt has left a record that says who and why.
fn is_recorded(mesh: &Mesh) {
    let found = |what: &str, is: &dyn Fn(&Value) -> bool| {
        wait(what, || {
            records(mesh, "victim").iter().any(|record| record["decision"] == "deny" && is(record))
        });
    };
    found("plaintext to STRICT", &|record| {
        record["by"] == "mutual-tls"
            && record["transport"] == "plaintext"
            && record["rule"]["kind"] == "PeerAuthentication"
    });
    found("a stranger with a certificate", &|record| {
        record["by"] == "authorization"
            && record["identity"] == "spiffe://cluster.local/ns/default/sa/stranger"
            && record["rule"]["name"] == "friends"
            && record["rule"]["line"].is_u64()
    });
    let outsider = addresses(mesh, "outsider").remove(0);
    found("a datagram, which the kernel has dropped", &|record| {
        record["by"] == "packets"
            && record["transport"] == "udp"
            && record["count"].as_u64() > Some(0)
            && record["source"].as_str().is_some_and(|from| from.starts_with(&outsider))
            && record["destination"].as_str().is_some_and(|to| to.ends_with(":5000"))
            && record["rule"]["name"] == "datagrams"
            && record["rule"]["line"].is_u64()
    });
    let policy = "CiliumNetworkPolicy/default/datagrams";
    let labels = [("direction", "inbound"), ("policy", policy)];
    assert!(mesh.metric("victim", "heddle_packets_denied_total", &labels) > 0);
    found("a port that nobody declared", &|record| {
        record["destination"].as_str().is_some_and(|to| to.ends_with(":8090"))
    });
}

#[test]
fn what_listens_on_the_loopback_and_the_name_server_are_the_workloads_alone() {
    if !has(&["python3"]) {
        return;
    }
    let mesh = mesh();
    mesh.up(&[scripted("victim", VICTIM), client("friend"), OUTSIDER.into()].concat());
    wait("the victim", || mesh.must(&["logs", "victim"]).contains("listening"));
    let victim = addresses(&mesh, "victim");
    // No policy at all: what keeps these out is how the proxy delivers.
    let lines: Vec<String> = around(&victim)
        .into_iter()
        .filter(|line| !line.contains("809") || line.contains("8091"))
        .collect();
    // A question for `localhost`, as a datagram and with its length as on a connection.
    let question = "\\x00\\x07\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x09localhost\\x00\\x00\\x01\\x00\\x01";
    let questions = victim.iter().flat_map(|address| {
        [53, 15053].into_iter().flat_map(move |port| {
            [
                format!("udp {address} {port} {question}"),
                format!("tcp {address} {port} \\x00\\x1b{question}"),
            ]
        })
    });
    let questions: Vec<String> = questions.collect();
    for attacker in ["outsider", "friend"] {
        attempts(&mesh, attacker, &lines);
        let found = reached(&mesh);
        let loopback: Vec<&String> =
            found.iter().filter(|line| line.contains("loopback")).collect();
        assert!(loopback.is_empty(), "{attacker}: {loopback:#?}");
    }
    for (line, answer) in questions.iter().zip(attempts(&mesh, "outsider", &questions)) {
        assert_eq!(answer, "nothing", "{line}");
    }
    // The victim itself is answered, so that the questions are ones that would be.
    let own = format!("udp 10.244.0.1 53 {question}");
    assert_ne!(attempts(&mesh, "victim", &[own]), ["nothing"]);
}
