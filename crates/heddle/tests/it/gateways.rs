//! Gateways at work: external authorisers of routes, ports that a Service maps, trailers, every mode of TLS, and networks
//! outside of the mesh with routes of their own.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use heddle_testkit::{Mesh, has, skip, wait};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::Value;

use crate::{client, mesh};

/// A server that tells what it got, one that lets pass who says `ok`, and one of gRPC that lets pass who says `allow`.
fn servers() -> String {
    let script = include_str!("gateways_server.py").replace('\n', "\n    ");
    let authorizer = serde_json::to_string(&crate::authz_rows::played_command()).unwrap();
    let deployment = |name: &str, command: &str, port: u16| {
        format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: app
        command: {command}
        env: [{{name: HEDDLE_TEST_PART, value: authorizer}}]
        readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}
        volumeMounts: [{{name: script, mountPath: /srv/heddle-test}}]
      volumes: [{{name: script, configMap: {{name: script}}}}]
---
"
        )
    };
    let python = |part: &str| format!("[python3, -u, /srv/heddle-test/server.py, {part}]");
    [
        format!(
            "
apiVersion: v1
kind: ConfigMap
metadata: {{name: script}}
data:
  server.py: |
    {script}
---
apiVersion: v1
kind: Service
metadata: {{name: app}}
spec: {{selector: {{app: app}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: doorman}}
spec: {{selector: {{app: doorman}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: nobody}}
spec: {{selector: {{app: nobody}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: grpc-doorman}}
spec: {{selector: {{app: grpc-doorman}}, ports: [{{name: grpc, port: 9000}}]}}
---
"
        ),
        deployment("app", &python("app"), 8080),
        deployment("doorman", &python("doorman"), 8080),
        deployment("grpc-doorman", &authorizer, 9000),
        client("client"),
    ]
    .concat()
}

const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: heddle
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: asked}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {value: /http}}]
    filters:
    - type: ExternalAuth
      externalAuth:
        protocol: HTTP
        backendRef: {name: doorman, port: 80}
        forwardBody: {maxSize: 16}
        http: {path: /check, allowedHeaders: [X-Said], allowedResponseHeaders: [X-User]}
    backendRefs: [{name: app, port: 80}]
  - matches: [{path: {value: /grpc}}]
    filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {}, backendRef: {name: grpc-doorman, port: 9000}}}]
    backendRefs: [{name: app, port: 80}]
  - matches: [{path: {value: /nobody}}]
    filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: nobody, port: 80}}}]
    backendRefs: [{name: app, port: 80}]
  - matches: [{path: {value: /plain}}]
    backendRefs: [{name: app, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: extended}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {value: /extension}}]
    filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Special, name: one}}]
    backendRefs: [{name: app, port: 80}]
---
# Inside of the mesh, by the client's own proxy.
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: inside}
spec:
  parentRefs: [{group: \"\", kind: Service, name: app}]
  rules:
  - filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: doorman, port: 80}}}]
    backendRefs: [{name: app, port: 80}]
---
";

/// What curl says of a request: the status, the head of the answer and its body.
struct Told {
    status: u16,
    head: String,
    body: String,
}

fn curl(words: &[&str]) -> Told {
    let told = std::process::Command::new("curl")
        .args(["-sS", "-i", "--max-time", "20"])
        .args(words)
        .output()
        .unwrap();
    told_of(&String::from_utf8_lossy(&told.stdout), &String::from_utf8_lossy(&told.stderr))
}

fn told_of(stdout: &str, stderr: &str) -> Told {
    let mut rest = stdout;
    // Interim answers come before the last.
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if status >= 200 {
            return Told { status, head: head.to_owned(), body: after.to_owned() };
        }
        rest = after;
    }
    Told { status: 0, head: String::new(), body: stderr.to_owned() }
}

/// Where a port of a Service is on this machine.
fn place(mesh: &Mesh, workload: &str, port: u64) -> String {
    let all = mesh.workloads(workload);
    let published = all.iter().flat_map(|one| one["published"].as_array().unwrap().clone());
    let mut published = published.filter(|one| one["wanted_port"] == port);
    let port = published.find_map(|one| one["host_port"].as_u64()).unwrap();
    format!("{}:{port}", mesh.loopback())
}

#[test]
fn routes_ask_external_authorisers() {
    if !has(&["curl", "python3"]) {
        return;
    }
    let mesh = mesh();
    mesh.up_alone(&[servers(), ROUTES.to_owned()].concat());
    let edge = place(&mesh, "edge-heddle-0", 80);
    let url = |path: &str| format!("http://{edge}{path}");
    wait("the routes are there", || curl(&[&url("/plain")]).status == 200);

    let refused = curl(&[&url("/http/a"), "-H", "Authorization: no"]);
    assert_eq!((refused.status, &*refused.body), (401, "not you\n"), "{}", refused.head);
    assert!(refused.head.contains("www-authenticate: Test"), "{}", refused.head);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let headers = ["-H", "authorization: ok", "-H", "x-said: hello", "-H", "x-other: no"];
        let told =
            curl(&[&[version, "-d", "a body", &*url("/http/a?b=c")][..], &headers[..]].concat());
        assert_eq!(told.status, 200, "{version} {}", told.body);
        let told: Value = serde_json::from_str(&told.body).unwrap();
        assert_eq!((&told["body"], &told["target"]), (&"a body".into(), &"/http/a?b=c".into()));
        assert_eq!(told["headers"]["x-user"], "POST /check/http/a?b=c hello None a body", "{told}");
        assert_eq!(told["headers"]["x-hidden"], Value::Null, "{told}");
        let long = [version, "-d", "more than sixteen bytes", "-H", "authorization: ok"];
        assert_eq!(curl(&[&long[..], &[&*url("/http")][..]].concat()).status, 413, "{version}");
    }
    assert_eq!(curl(&[&url("/grpc"), "-H", "x-ext-authz: allow"]).status, 200);
    assert_eq!(curl(&[&url("/grpc"), "-H", "x-ext-authz: deny"]).status, 403);
    assert_eq!(curl(&[&url("/grpc"), "--http2-prior-knowledge"]).status, 403);
    assert_eq!(curl(&[&url("/nobody")]).status, 403, "nobody answers");

    // What nobody knows is an error, and is told.
    assert_eq!(curl(&[&url("/extension")]).status, 500);
    let status = mesh.must(&["get", "httproute", "extended", "-o", "yaml"]);
    let resolved = status.split("lastTransitionTime").find(|part| part.contains("ResolvedRefs"));
    let resolved = resolved.unwrap();
    assert!(resolved.contains("\"False\"") && resolved.contains("InvalidKind"), "{status}");

    // Inside of the mesh too.
    let ask = |words: &[&str]| {
        let words = [&["curl", "-sS", "-i", "http://app/inside"][..], words].concat();
        let told = mesh.exec("client", &words);
        told_of(&told.stdout, &told.stderr)
    };
    assert_eq!(ask(&["-H", "authorization: no"]).status, 401);
    let told = ask(&["-H", "authorization: ok"]);
    let told: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(told["headers"]["x-hidden"], "all", "all headers are copied: {told}");

    // Trailers from behind an HTTP/1 endpoint reach HTTP/2 clients.
    let told = curl(&["--http2-prior-knowledge", "-H", "te: trailers", &url("/plain/trailers")]);
    let all = format!("{}{}", told.head, told.body);
    assert!(told.status == 200 && all.contains("x-sum: 7"), "{all}");
}

/// An authority and a certificate of it, in files.
fn certificate(folder: &Path, name: &str, host: &str) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![host.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let write = |kind: &str, text: String| {
        std::fs::write(folder.join(format!("{name}.{kind}")), text).unwrap();
    };
    write("ca", issuer.pem());
    write("crt", leaf.pem());
    write("key", key.serialize_pem());
}

/// Gateways of Istio's with each mode of TLS. The Service maps their ports.
fn istio(folder: &Path) -> String {
    let read = |file: &str| STANDARD.encode(std::fs::read(folder.join(file)).unwrap());
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: istio-system}}
---
apiVersion: v1
kind: Secret
metadata: {{name: web, namespace: istio-system}}
type: kubernetes.io/tls
data: {{tls.crt: {crt}, tls.key: {key}, ca.crt: {ca}}}
---
apiVersion: v1
kind: Service
metadata: {{name: istio-ingressgateway, namespace: istio-system}}
spec:
  type: LoadBalancer
  selector: {{istio: ingressgateway}}
  ports:
  - {{name: http2, port: 80, targetPort: 8080}}
  - {{name: https, port: 443, targetPort: 8443}}
  - {{name: https-mutual, port: 444, targetPort: 8444}}
  - {{name: tls, port: 445, targetPort: 8445}}
  - {{name: tcp-cross, port: 15443}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: istio-ingressgateway, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  template:
    metadata: {{labels: {{istio: ingressgateway}}}}
    spec: {{containers: [{{name: istio-proxy, image: auto}}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: web}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}
  - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [web.example], tls: {{mode: SIMPLE, credentialName: web}}}}
  - {{port: {{number: 444, name: mutual, protocol: HTTPS}}, hosts: [web.example], tls: {{mode: MUTUAL, credentialName: web}}}}
  - {{port: {{number: 445, name: tls, protocol: TLS}}, hosts: [own.example], tls: {{mode: PASSTHROUGH}}}}
  - {{port: {{number: 15443, name: cross, protocol: TLS}}, hosts: ['*.local'], tls: {{mode: AUTO_PASSTHROUGH}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web}}
spec:
  hosts: ['*']
  gateways: [web]
  http:
  - match: [{{uri: {{prefix: /moved}}}}]
    redirect: {{derivePort: FROM_REQUEST_PORT, uri: /there}}
  - route: [{{destination: {{host: app, port: {{number: 80}}}}}}]
  tls:
  - match: [{{port: 445, sniHosts: [own.example]}}]
    route: [{{destination: {{host: own, port: {{number: 443}}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: own}}
spec: {{selector: {{app: app}}, ports: [{{name: tls, port: 443, targetPort: 8443}}]}}
---
# From another network, a proxy would name the service by the server name.
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: cross}}
spec:
  host: istio-ingressgateway.istio-system.svc.cluster.local
  trafficPolicy:
    portLevelSettings:
    - port: {{number: 15443}}
      tls:
        mode: ISTIO_MUTUAL
        sni: outbound_.80_._.app.default.svc.cluster.local
        subjectAltNames: ['spiffe://cluster.local/ns/default/sa/default']
---
",
        crt = read("web.crt"),
        key = read("web.key"),
        ca = read("clients.ca"),
    )
}

#[test]
fn every_mode_of_tls_of_istios_gateways_is_served() {
    if !has(&["curl", "python3"]) {
        return;
    }
    let mesh = mesh();
    let folder = mesh.folder().to_owned();
    certificate(&folder, "web", "web.example");
    certificate(&folder, "own", "own.example");
    certificate(&folder, "clients", "client.example");
    let own = servers().replace(
        "/srv/heddle-test/server.py, app]",
        &format!("/srv/heddle-test/server.py, app, {}]", folder.join("own").display()),
    );
    mesh.up_alone(&[own, istio(&folder)].concat());
    let at = |port: u64| place(&mesh, "istio-ingressgateway-0", port);
    let file = |name: &str| folder.join(name).display().to_string();
    let request = |host: &str, port: u64, words: &[&str]| {
        let to = at(port);
        let connect = format!("{host}:{port}:{to}");
        let url = format!("https://{host}:{port}/x");
        curl(&[&["--connect-to", &*connect, &*url][..], words].concat())
    };
    let ca = file("web.ca");
    wait("the gateway serves", || request("web.example", 443, &["--cacert", &ca]).status == 200);
    let simple = request("web.example", 443, &["--cacert", &ca, "--http1.1"]);
    assert_eq!(simple.status, 200, "{}", simple.body);
    assert_eq!(request("other.example", 443, &["-k"]).status, 0, "nobody has the name");

    let (cert, key) = (file("clients.crt"), file("clients.key"));
    let mutual = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let told = request("web.example", 444, &mutual);
    assert_eq!(told.status, 200, "{}", told.body);
    assert_eq!(request("web.example", 444, &["--cacert", &ca]).status, 0, "without a certificate");

    let told = request("own.example", 445, &["--cacert", &file("own.ca"), "--http1.1"]);
    assert_eq!(told.status, 200, "its own TLS, passed on: {}", told.body);
    assert_eq!(request("web.example", 445, &["-k"]).status, 0);

    // The port that clients call, not the one that the Service leads to.
    let moved = curl(&["-H", "host: web.example", &format!("http://{}/moved", at(80))]);
    assert!(moved.head.contains("location: http://web.example/there"), "{}", moved.head);

    // Inside of the mesh: mutual TLS that ends at the application's own proxy, and a gateway's own address.
    let gateway = "http://istio-ingressgateway.istio-system:15443/cross";
    let inside = |words: &[&str]| {
        let words = [&["curl", "-sS", "-i", "--max-time", "20"][..], words].concat();
        let told = mesh.exec("client", &words);
        told_of(&told.stdout, &told.stderr)
    };
    let told = inside(&[gateway]);
    assert_eq!(told.status, 200, "{}{}", told.head, told.body);
    let told: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(told["target"], "/cross");
    let workload = &mesh.workloads("istio-ingressgateway")[0];
    let address = workload["addresses"][0].as_str().unwrap();
    let told = inside(&[
        "--cacert",
        &ca,
        "--connect-to",
        &format!("web.example:8443:{address}:8443"),
        "https://web.example:8443/own",
    ]);
    assert_eq!(told.status, 200, "{}{}", told.head, told.body);
}

/// An address of this host that is not its loopback; none where it has no network.
fn host() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: it only finds the way.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

/// Answers requests, and whoever says something else, outside of the mesh.
fn outsider(address: std::net::IpAddr) -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\noutside",
                );
            });
        }
    });
    port
}

#[test]
fn networks_outside_have_routes() {
    if !has(&["curl", "python3"]) {
        return;
    }
    let Some(outside) = host() else { return skip("this machine has no network") };
    let port = outsider(outside);
    let mesh = mesh();
    let network = format!(
        "
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {{name: partner}}
spec: {{trafficPolicy: Deny, networks: [{{cidr: {outside}/32}}]}}
---
"
    );
    mesh.up(&[servers(), network].concat());
    let ask = |host: &str, path: &str| {
        let header = format!("host: {host}");
        let url = format!("http://{outside}:{port}{path}");
        let words = ["curl", "-sS", "-i", "--max-time", "20", "-H", &header, &url];
        let told = mesh.exec("client", &words);
        told_of(&told.stdout, &told.stderr)
    };
    let stream = || {
        let program = format!(
            "import socket\ntry:\n s=socket.create_connection(('{outside}',{port}),5)\n s.settimeout(5)\n \
             s.sendall(b'\\x00\\x01hello')\n print(s.recv(15))\nexcept OSError as e:\n print(e)"
        );
        mesh.exec("client", &["python3", "-c", &program]).stdout
    };
    assert_eq!(ask("allowed.test", "/").status, 403);
    assert!(!stream().contains("200 OK"));
    let routes = "
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: some}
spec:
  hostnames: [allowed.test, '*.wild.test']
  parentRefs: [{kind: EgressNetwork, group: policy.linkerd.io, name: partner}]
  rules:
  - matches: [{path: {value: /get}}]
    backendRefs: [{kind: EgressNetwork, group: policy.linkerd.io, name: partner}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: inward}
spec:
  hostnames: [inward.test]
  parentRefs: [{kind: EgressNetwork, group: policy.linkerd.io, name: partner}]
  rules: [{backendRefs: [{name: app, port: 80}]}]
---
";
    mesh.apply(routes).success();
    wait("the routes act", || ask("allowed.test", "/get").status == 200);
    assert_eq!(ask("allowed.test", "/get/more").body, "outside");
    assert_eq!(ask("a.wild.test", "/get").status, 200);
    assert_eq!(ask("allowed.test", "/other").status, 403);
    assert_eq!(ask("other.test", "/get").status, 403);
    let told = ask("inward.test", "/x");
    assert!(told.status == 200 && told.body.contains("/x"), "{}", told.body);
    assert!(!stream().contains("200 OK"), "no route is for streams");
    let streams = "
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: streams}
spec:
  parentRefs: [{kind: EgressNetwork, group: policy.linkerd.io, name: partner}]
  rules: [{backendRefs: [{kind: EgressNetwork, group: policy.linkerd.io, name: partner}]}]
---
";
    mesh.apply(streams).success();
    wait("streams pass", || stream().contains("200 OK"));
    mesh.delete(streams).success();
    mesh.delete(routes).success();
    wait("nothing passes again", || ask("allowed.test", "/get").status == 403);
    assert!(!stream().contains("200 OK"));
}

#[test]
fn datagrams_reach_services_inside_of_the_mesh() {
    if !has(&["python3"]) {
        return;
    }
    let mesh = mesh();
    let echo = "
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{name: udp, port: 7, targetPort: 7000, protocol: UDP}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - name: app
        command:
        - python3
        - -c
        - |
          import socket
          s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
          s.bind((\"0.0.0.0\", 7000))
          while True:
              data, peer = s.recvfrom(100)
              s.sendto(data, peer)
---
";
    let plain = client("plain").replace(
        "    metadata: {labels: {app: plain}}",
        "    metadata: {labels: {app: plain, sidecar.istio.io/inject: 'false'}}",
    );
    mesh.up(&[echo, &client("client"), &plain].concat());
    let program = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.settimeout(1)\n\
                   try:\n s.sendto(b'hello',('echo.default',7))\n print(s.recv(9))\nexcept OSError as e:\n print(e)";
    for workload in ["client", "plain"] {
        wait(&format!("{workload} gets an answer"), || {
            mesh.exec(workload, &["python3", "-c", program]).stdout.contains("hello")
        });
    }
}
