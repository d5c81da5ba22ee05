//! Streams that are not HTTP, through a pair of proxies.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use heddle_ir::authorization::{Authorization, Fallback, SystemPolicies};
use heddle_ir::inbound::MutualTlsMode;
use heddle_ir::index::Index;
use heddle_ir::outbound::ScopeId;
use heddle_ir::protocol::Protocol;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::{MeshTransport, Workload};
use heddle_sync::Effect;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Pair, Peer, application, mirror, pattern, run};
use crate::support::{ServerSide, workload};

async fn pair_of(application: std::net::SocketAddr, protocol: Protocol) -> Pair {
    Pair::with(
        application,
        |client| client.protocol = protocol,
        |server| server.protocol = protocol,
    )
    .await
}

/// A server that greets first, then answers one line and says goodbye after the client has ended.
async fn greeter() -> std::net::SocketAddr {
    application(|mut peer| async move {
        peer.send("220 ready\r\n").await;
        if !peer.fill().await {
            return;
        }
        assert_eq!(peer.exactly(6).await, b"HELO\r\n");
        peer.send("250 hello\r\n").await;
        assert_eq!(peer.rest().await, b"QUIT\r\n");
        peer.send("221 bye\r\n").await;
    })
    .await
}

async fn talk_to_greeter(client: &mut Peer) {
    assert_eq!(client.exactly(11).await, b"220 ready\r\n");
    client.send("HELO\r\n").await;
    assert_eq!(client.exactly(11).await, b"250 hello\r\n");
    client.send("QUIT\r\n").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"221 bye\r\n");
}

#[test]
fn a_server_may_speak_first_on_a_declared_port() {
    run(async {
        let pair = pair_of(greeter().await, Protocol::Tcp).await;
        for _ in 0..2 {
            talk_to_greeter(&mut pair.connect().await).await;
        }
    });
}

#[test]
fn a_server_may_speak_first_on_an_undeclared_port() {
    run(async {
        let pair = pair_of(greeter().await, Protocol::Detect).await;
        for _ in 0..2 {
            talk_to_greeter(&mut pair.connect().await).await;
        }
    });
}

#[test]
fn a_server_may_speak_first_to_a_plaintext_client() {
    run(async {
        for protocol in [Protocol::Tcp, Protocol::Detect] {
            let pair = Pair::with(
                greeter().await,
                |_| {},
                |server| {
                    server.protocol = protocol;
                    server.mode = MutualTlsMode::Permissive;
                },
            )
            .await;
            let mut outsider = Peer::new(TcpStream::connect(pair.inbound).await.unwrap());
            talk_to_greeter(&mut outsider).await;
        }
    });
}

/// Has the server's proxy know where the mesh is, and what is at the address that tests connect from.
fn say_who_calls(pair: &Pair, range: &str, caller: Option<MeshTransport>) {
    let ranges = vec![heddle_ident::Cidr::parse(range).unwrap()];
    let index = Index { mesh_ranges: ranges, ..Index::default() };
    let scope = ScopeId("default".into());
    let mut effects =
        vec![Effect::Set(ResourceName::Index(scope), Resource::Index(Arc::new(index)))];
    if let Some(transport) = caller {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let addresses = vec![address];
        let of = Arc::new(Workload { transport, addresses, ..workload("client") });
        let name = ResourceName::Workload(of.network.clone(), address);
        effects.push(Effect::Set(name, Resource::Workload(of)));
    }
    let (next, _) = pair.server_publisher.current().with(&effects, 1, 0);
    pair.server_publisher.publish(next);
}

/// How long a silent plaintext client waits for the greeting.
async fn greeting_ms(pair: &Pair) -> u128 {
    let begun = std::time::Instant::now();
    let mut client = Peer::new(TcpStream::connect(pair.inbound).await.unwrap());
    assert_eq!(client.exactly(11).await, b"220 ready\r\n");
    begun.elapsed().as_millis()
}

#[test]
fn a_greeting_in_plaintext_does_not_overtake_the_hello_of_a_proxy() {
    run(async {
        let pair = Pair::with(
            greeter().await,
            |client| client.protocol = Protocol::Tcp,
            |server| {
                server.protocol = Protocol::Tcp;
                server.mode = MutualTlsMode::Permissive;
            },
        )
        .await;
        // Whoever is not behind a proxy has nothing to wait for.
        say_who_calls(&pair, "127.0.0.0/8", Some(MeshTransport::None));
        assert!(greeting_ms(&pair).await < 90);
        say_who_calls(&pair, "10.0.0.0/8", None);
        assert!(greeting_ms(&pair).await < 90);
        // A proxy may be slow to say its hello, and what it gets is the handshake, not the greeting.
        say_who_calls(&pair, "127.0.0.0/8", Some(MeshTransport::MutualTls));
        let mut client = Peer::new(TcpStream::connect(pair.inbound).await.unwrap());
        let early = tokio::time::timeout(Duration::from_millis(300), client.fill()).await;
        assert!(early.is_err(), "{:?}", client.buffer);
        talk_to_greeter(&mut pair.connect().await).await;
        // Plaintext from a workload with a proxy is found out by waiting, and the next time by waiting less.
        let (first, second) = (greeting_ms(&pair).await, greeting_ms(&pair).await);
        assert!(first >= 900 && (100..900).contains(&second), "{first} {second}");
    });
}

#[test]
fn http_is_found_on_an_undeclared_port() {
    run(async {
        let pair = pair_of(mirror().await, Protocol::Detect).await;
        for _ in 0..3 {
            let mut client = pair.connect().await;
            for _ in 0..2 {
                let answer = client.get("/").await;
                assert!(answer.text().contains("x-forwarded-client-cert"), "{}", answer.text());
            }
        }
    });
}

#[test]
fn a_client_that_speaks_first_is_copied_on_an_undeclared_port() {
    run(async {
        let app = application(|mut peer| async move {
            assert_eq!(peer.exactly(14).await, b"*1\r\n$4\r\nPING\r\n");
            peer.send("+PONG\r\n").await;
        })
        .await;
        let pair = pair_of(app, Protocol::Detect).await;
        for _ in 0..3 {
            let mut client = pair.connect().await;
            client.send("*1\r\n$4\r\nPING\r\n").await;
            assert_eq!(client.rest().await, b"+PONG\r\n");
        }
    });
}

#[test]
fn a_client_that_says_too_little_is_copied_after_the_bound() {
    run(async {
        let app = application(|mut peer| async move {
            assert_eq!(peer.exactly(3).await, b"GET");
            peer.send("what?").await;
        })
        .await;
        let pair = pair_of(app, Protocol::Detect).await;
        let mut client = pair.connect().await;
        client.send("GET").await;
        assert_eq!(client.rest().await, b"what?");
    });
}

#[test]
fn much_is_carried_both_ways_at_once() {
    const BYTES: usize = 32 << 20;
    run(async {
        let app = application(|mut peer| async move {
            let mut total = 0;
            while peer.fill().await {
                let bytes = std::mem::take(&mut peer.buffer);
                total += bytes.len();
                peer.send(bytes).await;
            }
            assert_eq!(total, BYTES);
        })
        .await;
        let pair = pair_of(app, Protocol::Tcp).await;
        let Peer { stream, .. } = pair.connect().await;
        let (mut read, mut write) = stream.into_split();
        let sender = tokio::task::spawn_local(async move {
            let piece = pattern(1 << 20);
            for _ in 0..BYTES / piece.len() {
                write.write_all(&piece).await.unwrap();
            }
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::with_capacity(BYTES);
        tokio::io::AsyncReadExt::read_to_end(&mut read, &mut received).await.unwrap();
        sender.await.unwrap();
        assert_eq!(received.len(), BYTES);
        let piece = pattern(1 << 20);
        assert!(received.chunks(piece.len()).all(|own| own == piece), "changed on the way");
    });
}

#[test]
fn a_stream_that_nothing_moves_on_is_closed() {
    run(async {
        let app = application(|mut peer| async move {
            peer.rest().await;
        })
        .await;
        let pair = Pair::with(
            app,
            |client| {
                client.protocol = Protocol::Tcp;
                client.destination.connection_pool.tcp_idle_timeout =
                    Some(Duration::from_millis(50));
            },
            |server| server.protocol = Protocol::Tcp,
        )
        .await;
        assert_eq!(pair.connect().await.rest().await, b"");
    });
}

#[test]
fn a_stream_is_cut_when_it_is_newly_denied_and_not_before() {
    run(async {
        let app = application(|mut peer| async move {
            while peer.fill().await {
                let bytes = std::mem::take(&mut peer.buffer);
                peer.send(bytes).await;
            }
        })
        .await;
        let pair = pair_of(app, Protocol::Tcp).await;
        let mut client = pair.connect().await;
        client.send("one").await;
        assert_eq!(client.exactly(3).await, b"one");
        let publish = |authorization| {
            let mut server = ServerSide::new(app.port());
            server.protocol = Protocol::Tcp;
            server.authorization = authorization;
            let (next, _) = pair.server_publisher.current().with(&server.effects(), 1, 0);
            pair.server_publisher.publish(next);
        };
        publish(Authorization::default());
        client.send("two").await;
        assert_eq!(client.exactly(3).await, b"two");
        let denial = Fallback::Deny(heddle_diag::Origin::built_in("test"));
        let deny = SystemPolicies::new(denial, Vec::new());
        publish(Authorization { systems: vec![deny], authorizers: Vec::new() });
        assert_eq!(client.rest().await, b"");
        // And none is let through anew.
        assert_eq!(pair.connect().await.rest().await, b"");
    });
}
