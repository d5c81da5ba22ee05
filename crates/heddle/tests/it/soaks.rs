//! Change after change under steady load, with nothing lost. Short here; `cargo xtask test --full` sets
//! `HEDDLE_TEST_FULL`, runs each for minutes and keeps the lines that they print.

use std::fmt::Write;
use std::time::{Duration, Instant};

use heddle_testkit::{Mesh, Running, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{client, mesh, sample};

const URL: &str = "http://ratings:9080/ratings/0";
/// Connections of the load: so many requests are under way at most.
const CONNECTIONS: u64 = 8;
/// Less than this says nothing.
const REQUESTS_MIN: u64 = 100;
const SUBSETS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings}
spec:
  host: ratings
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
---
";

/// The short number, or the long one where the long form is asked for.
fn pick<T>(short: T, long: T) -> T {
    if std::env::var_os("HEDDLE_TEST_FULL").is_some() { long } else { short }
}

fn application() -> String {
    let versions = ["v1", "v2"].map(|v| sample(&format!("ratings-{v}"), "ratings", v, 2));
    [versions.concat(), client("client")].concat()
}

/// A VirtualService that gives so many of a hundred requests to v1, and the rest to v2.
fn shares(first: u32) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: ratings}}
spec:
  hosts: [ratings]
  http:
    - route:
        - {{destination: {{host: ratings, subset: v1}}, weight: {first}}}
        - {{destination: {{host: ratings, subset: v2}}, weight: {}}}
---
",
        100 - first
    )
}

/// Load that goes on until [`end`].
fn begin(mesh: &Mesh) -> Running {
    let connections = CONNECTIONS.to_string();
    let load = mesh.start_load("client", &["--rate", "300", "--connections", &connections, URL]);
    wait("no traffic", || {
        let labels = [("reporter", "source"), ("response_code", "200")];
        mesh.metric("client", "istio_requests_total", &labels) > 50
    });
    load
}

/// Ends the load and says what became of it.
fn end(mesh: &Mesh, load: Running, what: &str) -> Value {
    // However fast the changes were: enough must have been under way to say something.
    wait("no traffic", || {
        let labels = [("reporter", "source"), ("response_code", "200")];
        mesh.metric("client", "istio_requests_total", &labels) > REQUESTS_MIN
    });
    load.signal(Signal::INT);
    let summary = load.end().json();
    // Past the capture of the test harness: this is what docs/test-full.md keeps.
    let line =
        format!("soak: {what}: {} requests, {} failed\n", summary["requests"], summary["failed"]);
    let _ = std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes());
    summary
}

/// The same where nothing may fail.
fn end_without_failure(mesh: &Mesh, load: Running, what: &str) {
    let summary = end(mesh, load, what);
    assert_eq!(summary["failed"], 0, "{what}: {summary:#}");
}

#[test]
fn routes_change_and_come_and_go_without_a_failed_request() {
    let mesh = mesh();
    mesh.up(&application());
    let rounds = pick(1, 15);
    let load = begin(&mesh);
    for _ in 0..rounds {
        // Both orders in one file, and one after the other.
        mesh.apply(&[shares(100), SUBSETS.to_owned()].concat());
        mesh.delete(&[shares(100), SUBSETS.to_owned()].concat());
        mesh.apply(&[SUBSETS.to_owned(), shares(100)].concat());
        mesh.delete(&shares(100));
        mesh.delete(SUBSETS);
        mesh.apply(SUBSETS);
        mesh.apply(&shares(100));
    }
    let what = format!("DestinationRule before and after its VirtualService, {rounds} rounds");
    end_without_failure(&mesh, load, &what);

    let load = begin(&mesh);
    for _ in 0..rounds {
        for first in [90, 75, 50, 25, 0, 100] {
            mesh.apply(&shares(first));
        }
    }
    end_without_failure(&mesh, load, &format!("canary and rollback, {rounds} rounds"));

    let load = begin(&mesh);
    for round in 0..rounds * 4 {
        mesh.apply(&shares(if round % 2 == 0 { 0 } else { 100 }));
    }
    end_without_failure(&mesh, load, &format!("blue/green, {} cutovers", rounds * 4));
}

#[test]
fn ten_changes_a_second_fail_no_request() {
    let mesh = mesh();
    mesh.up(&application());
    mesh.apply(&[SUBSETS.to_owned(), shares(50)].concat());
    let load = begin(&mesh);
    let length = Duration::from_secs(pick(5, 60));
    let begun = Instant::now();
    // Several at a time, so that a slow machine does not make less of them.
    let appliers = 4;
    let (mut changes, mut slowest) = (0, Duration::ZERO);
    let apply = |first: u32| {
        let (mut own, mut slowest) = (0_u32, Duration::ZERO);
        loop {
            let number = first + own * appliers;
            let due = Duration::from_millis(100) * number;
            if due.max(begun.elapsed()) >= length {
                return (own, slowest);
            }
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            let started = Instant::now();
            let changed = mesh.run_with(&["apply", "-f", "-"], &shares(number % 101));
            assert_eq!(changed.code, Some(0), "{changed:#?}");
            slowest = slowest.max(started.elapsed());
            own += 1;
        }
    };
    let apply = &apply;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..appliers).map(|first| scope.spawn(move || apply(first))).collect();
        for thread in threads {
            let (own, slow) = thread.join().unwrap();
            changes += own;
            slowest = slowest.max(slow);
        }
    });
    mesh.apply(&shares(0));
    let seconds = begun.elapsed().as_secs();
    let mut what = format!("{changes} changes in {seconds} s");
    let _ = write!(what, " (the slowest took {} ms)", slowest.as_millis());
    end_without_failure(&mesh, load, &what);
    let after = mesh.load("client", &["--count", "50", URL]);
    let names = after["versions"].as_object().unwrap();
    assert!(names.keys().all(|name| name.contains("v2")), "the last change counts: {after:#}");
}

#[test]
fn every_replica_is_restarted_without_a_failed_request() {
    let mesh = mesh();
    mesh.up(&application());
    let rounds = pick(1, 5);
    let load = begin(&mesh);
    for round in 0..rounds {
        let changed =
            application().replace("version: v1}}", &format!("version: v1, r: r{round}}}}}"));
        let changed = changed.replace("version: v2}}", &format!("version: v2, r: r{round}}}}}"));
        let before: Vec<Value> = uids(&mesh);
        mesh.up(&selectors_of(&changed, round));
        let after = uids(&mesh);
        assert_eq!((before.len(), after.len()), (4, 4), "{after:?}");
        assert!(before.iter().all(|uid| !after.contains(uid)), "{before:?} {after:?}");
    }
    end_without_failure(&mesh, load, &format!("rolling restart of 4 replicas, {rounds} rounds"));
}

/// Only the template changes, not what the Deployment selects.
fn selectors_of(yaml: &str, round: u32) -> String {
    let mut text = String::new();
    for line in yaml.lines() {
        let line = if line.contains("matchLabels") {
            line.replace(&format!(", r: r{round}"), "")
        } else {
            line.to_owned()
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn uids(mesh: &Mesh) -> Vec<Value> {
    let owners = ["ratings-v1", "ratings-v2"].map(|owner| mesh.workloads(owner));
    owners.concat().iter().map(|workload| workload["uid"].clone()).collect()
}

#[test]
fn a_lost_endpoint_costs_at_most_what_was_under_way() {
    let mesh = mesh();
    mesh.up(&application());
    let rounds = pick(1, 10);
    let load = begin(&mesh);
    let mut killed = 0;
    for round in 0..rounds {
        let name = format!("ratings-v{}-{}", round % 2 + 1, round / 2 % 2);
        // The proxy first: nobody is left to say goodbye, and the application goes with its workload.
        killed += kill(&mesh, &format!("/{name} "));
        wait("the replica is not back", || {
            let all = mesh.workloads(&name);
            let restarts = all.first().and_then(|w| w["proxy"]["restarts"].as_u64());
            restarts > Some(0) && all[0]["ready"] == true
        });
    }
    let summary = end(
        &mesh,
        load,
        &format!("{rounds} proxies killed without drain, {CONNECTIONS} connections"),
    );
    let failed = summary["failed"].as_u64().unwrap();
    assert!(killed >= rounds && failed <= CONNECTIONS * u64::from(rounds), "{summary:#}");
}

/// Kills the proxies whose command line has these words.
fn kill(mesh: &Mesh, words: &str) -> u32 {
    let mut killed = 0;
    for process in mesh.processes() {
        if process.words.contains(" proxy ") && process.words.contains(words) {
            let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
            killed += 1;
        }
    }
    killed
}

#[test]
fn certificates_rotate_under_load() {
    let mesh = mesh();
    let lifetime = pick("6s", "10s");
    let up = ["up", "-d", "--certificate-lifetime", lifetime, "-f", "-"];
    mesh.run_with(&up, &application()).success();
    let serials = || {
        let certs = mesh.run(&["certs", "-o", "json"]).success().json();
        certs["certificates"].as_array().cloned().unwrap_or_default()
    };
    let begun = serials();
    let load = begin(&mesh);
    let length = Duration::from_secs(pick(8, 90));
    let until = Instant::now() + length;
    let mut seen = std::collections::BTreeSet::new();
    while Instant::now() < until {
        for leaf in serials() {
            seen.insert(format!("{}{}", leaf["workload"], leaf["not_after"]));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let what = format!("certificates of {lifetime}: {} seen in {} s", seen.len(), length.as_secs());
    end_without_failure(&mesh, load, &what);
    assert!(seen.len() >= begun.len() * 2, "none was renewed: {seen:?}");
}
