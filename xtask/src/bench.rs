//! `cargo xtask bench`: direct, an Envoy pair and a heddle pair, interleaved, in one run.
//!
//! Everything listens on loopback and real interception is off for both, so that the proxies are measured and
//! not the kernel's NAT. What counts are ratios of one run: absolute figures move with the machine. The method and
//! the figures are kept in docs/performance.md.

mod load;
mod measure;
mod systems;

use std::io::Write;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, root};
use measure::{Figures, median};
use systems::{Bench, System};

/// What to measure.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) seconds: u32,
}

pub(crate) fn bench(options: &Options) -> Result<()> {
    cargo(&["build", "--release", "--quiet"])?;
    let bench = Bench::new(&root())?;
    let mut rounds: Vec<Vec<(System, Figures)>> = Vec::new();
    for round in 0..options.rounds {
        let mut order = System::ALL.to_vec();
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
    std::io::stdout().write_all(report(&rounds).as_bytes())?;
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
fn report(rounds: &[Vec<(System, Figures)>]) -> String {
    let base = median_of(rounds, System::Direct, |figures| figures.p50_us);
    let mut text = String::from(
        "| | req/s, 32 connections | added p50 at 1,000 req/s, us | proxy CPU s per 10k req | RSS MB idle (in / out) | RSS MB 1,000 conn (in / out) | start ms |\n|---|---|---|---|---|---|---|\n",
    );
    for system in System::ALL {
        let of = |value| median_of(rounds, system, value);
        text.push_str(&format!(
            "| {} | {:.0} | {:.0} | {:.3} | {:.1} / {:.1} | {:.1} / {:.1} | {:.0} |\n",
            system.name(),
            of(|figures| figures.throughput),
            of(|figures| figures.p50_us) - base,
            of(|figures| figures.cpu_per_10k),
            of(|figures| figures.rss_idle_mb.0),
            of(|figures| figures.rss_idle_mb.1),
            of(|figures| figures.rss_connections_mb.0),
            of(|figures| figures.rss_connections_mb.1),
            of(|figures| figures.start_ms),
        ));
    }
    let ratio = |value: fn(&Figures) -> f64, less: f64| {
        (median_of(rounds, System::HeddlePair, value) - less)
            / (median_of(rounds, System::EnvoyPair, value) - less)
    };
    text.push_str(&format!(
        "\nheddle / Envoy: throughput {:.2} (bar 1.8 or more), added p50 {:.2} (bar 0.5 or less), CPU per request {:.2} (bar 0.5 or less)\n",
        ratio(|figures| figures.throughput, 0.0),
        ratio(|figures| figures.p50_us, base),
        ratio(|figures| figures.cpu_per_10k, 0.0),
    ));
    text
}
