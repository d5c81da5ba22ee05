//! What an operator must be told of connections and requests that did not go well: a metric for each, a line for some.
//!
//! Peers can cause these as often as they like, so lines are bounded: of each kind a few in a time, and the first one
//! after that says how many were left out. Metrics count all. Nothing here decides anything.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::{Direction, MeshMetrics};
use heddle_tls::PeerVerificationError;
use tokio::time::Instant;
use tracing::warn;

use crate::upstream::{self, UpstreamError, reason_of};

/// Lines of one kind within [`LINES_PERIOD`].
const LINES_MAX: u32 = 5;
const LINES_PERIOD: Duration = Duration::from_secs(10);

/// What to do about a destination that nothing configures.
pub(crate) const REGISTRY_HINT: &str =
    "add a ServiceEntry for the host, or set outboundTrafficPolicy ALLOW_ANY";

/// Who and what, for a line.
#[derive(Clone, Copy)]
pub(crate) struct Parties<'a> {
    pub(crate) direction: Direction,
    /// Who connected; none: it is not known here, or the workload itself did.
    pub(crate) source: Option<SocketAddr>,
    /// The proven identity of the other end; empty: none.
    pub(crate) peer: &'a str,
    /// Where to: an address, or a service and its port.
    pub(crate) destination: &'a dyn Display,
}

/// What a thread tells of failures.
pub(crate) struct Events {
    metrics: Option<MeshMetrics>,
    lines: RefCell<HashMap<(Direction, Reason), Lines>>,
}

/// The lines of one kind in the present period.
struct Lines {
    since: Instant,
    written: u32,
    left_out: u64,
}

impl Events {
    pub(crate) fn new(metrics: Option<MeshMetrics>) -> Self {
        Self { metrics, lines: RefCell::default() }
    }

    /// Counts a request that did not end well.
    pub(crate) fn count(&self, direction: Direction, reason: Option<Reason>) {
        if let (Some(metrics), Some(reason)) = (&self.metrics, reason) {
            metrics.record_failed(direction, reason);
        }
    }

    /// A connection that was refused or failed. `why` is what is wrong, `hint` what to do about it.
    pub(crate) fn failed(
        &self,
        parties: Parties<'_>,
        reason: Reason,
        why: &dyn Display,
        hint: &str,
    ) {
        self.count(parties.direction, Some(reason));
        self.line(parties, reason, "connection failed", why, hint);
    }

    /// A destination that is refused; it is counted where the request or stream ends.
    pub(crate) fn refused(
        &self,
        parties: Parties<'_>,
        reason: Reason,
        why: &dyn Display,
        hint: &str,
    ) {
        self.line(parties, reason, "refused", why, hint);
    }

    /// A policy that denied a connection or request; it is counted where the request is recorded.
    pub(crate) fn denied(&self, parties: Parties<'_>, what: &dyn Display, origin: &Origin) {
        let hint = "allow the caller in that policy, or see who it is: `heddle explain`";
        let why = format_args!("{what} denied by {origin}");
        self.line(parties, Reason::AuthorizationDenied, "denied", &why, hint);
    }

    /// An external authoriser that could not be asked.
    pub(crate) fn authorizer(&self, direction: Direction, name: &str, fail_open: bool, why: &str) {
        let destination = format!("the authoriser `{name}`");
        let parties = Parties { direction, source: None, peer: "", destination: &destination };
        let hint = if fail_open {
            "requests go on without it, since `failOpen` is set"
        } else {
            "requests that need it are refused until it answers"
        };
        self.line(parties, Reason::AuthorizationDenied, "no external authorisation", &why, hint);
    }

    /// A rate limit service that could not be asked.
    pub(crate) fn limiter(&self, direction: Direction, domain: &str, fail_closed: bool, why: &str) {
        let destination = format!("the rate limits of `{domain}`");
        let parties = Parties { direction, source: None, peer: "", destination: &destination };
        let hint = if fail_closed {
            "requests that need it are refused until it answers (`failure_mode_deny`)"
        } else {
            "requests go on without it; set `failure_mode_deny` to refuse them"
        };
        self.line(parties, Reason::RateLimitService, "nobody counts requests", &why, hint);
    }

    /// A TLS handshake that failed, or a peer that is not acceptable after it.
    pub(crate) fn handshake(
        &self,
        parties: Parties<'_>,
        refusal: Option<&PeerVerificationError>,
        error: &dyn Error,
    ) {
        if let Some(metrics) = &self.metrics {
            let word = refusal.map_or("handshake", PeerVerificationError::reason);
            metrics.record_peer_refused(parties.direction, word);
        }
        let presented = refusal.and_then(PeerVerificationError::presented).map(ToString::to_string);
        let parties = Parties { peer: presented.as_deref().unwrap_or(parties.peer), ..parties };
        let hint = match refusal {
            Some(PeerVerificationError::WrongIdentity { .. }) => {
                "the address belongs to another workload than the control plane says, or subjectAltNames name another one"
            }
            Some(
                PeerVerificationError::Expired { .. } | PeerVerificationError::NotYetValid { .. },
            ) => "compare the clocks; `heddle certs` shows what is issued",
            Some(PeerVerificationError::Revoked { .. }) => {
                "`heddle certs` shows what is revoked; the peer's proxy gets another certificate by itself"
            }
            Some(_) => "both ends must have certificates of trusted roots: `heddle certs`",
            None => "the log of the proxy at the other end may say more",
        };
        let why = heddle_diag::error_chain(error);
        self.line(parties, Reason::PeerIdentity, "TLS handshake failed", &why, hint);
    }

    /// An endpoint that could not be connected to. The request or stream that it was for is counted where it ends.
    pub(crate) fn upstream(&self, parties: Parties<'_>, error: &UpstreamError) {
        let refusal = upstream::refusal_of(error);
        let hint = match error {
            UpstreamError::Identity(_) | UpstreamError::Handshake(_) => {
                return self.handshake(parties, refusal.as_ref(), error);
            }
            UpstreamError::Denied(_) => {
                let hint = "allow the destination there, or see what decides: `heddle explain`";
                return self.line(parties, reason_of(error), "denied", error, hint);
            }
            UpstreamError::NotAdmitted(_) => REGISTRY_HINT,
            // The breaker does what it is there for; metrics tell.
            UpstreamError::Overflow(_) => return,
            UpstreamError::NoIdentity => "this proxy's log says why it has no certificate",
            UpstreamError::Resolve { .. } => {
                "is the name in a ServiceEntry or Service spelled right?"
            }
            UpstreamError::Tunnel { .. } => "may the proxy at the endpoint open that tunnel?",
            UpstreamError::TlsSettings(_) => "see the tls settings of the DestinationRule",
            UpstreamError::Outside(_) => "the host's network, or what the mesh may reach outside",
            UpstreamError::Http2(_) | UpstreamError::Http2Refused => {
                "does the application speak HTTP/2 on that port?"
            }
            UpstreamError::Connect(_) | UpstreamError::Header(_) | UpstreamError::Timeout(_) => {
                "is the application running and listening on that port?"
            }
        };
        let why = heddle_diag::error_chain(error);
        self.line(parties, reason_of(error), "no connection to an endpoint", &why, hint);
    }

    fn line(
        &self,
        parties: Parties<'_>,
        reason: Reason,
        what: &str,
        why: &dyn Display,
        hint: &str,
    ) {
        let Some(left_out) = self.may_write(parties.direction, reason, Instant::now()) else {
            return;
        };
        let Parties { direction, source, peer, destination } = parties;
        let (direction, reason) = (direction.as_str(), reason.as_str());
        let source = source.map_or_else(|| "the workload".to_owned(), |source| source.to_string());
        let peer = if peer.is_empty() { "unknown" } else { peer };
        warn!(direction, reason, source, peer, %destination, %why, hint, left_out, "{what}");
    }

    /// How many lines were left out before this one; none: this one is as well.
    fn may_write(&self, direction: Direction, reason: Reason, now: Instant) -> Option<u64> {
        let mut lines = self.lines.borrow_mut();
        let fresh = || Lines { since: now, written: 0, left_out: 0 };
        let lines = lines.entry((direction, reason)).or_insert_with(fresh);
        if now.saturating_duration_since(lines.since) >= LINES_PERIOD {
            lines.since = now;
            lines.written = 0;
        }
        if lines.written >= LINES_MAX {
            lines.left_out += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_kind_are_bounded_and_those_left_out_are_told() {
        let events = Events::new(None);
        let begin = Instant::now();
        let ask = |reason, seconds| {
            events.may_write(Direction::Inbound, reason, begin + Duration::from_secs(seconds))
        };
        for _ in 0..LINES_MAX {
            assert_eq!(ask(Reason::PlaintextRefused, 0), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(ask(Reason::PlaintextRefused, 9), None);
        }
        assert_eq!(ask(Reason::PeerIdentity, 9), Some(0));
        assert_eq!(ask(Reason::PlaintextRefused, 10), Some(7));
        assert_eq!(ask(Reason::PlaintextRefused, 10), Some(0));
    }
}
