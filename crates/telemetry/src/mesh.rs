//! heddle's own metrics of identity and connections, beside Istio's: `heddle_<area>_<what>_<unit>[_total]`.

use crate::metrics::{GroupDefinition, Kind, Metric};

/// Connections that failed or were refused, by direction (`inbound`, `outbound`) and
/// [`Reason`](crate::Reason).
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
            &CERTIFICATES,
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
}
