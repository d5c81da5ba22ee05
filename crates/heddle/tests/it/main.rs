//! The built program in real life: meshes of real processes with real clients, each in a state directory of its own.
//!
//! Nothing here needs root or a fixed port of the host. A test that lacks a program says so and passes, except where
//! `HEDDLE_TEST_NO_SKIPS` is set.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod attacks;
mod authz_rows;
mod bad_input;
mod certificates;
mod egress;
mod gateway_rows;
mod gateways;
mod health;
mod http_features;
mod istio_counts;
mod life;
mod machines;
mod ordinary_user;
mod policy;
mod published;
mod rate_limits;
mod real_clients;
mod real_servers;
mod resilience;
mod rollouts;
mod samples;
mod soaks;
mod tokens;
mod workload_api_source;

use heddle_testkit::Mesh;

/// The program that was built with these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_heddle");
/// The sample application.
const BOOKINFO: &str = include_str!("../../../../examples/bookinfo.yaml");

/// A mesh of that program.
fn mesh() -> Mesh {
    Mesh::new(PROGRAM)
}

/// A Deployment, its account and its Service with one port called `http`.
fn sample(name: &str, service: &str, version: &str, replicas: u32) -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {service}}}
spec:
  selector: {{app: {service}}}
  ports: [{{name: http, port: 9080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {service}, version: {version}}}}}
  template:
    metadata: {{labels: {{app: {service}, version: {version}}}}}
    spec:
      serviceAccountName: {name}
      containers:
        - name: {service}
          command: [heddle, sample, serve, {service}, --version, {version}, --port, \"9080\"]
          ports: [{{containerPort: 9080}}]
          readinessProbe: {{httpGet: {{path: /health, port: 9080}}, periodSeconds: 1}}
---
"
    )
}

/// A Deployment with an account of its own that only waits for commands.
fn client(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      serviceAccountName: {name}
      containers:
        - name: {name}
          command: [sleep, infinity]
---
"
    )
}
