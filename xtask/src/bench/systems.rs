//! What is measured: how each system is set up on loopback, started, measured and stopped.

mod envoy;
mod heddle;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::load;
use super::measure::{Figures, cpu_seconds, rss_mb};

/// Connections held while memory is read.
const HELD_CONNECTIONS: usize = 1000;
/// How long a process may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What stands between client and server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Direct,
    EnvoyPair,
    HeddlePair,
}

impl System {
    pub(crate) const ALL: [Self; 3] = [Self::Direct, Self::EnvoyPair, Self::HeddlePair];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "nothing",
            Self::EnvoyPair => "Envoy pair, L7, HTTP/1.1 between",
            Self::HeddlePair => "heddle pair, L7, HTTP/1.1 between",
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
    envoy: PathBuf,
    server: SocketAddr,
    _nginx: Running,
}

impl Bench {
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let folder = root.join(".bench");
        std::fs::create_dir_all(&folder)?;
        let server = free_address(Ipv4Addr::LOCALHOST)?;
        let nginx = start_nginx(&folder, server)?;
        envoy::make_certificates(&folder)?;
        Ok(Self {
            program: root.join("target/release/heddle"),
            envoy: envoy::program()?,
            folder,
            server,
            _nginx: nginx,
        })
    }

    /// Starts a system, measures it, stops it.
    pub(crate) fn run(&self, system: System, seconds: u32) -> Result<Figures> {
        let pair = match system {
            System::Direct => None,
            System::EnvoyPair => Some(envoy::start(&self.folder, &self.envoy, self.server)?),
            System::HeddlePair => Some(heddle::start(&self.folder, &self.program, self.server)?),
        };
        let target = pair.as_ref().map_or(self.server, |pair| pair.target);
        let mut figures = Figures::default();
        if let Some(pair) = &pair {
            figures.start_ms = pair.start_ms;
            figures.rss_idle_mb = pair.rss_mb()?;
        }
        load::throughput(target, 2)?;
        let before = pair.as_ref().map_or(Ok(0.0), Pair::cpu_seconds)?;
        let (rate, total) = load::throughput(target, seconds)?;
        let after = pair.as_ref().map_or(Ok(0.0), Pair::cpu_seconds)?;
        figures.throughput = rate;
        figures.cpu_per_10k = (after - before) / total * 10_000.0;
        figures.p50_us = load::p50_us(&self.program, target, seconds)?;
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
