//! From the first process to the last.

use std::net::TcpListener;
use std::time::Duration;

use heddle_testkit::{LONG, Mesh, Process, Running, wait, wait_for};
use rustix::process::Signal;
use serde_json::Value;

use crate::{client, mesh, sample};

const URL: &str = "http://ratings:9080/ratings/0";

fn application(replicas: u32) -> String {
    [sample("ratings", "ratings", "v1", replicas), client("client")].concat()
}

fn one_request_works(mesh: &Mesh) {
    let summary = mesh.load("client", &["--count", "1", URL]);
    assert_eq!(summary["statuses"]["200"], 1, "{summary:#}");
}

/// `heddle up` in the foreground, ready.
fn up_in_the_foreground(mesh: &Mesh, yaml: &str) -> Running {
    let mut up = Running::start(mesh.command(&["up", "-f", "-"]), yaml);
    wait("`heddle up` is not ready", || {
        assert!(up.runs(), "{}{}", up.stdout(), up.stderr());
        up.stdout().contains("Ctrl-C")
    });
    up
}

fn all_gone(processes: &[Process]) {
    let left = || processes.iter().filter(|process| process.runs()).collect::<Vec<_>>();
    let gone = wait_for(LONG, || left().is_empty().then_some(()));
    assert!(gone.is_some(), "still there: {:#?}", left());
}

#[test]
fn neither_an_interrupt_nor_a_kill_leaves_a_process() {
    let mesh = mesh();
    let up = up_in_the_foreground(&mesh, &application(1));
    one_request_works(&mesh);
    let processes = mesh.processes();
    // The supervisor, the control plane, two proxies, and two workloads with an init each.
    assert!(processes.len() >= 6, "{processes:#?}");
    up.signal(Signal::INT);
    let ended = up.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    all_gone(&processes);

    // Without files: the objects are still there.
    let up = Running::start(mesh.command(&["up", "-f", "-"]), &client("another"));
    mesh_is_ready(&mesh, "ratings");
    let processes = mesh.processes();
    assert!(processes.len() >= 6, "{processes:#?}");
    up.signal(Signal::KILL);
    up.end();
    all_gone(&processes);
    mesh.up("");
    mesh_is_ready(&mesh, "ratings");
    mesh_is_ready(&mesh, "another");
    one_request_works(&mesh);
}

fn mesh_is_ready(mesh: &Mesh, owner: &str) {
    let ready = |status: &Value| {
        let workloads = status["processes"]["workloads"].as_array();
        workloads.is_some_and(|all| all.iter().any(|w| w["owner"] == owner && w["ready"] == true))
    };
    wait("the mesh is not ready", || {
        let told = mesh.run(&["status", "-o", "json"]);
        told.code == Some(0) && ready(&told.json())
    });
}

#[test]
fn a_second_up_joins_and_objects_outlive_down() {
    let mesh = mesh();
    mesh.up(&sample("ratings", "ratings", "v1", 1));
    let again = mesh.up(&client("client"));
    assert!(again.stdout.contains("runs already"), "{again:#?}");
    mesh_is_ready(&mesh, "client");
    one_request_works(&mesh);
    let processes = mesh.processes();
    mesh.must(&["down"]);
    all_gone(&processes);
    assert_eq!(mesh.run(&["status"]).code, Some(1));
    mesh.up("");
    mesh_is_ready(&mesh, "client");
    mesh_is_ready(&mesh, "ratings");
    let kept = mesh.must(&["get", "deployment"]);
    assert!(kept.contains("ratings") && kept.contains("client"), "{kept}");
    one_request_works(&mesh);
}

#[test]
fn requests_go_on_without_a_control_plane_and_a_killed_proxy_comes_back() {
    let mesh = mesh();
    mesh.up(&application(1));
    one_request_works(&mesh);
    let load = mesh.start_load("client", &["--rate", "200", "--connections", "4", URL]);
    let restarts = |status: &Value| status["processes"]["control"]["restarts"].as_u64().unwrap();
    let before = restarts(&mesh.status());
    kill_own(&mesh, "internal control");
    wait("the control plane is not back", || {
        let status = mesh.status();
        restarts(&status) > before && status["processes"]["control"]["ready"] == true
    });
    mesh.apply(&client("another"));
    load.signal(Signal::INT);
    let summary = load.end().json();
    assert_eq!(summary["failed"], 0, "{summary:#}");
    assert!(summary["requests"].as_u64().unwrap() > 20, "{summary:#}");

    let proxy_restarts = |all: &[Value]| all[0]["proxy"]["restarts"].as_u64().unwrap_or(0);
    kill_own(&mesh, "/ratings-0 ");
    mesh.until("ratings", "its proxy does not come back", |all| {
        all.len() == 1 && proxy_restarts(all) > 0 && all[0]["ready"] == true
    });
    wait("requests do not work again", || {
        mesh.load("client", &["--count", "1", URL])["statuses"]["200"] == 1
    });
}

/// Kills the process of the mesh that is heddle's own and has these words on its command line.
pub(crate) fn kill_own(mesh: &Mesh, words: &str) {
    let processes = mesh.processes();
    let mut found = processes.iter().filter(|process| {
        let own = process.words.contains(" proxy ") || process.words.contains(" internal ");
        own && process.words.contains(words)
    });
    let process = found.next().unwrap_or_else(|| panic!("no {words:?} among {processes:#?}"));
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

const TROUBLED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: crashing}
spec:
  selector: {matchLabels: {app: crashing}}
  template:
    metadata: {labels: {app: crashing}}
    spec:
      containers: [{name: crashing, command: [sh, -c, "echo about to crash; exit 3"]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gated}
spec:
  selector: {matchLabels: {app: gated}}
  template:
    metadata: {labels: {app: gated}}
    spec:
      containers:
        - name: gated
          command: [heddle, sample, serve, details, --port, "9080"]
          ports: [{containerPort: 9080}]
          readinessProbe: {exec: {command: [test, -e, /dev/shm/open]}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: gated}
spec:
  selector: {app: gated}
  ports: [{name: http, port: 9080}]
"#;

#[test]
fn trouble_of_one_is_told_and_does_not_touch_the_rest() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let publishing = format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: published}}
spec:
  selector: {{matchLabels: {{app: published}}}}
  template:
    metadata: {{labels: {{app: published}}}}
    spec:
      containers:
        - name: published
          command: [heddle, sample, serve, details, --port, \"9080\"]
          ports: [{{containerPort: 9080, hostPort: {port}, hostIP: 127.0.0.1}}]
---"
    );
    let mesh = mesh();
    let up = mesh.run_with(
        &["up", "-d", "--timeout", "3s", "-f", "-"],
        &[application(1), publishing, TROUBLED.to_owned()].concat(),
    );
    assert_eq!(up.code, Some(1), "what never gets ready is a failure: {up:#?}");
    assert!(up.stderr.contains("crashing"), "{up:#?}");
    one_request_works(&mesh);
    mesh.until("published", "the taken port is not told", |all| {
        let error = all[0]["published"][0]["error"].as_str().unwrap_or("");
        error.contains("use") || error.contains("taken")
    });
    crashes(&mesh);
    gates(&mesh);
    exec_and_logs(&mesh);
}

fn crashes(mesh: &Mesh) {
    mesh.until("crashing", "no back-off", |all| {
        let container = &all[0]["containers"][0];
        let message = container["message"].as_str().unwrap_or("");
        container["phase"] == "back-off"
            && container["exit_code"] == 3
            && container["restarts"].as_u64() >= Some(2)
            && message.contains("started again in 4s")
    });
    assert!(mesh.must(&["logs", "crashing"]).contains("about to crash"));
    let status = mesh.run(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("backoff"), "{status:#?}");
}

/// Readiness decides who gets requests.
fn gates(mesh: &Mesh) {
    let ask = || mesh.load("client", &["--count", "1", "http://gated:9080/details/0"]);
    assert_eq!(ask()["statuses"]["503"], 1, "nobody is ready");
    mesh.exec("gated", &["touch", "/dev/shm/open"]).success();
    wait("no request after it is ready", || ask()["statuses"]["200"] == 1);
    mesh.exec("gated", &["rm", "/dev/shm/open"]).success();
    wait("requests though it is not ready", || ask()["statuses"]["503"] == 1);
}

fn exec_and_logs(mesh: &Mesh) {
    for code in [0, 7, 255] {
        let ended =
            mesh.exec("client", &["sh", "-c", &format!("echo out; echo err >&2; exit {code}")]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), "out\n"), "{ended:#?}");
        assert_eq!(ended.stderr, "err\n");
    }
    let missing = mesh.exec("client", &["no-such-program"]);
    assert!(
        missing.code == Some(127) && missing.stderr.contains("no-such-program"),
        "{missing:#?}"
    );
    let no_program = mesh.exec("client", &["/etc/passwd"]);
    assert_eq!(no_program.code, Some(126), "{no_program:#?}");
    let nobody = mesh.exec("nobody", &["true"]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("client"), "{nobody:#?}");
    let follow = mesh.start(&["logs", "crashing", "--follow", "--tail", "1"]);
    wait("logs are not followed", || follow.stdout().contains("about to crash"));
    follow.signal(Signal::INT);
    follow.end_within(Duration::from_secs(10));
}

#[test]
fn replicas_of_a_stateful_set_have_names_of_their_own() {
    let set = "
apiVersion: v1
kind: Service
metadata: {name: shards}
spec: {clusterIP: None, selector: {app: shards}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: shard}
spec:
  serviceName: shards
  replicas: 2
  selector: {matchLabels: {app: shards}}
  template:
    metadata: {labels: {app: shards}}
    spec:
      containers:
        - name: shard
          command: [sh, -c, 'exec heddle sample serve ratings --port 9080 --version $HOSTNAME']
          readinessProbe: {tcpSocket: {port: 9080}, periodSeconds: 1}
---
";
    let mesh = mesh();
    mesh.up(&[set, &client("client")].concat());
    let addresses = |name: &str| -> Vec<String> {
        let told = mesh.exec("client", &["getent", "ahostsv4", name]);
        let lines = told.stdout.lines().filter_map(|line| line.split_whitespace().next());
        let mut found: Vec<String> = lines.map(str::to_owned).collect();
        found.sort();
        found.dedup();
        found
    };
    let (first, second) = (addresses("shard-0.shards"), addresses("shard-1.shards.default.svc"));
    assert_eq!((first.len(), second.len()), (1, 1), "{first:?} {second:?}");
    assert_ne!(first, second);
    let mut both = [first, second].concat();
    both.sort();
    assert_eq!(addresses("shards"), both);
    assert!(addresses("shard-2.shards").is_empty());
    for shard in ["shard-0", "shard-1"] {
        let url = format!("http://{shard}.shards:9080/ratings/0");
        let answer = mesh.load("client", &["--count", "20", &url]);
        assert_eq!(answer["statuses"]["200"], 20, "{answer:#}");
        assert_eq!(answer["versions"][format!("ratings-{shard}")], 20, "{answer:#}");
    }
}
