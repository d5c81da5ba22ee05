//! Limits on the rate of requests.

use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::Host;

use crate::http_route::{HeaderEdits, HttpMatch};
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches that have nothing to do with each other"
)]
pub struct GlobalRateLimit {
    /// Where it was written.
    pub origin: Origin,
    /// The workload's port it holds on; none: every port.
    pub port: Option<u16>,
    /// Requests it counts: any one must match. Empty: every request.
    pub matches: Vec<HttpMatch>,
    /// Name of the configuration at the service.
    pub domain: Arc<str>,
    /// The service; none: heddle itself, in the control plane.
    pub service: Option<RateLimitService>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Without an answer requests are refused; else they pass.
    pub fail_closed: bool,
    /// What is sent: nobody is asked about a request that gives no descriptor.
    pub descriptors: Vec<RateLimitDescriptor>,
    /// What a refused request gets; 429 where the user said nothing.
    pub status: u16,
    /// What a request gets that is refused for want of an answer; 500 where the user said nothing.
    pub failure_status: u16,
    /// Changes to the head of a refusal.
    pub response_headers: HeaderEdits,
    /// Clients are told of the limit that is nearest (`x-ratelimit-limit`, `-remaining`, `-reset`).
    pub tells_limits: bool,
    /// Refusals carry no `x-envoy-ratelimited`.
    pub hides_refusals: bool,
    /// A gRPC client gets RESOURCE_EXHAUSTED rather than UNAVAILABLE.
    pub resource_exhausted: bool,
    /// Share of the requests about which the service is asked.
    pub asked_ppm: u32,
    /// Share of the requests over the limit that is refused.
    pub enforced_ppm: u32,
}

/// Where a rate limit service is found.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RateLimitService {
    /// Its host: a service of the mesh, or a name or address outside.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Whether it is one of the mesh; else it is asked in plaintext at the address that the name has.
    pub in_mesh: bool,
}

/// A descriptor: the key and value of each action, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateLimitDescriptor {
    /// The actions. When one has no value there is no descriptor.
    pub actions: Vec<DescriptorAction>,
    /// The port of the requests it is made for; none: every port.
    pub port: Option<u16>,
    /// Requests it is made for: any one must match. Empty: every request.
    pub matches: Vec<HttpMatch>,
    /// Names of the rules that must have taken the request; empty: any.
    pub routes: Vec<Arc<str>>,
    /// What it stands on.
    pub level: DescriptorLevel,
    /// How much the request counts; none: 1.
    pub hits: Option<u32>,
}

/// What a descriptor stands on (Envoy's routes and virtual hosts).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum DescriptorLevel {
    /// A route: descriptors of virtual hosts are not made for its requests.
    Route,
    /// A route, and descriptors of virtual hosts are made too.
    RouteAndHost,
    /// All routes of a host.
    #[default]
    VirtualHost,
}

/// What an entry of a descriptor is made of (Envoy's `RateLimit.Action`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DescriptorAction {
    /// A claim of the request's token.
    Claim {
        /// The key.
        key: Arc<str>,
        /// Names from the outermost claim on.
        path: Vec<Arc<str>>,
        /// The value without the claim; none: no entry.
        default: Option<Arc<str>>,
        /// Without a value: leave out the entry, not the descriptor.
        skip_if_absent: bool,
    },
    /// The port that the request arrived at, as Envoy names what is behind it (`inbound|8080||`), under
    /// `destination_cluster`.
    Destination,
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
        /// All must hold.
        conditions: Vec<ValueCondition>,
        /// Turns the result around.
        invert: bool,
    },
    /// The network of the client's address under `masked_remote_address`.
    MaskedRemoteAddress {
        /// Bits of an IPv4 address that are kept.
        v4_bits: u8,
        /// Bits of an IPv6 address that are kept.
        v6_bits: u8,
    },
    /// As `HeaderMatch` with parameters of the query.
    QueryMatch {
        /// The key.
        key: Arc<str>,
        /// The value.
        value: Arc<str>,
        /// All must hold.
        conditions: Vec<ValueCondition>,
        /// Turns the result around.
        invert: bool,
    },
    /// The value of a parameter of the query.
    QueryParameter {
        /// The key.
        key: Arc<str>,
        /// The parameter; case matters.
        parameter: Arc<str>,
        /// Without the parameter: leave out the entry, not the descriptor.
        skip_if_absent: bool,
    },
    /// The client's address under `remote_address`.
    RemoteAddress,
    /// A header's value.
    RequestHeader {
        /// The key.
        key: Arc<str>,
        /// The header, lower case; `:path`, `:method`, `:scheme` and `:authority` too.
        header: Arc<str>,
        /// Without the header: leave out the entry, not the descriptor.
        skip_if_absent: bool,
        /// The value without the header; none: no entry.
        default: Option<Arc<str>>,
    },
    /// The identity that the peer has proven; none on plaintext.
    SourceIdentity {
        /// The key.
        key: Arc<str>,
        /// With `spiffe://`.
        as_uri: bool,
    },
}

/// A condition on a header or a parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValueCondition {
    /// The header, lower case, pseudo-headers too; or the parameter.
    pub name: Arc<str>,
    /// The condition; [`TextMatch::Present`] takes the empty value too.
    pub value: TextMatch,
    /// Turns the condition around.
    pub invert: bool,
    /// What is absent counts as empty; else it meets no condition, turned around or not, but that it be absent.
    pub absent_is_empty: bool,
}

/// What heddle counts itself for a domain of rate limits. The control plane has it; it is not sent to proxies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CountedDomain {
    /// Where it was written.
    pub origin: Origin,
    /// Its name.
    pub domain: Arc<str>,
    /// What is counted.
    pub descriptors: Vec<CountedDescriptor>,
}

/// An entry of descriptors, and what is counted for descriptors that end with it or go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CountedDescriptor {
    /// Its key.
    pub key: Arc<str>,
    /// Its value; with `*` at the end all values that begin so; none: any value, each for itself.
    pub value: Option<Arc<str>>,
    /// For descriptors that end here; none: they are not limited.
    pub limit: Option<CountedLimit>,
    /// All values that `value` takes count together.
    pub shares_threshold: bool,
    /// For descriptors that go on.
    pub descriptors: Vec<CountedDescriptor>,
}

/// A number of requests in a window of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CountedLimit {
    /// Its name, for clients and for `replaces`; may be empty.
    pub name: Arc<str>,
    /// How many requests, and in which time; none: unlimited.
    pub rate: Option<(u32, RateLimitUnit)>,
    /// Names of limits that do not count where this one does.
    pub replaces: Vec<Arc<str>>,
    /// It is counted and never enforced.
    pub is_shadow: bool,
}

/// The length of a window. Windows begin at multiples of it since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RateLimitUnit {
    /// One second.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

impl RateLimitUnit {
    /// Its length in seconds.
    pub fn seconds(self) -> u64 {
        const DAY: u64 = 24 * 60 * 60;
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => DAY,
            Self::Week => 7 * DAY,
            Self::Month => 30 * DAY,
            Self::Year => 365 * DAY,
        }
    }
}
