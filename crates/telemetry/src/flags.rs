//! Response flags: the short codes by which Envoy's users read what went wrong, in logs and metric labels.

use std::fmt;

/// One response flag.
///
/// Ordered as Envoy prints several of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum ResponseFlag {
    /// `LH`: the local service failed its health check.
    FailedLocalHealthCheck,
    /// `UH`: no healthy endpoint upstream.
    NoHealthyUpstream,
    /// `UT`: the upstream did not answer in time.
    UpstreamRequestTimeout,
    /// `LR`: the connection was reset by this side.
    LocalReset,
    /// `UR`: the upstream reset the stream.
    UpstreamRemoteReset,
    /// `UF`: no connection to the upstream could be made.
    UpstreamConnectionFailure,
    /// `UC`: the upstream closed the connection.
    UpstreamConnectionTermination,
    /// `UO`: a circuit breaker was open.
    UpstreamOverflow,
    /// `NR`: no route matched.
    NoRoute,
    /// `DI`: a delay was injected.
    DelayInjected,
    /// `FI`: an abort was injected.
    FaultInjected,
    /// `RL`: refused by the local rate limit.
    RateLimited,
    /// `UAEX`: denied by the external authorisation service.
    UnauthorizedExternal,
    /// `RLSE`: the rate-limit service failed.
    RateLimitServiceError,
    /// `DC`: the client closed the connection.
    DownstreamConnectionTermination,
    /// `URX`: retries or connection attempts were used up.
    UpstreamRetryLimitExceeded,
    /// `SI`: the stream was idle for too long.
    StreamIdleTimeout,
    /// `IH`: a header had a value that is checked strictly.
    InvalidHeader,
    /// `DPE`: the client broke the protocol.
    DownstreamProtocolError,
    /// `UMSDR`: the stream reached its longest duration.
    UpstreamMaxStreamDuration,
    /// `RFCF`: the answer came from a cache filter.
    ResponseFromCacheFilter,
    /// `NFCF`: the filter configuration was not there.
    NoFilterConfigFound,
    /// `DT`: the request or connection reached its longest duration.
    DurationTimeout,
    /// `UPE`: the upstream broke the protocol.
    UpstreamProtocolError,
    /// `NC`: the destination is not known.
    NoClusterFound,
    /// `OM`: the overload manager ended it.
    OverloadManager,
    /// `DF`: a name could not be resolved.
    DnsResolutionFailure,
    /// `DO`: the request was dropped because the upstream asked for less.
    DropOverload,
}

impl ResponseFlag {
    /// Every flag, in the order of printing.
    pub const ALL: [Self; 28] = [
        Self::FailedLocalHealthCheck,
        Self::NoHealthyUpstream,
        Self::UpstreamRequestTimeout,
        Self::LocalReset,
        Self::UpstreamRemoteReset,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamOverflow,
        Self::NoRoute,
        Self::DelayInjected,
        Self::FaultInjected,
        Self::RateLimited,
        Self::UnauthorizedExternal,
        Self::RateLimitServiceError,
        Self::DownstreamConnectionTermination,
        Self::UpstreamRetryLimitExceeded,
        Self::StreamIdleTimeout,
        Self::InvalidHeader,
        Self::DownstreamProtocolError,
        Self::UpstreamMaxStreamDuration,
        Self::ResponseFromCacheFilter,
        Self::NoFilterConfigFound,
        Self::DurationTimeout,
        Self::UpstreamProtocolError,
        Self::NoClusterFound,
        Self::OverloadManager,
        Self::DnsResolutionFailure,
        Self::DropOverload,
    ];

    /// The short code.
    pub fn code(self) -> &'static str {
        self.texts().0
    }

    /// What it means, in a few words.
    pub fn meaning(self) -> &'static str {
        self.texts().1
    }

    /// The flag of a short code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.code() == code)
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::FailedLocalHealthCheck => ("LH", "local service failed its health check"),
            Self::NoHealthyUpstream => ("UH", "no healthy upstream endpoint"),
            Self::UpstreamRequestTimeout => ("UT", "upstream did not answer in time"),
            Self::LocalReset => ("LR", "reset by this proxy"),
            Self::UpstreamRemoteReset => ("UR", "reset by the upstream"),
            Self::UpstreamConnectionFailure => ("UF", "no connection to the upstream"),
            Self::UpstreamConnectionTermination => ("UC", "upstream closed the connection"),
            Self::UpstreamOverflow => ("UO", "circuit breaker open"),
            Self::NoRoute => ("NR", "no route matched"),
            Self::DelayInjected => ("DI", "delay injected"),
            Self::FaultInjected => ("FI", "abort injected"),
            Self::RateLimited => ("RL", "rate limited"),
            Self::UnauthorizedExternal => ("UAEX", "denied by external authorization"),
            Self::RateLimitServiceError => ("RLSE", "rate-limit service failed"),
            Self::DownstreamConnectionTermination => ("DC", "client closed the connection"),
            Self::UpstreamRetryLimitExceeded => ("URX", "retries used up"),
            Self::StreamIdleTimeout => ("SI", "stream idle for too long"),
            Self::InvalidHeader => ("IH", "invalid header value"),
            Self::DownstreamProtocolError => ("DPE", "client broke the protocol"),
            Self::UpstreamMaxStreamDuration => ("UMSDR", "longest stream duration reached"),
            Self::ResponseFromCacheFilter => ("RFCF", "answered from a cache"),
            Self::NoFilterConfigFound => ("NFCF", "filter configuration missing"),
            Self::DurationTimeout => ("DT", "longest duration reached"),
            Self::UpstreamProtocolError => ("UPE", "upstream broke the protocol"),
            Self::NoClusterFound => ("NC", "destination not known"),
            Self::OverloadManager => ("OM", "overloaded"),
            Self::DnsResolutionFailure => ("DF", "name not resolved"),
            Self::DropOverload => ("DO", "dropped to relieve the upstream"),
        }
    }
}

/// A set of response flags; empty when all went well.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ResponseFlags(u32);

impl ResponseFlags {
    /// No flag.
    pub const NONE: Self = Self(0);

    /// This set and `flag`.
    #[must_use]
    pub const fn with(self, flag: ResponseFlag) -> Self {
        Self(self.0 | 1 << flag as u8)
    }

    /// Whether `flag` is in the set.
    pub const fn contains(self, flag: ResponseFlag) -> bool {
        self.0 & 1 << flag as u8 != 0
    }

    /// Whether there is no flag.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a number, for keys of tables.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The flags in order of printing.
    pub fn iter(self) -> impl Iterator<Item = ResponseFlag> {
        ResponseFlag::ALL.into_iter().filter(move |flag| self.contains(*flag))
    }
}

impl From<ResponseFlag> for ResponseFlags {
    fn from(flag: ResponseFlag) -> Self {
        Self::NONE.with(flag)
    }
}

impl fmt::Display for ResponseFlags {
    /// The codes with commas between; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (index, flag) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(flag.code())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_listed_once_and_its_code_leads_back() {
        for (index, flag) in ResponseFlag::ALL.into_iter().enumerate() {
            assert_eq!(flag as usize, index);
            assert_eq!(ResponseFlag::parse(flag.code()), Some(flag));
            assert!(!flag.meaning().is_empty());
        }
    }

    #[test]
    fn a_set_prints_its_codes() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
        let set = ResponseFlags::from(ResponseFlag::UpstreamRetryLimitExceeded)
            .with(ResponseFlag::UpstreamConnectionFailure);
        assert_eq!(set.to_string(), "UF,URX");
        assert!(set.contains(ResponseFlag::UpstreamConnectionFailure));
        assert!(!set.contains(ResponseFlag::NoRoute));
    }
}
