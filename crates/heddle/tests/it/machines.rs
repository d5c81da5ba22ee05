//! Machines outside of the mesh's network: two network namespaces that stand for two hosts, with a cable between them.

use std::process::{Child, Command, Stdio};

use heddle_testkit::{Mesh, Running, has, skip, wait};
use rustix::process::Signal;

use crate::PROGRAM;
use crate::life::kill_own;

const CONTROL: &str = "192.0.2.1";
const MACHINE: &str = "192.0.2.2";

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: vm, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: details, namespace: shop}
spec: {selector: {app: details}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: details, namespace: shop}
spec:
  selector: {matchLabels: {app: details}}
  template:
    metadata: {labels: {app: details}}
    spec:
      containers:
        - name: details
          command: [heddle, sample, serve, details]
          readinessProbe: {httpGet: {path: /health, port: 9080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: shop}
spec: {selector: {app: ratings}, ports: [{name: http, port: 80, targetPort: 9999}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: ratings, namespace: shop}
spec:
  metadata: {labels: {app: ratings}}
  template: {serviceAccount: vm, ports: {http: 9085}}
  probe: {httpGet: {port: 9085, path: /health}, periodSeconds: 1}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: details, namespace: shop}
spec:
  selector: {matchLabels: {app: details}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/vm]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ratings, namespace: shop}
spec:
  selector: {matchLabels: {app: ratings}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/shop/sa/default]}}]
      to: [{operation: {paths: [/ratings/*]}}]
";

/// Two hosts, as an ordinary user can make them: one user namespace, two network namespaces.
struct Hosts {
    holders: Vec<Child>,
}

impl Hosts {
    /// None where this machine cannot have them.
    fn new() -> Option<Self> {
        if !has(&["unshare", "nsenter", "ip", "sleep", "curl"]) {
            return None;
        }
        let holder = |words: &[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).args(["sleep", "infinity"]);
            command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let first = holder(&["unshare", "--user", "--map-root-user", "--net", "--mount"]);
        let mut hosts = Self { holders: vec![first] };
        if !hosts.is_apart(0) {
            skip("this machine forbids user namespaces");
            return None;
        }
        let enter = hosts.enter(0);
        let words: Vec<&str> =
            enter.iter().map(String::as_str).chain(["unshare", "--net"]).collect();
        hosts.holders.push(holder(&words));
        assert!(hosts.is_apart(1), "a second network namespace");
        let second = hosts.holders[1].id().to_string();
        for words in [
            vec!["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &second],
            vec!["addr", "add", "192.0.2.1/24", "dev", "cable"],
            vec!["link", "set", "cable", "up"],
            vec!["link", "set", "lo", "up"],
        ] {
            hosts.ip(0, &words);
        }
        for words in [
            vec!["addr", "add", "192.0.2.2/24", "dev", "cable"],
            vec!["link", "set", "cable", "up"],
            vec!["link", "set", "lo", "up"],
        ] {
            hosts.ip(1, &words);
        }
        Some(hosts)
    }

    /// Waits until a holder has a network of its own; false where it has ended instead.
    fn is_apart(&mut self, host: usize) -> bool {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let pid = self.holders[host].id().to_string();
        let before = match host {
            0 => of("self"),
            _ => of(&self.holders[0].id().to_string()),
        };
        let holder = &mut self.holders[host];
        let mut ended = false;
        wait("a namespace is made", || {
            ended = matches!(holder.try_wait(), Ok(Some(_)));
            let is_there = of(&pid) != before && of(&pid) != of("self");
            let sleeps = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            ended || (is_there && sleeps.is_ok_and(|name| name.trim() == "sleep"))
        });
        !ended
    }

    /// What a command on a host begins with.
    fn enter(&self, host: usize) -> Vec<String> {
        let pid = self.holders[host].id().to_string();
        ["nsenter", "--target", &pid, "--user", "--net", "--preserve-credentials"]
            .map(String::from)
            .to_vec()
    }

    fn ip(&self, host: usize, words: &[&str]) {
        let enter = self.enter(host);
        let done = Command::new(&enter[0]).args(&enter[1..]).arg("ip").args(words).status();
        assert!(done.unwrap().success(), "{words:?}");
    }

    /// A mesh, or a machine's part of one, on a host.
    fn mesh(&self, host: usize) -> Mesh {
        let enter = self.enter(host);
        let words: Vec<&str> = enter.iter().map(String::as_str).collect();
        Mesh::new(PROGRAM).through(&words)
    }

    /// Runs a command on a host: whether it succeeded, and what it printed.
    fn run(&self, host: usize, words: &[&str]) -> (bool, String) {
        let enter = self.enter(host);
        let done = Command::new(&enter[0]).args(&enter[1..]).args(words).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// A token for the machine, in a file, and the hash of the mesh's root.
fn token(mesh: &Mesh, more: &[&str]) -> (String, String) {
    let words = ["certs", "token", "create", "--for", "shop/vm", "-o", "json"];
    let words: Vec<&str> = words.iter().chain(more).copied().collect();
    let made = mesh.run(&words).json();
    let file = mesh.folder().join("token");
    std::fs::write(&file, made["token"].as_str().unwrap()).unwrap();
    assert_eq!(made["port"], format!("{CONTROL}:15012"));
    (file.display().to_string(), made["root"].as_str().unwrap().to_owned())
}

fn start_agent(machine: &Mesh, more: &[&str]) -> Running {
    let words = [
        "agent",
        "--control-plane",
        CONTROL,
        "--for",
        "shop/vm",
        "--workload-group",
        "ratings",
        "--address",
        MACHINE,
    ];
    let command = ["--", "heddle", "sample", "serve", "ratings", "--port", "9085"];
    let words: Vec<&str> = words.iter().chain(more).chain(&command).copied().collect();
    machine.start(&words)
}

fn logged(mesh: &Mesh, words: &str) -> bool {
    let folder = std::fs::read_dir(mesh.state().join("logs/control"));
    // A file for each run of the control plane.
    folder
        .into_iter()
        .flatten()
        .flatten()
        .any(|file| std::fs::read_to_string(file.path()).is_ok_and(|log| log.contains(words)))
}

/// How often the machine answers the mesh out of some requests.
fn answers(mesh: &Mesh, count: u64) -> u64 {
    let count = count.to_string();
    let summary = mesh.load("shop/details", &["--count", &count, "http://ratings/ratings/0"]);
    summary["statuses"]["200"].as_u64().unwrap_or(0)
}

#[test]
fn a_machine_elsewhere_is_a_part_of_the_mesh() {
    let Some(hosts) = Hosts::new() else { return };
    let (mesh, machine) = (hosts.mesh(0), hosts.mesh(1));
    mesh.run_with(&["up", "-d", "--join-listen", CONTROL, "-f", "-"], OBJECTS).success();
    let (token, root) = token(&mesh, &[]);

    // Attacks on the way in.
    let other = "00".repeat(32);
    for (more, why) in [
        (vec!["--ca-sha256", &*other, "--token-file", &*token], "no root of the hash"),
        (vec!["--token-file", &*token], "--ca-file or --ca-sha256"),
        (vec!["--ca-sha256", &*root], "a token"),
    ] {
        let refused = start_agent(&machine, &more).end();
        assert_eq!(refused.code, Some(1), "{refused:#?}");
        assert!(refused.stderr.contains(why), "{why}: {refused:#?}");
    }

    let trust = ["--ca-sha256", &*root, "--token-file", &*token];
    let agent = start_agent(&machine, &trust);
    wait("the machine is ready", || answers(&mesh, 1) == 1);
    // Both ways, by mutual TLS and policy on both sides.
    assert_eq!(answers(&mesh, 50), 50);
    let load = ["--count", "50", "http://details:9080/details/0"];
    let summary = machine.load("shop/ratings-192.0.2.2", &load);
    assert_eq!(summary["statuses"]["200"], 50, "{summary:#}");
    let denied = mesh.load("shop/details", &["--count", "3", "http://ratings/admin"]);
    assert_eq!(denied["statuses"]["403"], 3, "{denied:#}");
    let own = mesh.load("shop/details", &["--count", "3", "http://details:9080/details/0"]);
    assert_eq!(own["statuses"]["403"], 3, "only the machine may: {own:#}");
    // Around the proxy, from the other host: plaintext to its port is refused, and nothing else listens there.
    let (answered, body) =
        hosts.run(0, &["curl", "-s", "-m", "5", "http://192.0.2.2:9085/ratings/0"]);
    assert!(!answered, "{body}");

    // A token is good once, also for somebody else.
    let thief = hosts.mesh(1);
    let refused = start_agent(&thief, &trust).end();
    assert!(refused.stderr.contains("was used before"), "{refused:#?}");
    wait("who came second is in the log", || logged(&mesh, "a machine may not join"));

    // The root is replaced, the control plane is killed, the machine's part is started again without a token.
    mesh.must(&["certs", "--rotate-root"]);
    wait("the root is replaced", || {
        let told = mesh.run(&["certs", "-o", "json"]);
        told.code == Some(0) && {
            let certs = told.json();
            certs["rotation"]["stage"] == "steady" && certs["roots"][0]["id"] != *root
        }
    });
    assert_eq!(answers(&mesh, 20), 20);
    kill_own(&mesh, "internal control");
    assert_eq!(answers(&mesh, 20), 20, "what is held is enough");
    wait("the control plane is back", || mesh.run(&["certs"]).code == Some(0));
    assert_eq!(answers(&mesh, 20), 20);
    agent.signal(Signal::INT);
    let ended = agent.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    wait("nothing is sent to a machine that is away", || {
        let summary = mesh.load("shop/details", &["--count", "1", "http://ratings/ratings/0"]);
        summary["statuses"]["503"] == 1
    });
    let agent = start_agent(&machine, &[]);
    wait("the machine is back", || answers(&mesh, 1) == 1);

    // Somebody has stolen the machine.
    mesh.must(&["certs", "revoke", "--workload", "shop/ratings-192.0.2.2"]);
    wait("it is sent away", || agent.stderr().contains("does not answer this machine"));
    agent.signal(Signal::INT);
    drop(agent.end());
    wait("why is in the log", || logged(&mesh, "revoked"));
    // Its owner gets another token, with which it joins anew.
    let (another, root) = self::token(&mesh, &[]);
    let agent = start_agent(&machine, &["--ca-sha256", &root, "--token-file", &another]);
    wait("the machine has joined anew", || answers(&mesh, 1) == 1);
    agent.signal(Signal::INT);
    drop(agent.end());
    mesh.must(&["down"]);
}

#[test]
fn a_token_that_is_late_is_refused() {
    let Some(hosts) = Hosts::new() else { return };
    let (mesh, machine) = (hosts.mesh(0), hosts.mesh(1));
    mesh.run_with(&["up", "-d", "--join-listen", CONTROL, "-f", "-"], OBJECTS).success();
    let (token, root) = token(&mesh, &["--ttl", "1s"]);
    wait("it expires", || {
        mesh.run(&["certs", "-o", "json"]).json()["tokens"][0]["state"] == "expired"
    });
    let refused = start_agent(&machine, &["--ca-sha256", &root, "--token-file", &token]).end();
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains("expired"), "{refused:#?}");
    assert!(refused.stderr.contains("heddle certs token create"), "what to do: {refused:#?}");
}
