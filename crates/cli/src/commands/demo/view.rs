//! What the demo shows while it runs: every edge of the mesh with its requests, success, latency and security.
//!
//! The figures are the proxies' own Istio metrics, read from each workload once a period; nothing is measured here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::mesh::Mesh;
use crate::commands::print::out;

const PERIOD: Duration = Duration::from_secs(2);

/// One line of the table: who calls whom.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    source: String,
    destination: String,
    security: String,
}

/// Counters of an edge since the proxies started.
#[derive(Clone, Copy, Default)]
struct Count {
    requests: f64,
    failed: f64,
    /// Sum of durations in milliseconds.
    duration: f64,
}

/// Shows the table until Ctrl-C.
pub(super) async fn show(mesh: &Mesh, plain: bool) -> Result<()> {
    let terminal = std::io::stdout().is_terminal() && !plain;
    let mut before: BTreeMap<Edge, Count> = BTreeMap::new();
    let mut seen = Instant::now();
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let now = read(mesh).await?;
        let elapsed = seen.elapsed();
        seen = Instant::now();
        let text = render(&now, &before, elapsed);
        if terminal {
            // Home, then each line cleared to its end, then everything below: no flicker, no alternate screen.
            let text = text.replace('\n', "\x1b[K\r\n");
            let mut stdout = std::io::stdout().lock();
            write!(stdout, "\x1b[H{text}\x1b[J").context("cannot write to the terminal")?;
            stdout.flush().context("cannot write to the terminal")?;
        } else {
            out(&text)?;
        }
        before = now;
    }
}

/// What the destination side of every workload counts: there the source is known by its identity.
async fn read(mesh: &Mesh) -> Result<BTreeMap<Edge, Count>> {
    let status = mesh.client().status().await.context("cannot ask the supervisor")?;
    let mut edges: BTreeMap<Edge, Count> = BTreeMap::new();
    for workload in status.workloads.iter().filter(|workload| workload.meshed && workload.ready) {
        let name = format!("{}/{}", workload.namespace, workload.name);
        // A workload that is being replaced has no answer this time.
        let Ok(page) = mesh.client().metrics(&name).await else { continue };
        for line in page.lines() {
            count(line, &mut edges);
        }
    }
    Ok(edges)
}

fn count(line: &str, edges: &mut BTreeMap<Edge, Count>) {
    let Some((name, rest)) = line.split_once('{') else { return };
    let Some((labels, value)) = rest.rsplit_once("} ") else { return };
    let Ok(value) = value.trim().parse::<f64>() else { return };
    let label = |wanted: &str| {
        let start = labels.find(&format!("{wanted}=\""))? + wanted.len() + 2;
        Some(labels[start..].split('"').next().unwrap_or("").to_owned())
    };
    if label("reporter").as_deref() != Some("destination") {
        return;
    }
    let edge = Edge {
        source: label("source_workload").unwrap_or_default(),
        destination: label("destination_workload").unwrap_or_default(),
        security: label("connection_security_policy").unwrap_or_default(),
    };
    let entry = edges.entry(edge).or_default();
    match name {
        "istio_requests_total" => {
            entry.requests += value;
            let code = label("response_code").unwrap_or_default();
            if code.starts_with('5') || code == "0" {
                entry.failed += value;
            }
        }
        "istio_request_duration_milliseconds_sum" => entry.duration += value,
        _ => {}
    }
}

fn render(
    now: &BTreeMap<Edge, Count>,
    before: &BTreeMap<Edge, Count>,
    elapsed: Duration,
) -> String {
    let mut text = String::from(
        "heddle demo: Bookinfo, every replica a process with its own address, proxy and identity (Ctrl-C ends it)\n\n",
    );
    let _ = writeln!(
        text,
        "{:<18} {:<18} {:>8} {:>9} {:>10}  SECURED BY",
        "FROM", "TO", "REQ/S", "SUCCESS", "LATENCY"
    );
    for (edge, count) in now {
        let last = before.get(edge).copied().unwrap_or_default();
        let requests = count.requests - last.requests;
        if requests <= 0.0 {
            continue;
        }
        let good = 100.0 * (1.0 - (count.failed - last.failed) / requests);
        let latency = (count.duration - last.duration) / requests;
        let _ = writeln!(
            text,
            "{:<18} {:<18} {:>8.1} {:>8.2}% {:>7.2} ms  {}",
            edge.source,
            edge.destination,
            requests / elapsed.as_secs_f64(),
            good,
            latency,
            edge.security
        );
    }
    let split = split(now, before);
    if !split.is_empty() {
        let _ = writeln!(text, "\nreviews: {split}");
    }
    text.push_str(
        "\nIn another terminal:\n  heddle --mesh demo status\n  heddle --mesh demo apply -f FILE       any VirtualService, DestinationRule or policy\n  heddle --mesh demo exec traffic -- heddle sample load --count 100 http://reviews:9080/reviews/0\n",
    );
    text
}

/// The shares of the versions of reviews.
fn split(now: &BTreeMap<Edge, Count>, before: &BTreeMap<Edge, Count>) -> String {
    let mut versions: BTreeMap<&str, f64> = BTreeMap::new();
    for (edge, count) in now.iter().filter(|(edge, _)| edge.destination.starts_with("reviews-")) {
        let last = before.get(edge).copied().unwrap_or_default();
        *versions.entry(&edge.destination).or_default() += count.requests - last.requests;
    }
    let total: f64 = versions.values().sum();
    if total <= 0.0 {
        return String::new();
    }
    let shares: Vec<String> = versions
        .iter()
        .map(|(version, requests)| format!("{version} {:.0} %", 100.0 * requests / total))
        .collect();
    shares.join("   ")
}
