//! Limits on the rate of requests.

use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;

use crate::destination::Destination;
use crate::http_route::{HeaderEdits, HeaderMatch, HttpMatch};
use crate::matching::TextMatch;

/// The limits of one place. A request must pass all that apply to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RateLimits {
    /// Counted by the proxy process alone.
    pub local: Vec<LocalRateLimit>,
    /// Counted by a service.
    pub global: Vec<GlobalRateLimit>,
}

impl RateLimits {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.global.is_empty()
    }
}

/// A limit that the proxy counts itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalRateLimit {
    /// Where it was written.
    pub origin: Origin,
    /// The workload's port it holds on; none: every port.
    pub port: Option<u16>,
    /// Requests it counts: any one must match. Empty: every request.
    pub matches: Vec<HttpMatch>,
    /// What shares a bucket.
    pub scope: RateLimitScope,
    /// The bucket; none: unlimited, unless an override says otherwise.
    pub bucket: Option<TokenBucket>,
    /// Other buckets for some identities (scope [`RateLimitScope::Identity`]); the first that matches counts.
    pub overrides: Vec<RateLimitOverride>,
    /// Share of the requests over the limit that is refused; the others are only counted.
    pub enforced_ppm: u32,
    /// What a refused request gets; 429 where the user said nothing.
    pub status: u16,
    /// Changes to the head of a refusal.
    pub response_headers: HeaderEdits,
}

/// What shares a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RateLimitScope {
    /// The requests on one connection.
    Connection,
    /// The requests of one identity. Plaintext clients share one bucket.
    Identity,
    /// All requests.
    Total,
}

/// A bucket for some identities together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateLimitOverride {
    /// Tests on the identity without `spiffe://`; any one must match.
    pub identities: Vec<TextMatch>,
    /// Their bucket, which they share.
    pub bucket: TokenBucket,
}

/// A token bucket: begins full; a request takes a token, or is refused when there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TokenBucket {
    /// Tokens at most.
    pub capacity: u32,
    /// Tokens that come per interval; at least 1.
    pub refill: u32,
    /// How often they come; more than zero.
    pub interval: Duration,
}

/// A limit that a service counts (Envoy's `envoy.service.ratelimit.v3`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GlobalRateLimit {
    /// Where it was written.
    pub origin: Origin,
    /// The workload's port it holds on; none: every port.
    pub port: Option<u16>,
    /// Requests it counts: any one must match. Empty: every request.
    pub matches: Vec<HttpMatch>,
    /// Name of the configuration at the service.
    pub domain: Arc<str>,
    /// The service; none: the one embedded in the control plane.
    pub service: Option<Arc<Destination>>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Without an answer requests are refused (500); else they pass.
    pub fail_closed: bool,
    /// Each becomes one descriptor, unless one of its actions has no value.
    pub descriptors: Vec<RateLimitDescriptor>,
}

/// A descriptor: the key and value of each action, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateLimitDescriptor {
    /// The actions.
    pub actions: Vec<DescriptorAction>,
}

/// What an entry of a descriptor is made of (Envoy's `RateLimit.Action`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DescriptorAction {
    /// A fixed key and value.
    Generic {
        /// The key.
        key: Arc<str>,
        /// The value.
        value: Arc<str>,
    },
    /// A fixed value where headers match or, inverted, where they do not.
    HeaderMatch {
        /// The key.
        key: Arc<str>,
        /// The value.
        value: Arc<str>,
        /// All must match.
        headers: Vec<HeaderMatch>,
        /// Turns the result around.
        invert: bool,
    },
    /// The client's address under `remote_address`.
    RemoteAddress,
    /// A header's value.
    RequestHeader {
        /// The key.
        key: Arc<str>,
        /// The header, lower case; `:path`, `:method` and `:authority` too.
        header: Arc<str>,
        /// Without the header: leave out the entry, not the descriptor.
        skip_if_absent: bool,
    },
    /// The peer's identity without `spiffe://` under `source_cluster`.
    SourceIdentity,
}
