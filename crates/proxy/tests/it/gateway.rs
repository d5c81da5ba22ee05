//! A gateway before the mesh: clients outside, a listener, mutual TLS to the server's proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use heddle_ident::HostPattern;
use heddle_ir::authorization::{Attribute, Condition, ValueMatch};
use heddle_ir::endpoint::EndpointAddress;
use heddle_ir::gateway::{Gateway, Listener, Server, ServerProtocol, ServerTls, VirtualHost};
use heddle_ir::http_route::{HttpRule, RouteTable, RuleOrder};
use heddle_ir::outbound::{TcpBackend, TcpRule};
use heddle_ir::rate_limit::RateLimits;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::MeshTransport;
use heddle_proxy::configuration::Publisher;
use heddle_proxy::worker::{Overrides, Worker};
use heddle_proxy::{gateway, inbound};
use heddle_sync::Effect;
use heddle_telemetry::metrics::Registry;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::harness::{Pair, Peer, application, listen, mirror, run};
use crate::http1::allow;
use crate::support::{
    GatewaySide, Mesh, ServerSide, Wanted, destination, endpoint, origin, rule, shared,
    shared_asking, workload,
};

/// A gateway with a server's proxy behind it, before an application.
pub(crate) struct Edge {
    pub(crate) publisher: Publisher,
    pub(crate) registry: Registry,
    pub(crate) worker: Rc<Worker>,
    pub(crate) mesh: Mesh,
    /// What it has asked its control plane for.
    pub(crate) wanted: Wanted,
}

/// A port that was free a moment ago.
pub(crate) async fn free_port() -> u16 {
    let (_, address) = listen().await;
    address.port()
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

pub(crate) fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

/// A listener on the loopback address.
pub(crate) fn listener(port: u16, servers: Vec<Server>) -> Listener {
    Listener { port, bind: Some(local(port).ip()), proxy_protocol: false, client_port: 0, servers }
}

pub(crate) fn server(hosts: &[&str], tls: Option<ServerTls>, protocol: ServerProtocol) -> Server {
    Server {
        origin: origin(),
        name: "test".into(),
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        tls,
        protocol,
        rate_limits: RateLimits::default(),
    }
}

/// Everything for these hosts goes by these rules.
pub(crate) fn http(hosts: &[&str], rules: Vec<HttpRule>) -> ServerProtocol {
    ServerProtocol::Http(vec![VirtualHost {
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        table: RouteTable { order: RuleOrder::Written, rules, tiers: Vec::new() },
    }])
}

pub(crate) fn streams() -> Vec<TcpRule> {
    vec![TcpRule {
        origin: origin(),
        destination_ranges: Vec::new(),
        backends: vec![TcpBackend { origin: origin(), destination: Some(0), weight: 1 }],
    }]
}

impl Edge {
    /// A gateway with these listeners; everything else may be changed.
    pub(crate) async fn new(
        application: SocketAddr,
        listeners: Vec<Listener>,
        change: impl FnOnce(&mut GatewaySide),
    ) -> Self {
        let mesh = Mesh::new();
        let (socket, address) = listen().await;
        let overrides =
            Overrides { inbound_destination: Some(application), ..Overrides::default() };
        let mut side = GatewaySide::new(vec![endpoint(address, MeshTransport::MutualTls)]);
        side.listeners = listeners;
        change(&mut side);
        let mut server = ServerSide::new(application.port());
        server.protocol = side.server_protocol;
        let (server_shared, _) =
            shared(&server.effects(), mesh.identity("server"), &Registry::default(), overrides);
        let server_worker = Worker::new(server_shared, 1);
        spawn_local(inbound::serve(server_worker, socket));

        let registry = Registry::default();
        let wanted = Wanted::default();
        let (identity, overrides) = (mesh.identity("gateway"), Overrides::default());
        let (gateway_shared, publisher) =
            shared_asking(&side.effects(), identity, &registry, overrides, wanted.clone());
        let worker = Worker::new(gateway_shared, 2);
        spawn_local(worker.clone().run());
        spawn_local(gateway::run(worker.clone()));
        Self { publisher, registry, worker, mesh, wanted }
    }

    /// Puts other listeners in place.
    pub(crate) fn set_listeners(&self, listeners: Vec<Listener>) {
        let id = workload("gateway").id;
        let destinations = vec![Arc::new(destination())];
        let gateway = Gateway { workload: id.clone(), listeners, destinations };
        let gateway = Resource::Gateway(Arc::new(gateway));
        self.publish(Effect::Set(ResourceName::Gateway(id), gateway));
    }

    /// Puts a change in place.
    pub(crate) fn publish(&self, effect: Effect) {
        let (next, problems) = self.publisher.current().with(&[effect], 1, 0);
        assert!(problems.is_empty(), "{problems:?}");
        self.publisher.publish(next);
    }
}

/// A connection to a listener that may not be there yet.
pub(crate) async fn connect(port: u16) -> TcpStream {
    loop {
        match TcpStream::connect(local(port)).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn ask(client: &mut Peer, host: &str, more: &str) -> crate::harness::Message {
    client.send(format!("GET /a/../b?q=1 HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")).await;
    client.message().await
}

#[test]
fn a_request_enters_the_mesh_as_the_gateways() {
    run(async {
        let port = free_port().await;
        let plain = server(&["*.example.com"], None, http(&["a.example.com"], vec![rule()]));
        let edge = Edge::new(mirror().await, vec![listener(port, vec![plain])], |_| {}).await;
        let mut client = Peer::new(connect(port).await);
        let more = "x-forwarded-for: 203.0.113.7\r\nx-request-id: mine\r\nx-envoy-max-retries: 9\r\nx-forwarded-client-cert: forged\r\n";
        let answer = ask(&mut client, "a.example.com", more).await;
        assert_eq!(answer.status(), 200);
        let seen = answer.text().to_ascii_lowercase();
        assert!(seen.starts_with("get /b?q=1 http/1.1\r\n"), "{seen}");
        assert!(seen.contains("x-forwarded-for: 203.0.113.7,127.0.0.1\r\n"), "{seen}");
        assert!(seen.contains("x-forwarded-proto: http\r\n"), "{seen}");
        assert!(seen.contains("x-envoy-external-address: 127.0.0.1\r\n"), "{seen}");
        assert!(
            !seen.contains("mine") && !seen.contains("max-retries") && !seen.contains("forged"),
            "{seen}"
        );
        assert!(seen.contains("uri=spiffe://cluster.local/ns/default/sa/gateway"), "{seen}");
        // Hosts without routes, and hosts of nobody.
        assert_eq!(ask(&mut client, "b.example.com", "").await.status(), 404);
        assert_eq!(ask(&mut client, "example.org", "").await.status(), 404);
        assert_eq!(ask(&mut client, "A.example.com:80", "").await.status(), 200);
        let parts =
            &["reporter=\"source\"", "source_workload=\"gateway\"", "response_code=\"200\""];
        Pair::counts(&edge.registry, "istio_requests_total", parts, 2).await;
    });
}

#[test]
fn listeners_come_and_go_with_the_configuration() {
    run(async {
        let (first, second) = (free_port().await, free_port().await);
        let plain = || server(&["*"], None, http(&["*"], vec![rule()]));
        let edge = Edge::new(mirror().await, vec![listener(first, vec![plain()])], |_| {}).await;
        let mut kept = Peer::new(connect(first).await);
        assert_eq!(ask(&mut kept, "a", "").await.status(), 200);
        // What is served changes, the socket and its connections stay.
        let redirecting = server(&["*"], None, ServerProtocol::HttpsRedirect);
        edge.set_listeners(vec![
            listener(first, vec![redirecting]),
            listener(second, vec![plain()]),
        ]);
        let answer = ask(&mut kept, "a", "").await;
        assert_eq!(answer.status(), 301);
        assert_eq!(answer.header("location"), Some("https://a/b?q=1"));
        let mut other = Peer::new(connect(second).await);
        assert_eq!(ask(&mut other, "a", "").await.status(), 200);
        // A listener that goes lets its connections end.
        edge.set_listeners(vec![listener(second, vec![plain()])]);
        assert!(kept.rest().await.is_empty());
        while TcpStream::connect(local(first)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(ask(&mut other, "a", "").await.status(), 200);
        assert_eq!(edge.worker.drain().live(), 1);
    });
}

#[test]
fn policies_of_the_gateway_see_the_client_behind_trusted_proxies() {
    run(async {
        let port = free_port().await;
        let plain = server(&["a"], None, http(&["a"], vec![rule()]));
        let range = heddle_ident::Cidr::parse("203.0.113.0/24").unwrap();
        let condition = Condition {
            attribute: Attribute::RemoteAddress,
            values: vec![ValueMatch::Range(range)],
            negate: false,
        };
        let edge = Edge::new(mirror().await, vec![listener(port, vec![plain])], |side| {
            side.trusted_hops = 1;
            side.authorization = allow(condition);
        })
        .await;
        let mut client = Peer::new(connect(port).await);
        for (more, status) in [
            ("", 403),
            ("x-forwarded-for: 203.0.113.9, 198.51.100.1\r\n", 403),
            ("x-forwarded-for: 198.51.100.1, 203.0.113.9\r\nx-forwarded-proto: https\r\n", 200),
        ] {
            let answer = ask(&mut client, "a", more).await;
            assert_eq!(answer.status(), status, "{more}");
            if status == 200 {
                let seen = answer.text();
                let expected = "x-forwarded-for: 198.51.100.1, 203.0.113.9,127.0.0.1\r\n";
                assert!(seen.contains(expected), "{seen}");
                assert!(seen.contains("x-forwarded-proto: https\r\n"), "{seen}");
                assert!(seen.contains("x-envoy-external-address: 203.0.113.9\r\n"), "{seen}");
            }
        }
        // Nobody is told of servers whose host the request has not.
        assert_eq!(ask(&mut client, "b", "").await.status(), 404);
        let parts = &["response_code=\"403\"", "source_workload=\"gateway\""];
        Pair::counts(&edge.registry, "istio_requests_total", parts, 2).await;
    });
}

#[test]
fn an_upgrade_passes_a_gateway() {
    run(async {
        let port = free_port().await;
        let plain = server(&["*"], None, http(&["*"], vec![rule()]));
        let application = application(|mut peer| async move {
            let head = peer.head().await.to_ascii_lowercase();
            assert!(head.contains("upgrade: websocket\r\n"), "{head}");
            let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            peer.send(switch).await;
            while peer.fill().await {
                let bytes = std::mem::take(&mut peer.buffer);
                peer.send(bytes).await;
            }
        })
        .await;
        let _edge = Edge::new(application, vec![listener(port, vec![plain])], |_| {}).await;
        let mut client = Peer::new(connect(port).await);
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        client.send("ping").await;
        assert_eq!(client.exactly(4).await, b"ping");
    });
}

#[test]
fn a_gateway_that_drains_takes_nobody_and_lets_requests_end() {
    run(async {
        let port = free_port().await;
        let plain = server(&["*"], None, http(&["*"], vec![rule()]));
        let begun = Rc::new(tokio::sync::Notify::new());
        let seen = begun.clone();
        let application = application(move |mut peer| {
            let seen = seen.clone();
            async move {
                peer.head().await;
                seen.notify_one();
                peer.exactly(4).await;
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        })
        .await;
        let edge = Edge::new(application, vec![listener(port, vec![plain])], |_| {}).await;
        let mut client = Peer::new(connect(port).await);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").await;
        begun.notified().await;
        edge.worker.drain().begin();
        while TcpStream::connect(local(port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.send("body").await;
        assert_eq!(client.message().await.status(), 200);
        assert!(client.rest().await.is_empty());
        edge.worker.drain().finished().await;
    });
}

#[test]
fn clients_that_fill_the_limit_do_not_keep_a_listener_open() {
    run(async {
        let port = free_port().await;
        let plain = server(&["*"], None, http(&["*"], vec![rule()]));
        let edge = Edge::new(mirror().await, vec![listener(port, vec![plain])], |side| {
            side.limits.connections_max = 1;
        })
        .await;
        let mut only = Peer::new(connect(port).await);
        assert_eq!(ask(&mut only, "a", "").await.status(), 200);
        // Beyond the limit, so that it waits for the other one.
        let _more = connect(port).await;
        edge.set_listeners(Vec::new());
        assert!(only.rest().await.is_empty());
        while TcpStream::connect(local(port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_denial_that_comes_while_a_stream_is_opened_ends_it() {
    run(async {
        let port = free_port().await;
        let own = server(&["*"], None, ServerProtocol::Tcp(streams()));
        let (release, wait) = tokio::sync::watch::channel(false);
        let reached = Rc::new(tokio::sync::Notify::new());
        let (seen, target) = (reached.clone(), Rc::new(std::cell::Cell::new(None)));
        let behind = target.clone();
        // On the way to the server's proxy, and slow.
        let relay = application(move |Peer { mut stream, .. }| {
            let (mut wait, seen, behind) = (wait.clone(), seen.clone(), behind.clone());
            async move {
                seen.notify_one();
                wait.wait_for(|released| *released).await.unwrap();
                let mut server = TcpStream::connect(behind.get().unwrap()).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            }
        })
        .await;
        let app = application(|mut peer| async move {
            peer.rest().await;
        })
        .await;
        let edge = Edge::new(app, vec![listener(port, vec![own])], |side| {
            let address = &mut side.endpoints[0].address;
            let own = std::mem::replace(address, EndpointAddress::Address(relay));
            let EndpointAddress::Address(own) = own else { unreachable!() };
            target.set(Some(own));
            side.server_protocol = heddle_ir::protocol::Protocol::Tcp;
        })
        .await;
        let mut client = Peer::new(connect(port).await);
        client.send("hello").await;
        reached.notified().await;
        let mut inbound = (**edge.publisher.current().inbound.as_ref().unwrap().inbound()).clone();
        let nobody = Condition {
            attribute: Attribute::SourcePrincipal,
            values: vec![ValueMatch::Text(heddle_ir::matching::TextMatch::Exact("nobody".into()))],
            negate: false,
        };
        inbound.authorization = Arc::new(allow(nobody));
        let name = ResourceName::Inbound(inbound.workload.clone());
        edge.publish(Effect::Set(name, Resource::Inbound(Arc::new(inbound))));
        release.send(true).unwrap();
        client.rest().await;
    });
}
