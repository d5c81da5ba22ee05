//! The config stream: who may see what, and when a change has arrived.

use heddle_ident::{Host, WorkloadId};
use heddle_ir::endpoint::EndpointSetKey;
use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::resource::ResourceName;
use heddle_proto::node::{NodeReport, WatchRequest};
use heddle_rpc::client::Connection;
use heddle_rpc::{Code, Peer};

use crate::harness::{Mesh, PATIENCE};
use crate::lifecycle::{CLIENT, running};

#[tokio::test]
async fn a_proxy_sees_only_what_is_its_own() {
    let mesh = Mesh::start().await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let own = proxy.settings().scope.clone();
    let other = WorkloadId::new("standalone/Pod/default/web-0");
    let forbidden = [
        ResourceName::Proxy(other.clone()),
        ResourceName::Inbound(other),
        ResourceName::Index(ScopeId("kube-system".into())),
        ResourceName::Outbound(OutboundKey {
            scope: ScopeId("kube-system".into()),
            host: "web.default.svc.cluster.local".into(),
            port: 80,
        }),
        ResourceName::Endpoints(EndpointSetKey { host: Host::parse("hidden").unwrap(), port: 1 }),
    ];
    for name in &forbidden {
        proxy.want(name);
    }
    proxy.until(|proxy| forbidden.iter().all(|name| proxy.absent.contains(name))).await;
    assert!(forbidden.iter().all(|name| proxy.resource(name).is_none()));
    assert!(proxy.resource(&ResourceName::Index(own)).is_some());
}

#[tokio::test]
async fn who_is_not_of_the_mesh_gets_no_stream() {
    let mesh = Mesh::start().await;
    let (_supervisor, _proxy) = running(&mesh).await;
    let refused = |peer: Peer| {
        let socket = mesh.stream_socket();
        async move {
            let connection = Connection::open(&socket, &peer).await.unwrap();
            let stream = connection.delta(tokio_stream::pending()).await;
            stream.map(drop).unwrap_err().code()
        }
    };
    let stranger = Peer::Workload(WorkloadId::new("standalone/Pod/default/stranger"));
    assert_eq!(refused(stranger).await, Code::PermissionDenied);
    assert_eq!(refused(Peer::Node("local".into())).await, Code::PermissionDenied);
    // And a proxy is no supervisor.
    let peer = Peer::Workload(WorkloadId::new(CLIENT));
    let connection = Connection::open(&mesh.stream_socket(), &peer).await.unwrap();
    let report = connection.report(NodeReport::default()).await.unwrap_err();
    let watch = connection.watch(WatchRequest::default()).await.map(drop).unwrap_err();
    assert_eq!((report.code(), watch.code()), (Code::PermissionDenied, Code::PermissionDenied));
}

#[tokio::test]
async fn applied_means_that_every_proxy_has_confirmed() {
    let mesh = Mesh::start().await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    mesh.apply(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\nspec:\n\
         \x20 hosts: [web]\n  http:\n  - timeout: 3s\n    route: [{destination: {host: web}}]\n",
    )
    .await;
    let path = "/v1/wait?for=applied&timeout_ms=50";
    let (status, answer) = mesh.request("GET", path, None).await;
    assert_eq!(status, 408);
    let waiting = answer["waiting_for"].to_string();
    assert!(waiting.contains("client-0 has not confirmed"), "{waiting}");
    let received = proxy.received;
    proxy.until_applied(&mesh).await;
    assert!(proxy.received > received);
}

#[tokio::test]
async fn a_workload_that_is_gone_loses_its_stream() {
    let mesh = Mesh::start().await;
    let (supervisor, mut proxy) = running(&mesh).await;
    mesh.delete("Deployment", "client").await;
    supervisor.report(Vec::new()).await;
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            proxy.transmit().await;
            if let Err(status) = proxy.receive().await {
                return status;
            }
        }
    });
    assert_eq!(ended.await.unwrap().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_second_stream_of_a_proxy_takes_the_place_of_the_first() {
    let mesh = Mesh::start().await;
    let (_supervisor, mut first) = running(&mesh).await;
    let mut second = crate::harness::Proxy::connected(&mesh, CLIENT).await;
    second.until_complete().await;
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(status) = first.receive().await {
                return status;
            }
        }
    });
    assert_eq!(ended.await.unwrap().code(), Code::PermissionDenied);
    assert_eq!(mesh.get("/v1/status").await["proxies"].as_array().unwrap().len(), 1);
}
