//! The clients: wrk for throughput, heddle's load generator at a fixed rate for latency, plain sockets that are held.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Requests per second over 32 connections, and how many there were.
pub(crate) fn throughput(target: SocketAddr, seconds: u32) -> Result<(f64, f64)> {
    wrk(target, seconds, &[])
}

/// Connections per second that carry a request each.
pub(crate) fn connections(target: SocketAddr, seconds: u32) -> Result<f64> {
    Ok(wrk(target, seconds, &["-H", "Connection: close"])?.0)
}

fn wrk(target: SocketAddr, seconds: u32, arguments: &[&str]) -> Result<(f64, f64)> {
    let output = Command::new("wrk")
        .args(["-t1", "-c32", &format!("-d{seconds}s")])
        .args(arguments)
        .arg(format!("http://{target}/"))
        .output()
        .context("cannot run wrk (Debian package wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!text.contains("Non-2xx"), "wrk got errors: {text}");
    ensure!(!text.contains("Socket errors"), "wrk got socket errors: {text}");
    let line = text.lines().find(|line| line.starts_with("Requests/sec:"));
    let rate: f64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .with_context(|| format!("wrk gave no rate: {text}"))?
        .parse()?;
    let total = text.lines().find(|line| line.contains(" requests in "));
    let total: f64 = total
        .and_then(|line| line.split_whitespace().next())
        .with_context(|| format!("wrk gave no total: {text}"))?
        .parse()?;
    Ok((rate, total))
}

/// Median latency in microseconds at 1,000 requests per second over 16 connections, and how many requests there were.
pub(crate) fn steady(program: &Path, target: SocketAddr, seconds: u32) -> Result<(f64, f64)> {
    let output = Command::new(program)
        .args(["sample", "load", "-o", "json", "--rate", "1000", "--connections", "16"])
        .args(["--duration", &format!("{seconds}s"), &format!("http://{target}/")])
        .output()
        .context("cannot run the load generator")?;
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    ensure!(summary["failed"] == 0, "requests failed: {summary}");
    let figure =
        |name: &str| summary[name].as_f64().with_context(|| format!("no {name}: {summary}"));
    Ok((figure("p50_us")?, figure("requests")?))
}

/// Connections that have each had one answer, and are kept.
pub(crate) fn hold(target: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    (0..count)
        .map(|number| {
            let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))
                .with_context(|| format!("connection {number}"))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(request.as_bytes())?;
            read_answer(&mut stream).with_context(|| format!("answer of connection {number}"))?;
            Ok(stream)
        })
        .collect()
}

/// Reads a response with a content length to its end.
fn read_answer(stream: &mut TcpStream) -> Result<()> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the connection was closed");
        received.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&received);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        ensure!(head.starts_with("HTTP/1.1 200"), "not 200: {head}");
        let expected: usize = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .context("no content length")?
            .1
            .trim()
            .parse()?;
        if body.len() >= expected {
            return Ok(());
        }
    }
}
