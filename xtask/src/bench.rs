//! `cargo xtask bench`: nothing, pairs of the peers and a heddle pair, interleaved, in one run.
//!
//! Everything listens on loopback and real interception is off for both, so that the proxies are measured and
//! not the kernel's NAT. What counts are ratios of one run: absolute figures move with the machine. The method and
//! the figures are kept in docs/performance.md.

mod load;
mod measure;
mod systems;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, root};
use measure::{Figures, median};
use systems::{Bench, System};

/// What to measure.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) seconds: u32,
    /// Another build of the program, to measure in the same run.
    pub(crate) before: Option<PathBuf>,
}

pub(crate) fn bench(options: &Options) -> Result<()> {
    cargo(&["build", "--release", "--quiet"])?;
    let systems = System::there(options.before.is_some());
    let bench = Bench::new(&root(), options.before.clone())?;
    let mut rounds: Vec<Vec<(System, Figures)>> = Vec::new();
    for round in 0..options.rounds {
        let mut order = systems.clone();
        if round % 2 == 1 {
            order.reverse();
        }
        let mut results = Vec::new();
        for system in order {
            let figures = bench
                .run(system, options.seconds)
                .with_context(|| format!("round {} of {}", round + 1, system.name()))?;
            eprintln!("bench: round {} {}: {figures}", round + 1, system.name());
            results.push((system, figures));
        }
        rounds.push(results);
    }
    std::io::stdout().write_all(report(&systems, &rounds).as_bytes())?;
    let of = |system, value: fn(&Figures) -> f64| median_of(&rounds, system, value);
    let direct = of(System::Direct, |figures| figures.throughput);
    let envoy = of(System::EnvoyPair, |figures| figures.throughput);
    ensure!(
        envoy * 10.0 >= direct,
        "the run does not count: the Envoy pair reaches less than a tenth of direct"
    );
    Ok(())
}

fn median_of(rounds: &[Vec<(System, Figures)>], system: System, value: fn(&Figures) -> f64) -> f64 {
    let values = rounds.iter().flatten().filter(|(other, _)| *other == system);
    median(values.map(|(_, figures)| value(figures)).collect())
}

/// The table: medians, and heddle's ratios to the Envoy pair.
fn report(systems: &[System], rounds: &[Vec<(System, Figures)>]) -> String {
    let base = median_of(rounds, System::Direct, |figures| figures.p50_us);
    let mut text = String::from(
        "| | req/s, 32 connections | added p50 at 1,000 req/s, us | proxy CPU s per 10k req, full load | at 1,000 req/s | new conn/s | RSS MB idle (in / out) | RSS MB 1,000 conn (in / out) | start ms |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for &system in systems {
        let of = |value| median_of(rounds, system, value);
        text.push_str(&format!(
            "| {} | {:.0} | {:.0} | {:.3} | {:.3} | {:.0} | {:.1} / {:.1} | {:.1} / {:.1} | {:.0} |\n",
            system.name(),
            of(|figures| figures.throughput),
            of(|figures| figures.p50_us) - base,
            of(|figures| figures.cpu_per_10k),
            of(|figures| figures.cpu_per_10k_steady),
            of(|figures| figures.connections),
            of(|figures| figures.rss_idle_mb.0),
            of(|figures| figures.rss_idle_mb.1),
            of(|figures| figures.rss_connections_mb.0),
            of(|figures| figures.rss_connections_mb.1),
            of(|figures| figures.start_ms),
        ));
    }
    let ratio = |own, peer, value: fn(&Figures) -> f64, less: f64| {
        (median_of(rounds, own, value) - less) / (median_of(rounds, peer, value) - less)
    };
    for (own, peer, what, bars) in [
        (
            System::HeddlePair,
            System::EnvoyPair,
            "L7",
            [" (bar 1.8 or more)", " (bar 0.5 or less)", " (bar 0.5 or less)"],
        ),
        (System::HeddleTcpPair, System::EnvoyTcpPair, "TCP", [""; 3]),
    ] {
        text.push_str(&format!(
            "\nheddle / Envoy, {what}: throughput {:.2}{}, added p50 {:.2}{}, CPU per request {:.2}{}, at 1,000 req/s {:.2}, new connections {:.2}\n",
            ratio(own, peer, |figures| figures.throughput, 0.0),
            bars[0],
            ratio(own, peer, |figures| figures.p50_us, base),
            bars[1],
            ratio(own, peer, |figures| figures.cpu_per_10k, 0.0),
            bars[2],
            ratio(own, peer, |figures| figures.cpu_per_10k_steady, 0.0),
            ratio(own, peer, |figures| figures.connections, 0.0),
        ));
    }
    text
}
