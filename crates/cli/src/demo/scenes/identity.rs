//! Scenes 5 and 7: mutual TLS and the life of certificates.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{CLIENT, REVIEWS_URL};
use crate::demo::mesh::Mesh;

const STRICT: &str = r"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec:
  mtls: {mode: STRICT}
";

/// A client without proxy and without identity.
const OUTSIDER: &str = "legacy/client";
/// A word that every plaintext request of the scene would show on the wire.
const MARK: &str = "x-heddle-demo-plaintext-mark";

pub(super) async fn strict(mesh: &Mesh) -> Result<String> {
    let address = mesh.workload_address("default/reviews-v1").await?;
    let direct = format!("http://{address}:9080/reviews/0");
    let before = mesh.request(OUTSIDER, "GET", &direct).await?;
    mesh.apply(STRICT).await?;
    let capture = mesh.capture(&address);
    let mark = format!("{MARK}: 1");
    let load = ["--count", "200", "--rate", "100", "-H", &mark, REVIEWS_URL];
    let (captured, meshed) = tokio::join!(capture, mesh.load(CLIENT, &load));
    let (captured, meshed) = (captured?, meshed?);
    let outside = mesh.request(OUTSIDER, "GET", &direct).await?;
    mesh.delete(STRICT).await?;
    ensure!(before.failed == 0, "permissive: plaintext was refused: {:?}", before.errors);
    ensure!(meshed.failed == 0, "STRICT: meshed calls failed: {:?}", meshed.errors);
    ensure!(
        outside.statuses.is_empty() && outside.failed == 1,
        "STRICT: plaintext from outside was answered: {:?}",
        outside.statuses
    );
    ensure!(captured.payload_bytes > 0, "nothing was captured on the wire");
    ensure!(captured.plaintext_packets == 0, "{} packets are not TLS", captured.plaintext_packets);
    ensure!(!captured.contains(MARK), "the wire shows a request in the clear");
    Ok(format!(
        "plaintext refused, 200/200 meshed calls pass, {} bytes captured, TLS only",
        captured.payload_bytes
    ))
}

pub(super) async fn rotation(mesh: &Mesh) -> Result<String> {
    const ROTATIONS: u64 = 20;
    let begun = Instant::now();
    let load = mesh.background_load(CLIENT, &["--rate", "200", "--connections", "8", "--close", REVIEWS_URL])?;
    let first = mesh.certificates_issued(CLIENT).await?;
    mesh.must(&["certs", "--rotate-root"]).await?;
    let roots = mesh.root_fingerprints().await?;
    let issued = loop {
        let issued = mesh.certificates_issued(CLIENT).await? - first;
        if issued >= ROTATIONS {
            break issued;
        }
        ensure!(
            begun.elapsed() < Duration::from_mins(3),
            "only {issued} certificates were issued within 3 minutes"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let total = load.stop().await?;
    ensure!(total.failed == 0, "{} requests failed: {:?}", total.failed, total.errors);
    ensure!(!roots.is_empty(), "no root is left");
    Ok(format!(
        "{issued} certificates in {:.0} s, 1 new root, {} connections, 0 failed",
        begun.elapsed().as_secs_f64(),
        total.requests
    ))
}
