//! Scenes 1 to 3: where requests go.

use anyhow::{Result, ensure};
use heddle_sample::LoadSummary;

use super::{CLIENT, REVIEWS_SUBSETS, REVIEWS_URL, reviews_split};
use crate::commands::demo::mesh::Mesh;
use crate::commands::demo::statistics::binomial_interval;

/// How rarely a correct split may be taken for a wrong one.
const OUTSIDE: f64 = 0.0001;

fn count(summary: &LoadSummary, version: &str) -> u32 {
    let count = summary.versions.get(version).copied().unwrap_or(0);
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn ensure_split(summary: &LoadSummary, version: &str, percent: u32) -> Result<String> {
    let requests = u32::try_from(summary.requests).unwrap_or(u32::MAX);
    let got = count(summary, version);
    let (low, high) = binomial_interval(requests, f64::from(percent) / 100.0, OUTSIDE);
    ensure!(
        (low..=high).contains(&got),
        "{version} got {got} of {requests}; {percent} % is {low} to {high}"
    );
    Ok(format!("{version} {got}/{requests} (expected {low} to {high})"))
}

pub(super) async fn canary(mesh: &Mesh) -> Result<String> {
    let yaml = format!("{REVIEWS_SUBSETS}---\n{}", reviews_split(&[("v1", 90), ("v2", 10)]));
    mesh.apply(&yaml).await?;
    let summary =
        mesh.load(CLIENT, &["--count", "2000", "--connections", "8", REVIEWS_URL]).await?;
    mesh.delete(&yaml).await?;
    ensure!(summary.failed == 0, "{} requests failed: {:?}", summary.failed, summary.errors);
    ensure!(count(&summary, "reviews-v3") == 0, "v3 has no share, but was asked");
    ensure_split(&summary, "reviews-v2", 10)
}

pub(super) async fn header(mesh: &Mesh) -> Result<String> {
    let yaml = format!(
        "{REVIEWS_SUBSETS}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [reviews]
  http:
    - match:
        - headers: {{end-user: {{exact: jason}}}}
      route:
        - destination: {{host: reviews, subset: v2}}
    - route:
        - destination: {{host: reviews, subset: v1}}
"
    );
    mesh.apply(&yaml).await?;
    let load = ["--count", "100", "--connections", "2", REVIEWS_URL];
    let with = |user: &'static str| {
        let mut arguments = vec!["-H", user];
        arguments.extend(load);
        arguments
    };
    let jason = mesh.load(CLIENT, &with("end-user: jason")).await?;
    let other = mesh.load(CLIENT, &with("end-user: jasonx")).await?;
    let nobody = mesh.load(CLIENT, &load).await?;
    mesh.delete(&yaml).await?;
    ensure!(count(&jason, "reviews-v2") == 100, "jason: {:?}", jason.versions);
    ensure!(count(&other, "reviews-v1") == 100, "jasonx: {:?}", other.versions);
    ensure!(count(&nobody, "reviews-v1") == 100, "no header: {:?}", nobody.versions);
    Ok("jason 100/100 to v2, jasonx and no header 100/100 to v1".to_owned())
}

pub(super) async fn progressive_shift(mesh: &Mesh) -> Result<String> {
    mesh.apply(REVIEWS_SUBSETS).await?;
    mesh.apply(&reviews_split(&[("v1", 100), ("v3", 0)])).await?;
    let load =
        mesh.background_load(CLIENT, &["--rate", "400", "--connections", "16", REVIEWS_URL])?;
    let mut seen = Vec::new();
    for percent in [10, 25, 50, 75, 100] {
        mesh.apply(&reviews_split(&[("v1", 100 - percent), ("v3", percent)])).await?;
        let summary =
            mesh.load(CLIENT, &["--count", "400", "--connections", "4", REVIEWS_URL]).await?;
        ensure!(summary.failed == 0, "at {percent} %: {:?}", summary.errors);
        ensure_split(&summary, "reviews-v3", percent)?;
        seen.push(format!("{percent} %"));
    }
    mesh.apply(&reviews_split(&[("v1", 100), ("v3", 0)])).await?;
    let back = mesh.load(CLIENT, &["--count", "200", "--connections", "4", REVIEWS_URL]).await?;
    let total = load.stop().await?;
    mesh.delete(&reviews_split(&[("v1", 100), ("v3", 0)])).await?;
    mesh.delete(REVIEWS_SUBSETS).await?;
    ensure!(count(&back, "reviews-v1") == 200, "after the rollback: {:?}", back.versions);
    ensure!(total.failed == 0, "{} requests failed: {:?}", total.failed, total.errors);
    ensure!(total.requests >= 100, "only {} requests of background load", total.requests);
    Ok(format!(
        "{}, rollback; {} requests under way, 0 failed",
        seen.join(" → "),
        total.requests + 2200
    ))
}
