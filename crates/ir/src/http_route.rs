//! Route tables for HTTP: what happens to a request, and why.

use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;

use crate::authorization::ExternalAuthorizer;
use crate::matching::{PathMatch, TextMatch};

/// How the rules of a table are tried.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RuleOrder {
    /// Most specific match first, ties by position in the table (Gateway API). `translate` has put rules of
    /// older routes first.
    Specificity,
    /// As written; the first rule with a match wins (Istio).
    Written,
}

/// The rules for one host and port. A request that no rule matches gets 404 (gRPC: UNIMPLEMENTED), flag NR.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteTable {
    /// How rules are tried.
    pub order: RuleOrder,
    /// The rules.
    pub rules: Vec<HttpRule>,
    /// Indices of rules, growing, at which a new tier begins: with [`RuleOrder::Specificity`] every match of an earlier
    /// tier is tried before those of a later one (rules of a more specific hostname before those of a wildcard that
    /// covers it). Empty: one tier.
    pub tiers: Vec<usize>,
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpRule {
    /// Where it was written.
    pub origin: Origin,
    /// Its name, for telemetry; `default` where the user gave none.
    pub name: Arc<str>,
    /// Any one must match. Empty: matches everything.
    pub matches: Vec<HttpMatch>,
    /// What happens on a match.
    pub action: HttpAction,
    /// Changes to the request head, before those of the picked backend.
    pub request_headers: HeaderEdits,
    /// Changes to the response head, before those of the picked backend.
    pub response_headers: HeaderEdits,
    /// Changes of path and authority.
    pub rewrite: Rewrite,
    /// The whole request, retries included. None: no limit.
    pub timeout: Option<Duration>,
    /// When and how often it is tried again.
    pub retry: RetryPolicy,
    /// Cross-origin answers; none: CORS is not handled here.
    pub cors: Option<CorsPolicy>,
    /// Injected failures; none: no fault.
    pub fault: Option<Fault>,
    /// Copies that are sent elsewhere too.
    pub mirrors: Vec<Mirror>,
    /// Keeps a client at the endpoint that answered it first; none: each request is balanced.
    pub session: Option<SessionPersistence>,
    /// Bounds on a stream besides `timeout`.
    pub stream_timeouts: StreamTimeouts,
    /// Response statuses that count as failures in telemetry and for budgets; empty: 5xx.
    pub failures: Vec<StatusRange>,
    /// Who is asked for leave before anything else is done with a request; none: nobody.
    pub authorizer: Option<Arc<RouteAuthorizer>>,
}

/// An external authoriser of a rule's requests (Gateway API's `ExternalAuth`). It is asked about requests as they came, after
/// preflights of CORS have been answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteAuthorizer {
    /// Who is asked, and how.
    pub authorizer: ExternalAuthorizer,
    /// Names of the headers that one that is asked over gRPC gets to see, lower case; empty: all.
    pub request_headers: Vec<Arc<str>>,
}

/// A copy of a share of the requests. Nobody waits for its answer, and nothing that becomes of it touches the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// Where it was written.
    pub origin: Origin,
    /// Where it goes; to an invalid target nothing is sent.
    pub target: BackendTarget,
    /// Share in parts per million.
    pub share_ppm: u32,
    /// Appended to the host in the copy's authority, before its port (Istio: `-shadow`); empty: nothing.
    pub authority_suffix: Arc<str>,
}

/// Keeps a client at one endpoint (Gateway API's `sessionPersistence`). When that endpoint is gone, another is picked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPersistence {
    /// Where it was written.
    pub origin: Origin,
    /// Name of the cookie or (lower case) header.
    pub name: Arc<str>,
    /// Where the session stands.
    pub location: SessionLocation,
    /// The session ends this long after it began; none: never.
    pub absolute_timeout: Option<Duration>,
    /// The session ends this long after its last request; none: never.
    pub idle_timeout: Option<Duration>,
}

/// Where a session stands in a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionLocation {
    /// In a cookie.
    Cookie {
        /// The cookie's path; empty: `/`.
        path: Arc<str>,
        /// Kept by the client until the absolute timeout; else until it is closed.
        permanent: bool,
    },
    /// In a header.
    Header,
}

/// Bounds on a stream besides the timeout of the whole request; none: no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamTimeouts {
    /// From the end of the request to the end of the response (Linkerd's `timeout.linkerd.io/response`).
    pub response: Option<Duration>,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
}

/// Statuses from `first` to `last`, both included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StatusRange {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

/// Conditions that must all hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpMatch {
    /// Where it was written.
    pub origin: Origin,
    /// Its name, for telemetry; empty where the user gave none.
    pub name: Arc<str>,
    /// The path, without query.
    pub path: Option<PathMatch>,
    /// Compare the path without regard to case (exact and prefix only).
    pub ignore_path_case: bool,
    /// The scheme.
    pub scheme: Option<TextMatch>,
    /// The method.
    pub method: Option<TextMatch>,
    /// The authority, compared as `host` and as `host:port`.
    pub authority: Option<TextMatch>,
    /// All must match.
    pub headers: Vec<HeaderMatch>,
    /// All must match.
    pub query: Vec<QueryMatch>,
    /// Conditions on the claims of the request's verified token; all must match. Without a token every claim is absent.
    pub claims: Vec<ClaimMatch>,
    /// Further conditions on path and method, which may be turned around (Linkerd's condition trees); all must match.
    pub parts: Vec<PartMatch>,
}

/// A condition on a part of the request that is always there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartMatch {
    /// The part.
    pub part: RequestPart,
    /// The condition.
    pub value: TextMatch,
    /// Turns the condition around.
    pub invert: bool,
}

/// A part of a request that is always there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestPart {
    /// The method.
    Method,
    /// The path, without query.
    Path,
}

/// A condition on a claim of the request's verified token. Of a list any element may match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimMatch {
    /// The path to the claim, outermost name first; never empty.
    pub path: Vec<Arc<str>>,
    /// The condition.
    pub value: TextMatch,
    /// Turns the condition around; an absent claim then matches.
    pub invert: bool,
}

/// A condition on a header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: Arc<str>,
    /// The condition; [`TextMatch::Present`] takes the empty value too.
    pub value: TextMatch,
    /// Turns the condition around. A missing header then counts as empty, so that it matches unless the
    /// empty text would (API.md: `withoutHeaders`); with [`TextMatch::Present`] it must be absent.
    pub invert: bool,
}

/// A condition on a query parameter; of a repeated parameter the first counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryMatch {
    /// Case matters.
    pub name: Arc<str>,
    /// The condition; [`TextMatch::Present`] takes the empty value too.
    pub value: TextMatch,
}

/// What happens to a matched request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HttpAction {
    /// Goes to one of the backends, by weight.
    Forward(Vec<WeightedBackend>),
    /// Answered with a redirection.
    Redirect(Redirect),
    /// Answered with a fixed response.
    Respond(DirectResponse),
}

/// A backend with its share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WeightedBackend {
    /// Where it was written.
    pub origin: Origin,
    /// Where the request goes.
    pub target: BackendTarget,
    /// The share is weight / sum of weights; a backend of weight 0 is never picked. `translate` has put 1 for a
    /// backend that stands alone and whose dialect ignores its weight.
    pub weight: u32,
    /// Changes to the request head, after the rule's.
    pub request_headers: HeaderEdits,
    /// Changes to the response head, after the rule's.
    pub response_headers: HeaderEdits,
    /// Changes of path and authority, instead of the rule's where there are any.
    pub rewrite: Rewrite,
}

/// Where a backend's share goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackendTarget {
    /// Index into [`crate::outbound::Outbound::destinations`].
    Destination(usize),
    /// The backend is not valid: its share is answered with this status (API.md hazard 13), with a reason for
    /// the operator. gRPC clients get UNAVAILABLE.
    Invalid {
        /// 500 or 503.
        status: u16,
        /// One sentence.
        reason: Arc<str>,
    },
    /// The share is answered with a redirection.
    Redirect(Redirect),
}

/// Changes of headers, in Envoy's order remove, set, add. Names are lower case; `host` (or `:authority`) rewrites the
/// authority, other pseudo-headers are ignored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeaderEdits {
    /// Replaces every value of the header.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Adds another value.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Removes every value.
    pub remove: Vec<Arc<str>>,
}

impl HeaderEdits {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Changes of path and authority.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rewrite {
    /// New path; none: as received.
    pub path: Option<PathRewrite>,
    /// New authority; none: as received.
    pub authority: Option<Arc<str>>,
}

/// How a path is changed. The query is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathRewrite {
    /// The whole path becomes this.
    Full(Arc<str>),
    /// The part that the match's prefix took becomes this; with an exact match or a regular expression the whole path
    /// does; without path match the leading `/` does (Istio, whose match without path is Envoy's prefix `/`).
    Prefix(Arc<str>),
    /// As `Prefix`, by path element (Gateway API's ReplacePrefixMatch table).
    ElementPrefix(Arc<str>),
    /// All matches of `pattern` (RE2) are replaced; `\1` stands for the first group.
    Regex {
        /// The pattern.
        pattern: Arc<str>,
        /// The replacement.
        substitution: Arc<str>,
    },
}

/// A redirection; what is absent stays as the client sent it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// Host without port.
    pub host: Option<Arc<str>>,
    /// The port.
    pub port: RedirectPort,
    /// New path.
    pub path: Option<PathRewrite>,
}

/// The port of a redirection. `:80` with http and `:443` with https are left out of the location.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedirectPort {
    /// A given port.
    Fixed(u16),
    /// As in the request's authority, but for a port that is the default of the request's scheme; none where the host is
    /// replaced (Istio's default, as Envoy acts).
    FromAuthority,
    /// The well-known port of the scheme (FROM_PROTOCOL_DEFAULT).
    FromScheme,
    /// The port of the listener (FROM_REQUEST_PORT; Gateway API without scheme).
    Listener,
}

/// A fixed response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// At most 1 MiB; empty where there is none.
    pub body: Arc<[u8]>,
}

/// When and how often a request is tried again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Further tries after the first; 0: never.
    pub attempts: u32,
    /// Any one suffices.
    pub on: Vec<RetryOn>,
    /// One try. None: only the rule's timeout.
    pub per_try_timeout: Option<Duration>,
    /// First pause of the exponential back-off with full jitter; doubled per retry.
    pub backoff_base: Duration,
    /// The longest pause; none: ten times the first.
    pub backoff_max: Option<Duration>,
    /// Prefer endpoints that have not been tried yet.
    pub avoid_tried: bool,
    /// May go to localities of a lower priority.
    pub other_localities: bool,
    /// Where it was written; built-in for a default.
    pub origin: Origin,
}

impl RetryPolicy {
    /// No retries.
    pub fn never() -> Self {
        Self {
            attempts: 0,
            on: Vec::new(),
            per_try_timeout: None,
            backoff_base: Duration::from_millis(25),
            backoff_max: None,
            avoid_tried: false,
            other_localities: false,
            origin: Origin::built_in("no retries"),
        }
    }
}

/// A condition on which a request is tried again; the names are Envoy's `retry_on`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RetryOn {
    /// The connection could not be made.
    ConnectFailure,
    /// The upstream refused the stream before processing it (HTTP/2 REFUSED_STREAM).
    RefusedStream,
    /// The upstream closed or reset, or did not answer in time, before a response head.
    Reset,
    /// As `Reset`, but only while no byte of the request was sent.
    ResetBeforeRequest,
    /// Any 5xx, and whatever counts as `ConnectFailure`, `RefusedStream` and `Reset`.
    ServerError,
    /// 502, 503 or 504.
    GatewayError,
    /// 409.
    Retriable4xx,
    /// This status.
    Status(u16),
    /// A status in this range.
    StatusRange(StatusRange),
    /// This gRPC status, in the response head or trailers-only response.
    GrpcStatus(u8),
    /// The response has `x-envoy-ratelimited`.
    RateLimited,
}

/// Cross-origin resource sharing (the Fetch standard, section "CORS protocol").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorsPolicy {
    /// Where it was written.
    pub origin: Origin,
    /// Any one must match the `Origin` header.
    pub allow_origins: Vec<TextMatch>,
    /// `Access-Control-Allow-Methods`.
    pub allow_methods: Vec<Arc<str>>,
    /// `Access-Control-Allow-Headers`.
    pub allow_headers: Vec<Arc<str>>,
    /// `Access-Control-Expose-Headers`.
    pub expose_headers: Vec<Arc<str>>,
    /// `Access-Control-Max-Age`, whole seconds; none: not sent.
    pub max_age: Option<Duration>,
    /// `Access-Control-Allow-Credentials: true`.
    pub allow_credentials: bool,
    /// A preflight whose origin does not match goes to the upstream instead of being answered here.
    pub forward_unmatched_preflights: bool,
}

/// Injected failures. Delay and abort are drawn independently.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Where it was written.
    pub origin: Origin,
    /// Wait before the request goes on.
    pub delay: Option<FaultDelay>,
    /// Answer instead of the upstream.
    pub abort: Option<FaultAbort>,
}

/// A delay for a share of the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultDelay {
    /// Share in parts per million.
    pub share_ppm: u32,
    /// How long.
    pub duration: Duration,
}

/// An abort for a share of the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultAbort {
    /// Share in parts per million.
    pub share_ppm: u32,
    /// What the client gets.
    pub status: AbortStatus,
}

/// What an aborted request gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortStatus {
    /// A gRPC status, as a trailers-only response.
    Grpc(u8),
    /// An HTTP status.
    Http(u16),
}
