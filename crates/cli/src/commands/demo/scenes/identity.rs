//! Scenes 5 and 7: mutual TLS and the life of certificates.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{CLIENT, REVIEWS_URL};
use crate::commands::demo::mesh::Mesh;
use crate::commands::workload::told;

const STRICT: &str = r"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec:
  mtls: {mode: STRICT}
";

/// A client without proxy and without identity.
const OUTSIDER: &str = "legacy/client";

pub(super) async fn strict(mesh: &Mesh) -> Result<String> {
    let address = mesh.workload_address("default", "reviews-v1").await?;
    let direct = format!("http://{address}:9080/reviews/0");
    let before = mesh.request(OUTSIDER, "GET", &direct).await?;
    mesh.apply(STRICT).await?;
    let load = ["--count", "300", "--rate", "100", "--connections", "4", REVIEWS_URL];
    let capture = mesh.capture(Duration::from_secs(4));
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
    let application_port = |end: &str| end.ends_with(":9080");
    let wire: Vec<_> = captured
        .connections
        .iter()
        .filter(|way| application_port(&way.source) || application_port(&way.destination))
        .collect();
    let bytes: usize = wire.iter().map(|way| way.bytes).sum();
    ensure!(captured.dropped == 0, "{} frames were not captured", captured.dropped);
    ensure!(bytes > 0, "nothing was captured on the wire");
    if let Some(plain) = wire.iter().find(|way| !way.tls) {
        anyhow::bail!("{} to {} is not TLS: {}", plain.source, plain.destination, plain.head);
    }
    Ok(format!(
        "plaintext refused, {} meshed calls pass, {} streams of {bytes} bytes captured, all TLS",
        meshed.requests,
        wire.len()
    ))
}

pub(super) async fn rotation(mesh: &Mesh) -> Result<String> {
    /// Of the client's own certificate; the other proxies' go on as well.
    const ROTATIONS: u64 = 20;
    let begun = Instant::now();
    let arguments = ["--rate", "200", "--connections", "8", "--close", REVIEWS_URL];
    let load = mesh.background_load(CLIENT, &arguments)?;
    let before = mesh.certificates().await?;
    let workloads = meshed_workloads(mesh).await?;
    let issued_before = before["issued"].as_u64().context("no count of certificates")?;
    mesh.must(&["certs", "--rotate-root"]).await?;
    let mut roots_changed = false;
    let issued = loop {
        let now = mesh.certificates().await?;
        let issued = now["issued"].as_u64().context("no count of certificates")? - issued_before;
        roots_changed |=
            now["rotation"]["stage"] == "steady" && signing_root(&now) != signing_root(&before);
        if issued >= ROTATIONS * workloads && roots_changed {
            break issued;
        }
        ensure!(
            begun.elapsed() < Duration::from_mins(4),
            "after 4 minutes {issued} certificates were issued, root replaced: {roots_changed}: {now}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let total = load.stop().await?;
    ensure!(total.failed == 0, "{} requests failed: {:?}", total.failed, total.errors);
    Ok(format!(
        "{issued} certificates of {workloads} proxies in {:.0} s, root replaced, {} new connections, 0 failed",
        begun.elapsed().as_secs_f64(),
        total.requests
    ))
}

async fn meshed_workloads(mesh: &Mesh) -> Result<u64> {
    let status = mesh.client().status().await.map_err(told)?;
    let count = status.workloads.iter().filter(|workload| workload.meshed).count();
    u64::try_from(count).context("too many workloads")
}

fn signing_root(certificates: &Value) -> Option<&str> {
    let roots = certificates["roots"].as_array()?;
    roots.iter().find(|root| root["signs"] == true)?["id"].as_str()
}
