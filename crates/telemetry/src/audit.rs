//! The audit log: one JSON line for each decision about a connection or request that somebody may have to account for.
//!
//! Denied ones are always written; allowed ones where a policy (AUDIT) or the setting says so. Lines go to a [`Sink`], so
//! that nobody ever waits for a disk: what the disk cannot take is dropped and counted, and the counts are metrics.

mod rotate;
mod settings;

use std::net::SocketAddr;
use std::time::SystemTime;

use heddle_diag::{JsonWriter, Origin};

use crate::metrics::{Group, GroupDefinition, Kind, Metric, Registry};
use crate::{Sink, rfc3339};

pub use rotate::{RotatingFile, RotationSettings};
pub use settings::{AuditSettingError, AuditSettings};

/// Lines of the audit log.
pub static LINES: GroupDefinition = GroupDefinition {
    labels: &["sink"],
    metrics: &[
        Metric {
            name: "heddle_audit_records_total",
            help: "Records handed to the audit log.",
            kind: Kind::Counter,
        },
        Metric {
            name: "heddle_audit_records_dropped_total",
            help: "Records that the audit log could not take, since its sink was too slow.",
            kind: Kind::Counter,
        },
    ],
    expires: false,
};

/// The longest text of a peer's in a record, in bytes; more is cut off.
const TEXT_BYTES_MAX: usize = 1024;

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes on.
    Allow,
    /// It does not.
    Deny,
    /// It goes on, and would not if what is on trial were enforced.
    WouldDeny,
}

impl Outcome {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::WouldDeny => "would-deny",
        }
    }
}

/// Which decisions are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AuditLevel {
    /// Every one.
    All,
    /// Denied ones, and those that a policy marks.
    #[default]
    Marked,
}

/// A decision. Empty texts are left out.
#[derive(Clone, Copy, Debug)]
pub struct AuditRecord<'a> {
    /// When.
    pub time: SystemTime,
    /// What.
    pub outcome: Outcome,
    /// What it was decided by: `authorization`, `token`, `external-authorizer`, `mutual-tls`; of what the workload does to
    /// others `egress`, `registry` (nothing configures the destination) and `name` (a question to the name server); `packets`
    /// where the kernel decided.
    pub by: &'a str,
    /// In words, for the operator.
    pub reason: &'a str,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// The proxy's own identity.
    pub workload: &'a str,
    /// Who asked: its proven identity.
    pub identity: &'a str,
    /// `mutual-tls`, `tls`, `plaintext`; of packets the protocol: `udp`, `icmp`, `icmpv6`, `sctp`, `tcp`, `ip`.
    pub transport: &'a str,
    /// `issuer/subject` of its token.
    pub token: &'a str,
    /// Where it came from.
    pub source: Option<SocketAddr>,
    /// Where it was going.
    pub destination: Option<SocketAddr>,
    /// Outbound: what the destination is called, as far as that is known.
    pub host: &'a str,
    /// How many were decided alike, where they are counted and not each told.
    pub count: Option<u64>,
    /// The request; none for a stream.
    pub request: Option<AuditedRequest<'a>>,
    /// The rule, or the setting, that decided.
    pub rule: Option<&'a Origin>,
    /// The rule of an AUDIT policy that marked it.
    pub audit: Option<&'a Origin>,
}

/// What of a request is written.
#[derive(Clone, Copy, Debug)]
pub struct AuditedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// `Host` or `:authority`.
    pub host: &'a str,
    /// The path after normalisation, without its query, which may hold secrets.
    pub path: &'a str,
    /// `x-request-id`.
    pub id: &'a str,
}

impl AuditRecord<'_> {
    /// The line, with its line feed.
    pub fn line(&self) -> String {
        let mut json = JsonWriter::new();
        json.open_object();
        json.field("time", &rfc3339(self.time));
        json.field("event", "authorization");
        json.field("decision", self.outcome.as_str());
        json.field("by", self.by);
        json.field("direction", self.direction);
        for (key, text) in [
            ("reason", self.reason),
            ("workload", self.workload),
            ("identity", self.identity),
            ("transport", self.transport),
            ("token", self.token),
        ] {
            optional(&mut json, key, text);
        }
        for (key, address) in [("source", self.source), ("destination", self.destination)] {
            if let Some(address) = address {
                json.field(key, &address.to_string());
            }
        }
        optional(&mut json, "host", self.host);
        if let Some(count) = self.count {
            json.key("count");
            json.raw(&count.to_string());
        }
        if let Some(request) = &self.request {
            json.key("request");
            json.open_object();
            for (key, text) in [
                ("method", request.method),
                ("host", request.host),
                ("path", request.path),
                ("id", request.id),
            ] {
                optional(&mut json, key, text);
            }
            json.close_object();
        }
        for (key, origin) in [("rule", self.rule), ("audit", self.audit)] {
            if let Some(origin) = origin {
                json.key(key);
                json.origin(origin);
            }
        }
        json.close_object();
        let mut line = json.finish();
        line.push('\n');
        line
    }
}

fn optional(json: &mut JsonWriter, key: &str, text: &str) {
    if !text.is_empty() {
        json.field(key, &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
    }
}

/// Where the records of a process go; cheap to clone. Without sinks nothing is written.
#[derive(Clone, Debug, Default)]
pub struct AuditLog {
    level: AuditLevel,
    sinks: Vec<(&'static str, Sink)>,
    lines: Option<Group>,
}

impl AuditLog {
    /// A log of these sinks, each with the name that metrics call it.
    pub fn new(
        level: AuditLevel,
        sinks: Vec<(&'static str, Sink)>,
        registry: Option<&Registry>,
    ) -> Self {
        Self { level, sinks, lines: registry.map(|registry| registry.group(&LINES)) }
    }

    /// Whether allowed decisions that nothing marks are written too.
    pub fn writes_all(&self) -> bool {
        self.level == AuditLevel::All && self.is_on()
    }

    /// Whether anything is written.
    pub fn is_on(&self) -> bool {
        !self.sinks.is_empty()
    }

    /// Hands over a record. Never waits.
    pub fn write(&self, record: &AuditRecord<'_>) {
        if !self.is_on() {
            return;
        }
        let line = record.line();
        for (name, sink) in &self.sinks {
            let taken = sink.write_line(line.as_bytes());
            let Some(series) = self.lines.as_ref().map(|lines| lines.series(&[name])) else {
                continue;
            };
            let place = usize::from(!taken);
            series.counter(0).iter().for_each(crate::metrics::Counter::increment);
            if place == 1 {
                series.counter(place).iter().for_each(crate::metrics::Counter::increment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;
    use crate::SinkSettings;
    use crate::metrics::RegistrySettings;

    pub(super) fn record<'a>(rule: &'a Origin, path: &'a str) -> AuditRecord<'a> {
        AuditRecord {
            time: SystemTime::UNIX_EPOCH,
            outcome: Outcome::Deny,
            by: "authorization",
            reason: "denied by a rule",
            direction: "inbound",
            workload: "spiffe://a/ns/b/sa/c",
            identity: "",
            transport: "plaintext",
            token: "",
            source: "10.0.0.1:4000".parse().ok(),
            destination: "10.0.0.2:80".parse().ok(),
            host: "",
            count: None,
            request: Some(AuditedRequest { method: "GET", host: "c", path, id: "" }),
            rule: Some(rule),
            audit: None,
        }
    }

    #[test]
    fn a_record_is_one_line_of_json_whatever_a_peer_sends() {
        let rule = Origin::built_in("default");
        let line = record(&rule, "/\n\"\u{0}{").line();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["decision"], "deny");
        assert_eq!(json["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(json["request"]["path"], "/\n\"\u{0}{");
        assert_eq!(json["rule"]["name"], "default");
        assert_eq!(json.get("identity"), None);
        let long = format!("/{}", "ä".repeat(5000));
        assert!(record(&rule, &long).line().len() < 2000);
    }

    struct Gate(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_stuck_sink_cannot_take_is_dropped_and_counted() {
        let registry = Registry::new(RegistrySettings::default());
        let (key, open) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let settings = SinkSettings { waiting_bytes_max: 2_000, ..SinkSettings::default() };
        let (sink, guard) = Sink::spawn("audit", Gate(open, written.clone()), settings).unwrap();
        let log = AuditLog::new(AuditLevel::Marked, vec![("file", sink.clone())], Some(&registry));
        let rule = Origin::built_in("default");
        for _ in 0..100 {
            log.write(&record(&rule, "/"));
        }
        let dropped = sink.dropped();
        assert!(dropped > 80, "{dropped}");
        let mut page = String::new();
        registry.encode(std::time::Instant::now(), &mut page);
        assert!(page.contains(r#"heddle_audit_records_total{sink="file"} 100"#), "{page}");
        let line = format!(r#"heddle_audit_records_dropped_total{{sink="file"}} {dropped}"#);
        assert!(page.contains(&line), "{page}");
        for _ in 0..100 {
            let _ = key.send(());
        }
        drop(guard);
        let lines = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(lines.lines().count() as u64, 100 - dropped);
    }
}
