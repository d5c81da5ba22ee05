//! Ways in and out beside the proxies of workloads: ports of the host, gateways that heddle runs, and workloads without a
//! proxy.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use heddle_testkit::{LONG, Mesh, wait, wait_for};

use crate::{client, mesh, sample};

/// Ports that are free now. They are drawn together, so that they differ.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The status of the answer to a request from the host; none: there is no answer.
fn get(port: u16, host: &str, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// The ports of the host that the workloads of an owner have: asked for, and open.
fn ports(mesh: &Mesh, owner: &str) -> Vec<(u64, u64)> {
    let all = mesh.workloads(owner);
    let published = all.iter().flat_map(|w| w["published"].as_array().cloned().unwrap_or_default());
    let number = |port: &serde_json::Value, field: &str| port[field].as_u64().unwrap_or(0);
    published.map(|port| (number(&port, "wanted_port"), number(&port, "host_port"))).collect()
}

fn service(name: &str, kind: &str, port: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: {kind}
  selector: {{app: details}}
  ports: [{{name: http, {port}, targetPort: 9080}}]
---
"
    )
}

#[test]
fn services_publish_their_ports() {
    let [balanced, node, taken] = free_ports();
    let mesh = mesh();
    let yaml = [
        sample("details", "details", "v1", 2),
        service("front", "LoadBalancer", &format!("port: {balanced}")),
        service("node", "NodePort", &format!("port: 80, nodePort: {node}")),
        service("again", "LoadBalancer", &format!("port: {balanced}")),
    ];
    mesh.up(&yaml.concat());
    for port in [balanced, node] {
        assert_eq!(get(port, "any", "/details/0"), Some(200), "port {port}");
    }
    let ports = ports(&mesh, "details-0");
    let of_again: Vec<&(u64, u64)> =
        ports.iter().filter(|(wanted, _)| *wanted == u64::from(balanced)).collect();
    assert_eq!(of_again.len(), 2, "{ports:?}");
    let other = of_again.iter().find(|(_, open)| *open != u64::from(balanced));
    let (_, other) = other.unwrap_or_else(|| panic!("both have one port: {ports:?}"));
    assert_eq!(get(u16::try_from(*other).unwrap(), "any", "/details/0"), Some(200));

    let _held = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let more = service("busy", "LoadBalancer", &format!("port: {taken}"));
    mesh.apply(&more);
    // The supervisor opens it a moment later.
    let told = wait_for(LONG, || {
        let status = mesh.run(&["status"]).stdout;
        status.contains("default/busy").then_some(status)
    });
    let told = told.unwrap_or_default();
    assert!(told.contains(&format!("port {taken} of 127.0.0.1")), "{told}");
    assert!(told.contains("is taken by another program"), "{told}");
    assert_eq!(get(balanced, "any", "/details/0"), Some(200), "the rest goes on");
    let again = mesh.run_with(&["up", "-d", "-f", "-"], &more);
    assert_eq!(again.code, Some(1), "{again:#?}");
    assert!(again.stderr.contains(&format!("port {taken}")), "{again:#?}");
}

#[test]
fn a_gateway_has_a_workload_and_its_listeners_have_ports() {
    let [istio, api] = free_ports();
    let mesh = mesh();
    let gateways = format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: front}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {istio}, name: http, protocol: HTTP}}, hosts: [shop.example]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: front}}
spec:
  hosts: [shop.example]
  gateways: [front]
  http:
    - match: [{{uri: {{prefix: /details}}}}]
      route: [{{destination: {{host: details}}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: api}}
spec:
  gatewayClassName: heddle
  listeners: [{{name: http, port: {api}, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: api}}
spec:
  parentRefs: [{{name: api}}]
  rules: [{{backendRefs: [{{name: details, port: 9080}}]}}]
---
"
    );
    let yaml = [sample("details", "details", "v1", 1), client("client"), gateways.clone()];
    mesh.up(&yaml.concat());
    let open = |port: u16| vec![(u64::from(port), u64::from(port))];
    assert_eq!(ports(&mesh, "istio-ingressgateway"), open(istio));
    assert_eq!(ports(&mesh, "api-heddle"), open(api));
    let certs = mesh.must(&["certs"]);
    assert!(certs.contains("spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway"));
    requests(&mesh, istio, api);

    // Another listener restarts nobody, and what no Gateway asks for any more goes.
    let before = mesh.workloads("istio-ingressgateway")[0]["uid"].clone();
    let [more] = free_ports();
    mesh.apply(&gateways.replace(&istio.to_string(), &more.to_string()));
    mesh.until("istio-ingressgateway", "the listener did not move", |_| {
        ports(&mesh, "istio-ingressgateway") == open(more)
    });
    assert_eq!(mesh.workloads("istio-ingressgateway")[0]["uid"], before);
    mesh.delete(&gateways);
    mesh.until("api-heddle", "its workload stays", <[_]>::is_empty);
}

/// Real requests from the host.
fn requests(mesh: &Mesh, istio: u16, api: u16) {
    let came = wait_for(LONG, || (get(istio, "shop.example", "/details/0")? == 200).then_some(()));
    assert!(came.is_some(), "no answer through the gateway");
    assert_eq!(get(istio, "shop.example", "/elsewhere"), Some(404), "no route");
    assert_eq!(get(istio, "other.example", "/details/0"), Some(404), "no such host");
    assert_eq!(get(api, "any.example", "/details/0"), Some(200));
    let labels = [
        ("reporter", "destination"),
        ("source_principal", "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway"),
        ("connection_security_policy", "mutual_tls"),
    ];
    assert_eq!(mesh.metric("details", "istio_requests_total", &labels), 1);
}

/// A client, or a server of details, without a proxy.
fn plain(name: &str, command: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}, sidecar.istio.io/inject: \"false\"}}}}
    spec: {{containers: [{{name: {name}, command: {command}}}]}}
---
"
    )
}

#[test]
fn a_workload_without_a_proxy_reaches_services_at_their_ports() {
    let mesh = mesh();
    // Another port than the one that the pods listen on.
    let shifted = service("shifted", "ClusterIP", "port: 8000");
    let yaml =
        [sample("details", "details", "v1", 2), shifted, plain("legacy", "[sleep, infinity]")];
    mesh.up(&yaml.concat());
    let url = "http://shifted:8000/details/0";
    let one_by_one = ["--count", "40", "--close", url];
    let summary = mesh.load("legacy", &one_by_one);
    assert_eq!(summary["statuses"]["200"], 40, "{summary:#}");
    assert_eq!(summary["replicas"].as_object().unwrap().len(), 2, "both replicas: {summary:#}");
    // Replicas come and go.
    mesh.up(&sample("details", "details", "v1", 1));
    wait("a replica that is gone is still called", || {
        let summary = mesh.load("legacy", &["--count", "5", "--close", url]);
        summary["statuses"]["200"] == 5 && summary["replicas"].as_object().unwrap().len() == 1
    });
}

#[test]
fn what_leaves_the_mesh_goes_through_an_egress_gateway() {
    let mesh = mesh();
    let serve = "[heddle, sample, serve, details, --port, '9080']";
    mesh.up(&[plain("outside", serve), client("client")].concat());
    let outside = mesh.workloads("outside")[0]["addresses"][0].as_str().unwrap().to_owned();
    mesh.apply(&format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: outside}}
spec:
  hosts: [outside.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 9080}}]
  endpoints: [{{address: {outside}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress}}
spec:
  selector: {{istio: egressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [outside.example]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: outside}}
spec:
  hosts: [outside.example]
  gateways: [mesh, egress]
  http:
    - match: [{{gateways: [mesh], port: 80}}]
      route: [{{destination: {{host: istio-egressgateway.istio-system.svc.cluster.local, port: {{number: 80}}}}}}]
    - match: [{{gateways: [egress], port: 80}}]
      route: [{{destination: {{host: outside.example, port: {{number: 80}}}}}}]
"
    ));
    mesh.until("istio-egressgateway", "it does not get ready", |all| {
        all.first().is_some_and(|workload| workload["ready"] == true)
    });
    assert!(ports(&mesh, "istio-egressgateway").is_empty(), "nothing leads in");
    wait("nothing comes out", || {
        mesh.load("client", &["--count", "1", "http://outside.example/details/0"])["statuses"]["200"]
            == 1
    });
    let labels = [("source_workload", "istio-egressgateway"), ("response_code", "200")];
    let gateway = "istio-system/istio-egressgateway-0";
    assert!(mesh.metric(gateway, "istio_requests_total", &labels) >= 1);
}
