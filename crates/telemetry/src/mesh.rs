//! heddle's own metrics of identity and connections, beside Istio's: `heddle_<area>_<what>_<unit>[_total]`.

use std::time::{Duration, SystemTime};

use crate::Reason;
use crate::metrics::{Group, GroupDefinition, Kind, Metric, Registry};

/// Connections that failed or were refused, by direction (`inbound`, `outbound`) and
/// [`Reason`].
pub static CONNECTIONS: GroupDefinition = GroupDefinition {
    labels: &["direction", "reason"],
    metrics: &[Metric {
        name: "heddle_connections_failed_total",
        help: "Connections and requests that did not end well, by reason.",
        kind: Kind::Counter,
    }],
    expires: true,
};

/// Peers whose certificate was not accepted, by direction and by the closed list of reasons of peer verification.
pub static PEERS: GroupDefinition = GroupDefinition {
    labels: &["direction", "reason"],
    metrics: &[Metric {
        name: "heddle_peers_refused_total",
        help: "Peers whose certificate was not accepted, by reason.",
        kind: Kind::Counter,
    }],
    expires: true,
};

/// Requests that a rate limit service was asked about, by direction, the domain of the limits, and the outcome.
pub static LIMITS: GroupDefinition = GroupDefinition {
    labels: &["direction", "domain", "outcome"],
    metrics: &[Metric {
        name: "heddle_rate_limit_requests_total",
        help: "Requests that a rate limit service was asked about, by outcome.",
        kind: Kind::Counter,
    }],
    expires: true,
};

/// Packets around the proxy that the kernel dropped as policies say, by direction and by the policy.
pub static PACKETS: GroupDefinition = GroupDefinition {
    labels: &["direction", "policy"],
    metrics: &[Metric {
        name: "heddle_packets_denied_total",
        help: "Packets that pass no proxy and that the kernel dropped, by the policy that says so.",
        kind: Kind::Counter,
    }],
    expires: true,
};

/// A proxy's certificates, by identity.
pub static CERTIFICATES: GroupDefinition = GroupDefinition {
    labels: &["identity"],
    metrics: &[
        Metric {
            name: "heddle_certificate_expiry_timestamp_seconds",
            help: "When the certificate in use expires; 0 for none.",
            kind: Kind::Gauge,
        },
        Metric {
            name: "heddle_certificate_issued_total",
            help: "Certificates received.",
            kind: Kind::Counter,
        },
        Metric {
            name: "heddle_certificate_failures_total",
            help: "Attempts to get a certificate that failed.",
            kind: Kind::Counter,
        },
    ],
    expires: false,
};

/// What a proxy verifies peers with, by trust domain.
pub static ROOTS: GroupDefinition = GroupDefinition {
    labels: &["trust_domain"],
    metrics: &[Metric {
        name: "heddle_root_expiry_timestamp_seconds",
        help: "When the first of the trusted roots expires.",
        kind: Kind::Gauge,
    }],
    expires: false,
};

/// Certificates that a gateway presents, by the Secret they are in.
pub static GATEWAY_CERTIFICATES: GroupDefinition = GroupDefinition {
    labels: &["secret"],
    metrics: &[Metric {
        name: "heddle_gateway_certificate_expiry_timestamp_seconds",
        help: "When the first certificate of a Secret that a gateway presents expires; 0 for none that can be read.",
        kind: Kind::Gauge,
    }],
    expires: false,
};

/// Which side of the workload's proxy something happened on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// From others to the workload.
    Inbound,
    /// From the workload to others.
    Outbound,
}

impl Direction {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What came of asking a rate limit service, in the words of Envoy's statistics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LimitOutcome {
    /// It has not answered, and the request is refused.
    Error,
    /// It has not answered, and the request goes on.
    FailureAllowed,
    /// The request is within its limits.
    Ok,
    /// It is not.
    OverLimit,
}

impl LimitOutcome {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::FailureAllowed => "failure_mode_allowed",
            Self::Ok => "ok",
            Self::OverLimit => "over_limit",
        }
    }
}

/// Records what did not go well, and certificates. Each call looks its series up: none of it is the path of requests
/// that go well.
#[derive(Debug, Clone)]
pub struct MeshMetrics {
    connections: Group,
    peers: Group,
    limits: Group,
    packets: Group,
    certificates: Group,
    roots: Group,
    gateway_certificates: Group,
}

impl MeshMetrics {
    /// The metrics of a registry.
    pub fn new(registry: &Registry) -> Self {
        Self {
            connections: registry.group(&CONNECTIONS),
            peers: registry.group(&PEERS),
            limits: registry.group(&LIMITS),
            packets: registry.group(&PACKETS),
            certificates: registry.group(&CERTIFICATES),
            roots: registry.group(&ROOTS),
            gateway_certificates: registry.group(&GATEWAY_CERTIFICATES),
        }
    }

    /// Counts a connection or request that did not end well.
    pub fn record_failed(&self, direction: Direction, reason: Reason) {
        let series = self.connections.series(&[direction.as_str(), reason.as_str()]);
        series.counter(0).iter().for_each(crate::metrics::Counter::increment);
    }

    /// Counts a peer whose certificate was not accepted; `reason` is a word of a closed list.
    pub fn record_peer_refused(&self, direction: Direction, reason: &'static str) {
        let series = self.peers.series(&[direction.as_str(), reason]);
        series.counter(0).iter().for_each(crate::metrics::Counter::increment);
    }

    /// Counts a request that a rate limit service was asked about.
    pub fn record_limit(&self, direction: Direction, domain: &str, outcome: LimitOutcome) {
        let series = self.limits.series(&[direction.as_str(), domain, outcome.as_str()]);
        series.counter(0).iter().for_each(crate::metrics::Counter::increment);
    }

    /// Counts packets that the kernel dropped; `policy` is `kind/namespace/name`.
    pub fn record_packets_denied(&self, direction: Direction, policy: &str, count: u64) {
        let series = self.packets.series(&[direction.as_str(), policy]);
        series.counter(0).iter().for_each(|counter| counter.add(count));
    }

    /// Counts a certificate that came, and states when it expires.
    pub fn record_certificate(&self, identity: &str, not_after: SystemTime) {
        let since = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.state_expiry(identity, i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        let series = self.certificates.series(&[identity]);
        series.counter(1).iter().for_each(crate::metrics::Counter::increment);
    }

    /// States when the first root of a trust domain expires.
    pub fn record_root(&self, trust_domain: &str, not_after: SystemTime) {
        let since = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        if let Some(gauge) = self.roots.series(&[trust_domain]).gauge(0) {
            gauge.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// States when the certificate of a Secret (`namespace/name`) that a gateway presents expires; none: it presents none of
    /// it.
    pub fn record_gateway_certificate(&self, secret: &str, not_after: Option<SystemTime>) {
        let since = not_after.and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok());
        if let Some(gauge) = self.gateway_certificates.series(&[secret]).gauge(0) {
            let seconds = since.map_or(0, |since| since.as_secs());
            gauge.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
    }

    /// Counts an attempt that brought no certificate.
    pub fn record_certificate_failure(&self, identity: &str) {
        let series = self.certificates.series(&[identity]);
        series.counter(2).iter().for_each(crate::metrics::Counter::increment);
    }

    /// States that there is no certificate in use.
    pub fn record_no_certificate(&self, identity: &str) {
        self.state_expiry(identity, 0);
    }

    fn state_expiry(&self, identity: &str, seconds: i64) {
        if let Some(gauge) = self.certificates.series(&[identity]).gauge(0) {
            gauge.set(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::istio;

    #[test]
    fn names_are_unique_and_well_formed() {
        let groups = [
            &CONNECTIONS,
            &PEERS,
            &LIMITS,
            &PACKETS,
            &CERTIFICATES,
            &ROOTS,
            &crate::audit::LINES,
            &istio::REQUESTS,
            &istio::MESSAGES,
            &istio::TCP,
            &istio::BUILDS,
        ];
        let mut names = BTreeSet::new();
        for metric in groups.iter().flat_map(|group| group.metrics) {
            assert!(names.insert(metric.name), "{} twice", metric.name);
            let well_formed = metric.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(well_formed, "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter);
            assert!(metric.help.ends_with('.'));
        }
    }

    #[test]
    fn events_become_series() {
        let registry = Registry::new(crate::metrics::RegistrySettings::default());
        let metrics = MeshMetrics::new(&registry);
        for _ in 0..2 {
            metrics.record_failed(Direction::Inbound, Reason::PlaintextRefused);
        }
        metrics.record_peer_refused(Direction::Outbound, "wrong_identity");
        metrics.record_limit(Direction::Inbound, "d", LimitOutcome::OverLimit);
        metrics.record_certificate("spiffe://a", SystemTime::UNIX_EPOCH + Duration::from_secs(77));
        metrics.record_certificate_failure("spiffe://a");
        let mut page = String::new();
        registry.encode(std::time::Instant::now(), &mut page);
        for line in [
            r#"heddle_connections_failed_total{direction="inbound",reason="plaintext_refused"} 2"#,
            r#"heddle_peers_refused_total{direction="outbound",reason="wrong_identity"} 1"#,
            r#"heddle_rate_limit_requests_total{direction="inbound",domain="d",outcome="over_limit"} 1"#,
            r#"heddle_certificate_expiry_timestamp_seconds{identity="spiffe://a"} 77"#,
            r#"heddle_certificate_issued_total{identity="spiffe://a"} 1"#,
            r#"heddle_certificate_failures_total{identity="spiffe://a"} 1"#,
        ] {
            assert!(page.contains(line), "{line} not in\n{page}");
        }
        metrics.record_no_certificate("spiffe://a");
        page.clear();
        registry.encode(std::time::Instant::now(), &mut page);
        assert!(page.contains(r#"seconds{identity="spiffe://a"} 0"#), "{page}");
    }
}
