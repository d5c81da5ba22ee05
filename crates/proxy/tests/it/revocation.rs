//! What becomes of connections whose certificate is revoked.

use heddle_ir::protocol::Protocol;
use heddle_sync::Effect;
use heddle_tls::serial_of;

use crate::harness::{Pair, application, mirror, run};
use crate::http2;

const REFUSED: &str = "heddle_peers_refused_total";

/// The client's proxy is told of nothing yet; the server's has the next bundle.
fn revoke_client(pair: &Pair) {
    let own = pair.client_identity.current().unwrap();
    let serial = serial_of(&own.svid().chain[0]).unwrap().unwrap();
    let server = pair.server_identity.current().unwrap();
    let bundle = pair.mesh.revoking(2, vec![serial]);
    pair.server_identity.install(server.svid().clone(), &bundle).unwrap();
    // As the control thread does after it has installed a bundle.
    let none: &[Effect] = &[];
    let (next, _) = pair.server_publisher.current().with(none, 1, 0);
    pair.server_publisher.publish(next);
}

#[test]
fn a_connection_that_is_open_is_served_no_more_and_no_new_one_is_accepted() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        let mut client = pair.connect().await;
        assert_eq!(client.get("/").await.status(), 200);
        revoke_client(&pair);
        // Over the pooled connection between the proxies, which was accepted before.
        assert_eq!(client.get("/").await.status(), 403);
        // A new one is not accepted at all, and the reason is told.
        assert_eq!(pair.connect().await.get("/").await.status(), 503);
        // Once for each try of the caller's proxy, of which there may be several.
        let is_told = || {
            let mut page = String::new();
            pair.server_registry.encode(std::time::Instant::now(), &mut page);
            let mut lines = page.lines().filter(|line| line.starts_with(REFUSED));
            lines.any(|line| line.contains("reason=\"revoked\""))
        };
        while !is_told() {
            tokio::task::yield_now().await;
        }
    });
}

/// The server's proxy is told of nothing yet; the client's has the next bundle.
fn revoke_server(pair: &Pair) {
    let own = pair.server_identity.current().unwrap();
    let serial = serial_of(&own.svid().chain[0]).unwrap().unwrap();
    let client = pair.client_identity.current().unwrap();
    let bundle = pair.mesh.revoking(2, vec![serial]);
    pair.client_identity.install(client.svid().clone(), &bundle).unwrap();
    let none: &[Effect] = &[];
    let (next, _) = pair.client_publisher.current().with(none, 1, 0);
    pair.client_publisher.publish(next);
}

/// A server that begins an answer and never ends it.
async fn unending() -> std::net::SocketAddr {
    application(|mut peer| async move {
        while let Some(head) = peer.try_head().await {
            if head.starts_with("GET /begun") {
                let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nmore\r\n";
                peer.send(begun).await;
            }
        }
    })
    .await
}

#[test]
fn nothing_more_is_heard_of_a_server_that_was_revoked_since() {
    run(async {
        let pair = Pair::before(unending().await).await;
        let mut begun = pair.connect().await;
        begun.send("GET /begun HTTP/1.1\r\nHost: server\r\n\r\n").await;
        assert!(begun.head().await.starts_with("HTTP/1.1 200"));
        assert_eq!(begun.exactly(9).await, b"4\r\nmore\r\n");
        let mut waiting = pair.connect().await;
        waiting.send("GET /silent HTTP/1.1\r\nHost: server\r\n\r\n").await;
        revoke_server(&pair);
        assert_eq!(begun.rest().await, b"", "cut, without the end of its body");
        assert_eq!(waiting.message().await.status(), 503);
    });
}

#[test]
fn a_stream_to_a_server_that_was_revoked_since_ends() {
    run(async {
        let app = application(|mut peer| async move {
            while peer.fill().await {
                let bytes = std::mem::take(&mut peer.buffer);
                peer.send(bytes).await;
            }
        })
        .await;
        let pair = Pair::with(
            app,
            |client| client.protocol = Protocol::Tcp,
            |server| server.protocol = Protocol::Tcp,
        )
        .await;
        let mut client = pair.connect().await;
        client.send("one").await;
        assert_eq!(client.exactly(3).await, b"one");
        revoke_server(&pair);
        assert_eq!(client.rest().await, b"");
        Pair::counts(&pair.client_registry, REFUSED, &["outbound", "reason=\"revoked\""], 1).await;
    });
}

#[test]
fn a_grpc_stream_to_a_server_that_was_revoked_since_ends() {
    run(async {
        let app = http2::h2_application(http2::echo).await;
        let pair = Pair::with(
            app,
            |client| {
                client.protocol = Protocol::Http2;
                client.destination.protocol = Protocol::Http2;
            },
            |server| server.protocol = Protocol::Http2,
        )
        .await;
        let mut client = http2::client(&pair).await;
        let (response, mut sink) = client.send_request(http2::request("/"), false).unwrap();
        http2::send_all(&mut sink, "one".into(), false).await;
        let mut body = response.await.unwrap().into_body();
        assert_eq!(http2::receive(&mut body).await.unwrap(), "one");
        revoke_server(&pair);
        assert!(
            http2::receive_all_there_is(&mut body).await.is_none(),
            "it ended as if it were whole"
        );
    });
}

#[test]
fn a_stream_of_a_revoked_peer_ends() {
    run(async {
        let app = application(|mut peer| async move {
            while peer.fill().await {
                let bytes = std::mem::take(&mut peer.buffer);
                peer.send(bytes).await;
            }
        })
        .await;
        let pair = Pair::with(
            app,
            |client| client.protocol = Protocol::Tcp,
            |server| server.protocol = Protocol::Tcp,
        )
        .await;
        let mut client = pair.connect().await;
        client.send("one").await;
        assert_eq!(client.exactly(3).await, b"one");
        revoke_client(&pair);
        assert_eq!(client.rest().await, b"");
    });
}
