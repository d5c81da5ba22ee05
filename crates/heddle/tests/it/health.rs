//! Machines outside of the mesh that proxies ask themselves whether they are well: the probe of a WorkloadGroup.

use std::fmt::Write as _;

use heddle_testkit::{Mesh, wait};
use serde_json::json;

use crate::{client, mesh};

/// Two replicas without proxy stand for machines.
const MACHINES: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: machine}
spec:
  replicas: 2
  selector: {matchLabels: {app: machine}}
  template:
    metadata: {labels: {app: machine, sidecar.istio.io/inject: "false"}}
    spec:
      containers:
        - name: ratings
          command: [heddle, sample, serve, ratings, --version, v1, --port, "9080"]
          readinessProbe: {httpGet: {path: /health, port: 9080}, periodSeconds: 1}
---
"#;

const GROUP: &str = r"
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: vm}
spec:
  metadata: {labels: {app: vm}}
  template: {serviceAccount: default}
  probe:
    periodSeconds: 1
    failureThreshold: 2
    httpGet: {path: /ratings/1, port: 9080}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm}
spec:
  hosts: [vm.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, targetPort: 9080, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: vm}}
---
";

fn statuses(mesh: &Mesh) -> serde_json::Value {
    let url = "http://vm.example.com/ratings/1";
    mesh.load("client", &["--count", "20", "--connections", "4", url])["statuses"].clone()
}

/// From now on the machine answers with a status; 0: as it should.
fn set(mesh: &Mesh, machine: &str, status: u16) {
    let url = format!("http://127.0.0.1:9080/failing/{status}");
    let told = mesh.load(machine, &["--count", "1", "-X", "PUT", &url]);
    assert_eq!(told["statuses"], json!({"200": 1}), "{told}");
}

#[test]
fn machines_that_fail_their_probe_get_no_requests_until_they_are_well() {
    let mesh = mesh();
    mesh.up(&[MACHINES.to_owned(), client("client")].concat());
    let mut entries = GROUP.to_owned();
    for (number, machine) in mesh.workloads("machine").iter().enumerate() {
        let address = machine["addresses"][0].as_str().unwrap();
        write!(
            entries,
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm-{number}}}\n\
             spec: {{address: {address}, labels: {{app: vm}}}}\n---\n"
        )
        .unwrap();
    }
    mesh.apply(&entries);
    let fine = json!({"200": 20});
    let only = json!({"503": 20});
    assert_eq!(statuses(&mesh), fine);
    set(&mesh, "machine-0", 500);
    wait("the first machine is left alone", || statuses(&mesh) == fine);
    // The other way round: the first must be back before the second goes.
    set(&mesh, "machine-0", 0);
    set(&mesh, "machine-1", 500);
    wait("the first machine is back and the second left alone", || statuses(&mesh) == fine);
    set(&mesh, "machine-0", 500);
    wait("nobody is well", || statuses(&mesh) == only);
    // Without the probe nobody asks.
    let (begin, rest) = GROUP.split_once("  probe:").unwrap();
    let (_, end) = rest.split_once("---").unwrap();
    mesh.apply(&format!("{begin}---{end}"));
    assert_eq!(statuses(&mesh), json!({"500": 20}));
}
