//! A pair of heddle proxies with everything on: routing, authorisation, Istio's request metrics, mutual TLS.
//!
//! Their configuration is made by `heddle internal static` from ordinary YAML, so that what is measured is what
//! a mesh would run.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{Layer, Pair, Running, free_address, wait_listening};

/// The virtual address of the service.
const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The address of the server's workload: another one of the loopback's, where its proxy listens.
const WORKLOAD_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub(super) fn start(
    folder: &Path,
    program: &Path,
    server: SocketAddr,
    layer: Layer,
) -> Result<Pair> {
    let port = server.port();
    let files = folder.join("heddle.yaml");
    std::fs::write(&files, objects(port, layer))?;
    let state = folder.join("heddle");
    let make = |workload: &str| -> Result<()> {
        let output = Command::new(program)
            .args(["internal", "static", "--workload", workload, "-f"])
            .arg(&files)
            .arg("--out")
            .arg(&state)
            .output()
            .context("cannot run heddle")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    make("default/client")?;
    make("default/server")?;
    let run = |workload: &str, direction: &str, listen: SocketAddr, destination: SocketAddr| {
        let mut command = Command::new(program);
        command.args(["internal", "static-proxy", "--static"]).arg(state.join(workload));
        command.args([direction, &format!("{listen}={destination}")]);
        let mut process =
            Running::start(&mut command, &folder.join(format!("heddle{direction}.log")))?;
        let begun = Instant::now();
        wait_listening(listen, &mut process)?;
        Ok::<_, anyhow::Error>((process, begun.elapsed().as_secs_f64() * 1000.0))
    };
    let between = SocketAddr::from((WORKLOAD_ADDRESS, port));
    let target = free_address(Ipv4Addr::LOCALHOST)?;
    let (inbound, first) = run("server", "--inbound", between, server)?;
    let (outbound, second) =
        run("client", "--outbound", target, SocketAddr::from((SERVICE_ADDRESS, port)))?;
    Ok(Pair { inbound, outbound, target, start_ms: first.max(second) })
}

fn objects(port: u16, layer: Layer) -> String {
    let pod = |name: &str, address: Ipv4Addr| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}, version: v1}}}}
spec:
  serviceAccountName: {name}
  containers: [{{name: main, ports: [{{containerPort: {port}}}]}}]
status:
  podIP: {address}
  conditions: [{{type: Ready, status: 'True'}}]
---
"
        )
    };
    let mut text = pod("client", Ipv4Addr::LOCALHOST);
    text.push_str(&pod("server", WORKLOAD_ADDRESS));
    let name = match layer {
        Layer::Http => "http",
        Layer::Tcp => "tcp",
    };
    text.push_str(&format!(
        "apiVersion: v1
kind: Service
metadata: {{name: server}}
spec:
  clusterIP: {SERVICE_ADDRESS}
  selector: {{app: server}}
  ports: [{{name: {name}, port: {port}}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default}}
spec: {{mtls: {{mode: STRICT}}}}
---
"
    ));
    text.push_str(match layer {
        Layer::Http => HTTP_POLICY,
        Layer::Tcp => TCP_POLICY,
    });
    text
}

/// A route that is looked at in vain before the one that counts, and a policy of principal and method.
const HTTP_POLICY: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: server}
spec:
  host: server
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: server}
spec:
  hosts: [server]
  http:
    - match: [{headers: {end-user: {exact: jason}}}]
      route: [{destination: {host: server}}]
    - route: [{destination: {host: server, subset: v1}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]
      to: [{operation: {methods: [GET]}}]
";

/// A policy of the principal alone: there are no requests to look at.
const TCP_POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]
";
