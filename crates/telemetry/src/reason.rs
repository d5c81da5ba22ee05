//! Why a request or connection did not end well: the one closed list behind flags, details and dashboard columns.

use crate::flags::{ResponseFlag, ResponseFlags};

/// Whose fault it is, as far as this proxy can tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The side that called.
    Client,
    /// The mesh: its configuration, its policies, this proxy.
    Mesh,
    /// The side that was called, or the way to it.
    Upstream,
}

/// Why a request or connection did not end well.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// A policy denies it.
    AuthorizationDenied,
    /// The circuit breaker's limit of connections or requests is reached.
    CircuitOverflow,
    /// The client broke the protocol.
    ClientProtocol,
    /// The client closed the connection or reset the stream.
    ClientReset,
    /// The upstream could not be connected to.
    ConnectFailure,
    /// Connecting took too long.
    ConnectTimeout,
    /// The destination is not configured.
    DestinationUnknown,
    /// This proxy is going away.
    Draining,
    /// An abort was injected.
    FaultAbort,
    /// A rate limit that a service counts is reached.
    GlobalRateLimit,
    /// Nothing moved for too long.
    IdleTimeout,
    /// A broken invariant of this proxy.
    Internal,
    /// A limit of this proxy is reached: connections, memory, header or body size.
    LimitReached,
    /// The name could not be resolved.
    NameResolution,
    /// No endpoint is healthy.
    NoHealthyEndpoint,
    /// No route matches.
    NoRoute,
    /// The peer's certificate is not acceptable, or ours was not to the peer.
    PeerIdentity,
    /// Plaintext came where mutual TLS is required.
    PlaintextRefused,
    /// A rate limit that the proxy counts is reached.
    RateLimit,
    /// A rate limit service has not answered.
    RateLimitService,
    /// The request took too long.
    RequestTimeout,
    /// Every attempt failed.
    RetriesExhausted,
    /// The upstream closed the connection before the answer was complete.
    UpstreamClosed,
    /// The upstream broke the protocol.
    UpstreamProtocol,
    /// The upstream reset the stream.
    UpstreamReset,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 25] = [
        Self::AuthorizationDenied,
        Self::CircuitOverflow,
        Self::ClientProtocol,
        Self::ClientReset,
        Self::ConnectFailure,
        Self::ConnectTimeout,
        Self::DestinationUnknown,
        Self::Draining,
        Self::FaultAbort,
        Self::GlobalRateLimit,
        Self::IdleTimeout,
        Self::Internal,
        Self::LimitReached,
        Self::NameResolution,
        Self::NoHealthyEndpoint,
        Self::NoRoute,
        Self::PeerIdentity,
        Self::PlaintextRefused,
        Self::RateLimit,
        Self::RateLimitService,
        Self::RequestTimeout,
        Self::RetriesExhausted,
        Self::UpstreamClosed,
        Self::UpstreamProtocol,
        Self::UpstreamReset,
    ];

    /// The metric label and dashboard column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationDenied => "authorization_denied",
            Self::CircuitOverflow => "circuit_overflow",
            Self::ClientProtocol => "client_protocol",
            Self::ClientReset => "client_reset",
            Self::ConnectFailure => "connect_failure",
            Self::ConnectTimeout => "connect_timeout",
            Self::DestinationUnknown => "destination_unknown",
            Self::Draining => "draining",
            Self::FaultAbort => "fault_abort",
            Self::GlobalRateLimit => "global_rate_limit",
            Self::IdleTimeout => "idle_timeout",
            Self::Internal => "internal",
            Self::LimitReached => "limit_reached",
            Self::NameResolution => "name_resolution",
            Self::NoHealthyEndpoint => "no_healthy_endpoint",
            Self::NoRoute => "no_route",
            Self::PeerIdentity => "peer_identity",
            Self::PlaintextRefused => "plaintext_refused",
            Self::RateLimit => "rate_limit",
            Self::RateLimitService => "rate_limit_service",
            Self::RequestTimeout => "request_timeout",
            Self::RetriesExhausted => "retries_exhausted",
            Self::UpstreamClosed => "upstream_closed",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::UpstreamReset => "upstream_reset",
        }
    }

    /// The response flag; none where Envoy has none, as for a policy's denial.
    pub fn flag(self) -> Option<ResponseFlag> {
        Some(match self {
            Self::AuthorizationDenied | Self::PlaintextRefused => return None,
            Self::CircuitOverflow => ResponseFlag::UpstreamOverflow,
            Self::ClientProtocol => ResponseFlag::DownstreamProtocolError,
            Self::ClientReset => ResponseFlag::DownstreamConnectionTermination,
            Self::ConnectFailure | Self::ConnectTimeout | Self::PeerIdentity => {
                ResponseFlag::UpstreamConnectionFailure
            }
            Self::DestinationUnknown => ResponseFlag::NoClusterFound,
            Self::Draining | Self::Internal => ResponseFlag::LocalReset,
            Self::FaultAbort => ResponseFlag::FaultInjected,
            Self::IdleTimeout => ResponseFlag::StreamIdleTimeout,
            Self::LimitReached => ResponseFlag::OverloadManager,
            Self::NameResolution => ResponseFlag::DnsResolutionFailure,
            Self::NoHealthyEndpoint => ResponseFlag::NoHealthyUpstream,
            Self::NoRoute => ResponseFlag::NoRoute,
            Self::GlobalRateLimit | Self::RateLimit => ResponseFlag::RateLimited,
            Self::RateLimitService => ResponseFlag::RateLimitServiceError,
            Self::RequestTimeout => ResponseFlag::UpstreamRequestTimeout,
            Self::RetriesExhausted => ResponseFlag::UpstreamRetryLimitExceeded,
            Self::UpstreamClosed => ResponseFlag::UpstreamConnectionTermination,
            Self::UpstreamProtocol => ResponseFlag::UpstreamProtocolError,
            Self::UpstreamReset => ResponseFlag::UpstreamRemoteReset,
        })
    }

    /// The flag as a set.
    pub fn flags(self) -> ResponseFlags {
        self.flag().map_or(ResponseFlags::NONE, ResponseFlags::from)
    }

    /// `RESPONSE_CODE_DETAILS` of the access log, as Envoy writes it where it has a word for it. A denial by policy
    /// adds the policy: `rbac_access_denied_matched_policy[…]`.
    pub fn details(self) -> &'static str {
        match self {
            Self::AuthorizationDenied => "rbac_access_denied_matched_policy[none]",
            Self::CircuitOverflow => "upstream_reset_before_response_started{overflow}",
            Self::ClientProtocol => "http1.codec_error",
            Self::ClientReset => "downstream_remote_disconnect",
            Self::ConnectFailure => {
                "upstream_reset_before_response_started{remote_connection_failure}"
            }
            Self::ConnectTimeout => "upstream_reset_before_response_started{connection_timeout}",
            Self::DestinationUnknown => "cluster_not_found",
            Self::Draining => "draining",
            Self::FaultAbort => "fault_filter_abort",
            Self::GlobalRateLimit => "request_rate_limited",
            Self::IdleTimeout => "stream_idle_timeout",
            Self::Internal => "internal_error",
            Self::LimitReached => "overload",
            Self::NameResolution => "dns_resolution_failure",
            Self::NoHealthyEndpoint => "no_healthy_upstream",
            Self::NoRoute => "route_not_found",
            Self::PeerIdentity => {
                "upstream_reset_before_response_started{remote_connection_failure|TLS_error}"
            }
            Self::PlaintextRefused => "plaintext_refused",
            Self::RateLimit => "local_rate_limited",
            Self::RateLimitService => "rate_limiter_error",
            Self::RequestTimeout => "response_timeout",
            Self::RetriesExhausted => "upstream_reset_before_response_started{retry_limit}",
            Self::UpstreamClosed => {
                "upstream_reset_before_response_started{connection_termination}"
            }
            Self::UpstreamProtocol => "upstream_reset_before_response_started{protocol_error}",
            Self::UpstreamReset => "upstream_reset_before_response_started{remote_reset}",
        }
    }

    /// Whose fault it is.
    pub fn fault(self) -> Fault {
        match self {
            Self::ClientProtocol
            | Self::ClientReset
            | Self::AuthorizationDenied
            | Self::PlaintextRefused
            | Self::GlobalRateLimit
            | Self::RateLimit => Fault::Client,
            Self::CircuitOverflow
            | Self::DestinationUnknown
            | Self::Draining
            | Self::FaultAbort
            | Self::Internal
            | Self::LimitReached
            | Self::NoRoute
            | Self::PeerIdentity
            | Self::RateLimitService => Fault::Mesh,
            Self::ConnectFailure
            | Self::ConnectTimeout
            | Self::IdleTimeout
            | Self::NameResolution
            | Self::NoHealthyEndpoint
            | Self::RequestTimeout
            | Self::RetriesExhausted
            | Self::UpstreamClosed
            | Self::UpstreamProtocol
            | Self::UpstreamReset => Fault::Upstream,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reasons_have_words_of_their_own() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        let details: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.details()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        assert_eq!(details.len(), Reason::ALL.len());
        assert!(Reason::ALL.is_sorted());
    }

    #[test]
    fn a_policys_denial_has_no_flag() {
        assert_eq!(Reason::AuthorizationDenied.flags().to_string(), "-");
        assert_eq!(Reason::CircuitOverflow.flags().to_string(), "UO");
    }
}
