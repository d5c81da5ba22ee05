//! What is measured: how each system is set up on loopback, started, measured and stopped.

mod certificates;
mod envoy;
mod haproxy;
mod heddle;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::load;
use super::measure::{Figures, cpu_seconds, rss_mb};
use crate::run::is_there;

/// Connections held while memory is read.
const HELD_CONNECTIONS: usize = 1000;
/// From the start of a pair to when its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a process may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How the proxies of a pair treat what passes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// As HTTP: routed, authorised and counted by request.
    Http,
    /// As bytes.
    Tcp,
}

/// What stands between client and server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Direct,
    HaproxyPair,
    EnvoyPair,
    HeddlePair,
    EnvoyTcpPair,
    HeddleTcpPair,
    /// The L7 pair of another build, that of `--before`.
    BeforePair,
}

impl System {
    /// Those that this machine has the programs for; what is left out is said. Envoy must be there: the bars are ratios to it.
    pub(crate) fn there(before: bool) -> Vec<Self> {
        let mut all = vec![Self::Direct];
        if is_there("haproxy") {
            all.push(Self::HaproxyPair);
        } else {
            eprintln!("bench: no HAProxy (Debian package haproxy): its pair is left out");
        }
        all.extend([Self::EnvoyPair, Self::HeddlePair, Self::EnvoyTcpPair, Self::HeddleTcpPair]);
        if before {
            all.push(Self::BeforePair);
        }
        all
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "nothing",
            Self::HaproxyPair => "HAProxy pair, L7, HTTP/2 between",
            Self::EnvoyPair => "Envoy pair, L7, HTTP/1.1 between",
            Self::HeddlePair => "heddle pair, L7, HTTP/1.1 between",
            Self::EnvoyTcpPair => "Envoy pair, TCP only",
            Self::HeddleTcpPair => "heddle pair, TCP only",
            Self::BeforePair => "heddle pair before, L7, HTTP/1.1 between",
        }
    }
}

/// A process that is killed when it is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
        Ok(Self(child))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Both proxies of a system, the address that clients use, and how long the slower start took.
struct Pair {
    inbound: Running,
    outbound: Running,
    target: SocketAddr,
    start_ms: f64,
}

/// The server and the files of a run.
pub(crate) struct Bench {
    folder: PathBuf,
    program: PathBuf,
    before: Option<PathBuf>,
    envoy: PathBuf,
    server: SocketAddr,
    _nginx: Running,
}

impl Bench {
    pub(crate) fn new(root: &Path, before: Option<PathBuf>) -> Result<Self> {
        let folder = root.join(".bench");
        std::fs::create_dir_all(&folder)?;
        let server = free_address(Ipv4Addr::LOCALHOST)?;
        let nginx = start_nginx(&folder, server)?;
        certificates::make(&folder)?;
        Ok(Self {
            program: root.join("target/release/heddle"),
            before,
            envoy: envoy::program()?,
            folder,
            server,
            _nginx: nginx,
        })
    }

    /// Starts a system, measures it, stops it.
    pub(crate) fn run(&self, system: System, seconds: u32) -> Result<Figures> {
        let envoy = |layer| envoy::start(&self.folder, &self.envoy, self.server, layer);
        let program = match system {
            System::BeforePair => self.before.as_ref().context("no other build is named")?,
            _ => &self.program,
        };
        let heddle = |layer| heddle::start(&self.folder, program, self.server, layer);
        let pair = match system {
            System::Direct => None,
            System::HaproxyPair => Some(haproxy::start(&self.folder, self.server)?),
            System::EnvoyPair => Some(envoy(Layer::Http)?),
            System::EnvoyTcpPair => Some(envoy(Layer::Tcp)?),
            System::HeddlePair | System::BeforePair => Some(heddle(Layer::Http)?),
            System::HeddleTcpPair => Some(heddle(Layer::Tcp)?),
        };
        let cpu = || pair.as_ref().map_or(Ok(0.0), Pair::cpu_seconds);
        let target = pair.as_ref().map_or(self.server, |pair| pair.target);
        let mut figures = Figures::default();
        if let Some(pair) = &pair {
            figures.start_ms = pair.start_ms;
            // What a proxy holds at rest is asked, not what its start needs.
            std::thread::sleep(SETTLE);
            figures.rss_idle_mb = pair.rss_mb()?;
        }
        load::throughput(target, 2)?;
        let before = cpu()?;
        let (rate, total) = load::throughput(target, seconds)?;
        let after = cpu()?;
        figures.throughput = rate;
        figures.cpu_per_10k = (after - before) / total * 10_000.0;
        let (p50_us, total) = load::steady(&self.program, target, seconds)?;
        figures.p50_us = p50_us;
        figures.cpu_per_10k_steady = (cpu()? - after) / total * 10_000.0;
        figures.connections = load::connections(target, seconds)?;
        if let Some(pair) = &pair {
            let held = load::hold(target, HELD_CONNECTIONS)?;
            figures.rss_connections_mb = pair.rss_mb()?;
            ensure!(held.len() == HELD_CONNECTIONS, "connections were lost");
        }
        Ok(figures)
    }
}

impl Pair {
    fn cpu_seconds(&self) -> Result<f64> {
        Ok(cpu_seconds(self.inbound.pid())? + cpu_seconds(self.outbound.pid())?)
    }

    fn rss_mb(&self) -> Result<(f64, f64)> {
        Ok((rss_mb(self.inbound.pid())?, rss_mb(self.outbound.pid())?))
    }
}

/// An address that nobody listens on at this moment.
fn free_address(address: Ipv4Addr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?)
}

/// Waits until somebody accepts, and says how long it took.
fn wait_listening(address: SocketAddr, process: &mut Running) -> Result<f64> {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = process.0.try_wait()? {
            bail!("the process that should listen on {address} ended: {status}");
        }
        ensure!(begun.elapsed() < START_TIMEOUT, "nobody listens on {address}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

fn start_nginx(folder: &Path, server: SocketAddr) -> Result<Running> {
    let configuration = folder.join("nginx.conf");
    let body = "x".repeat(1024);
    let text = format!(
        "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; tcp_nodelay on;
  server {{ listen {server} backlog=8192; location / {{ default_type text/plain; return 200 '{body}'; }} }} }}\n",
        folder.display()
    );
    std::fs::write(&configuration, text)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&configuration).arg("-p").arg(folder);
    let mut nginx = Running::start(&mut command, &folder.join("nginx.log"))?;
    wait_listening(server, &mut nginx)?;
    Ok(nginx)
}
