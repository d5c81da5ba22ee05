//! Limits that are counted for many proxies: documents as Istio's task has them with heddle counting, and a service of the
//! user's own.

use heddle_testkit::{Mesh, skip};
use serde_json::Value;

use crate::{client, mesh, sample};

const LIMITS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: ratelimit-config}
data:
  config.yaml: |
    domain: ratings-ratelimit
    descriptors:
      - key: PATH
        value: "/ratings/7"
        rate_limit:
          unit: day
          requests_per_unit: 3
      - key: PATH
        rate_limit:
          unit: day
          requests_per_unit: 100
---
"#;

/// As the task pastes it, for the proxies beside a workload.
const FILTERS: &str = r#"
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: filter-ratelimit
spec:
  workloadSelector:
    labels:
      app: ratings
  configPatches:
    - applyTo: HTTP_FILTER
      match:
        context: SIDECAR_INBOUND
        listener:
          filterChain:
            filter:
              name: "envoy.filters.network.http_connection_manager"
              subFilter:
                name: "envoy.filters.http.router"
      patch:
        operation: INSERT_BEFORE
        value:
          name: envoy.filters.http.ratelimit
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
            domain: ratings-ratelimit
            failure_mode_deny: true
            timeout: 10s
            enable_x_ratelimit_headers: DRAFT_VERSION_03
            rate_limit_service:
              grpc_service:
                envoy_grpc:
                  cluster_name: outbound|8081||ratelimit.default.svc.cluster.local
                  authority: ratelimit.default.svc.cluster.local
              transport_api_version: V3
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: filter-ratelimit-svc
spec:
  workloadSelector:
    labels:
      app: ratings
  configPatches:
    - applyTo: VIRTUAL_HOST
      match:
        context: SIDECAR_INBOUND
        routeConfiguration:
          vhost:
            name: "inbound|http|9080"
            route:
              action: ANY
      patch:
        operation: MERGE
        value:
          rate_limits:
            - actions:
                - request_headers:
                    header_name: ":path"
                    descriptor_key: "PATH"
---
"#;

/// How many of some requests had each status.
fn statuses(mesh: &Mesh, count: u32, url: &str) -> Value {
    let count = count.to_string();
    mesh.load("client", &["--count", &count, "--connections", "4", url])["statuses"].clone()
}

#[test]
fn heddle_counts_for_all_replicas_where_no_service_does() {
    let mesh = mesh();
    let told =
        mesh.up(&[&*sample("ratings", "ratings", "v1", 2), &client("client"), LIMITS].concat());
    assert!(!told.stderr.contains("HED0440"), "{}", told.stderr);
    mesh.apply(FILTERS);
    let seven = "http://ratings:9080/ratings/7";
    let statuses_of_seven = statuses(&mesh, 20, seven);
    assert_eq!(statuses_of_seven, serde_json::json!({"200": 3, "429": 17}), "of both replicas");
    // Each value has a counter of its own.
    let other = statuses(&mesh, 10, "http://ratings:9080/ratings/8");
    assert_eq!(other, serde_json::json!({"200": 10}));
    let curl = |url: &str| mesh.exec("client", &["curl", "-si", url]).stdout.to_ascii_lowercase();
    let refused = curl(seven);
    for line in ["http/1.1 429", "x-envoy-ratelimited: true", "x-ratelimit-limit: 3, 3;w=86400"] {
        assert!(refused.contains(line), "{line}: {refused}");
    }
    assert!(curl("http://ratings:9080/ratings/8").contains("x-ratelimit-remaining: 89"));
    let labels = [("response_code", "429"), ("response_flags", "RL"), ("reporter", "destination")];
    let of_both = |name: &str, labels: &[(&str, &str)]| {
        mesh.metric("ratings-0", name, labels) + mesh.metric("ratings-1", name, labels)
    };
    assert_eq!(of_both("istio_requests_total", &labels), 18);
    let over = [("domain", "ratings-ratelimit"), ("outcome", "over_limit")];
    assert_eq!(of_both("heddle_rate_limit_requests_total", &over), 18);
    // Other numbers hold at once, and what was counted stays.
    mesh.apply(&LIMITS.replace("requests_per_unit: 3", "requests_per_unit: 25"));
    let more = statuses(&mesh, 10, seven);
    assert_eq!(more, serde_json::json!({"200": 4, "429": 6}), "21 were counted before");
    mesh.delete(FILTERS);
    assert_eq!(statuses(&mesh, 10, seven), serde_json::json!({"200": 10}));
}

const GATEWAY: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{name: all, route: [{destination: {host: ratings, port: {number: 9080}}}]}]
---
"#;

#[test]
fn a_gateway_asks_for_its_routes() {
    let mesh = mesh();
    let all = [&*sample("ratings", "ratings", "v1", 1), &client("client"), LIMITS, GATEWAY];
    mesh.up(&all.concat());
    let filters = FILTERS
        .replace("app: ratings", "istio: ingressgateway")
        .replace("SIDECAR_INBOUND", "GATEWAY")
        .replace(
            "metadata:\n  name: filter",
            "metadata:\n  namespace: istio-system\n  name: filter",
        );
    let edge = "http://istio-ingressgateway.istio-system/ratings/7";
    mesh.apply(&filters.replace("inbound|http|9080", "*:81"));
    assert_eq!(statuses(&mesh, 10, edge), serde_json::json!({"200": 10}), "another port");
    mesh.apply(&filters.replace("inbound|http|9080", "*:80"));
    assert_eq!(statuses(&mesh, 10, edge), serde_json::json!({"200": 3, "429": 7}));
    // The way inside has no limit.
    let inside = "http://ratings:9080/ratings/7";
    assert_eq!(statuses(&mesh, 10, inside), serde_json::json!({"200": 10}));
    let of_route = filters
        .replace("inbound|http|9080", "*:80")
        .replace("VIRTUAL_HOST", "HTTP_ROUTE")
        .replace("action: ANY", "name: NAME")
        .replace("          rate_limits:", "          route:\n           rate_limits:");
    mesh.apply(&of_route.replace("NAME\n", "other\n"));
    assert_eq!(statuses(&mesh, 5, edge), serde_json::json!({"200": 5}), "another route");
    mesh.apply(&of_route.replace("NAME\n", "all\n"));
    assert_eq!(statuses(&mesh, 5, edge), serde_json::json!({"429": 5}));
}

/// A service of Envoy's protocol: over the limit is what has `over` in its path.
const SERVICE: &str = r"
apiVersion: v1
kind: Service
metadata: {name: ratelimit}
spec:
  selector: {app: ratelimit}
  ports: [{name: grpc-port, port: 8081}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ratelimit}
spec:
  selector: {matchLabels: {app: ratelimit}}
  template:
    metadata: {labels: {app: ratelimit}}
    spec:
      containers:
        - name: ratelimit
          command:
            - PYTHON
            - -c
            - |
              import concurrent.futures, grpc
              def decide(question, context):
                  assert b'ratings-ratelimit' in question, question
                  return b'\x08\x02' if b'over' in question else b'\x08\x01'
              handlers = {'ShouldRateLimit': grpc.unary_unary_rpc_method_handler(decide)}
              name = 'envoy.service.ratelimit.v3.RateLimitService'
              server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
              server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
              server.add_insecure_port('0.0.0.0:8081')
              server.start()
              server.wait_for_termination()
          readinessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1}
---
";

#[test]
fn a_service_of_the_users_own_is_asked_and_its_absence_counts() {
    let python = std::path::absolute(crate::real_clients::PYTHON).unwrap();
    if !python.is_file() {
        return skip("there is no target/test-venv with the packages of requirements.txt");
    }
    let mesh = mesh();
    let service = SERVICE.replace("PYTHON", &python.display().to_string());
    let all = [&*sample("ratings", "ratings", "v1", 1), &client("client"), LIMITS, &service];
    mesh.up(&all.concat());
    mesh.apply(FILTERS);
    let url = "http://ratings:9080/ratings/7";
    assert_eq!(statuses(&mesh, 10, url), serde_json::json!({"200": 10}), "it has no limits");
    assert_eq!(statuses(&mesh, 5, &format!("{url}?over")), serde_json::json!({"429": 5}));
    // It is there in name, and nobody answers.
    mesh.apply(&service.replace("name: ratelimit}}", "name: other}}").replace(
        "metadata: {name: ratelimit}\nspec:\n  selector: {matchLabels",
        "metadata: {name: ratelimit}\nspec:\n  replicas: 0\n  selector: {matchLabels",
    ));
    assert_eq!(statuses(&mesh, 5, url), serde_json::json!({"500": 5}), "failure_mode_deny");
    let labels = [("response_code", "500"), ("response_flags", "RLSE")];
    assert_eq!(mesh.metric("ratings", "istio_requests_total", &labels), 5);
    mesh.apply(&FILTERS.replace("failure_mode_deny: true", "failure_mode_deny: false"));
    assert_eq!(statuses(&mesh, 5, url), serde_json::json!({"200": 5}));
}
