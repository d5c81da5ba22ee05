//! Scenes 4 and 8: limits, ejection, and life without a control plane.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use heddle_sample::LoadSummary;

use super::{CLIENT, REVIEWS_URL};
use crate::commands::demo::mesh::Mesh;

const BREAKER: &str = r"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    connectionPool:
      tcp: {maxConnections: 1}
      http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}
";

/// `consecutiveErrors` is what the field's guides write; Istio itself no longer reads it.
const OUTLIERS: [&str; 2] = ["consecutive5xxErrors: 3", "consecutiveErrors: 3"];

fn ejection(threshold: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews}}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
    outlierDetection:
      {threshold}
      interval: 1s
      baseEjectionTime: 2s
      maxEjectionPercent: 100
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [reviews]
  http:
    - retries: {{attempts: 0}}
      route:
        - destination: {{host: reviews}}
"
    )
}

pub(super) async fn circuit_breaking(mesh: &Mesh) -> Result<String> {
    mesh.apply(BREAKER).await?;
    let slow = "http://reviews:9080/delay/200";
    let crowd = mesh.load(CLIENT, &["--count", "40", "--connections", "8", slow]).await?;
    let alone = mesh.load(CLIENT, &["--count", "5", slow]).await?;
    let metrics = mesh.must(&["metrics", CLIENT]).await?;
    mesh.delete(BREAKER).await?;
    let overflowed = crowd.statuses.get(&503).copied().unwrap_or(0);
    let served = crowd.statuses.get(&200).copied().unwrap_or(0);
    ensure!(overflowed > 0, "8 connections found no limit: {:?}", crowd.statuses);
    ensure!(served > 0, "nothing got through: {:?}", crowd.statuses);
    ensure!(alone.failed == 0, "one connection alone overflowed: {:?}", alone.errors);
    ensure!(
        metrics.lines().any(|line| line.starts_with("istio_requests_total")
            && line.contains("response_flags=\"UO\"")),
        "no request is counted with the flag UO"
    );
    let mut ejected = Vec::new();
    for threshold in OUTLIERS {
        ejected.push(eject_and_take_back(mesh, threshold).await?);
    }
    Ok(format!("{overflowed} of 40 overflowed with 503 UO; {}", ejected.join("; ")))
}

async fn eject_and_take_back(mesh: &Mesh, threshold: &str) -> Result<String> {
    let yaml = ejection(threshold);
    mesh.apply(&yaml).await?;
    let failing = "default/reviews-v3";
    let tell = |code: u16| format!("http://127.0.0.1:9080/failing/{code}");
    mesh.request(failing, "PUT", &tell(500)).await?;
    let burst = mesh.load(CLIENT, &["--count", "60", REVIEWS_URL]).await?;
    mesh.request(failing, "PUT", &tell(0)).await?;
    let is_v3 = |summary: &LoadSummary| summary.versions.contains_key("reviews-v3");
    let begun = Instant::now();
    let back = loop {
        let probe = mesh.load(CLIENT, &["--count", "12", REVIEWS_URL]).await?;
        if is_v3(&probe) {
            break begun.elapsed();
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(20),
            "v3 was not taken back within 20 s of its recovery"
        );
    };
    mesh.delete(&yaml).await?;
    ensure!(
        (3..=8).contains(&burst.failed),
        "with {threshold}, {} of 60 requests failed; 3 were expected before the ejection",
        burst.failed
    );
    Ok(format!(
        "{threshold}: ejected after {} errors, back {:.1} s after recovery",
        burst.failed,
        back.as_secs_f64()
    ))
}

pub(super) async fn control_plane_killed(mesh: &Mesh) -> Result<String> {
    const KILLS: u32 = 3;
    let arguments = ["--rate", "300", "--connections", "8", REVIEWS_URL];
    let load = mesh.background_load(CLIENT, &arguments)?;
    for _ in 0..KILLS {
        mesh.kill_control_plane().await.context("the control plane did not come back")?;
    }
    // It is whole again: a change still reaches every proxy.
    mesh.apply(super::REVIEWS_SUBSETS).await?;
    mesh.delete(super::REVIEWS_SUBSETS).await?;
    let total = load.stop().await?;
    ensure!(total.failed == 0, "{} requests failed: {:?}", total.failed, total.errors);
    ensure!(total.requests >= 100, "only {} requests under way", total.requests);
    Ok(format!("killed {KILLS} times, {} requests, 0 failed", total.requests))
}
