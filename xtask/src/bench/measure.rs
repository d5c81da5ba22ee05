//! Reading what the kernel knows of a process, and figures of a run.

use std::fmt;

use anyhow::{Context, Result};

/// What one run of one system gave.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Requests per second with 32 connections.
    pub(crate) throughput: f64,
    /// Median latency at 1,000 requests per second, in microseconds.
    pub(crate) p50_us: f64,
    /// CPU seconds of all proxies for 10,000 requests, at full load.
    pub(crate) cpu_per_10k: f64,
    /// The same at 1,000 requests per second, where wake-ups are nearly all of it.
    pub(crate) cpu_per_10k_steady: f64,
    /// New connections per second, one request on each.
    pub(crate) connections: f64,
    /// Resident memory after the start, of the inbound and the outbound proxy.
    pub(crate) rss_idle_mb: (f64, f64),
    /// The same while 1,000 connections are held.
    pub(crate) rss_connections_mb: (f64, f64),
    /// From exec to ready, the slower of both proxies.
    pub(crate) start_ms: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} req/s, p50 {:.0} us, {:.3} CPU s per 10k ({:.3} at 1,000 req/s), {:.0} new conn/s, RSS idle {:.1}/{:.1}, 1,000 connections {:.1}/{:.1} MB, start {:.0} ms",
            self.throughput,
            self.p50_us,
            self.cpu_per_10k,
            self.cpu_per_10k_steady,
            self.connections,
            self.rss_idle_mb.0,
            self.rss_idle_mb.1,
            self.rss_connections_mb.0,
            self.rss_connections_mb.1,
            self.start_ms
        )
    }
}

/// The middle value; of an even number the upper of both.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// User and system time of a process in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    // Linux counts in hundredths of a second towards user space, on every architecture (proc(5), USER_HZ).
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("no name in stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |index: usize| -> Result<f64> {
        fields.get(index).context("stat is short")?.parse().context("stat is no number")
    };
    Ok((field(11)? + field(12)?) / TICKS_PER_SECOND)
}

/// VmRSS in units of 1,024 kB.
pub(crate) fn rss_mb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
    Ok(kilobytes / 1024.0)
}
