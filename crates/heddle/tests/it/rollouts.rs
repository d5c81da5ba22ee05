//! What is replaced while it is used: replicas, roots; and what runs to its end.

use std::os::unix::fs::PermissionsExt;

use heddle_testkit::{Mesh, Running, wait};
use rustix::process::Signal;
use serde_json::Value;

use crate::{client, mesh, sample};

const URL: &str = "http://ratings:9080/ratings/0";

fn steady_load(mesh: &Mesh) -> Running {
    let load = mesh.start_load("client", &["--rate", "200", "--connections", "4", URL]);
    wait("no traffic", || {
        let labels = [("reporter", "destination"), ("response_code", "200")];
        mesh.metric("ratings-v1-0", "istio_requests_total", &labels) > 20
    });
    load
}

fn nothing_failed(load: Running) -> Value {
    load.signal(Signal::INT);
    let summary = load.end().json();
    assert_eq!(summary["failed"], 0, "{summary:#}");
    assert!(summary["requests"].as_u64().unwrap() > 50, "{summary:#}");
    summary
}

#[test]
fn a_single_replica_is_replaced_under_load_without_a_failed_request() {
    let mesh = mesh();
    let first = sample("ratings-v1", "ratings", "v1", 1);
    mesh.up(&[first.clone(), client("client")].concat());
    let load = steady_load(&mesh);
    for round in 0..2 {
        let label = format!("version: v1, round: r{round}}}}}\n    spec");
        let template = first.replace("version: v1}}\n    spec", &label);
        assert_ne!(template, first);
        let before = mesh.workloads("ratings-v1")[0]["uid"].clone();
        // `up` returns when everything is as it shall be.
        mesh.up(&template);
        let after = mesh.workloads("ratings-v1");
        assert_eq!((after.len(), &after[0]["name"]), (1, &"ratings-v1-0".into()), "{after:#?}");
        assert_ne!(after[0]["uid"], before);
    }
    let summary = nothing_failed(load);
    let replicas = summary["replicas"].as_object().unwrap();
    assert!(replicas.contains_key("ratings-v1-0-next"), "{summary:#}");
}

#[test]
fn two_roots_are_replaced_one_after_the_other_under_load() {
    let mesh = mesh();
    mesh.up(&[sample("ratings-v1", "ratings", "v1", 1), client("client")].concat());
    let load = steady_load(&mesh);
    let certs = || mesh.run(&["certs", "-o", "json"]).success().json();
    let mut signer = certs()["roots"][0]["id"].clone();
    for _ in 0..2 {
        mesh.must(&["certs", "--rotate-root"]);
        // Certificates live for a day: only what the proxies confirm can end this.
        wait("the rotation does not end", || certs()["rotation"]["stage"] == "steady");
        let now = certs();
        assert_eq!(now["roots"].as_array().unwrap().len(), 1, "{now:#}");
        assert_ne!(now["roots"][0]["id"], signer);
        signer = now["roots"][0]["id"].clone();
        let leaves = now["certificates"].as_array().unwrap();
        assert_eq!(leaves.len(), 2, "{now:#}");
        assert!(leaves.iter().all(|leaf| leaf["issuer"] == signer), "{now:#}");
    }
    let root = signer.as_str().unwrap();
    let refused = mesh.run(&["certs", "--retire-root", root]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    let shown = mesh.must(&["certs"]);
    assert!(shown.contains("spiffe://cluster.local/ns/default/sa/ratings-v1"), "{shown}");
    nothing_failed(load);
}

#[test]
fn a_job_beside_its_files_runs_to_its_end() {
    let mesh = mesh();
    let folder = mesh.folder().join("app");
    std::fs::create_dir(&folder).unwrap();
    let script = folder.join("work.sh");
    std::fs::write(&script, "#!/bin/sh\necho number $JOB_COMPLETION_INDEX in $PWD\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let yaml = "
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  completions: 2
  completionMode: Indexed
  template:
    spec: {restartPolicy: Never, containers: [{name: work, command: [./work.sh]}]}
";
    let file = folder.join("job.yaml");
    std::fs::write(&file, yaml).unwrap();
    mesh.must(&["up", "-d", "-f", &file.display().to_string()]);
    wait("the job does not end", || {
        let jobs = mesh.must(&["get", "job", "work", "-o", "json"]);
        jobs.contains("\"Complete\"")
    });
    let logs = mesh.must(&["logs", "work-1"]);
    assert_eq!(logs, format!("number 1 in {}\n", folder.display()));
}
