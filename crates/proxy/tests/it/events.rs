//! What is counted of connections and requests that do not go well.

use heddle_ir::authorization::{Authorization, Fallback, SystemPolicies};
use heddle_ir::protocol::Protocol;
use tokio::net::TcpStream;

use crate::harness::{Pair, Peer, application, mirror, run};
use crate::support::identity;

fn deny_all() -> Authorization {
    let denial = Fallback::Deny(heddle_diag::Origin::built_in("test"));
    let systems = vec![SystemPolicies::new(denial, Vec::new())];
    Authorization { systems, ..Authorization::default() }
}

const FAILED: &str = "heddle_connections_failed_total";

#[test]
fn plaintext_that_strict_refuses_is_counted() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        for count in 1..3 {
            let mut outsider = Peer::new(TcpStream::connect(pair.inbound).await.unwrap());
            outsider.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(outsider.rest().await, b"");
            let parts = ["direction=\"inbound\"", "reason=\"plaintext_refused\""];
            Pair::counts(&pair.server_registry, FAILED, &parts, count).await;
        }
    });
}

#[test]
fn denied_requests_and_streams_are_counted() {
    run(async {
        for protocol in [Protocol::Http1, Protocol::Tcp] {
            let pair = Pair::with(
                mirror().await,
                |client| client.protocol = protocol,
                |server| {
                    server.protocol = protocol;
                    server.authorization = deny_all();
                },
            )
            .await;
            let mut client = pair.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let answer = client.try_head().await;
            assert_eq!(answer.is_some(), protocol == Protocol::Http1);
            let parts = ["inbound", "reason=\"authorization_denied\""];
            Pair::counts(&pair.server_registry, FAILED, &parts, 1).await;
        }
    });
}

#[test]
fn an_endpoint_that_is_somebody_else_is_counted_at_both_ends() {
    run(async {
        let pair = Pair::with(
            mirror().await,
            |client| client.endpoints[0].identity = Some(identity("other")),
            |_| {},
        )
        .await;
        let answer = pair.connect().await.get("/").await;
        assert_eq!(answer.status(), 503);
        // The application may know what was expected and what came instead.
        let told = answer.header("x-heddle-peer-refused").unwrap();
        assert!(told.starts_with("wrong_identity; "), "{told}");
        for name in ["server", "other"] {
            assert!(told.contains(&identity(name).to_string()), "{told}");
        }
        let peers = "heddle_peers_refused_total";
        let parts = ["outbound", "reason=\"wrong_identity\""];
        Pair::counts(&pair.client_registry, peers, &parts, 3).await;
        Pair::counts(&pair.client_registry, FAILED, &["reason=\"peer_identity\""], 1).await;
        Pair::counts(&pair.server_registry, peers, &["inbound", "reason=\"handshake\""], 3).await;
        Pair::counts(&pair.server_registry, FAILED, &["reason=\"peer_identity\""], 3).await;
    });
}

#[test]
fn an_application_that_does_not_listen_is_counted() {
    run(async {
        let application = {
            let (_listener, address) = crate::harness::listen().await;
            address
        };
        let pair = Pair::before(application).await;
        assert_eq!(pair.connect().await.get("/").await.status(), 503);
        let parts = ["inbound", "reason=\"connect_failure\""];
        Pair::counts(&pair.server_registry, FAILED, &parts, 1).await;
        let closing = application_that_closes().await;
        let pair = Pair::before(closing).await;
        assert_eq!(pair.connect().await.get("/").await.status(), 503);
        let parts = ["inbound", "reason=\"upstream_closed\""];
        Pair::counts(&pair.server_registry, FAILED, &parts, 1).await;
    });
}

async fn application_that_closes() -> std::net::SocketAddr {
    application(|mut peer| async move {
        peer.head().await;
    })
    .await
}
