//! What the kernel has dropped, told to the operator: a metric of all, records of the audit log of some, with how many each
//! stands for.
//!
//! The kernel tells of a few packets of each rule a second, which wakes this; then its counts are read. Nothing is asked
//! while nothing is dropped.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use heddle_authz::PacketOrigins;
use heddle_diag::Origin;
use heddle_net::namespace::NetworkNamespace;
use heddle_net::packet_filter::{DeniedBy, DeniedPacket, DeniedPackets, PacketFilter};
use heddle_net::packet_filter::{PacketFilterError, denied_counts};
use heddle_telemetry::audit::AuditLog;
use heddle_telemetry::mesh::{Direction, MeshMetrics};
use heddle_tls::Identity;
use tokio::time::Instant;
use tracing::warn;

use crate::egress::account::{self, Ledger};
use crate::names::{LearnedNames, now_s};

/// What is told within this becomes one record for each pair of ends.
const GATHER: Duration = Duration::from_secs(1);
/// Between two lines of the log.
const LINE_PERIOD: Duration = Duration::from_secs(10);
/// Without the kernel's word, how often its counts are read.
const COUNTS_PERIOD: Duration = Duration::from_secs(30);
/// Pairs of ends that are told of one by one at a time.
const RECORDS_MAX: usize = 64;

/// Where the rules of either way were written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Origins {
    pub(crate) output: PacketOrigins,
    pub(crate) input: PacketOrigins,
}

impl Origins {
    fn of(&self, by: DeniedBy) -> Option<&Origin> {
        let origins = if by.leaving { &self.output } else { &self.input };
        by.rule.map_or(origins.closed.as_ref(), |place| origins.deny.get(place))
    }
}

/// Where it is told.
#[derive(Clone)]
pub(crate) struct Ledgers {
    pub(crate) audit: AuditLog,
    pub(crate) identity: Arc<Identity>,
    pub(crate) metrics: MeshMetrics,
    pub(crate) names: Arc<LearnedNames>,
}

/// What has been dropped since the rules were installed, as far as it is told already.
pub(crate) struct Accounts {
    ledgers: Ledgers,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    origins: Origins,
    counts: HashMap<DeniedBy, u64>,
    /// Told by the kernel and not yet by this.
    packets: Vec<DeniedPacket>,
    last_line: Option<Instant>,
}

/// Packets between the same ends, dropped by the same rule.
type Ends = (DeniedBy, u8, IpAddr, SocketAddr);

impl Accounts {
    pub(crate) fn new(ledgers: Ledgers) -> Self {
        Self { ledgers, known: Mutex::default() }
    }

    /// Installs other rules. What the present ones have dropped is told before. Blocks.
    pub(crate) fn install(
        &self,
        filter: &PacketFilter,
        origins: Origins,
    ) -> Result<(), PacketFilterError> {
        let namespace = NetworkNamespace::current()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.settle(&mut known, &namespace);
        filter.install(&namespace)?;
        known.counts.clear();
        known.origins = origins;
        Ok(())
    }

    /// Tells what is dropped. Never ends.
    pub(crate) async fn keep(self: Arc<Self>) {
        let told = NetworkNamespace::current()
            .map_err(PacketFilterError::from)
            .and_then(|namespace| DeniedPackets::listen(&namespace));
        loop {
            match &told {
                Ok(told) => {
                    let Ok(packets) = told.next().await else {
                        tokio::time::sleep(COUNTS_PERIOD).await;
                        continue;
                    };
                    self.note(packets);
                    let end = Instant::now() + GATHER;
                    while let Ok(Ok(packets)) = tokio::time::timeout_at(end, told.next()).await {
                        self.note(packets);
                    }
                }
                // A proxy that may not listen may not install rules either, or the kernel cannot tell: then its counts may do.
                Err(error) if error.is_not_permitted() => return,
                Err(_) => tokio::time::sleep(COUNTS_PERIOD).await,
            }
            let own = self.clone();
            let settle = move || {
                let Ok(namespace) = NetworkNamespace::current() else { return };
                let mut known = own.known.lock().unwrap_or_else(PoisonError::into_inner);
                own.settle(&mut known, &namespace);
            };
            let _ = tokio::task::spawn_blocking(settle).await;
        }
    }

    fn note(&self, packets: Vec<DeniedPacket>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).packets.extend(packets);
    }

    /// Tells what is not told yet.
    fn settle(&self, known: &mut Known, namespace: &NetworkNamespace) {
        let packets = std::mem::take(&mut known.packets);
        let Ok(counts) = denied_counts(namespace) else { return };
        let mut fresh: HashMap<DeniedBy, u64> = HashMap::new();
        for (by, count) in counts {
            let before = known.counts.insert(by, count).unwrap_or(0);
            // Fewer than before: the rules are others by now.
            let more = count.checked_sub(before).unwrap_or(count);
            if more > 0 {
                fresh.insert(by, more);
            }
        }
        let mut ends: HashMap<Ends, (u64, Option<u16>)> = HashMap::new();
        for packet in &packets {
            let (from, to) = packet.ports.map_or((None, 0), |(from, to)| (Some(from), to));
            let to = SocketAddr::new(packet.destination, to);
            let key = (packet.by, packet.protocol, packet.source, to);
            if ends.len() < RECORDS_MAX || ends.contains_key(&key) {
                ends.entry(key).or_insert((0, from)).0 += 1;
            }
        }
        for (by, more) in &fresh {
            let direction = if by.leaving { Direction::Outbound } else { Direction::Inbound };
            let origin = known.origins.of(*by);
            self.ledgers.metrics.record_packets_denied(direction, &label(origin), *more);
        }
        for ((by, protocol, source, destination), (count, port)) in ends {
            // Of what the kernel has told, each is among what it has counted.
            if let Some(left) = fresh.get_mut(&by) {
                *left = left.saturating_sub(count);
            }
            let source = SocketAddr::new(source, port.unwrap_or(0));
            let rule = known.origins.of(by);
            let ends = Some((source, destination));
            self.tell(by, name_of(protocol), ends, count, rule, &mut known.last_line);
        }
        for (by, left) in fresh.into_iter().filter(|(_, left)| *left > 0) {
            self.tell(by, "", None, left, known.origins.of(by), &mut known.last_line);
        }
    }

    fn tell(
        &self,
        by: DeniedBy,
        protocol: &str,
        ends: Option<(SocketAddr, SocketAddr)>,
        count: u64,
        rule: Option<&Origin>,
        last_line: &mut Option<Instant>,
    ) {
        let Ledgers { audit, identity, names, .. } = &self.ledgers;
        let place =
            rule.map_or_else(|| "a rule that is not there any more".to_owned(), Origin::to_string);
        let reason = match by.rule {
            Some(_) => format!("packets denied by {place}"),
            None => format!("no rule allows these packets; closed by {place}"),
        };
        let host = match ends {
            Some((_, destination)) if by.leaving => names.of(destination.ip(), now_s()).join(", "),
            _ => String::new(),
        };
        Ledger { audit, identity }.packets_denied(&account::DeniedPackets {
            leaving: by.leaving,
            protocol,
            ends,
            host: &host,
            count,
            reason: &reason,
            rule,
        });
        let now = Instant::now();
        if last_line.is_some_and(|last| now < last + LINE_PERIOD) {
            return;
        }
        *last_line = Some(now);
        let direction = if by.leaving { "outbound" } else { "inbound" };
        let (source, destination) = ends.map_or_else(Default::default, |(source, destination)| {
            (source.to_string(), destination.to_string())
        });
        let hint = "what passes no proxy is judged by addresses, protocol and port alone; the audit log has more";
        warn!(
            direction,
            protocol,
            source,
            destination,
            count,
            why = reason,
            hint,
            "packets denied"
        );
    }
}

fn label(origin: Option<&Origin>) -> String {
    match origin {
        Some(origin) if origin.namespace.is_empty() => format!("{}/{}", origin.kind, origin.name),
        Some(origin) => format!("{}/{}/{}", origin.kind, origin.namespace, origin.name),
        None => "unknown".to_owned(),
    }
}

/// As policies call it.
fn name_of(protocol: u8) -> &'static str {
    match protocol {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        _ => "ip",
    }
}
