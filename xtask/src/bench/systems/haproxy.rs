//! A pair of HAProxies, the leanest of the peers: HTTP/2 over mutual TLS 1.3 between them, no authorisation, no Istio metrics.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Pair, Running, free_address, wait_listening};

/// Threads, as many as the machine of the published table has cores.
const THREADS: u32 = 2;

pub(super) fn start(folder: &Path, server: SocketAddr) -> Result<Pair> {
    let between = free_address(Ipv4Addr::LOCALHOST)?;
    let target = free_address(Ipv4Addr::LOCALHOST)?;
    let tls = |own: &str| {
        format!(
            "ssl crt {0}/{own}.pem ca-file {0}/ca.crt verify required ssl-min-ver TLSv1.3 alpn h2",
            folder.display()
        )
    };
    let inbound = format!(
        "  bind {between} {} backlog 8192\n  default_backend target\nbackend target\n  server only {server}\n",
        tls("server")
    );
    let outbound = format!(
        "  bind {target} backlog 8192\n  default_backend target\nbackend target\n  server only {between} {} sni str(server.default)\n",
        tls("client")
    );
    let run = |name: &str, frontend: &str| -> Result<Running> {
        let path = folder.join(format!("haproxy-{name}.cfg"));
        let text = format!(
            "global\n  nbthread {THREADS}\n  maxconn 9000\ndefaults\n  mode http\n  timeout client 1h\n  timeout server 1h\n  \
             timeout connect 10s\n  timeout http-keep-alive 1h\n  http-reuse always\nfrontend listener\n{frontend}"
        );
        std::fs::write(&path, text)?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&path);
        Running::start(&mut command, &folder.join(format!("haproxy-{name}.log")))
    };
    let mut inbound = run("inbound", &inbound)?;
    let first = wait_listening(between, &mut inbound)?;
    let mut outbound = run("outbound", &outbound)?;
    let second = wait_listening(target, &mut outbound)?;
    Ok(Pair { inbound, outbound, target, start_ms: first.max(second) })
}
