//! One proxy of a pair, configured from the command line, for measuring the forwarding path by itself.
//!
//! `static_proxy in|out LISTEN TARGET CA.crt CA.key`

#[path = "../tests/it/support.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod support;

use heddle_ir::workload::MeshTransport;
use heddle_proxy::worker::{Overrides, Worker};
use heddle_proxy::{inbound, outbound};
use heddle_telemetry::istio::StandardMetrics;
use heddle_telemetry::metrics::{Registry, RegistrySettings};
use support::{ClientSide, Mesh, PORT, ServerSide, VIRTUAL_ADDRESS, endpoint, shared};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, side, listen, target, certificate, key] = &arguments[..] else {
        panic!("static_proxy in|out LISTEN TARGET CA.crt CA.key")
    };
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let mesh = Mesh::from_pem(&read(certificate), &read(key));
    let metrics = Some(StandardMetrics::new(&Registry::new(RegistrySettings::default())));
    let target: std::net::SocketAddr = target.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(listen).await.unwrap();
        if side == "in" {
            let effects = ServerSide::new(target.port()).effects();
            let overrides = Overrides { inbound_destination: Some(target), ..Overrides::default() };
            let (shared, _publisher) =
                shared(&effects, mesh.identity("server"), metrics, overrides);
            let worker = Worker::new(shared, 1);
            tokio::task::spawn_local(worker.clone().run());
            inbound::serve(worker, listener).await;
        } else {
            let endpoints = vec![endpoint(target, MeshTransport::MutualTls)];
            let effects = ClientSide::new(endpoints).effects();
            let destination = std::net::SocketAddr::new(VIRTUAL_ADDRESS.parse().unwrap(), PORT);
            let overrides =
                Overrides { outbound_destination: Some(destination), ..Overrides::default() };
            let (shared, _publisher) =
                shared(&effects, mesh.identity("client"), metrics, overrides);
            let worker = Worker::new(shared, 2);
            tokio::task::spawn_local(worker.clone().run());
            outbound::serve(worker, listener).await;
        }
    });
}
