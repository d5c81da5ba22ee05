//! What is written into the audit log about what the workload may not do to others: who, where to, and the line that says
//! so, or that none allows it.

use std::net::SocketAddr;
use std::time::SystemTime;

use heddle_authz::{Denial, OutboundRefusal, Transport};
use heddle_diag::Origin;
use heddle_telemetry::audit::{AuditLog, AuditRecord, AuditedRequest, Outcome};
use heddle_tls::Identity;

use super::OwnHead;
use crate::snapshot::DestinationState;
use crate::upstream::{Target, UpstreamError};
use crate::worker::Worker;

/// What a policy has denied.
#[derive(Debug)]
pub(crate) struct Denied {
    why: String,
    rule: Origin,
    source: SocketAddr,
    destination: Option<SocketAddr>,
    transport: Transport,
    /// What the destination was found under.
    names: Vec<String>,
    request: Option<OwnHead>,
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl Denied {
    pub(super) fn new(
        denial: &Denial<'_>,
        source: SocketAddr,
        destination: Option<SocketAddr>,
        connection: &heddle_authz::Connection,
        request: Option<&OwnHead>,
    ) -> Box<Self> {
        let said = connection.server_name().map(str::to_owned);
        let names = connection.destination_names().iter().cloned();
        Box::new(Self {
            why: denial.to_string(),
            rule: denial.origin().clone(),
            source,
            destination,
            transport: connection.transport(),
            names: said.into_iter().chain(names).collect(),
            request: request.cloned(),
        })
    }
}

/// Where records of a proxy go, and who it is.
#[derive(Clone, Copy)]
pub(crate) struct Ledger<'a> {
    pub(crate) audit: &'a AuditLog,
    pub(crate) identity: &'a Identity,
}

/// What is known of something that was denied.
struct Entry<'a> {
    by: &'static str,
    reason: &'a str,
    transport: &'a str,
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    host: &'a str,
    count: Option<u64>,
    direction: &'static str,
    request: Option<AuditedRequest<'a>>,
    rule: Option<&'a Origin>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn of(worker: &'a Worker) -> Self {
        Self { audit: &worker.shared.audit, identity: &worker.shared.identity }
    }

    fn write(self, entry: &Entry<'_>) {
        if !self.audit.is_on() {
            return;
        }
        let own = self.identity.current();
        let own = own.map(|own| own.svid().identity.to_string()).unwrap_or_default();
        // What leaves the workload's namespace is the workload's.
        let identity = if entry.direction == "outbound" { own.as_str() } else { "" };
        let now: SystemTime = self.identity.clock().now();
        self.audit.write(&AuditRecord {
            time: now,
            outcome: Outcome::Deny,
            by: entry.by,
            reason: entry.reason,
            direction: entry.direction,
            workload: &own,
            identity,
            transport: entry.transport,
            token: "",
            source: entry.source,
            destination: entry.destination,
            host: entry.host,
            count: entry.count,
            request: entry.request,
            rule: entry.rule,
            audit: None,
        });
    }

    /// A destination that nothing configures.
    pub(crate) fn not_configured(
        self,
        destination: SocketAddr,
        host: &str,
        refusal: &OutboundRefusal,
    ) {
        let reason = format!("{refusal}: {}", crate::events::REGISTRY_HINT);
        self.write(&Entry {
            by: "registry",
            reason: &reason,
            transport: "",
            source: None,
            destination: Some(destination),
            host,
            count: None,
            direction: "outbound",
            request: None,
            rule: None,
        });
    }

    /// A name that may not be asked for.
    pub(crate) fn name_refused(self, name: &str, denial: &Denial<'_>) {
        self.write(&Entry {
            by: "name",
            reason: &denial.to_string(),
            transport: "",
            source: None,
            destination: None,
            host: name,
            count: None,
            direction: "outbound",
            request: None,
            rule: Some(denial.origin()),
        });
    }

    /// Packets that the kernel has dropped, between these ends; none: they are only counted.
    pub(crate) fn packets_denied(self, packets: &DeniedPackets<'_>) {
        let DeniedPackets { leaving, protocol, ends, host, count, reason, rule } = *packets;
        self.write(&Entry {
            by: "packets",
            reason,
            transport: protocol,
            source: ends.map(|(source, _)| source),
            destination: ends.map(|(_, destination)| destination),
            host,
            count: Some(count),
            direction: if leaving { "outbound" } else { "inbound" },
            request: None,
            rule,
        });
    }
}

/// Packets that the kernel has dropped.
#[derive(Clone, Copy)]
pub(crate) struct DeniedPackets<'a> {
    pub(crate) leaving: bool,
    pub(crate) protocol: &'a str,
    /// Where from and where to; none: they are only counted.
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
    pub(crate) host: &'a str,
    pub(crate) count: u64,
    pub(crate) reason: &'a str,
    pub(crate) rule: Option<&'a Origin>,
}

/// Writes down what could not be connected to, where a policy or the lack of a ServiceEntry is why.
pub(crate) fn refused(
    worker: &Worker,
    state: &DestinationState,
    target: &Target,
    error: &UpstreamError,
) {
    let id = &state.destination.id;
    match error {
        UpstreamError::Denied(denied) => {
            let host = match target {
                Target::Endpoint(..) if denied.names.is_empty() => {
                    format!("{}:{}", id.host, id.port)
                }
                _ => denied.names.join(", "),
            };
            let request = denied.request.as_ref().map(|head| AuditedRequest {
                method: &head.method,
                host: &head.authority,
                path: &head.path,
                id: "",
            });
            Ledger::of(worker).write(&Entry {
                by: "egress",
                reason: &denied.why,
                transport: denied.transport.name(),
                source: Some(denied.source),
                destination: denied.destination,
                host: &host,
                count: None,
                direction: "outbound",
                request,
                rule: Some(&denied.rule),
            });
        }
        UpstreamError::NotAdmitted(refusal) => {
            if let Some(destination) = super::address_of(target) {
                Ledger::of(worker).not_configured(destination, "", refusal);
            }
        }
        _ => {}
    }
}
