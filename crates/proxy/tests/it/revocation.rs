//! What becomes of connections whose certificate is revoked.

use heddle_ir::protocol::Protocol;
use heddle_sync::Effect;
use heddle_tls::serial_of;

use crate::harness::{Pair, application, mirror, run};

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
