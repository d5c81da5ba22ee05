//! Authorisation: who may do what.
//!
//! Systems are intersected, policies within a system are combined by the system's own rule
//! (API.md 11.1 row 5). `authz` evaluates; nothing else does.
//!
//! The same model serves both directions: what others may do to a workload
//! ([`crate::inbound::Inbound::authorization`]) and what the workload may do to others
//! ([`crate::proxy::ProxySettings::egress`]). What a direction does not know of an attribute is absent.

use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::{Cidr, Host};

use crate::matching::TextMatch;

/// All authorisation that applies to a workload. Empty: everything is allowed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Authorization {
    /// Each must allow.
    pub systems: Vec<SystemPolicies>,
    /// The external authorisers that policies name.
    pub authorizers: Vec<Arc<ExternalAuthorizer>>,
}

/// The policies of one system that select the workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemPolicies {
    /// The ports that the system has a say about: the workload's own inbound, those connected to outbound. On others it
    /// is as if it were not there.
    pub ports: Ports,
    /// Whether what it refuses is refused.
    pub enforcement: Enforcement,
    /// What is decided when no policy with action `Allow` exists.
    pub without_allow: Fallback,
    /// The policies in a stable order.
    pub policies: Vec<Arc<Policy>>,
}

impl SystemPolicies {
    /// Policies that hold on every port and are enforced.
    pub fn new(without_allow: Fallback, policies: Vec<Arc<Policy>>) -> Self {
        let (ports, enforcement) = (Ports::default(), Enforcement::default());
        Self { ports, enforcement, without_allow, policies }
    }
}

/// A set of ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Ports {
    /// Every port.
    #[default]
    All,
    /// Every port but these.
    Except(Vec<u16>),
    /// These.
    Only(Vec<u16>),
}

impl Ports {
    /// Whether the port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Except(ports) => !ports.contains(&port),
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

/// Whether what a system refuses is refused.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Enforcement {
    /// It is not, but recorded as if it were: the system is on trial as a whole (Linkerd's `audit`, Cilium's policy audit
    /// mode). The origin says by what.
    Audit(Origin),
    /// It is.
    #[default]
    Enforce,
}

/// What is decided when nothing says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fallback {
    /// Goes on.
    Allow,
    /// Refused; the origin says by which default.
    Deny(Origin),
}

/// What a matching rule does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PolicyAction {
    /// Any matching rule of any `Allow` policy admits; with at least one such policy and no match, refused.
    Allow,
    /// Marks the request for the audit log, decides nothing.
    Audit,
    /// A matching rule asks [`Policy::authorizer`], before any `Deny` is looked at. Its refusal refuses; its leave decides
    /// nothing else.
    Custom,
    /// Any matching rule refuses, before any `Allow` is looked at.
    Deny,
}

/// One policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Where it was written.
    pub origin: Origin,
    /// What a matching rule does.
    pub action: PolicyAction,
    /// Evaluated and recorded, not enforced.
    pub dry_run: bool,
    /// Of a `Custom` policy: the [`ExternalAuthorizer::name`] of whom to ask. One that is not among
    /// [`Authorization::authorizers`]: what the rules match is refused.
    pub authorizer: Option<Arc<str>>,
    /// Any one must match. Empty: never matches (an `Allow` without rules therefore refuses everything).
    pub rules: Vec<Rule>,
}

/// All clauses must hold. No clauses: always matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Where it was written.
    pub origin: Origin,
    /// All must hold.
    pub clauses: Vec<Clause>,
}

/// Any alternative must hold. No alternatives: never holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clause {
    /// Each is a list of conditions that must all hold.
    pub alternatives: Vec<Vec<Condition>>,
}

/// A condition on one attribute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// What is looked at.
    pub attribute: Attribute,
    /// Any one must match. Empty: never matches.
    pub values: Vec<ValueMatch>,
    /// Turns the result around; an absent attribute then counts as a match (API.md 3.3: `notX`).
    pub negate: bool,
}

/// What a condition looks at. Of an attribute with several values, one that matches is enough.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Attribute {
    /// Address that the connection was made to. Outbound: of the endpoint that was picked, so that a service counts as what
    /// stands behind it.
    DestinationAddress,
    /// Outbound: the names that the destination's address was found under, lower case without trailing dot: as DNS
    /// answered the workload, as the proxy saw it (Cilium's `toFQDNs`).
    DestinationName,
    /// Port that the connection was made to: the workload's, not the service's.
    DestinationPort,
    /// `Host` / `:authority`, compared without regard to case; with and without its port.
    Host,
    /// Type of an ICMP message, of the family that [`Attribute::Protocol`] says.
    IcmpType,
    /// The request's method.
    Method,
    /// The request's path after normalisation, without query.
    Path,
    /// The request's path after normalisation, with its query if it has one (Cilium's `path`).
    PathAndQuery,
    /// What is spoken above IP, as text: `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`.
    Protocol,
    /// Outbound: the name that a DNS query asks for, lower case without trailing dot (Cilium's `rules.dns`).
    QueriedName,
    /// Client address as [`crate::inbound::ClientAddress`] tells it.
    RemoteAddress,
    /// Each of the audiences of the request's token.
    RequestAudience,
    /// A claim of the request's token, by the path to it; each element of a list, each word of a claim that is delimited by
    /// spaces.
    RequestClaim(Vec<Arc<str>>),
    /// A request header, lower case.
    RequestHeader(Arc<str>),
    /// The party that the request's token was issued to (`azp`).
    RequestPresenter,
    /// `issuer/subject` of the request's token.
    RequestPrincipal,
    /// [`crate::http_route::HttpRule::name`] of the rule of [`crate::inbound::InboundPort::routes`] that took the request.
    Route,
    /// Server name of the TLS ClientHello.
    ServerName,
    /// Address of the peer.
    SourceAddress,
    /// Namespace in the peer's identity.
    SourceNamespace,
    /// The peer's identity without `spiffe://`.
    SourcePrincipal,
    /// `namespace/name` in the peer's identity.
    SourceServiceAccount,
    /// Trust domain of the peer's identity.
    SourceTrustDomain,
    /// How the connection arrived, as text: `mutual-tls` (the mesh's, peer proven), `tls` (not terminated here),
    /// `plaintext`.
    Transport,
}

impl Attribute {
    /// Whether the attribute exists on HTTP requests only. On a stream that is not HTTP an `Allow` rule with such a
    /// condition never matches; a `Deny` rule keeps its other conditions (DESIGN section 4).
    pub fn is_http(&self) -> bool {
        match self {
            Self::Host
            | Self::Method
            | Self::Path
            | Self::PathAndQuery
            | Self::RemoteAddress
            | Self::RequestAudience
            | Self::RequestClaim(_)
            | Self::RequestHeader(_)
            | Self::RequestPresenter
            | Self::RequestPrincipal
            | Self::Route => true,
            Self::DestinationAddress
            | Self::DestinationName
            | Self::DestinationPort
            | Self::IcmpType
            | Self::Protocol
            | Self::QueriedName
            | Self::ServerName
            | Self::SourceAddress
            | Self::SourceNamespace
            | Self::SourcePrincipal
            | Self::SourceServiceAccount
            | Self::SourceTrustDomain
            | Self::Transport => false,
        }
    }
}

/// A test on the value of an attribute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueMatch {
    /// An address inside the range.
    Range(Cidr),
    /// Issuer and subject, each by itself ([`Attribute::RequestPrincipal`]).
    IssuerAndSubject(TextMatch, TextMatch),
    /// A number ([`Attribute::IcmpType`]).
    Number(u16),
    /// A path template: `{*}` takes one segment, `{**}` any number (API.md 3.3).
    PathTemplate(Arc<str>),
    /// A port.
    Port(u16),
    /// A port from the first to the last, both included.
    PortRange(u16, u16),
    /// A text.
    Text(TextMatch),
    /// A text with `*` for any run of characters, anywhere (namespaces).
    Glob(Arc<str>),
    /// Could not be read: a `Deny` condition with it matches, an `Allow` condition does not, negated or not
    /// (a rule is never weakened by what did not parse).
    Poisoned,
}

/// Someone outside of the proxy who is asked about requests (Envoy's `ext_authz`, version 3 of its protocol).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalAuthorizer {
    /// Where it was written.
    pub origin: Origin,
    /// What policies call it.
    pub name: Arc<str>,
    /// The service that answers; reached like any other destination of the workload.
    pub host: Host,
    /// Its service port.
    pub port: u16,
    /// How it is asked.
    pub protocol: AuthorizerProtocol,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Whether a request goes on when no answer could be had.
    pub fail_open: bool,
    /// Status of the refusal when no answer could be had.
    pub status_on_error: u16,
    /// The route is picked anew when the answer changed the request.
    pub clear_route_cache: bool,
    /// How much of the body is sent along; none: nothing.
    pub body: Option<AuthorizerBody>,
}

/// How an external authoriser is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthorizerProtocol {
    /// `envoy.service.auth.v3.Authorization/Check`.
    Grpc,
    /// A request with the path and method of the one that is asked about; 200 is leave.
    Http(AuthorizerHttp),
}

/// What an HTTP authoriser gets to see, and what of its answer counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuthorizerHttp {
    /// Put before the path.
    pub path_prefix: Arc<str>,
    /// Request headers that are sent along, besides host, method, path and content length; names are lower case, values do
    /// not ignore case.
    pub request_headers: Vec<TextMatch>,
    /// Headers that are sent besides.
    pub added_headers: Vec<(Arc<str>, Arc<str>)>,
    /// Headers of a leave that replace those of the request.
    pub upstream_headers_on_allow: Vec<TextMatch>,
    /// Headers of a leave that go into the response.
    pub downstream_headers_on_allow: Vec<TextMatch>,
    /// Headers of a refusal that the client gets; empty: all of them.
    pub downstream_headers_on_deny: Vec<TextMatch>,
}

/// How much of a request's body an external authoriser gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthorizerBody {
    /// At most.
    pub body_bytes_max: u32,
    /// The beginning of a longer body is sent; else the request is refused with 413.
    pub allow_partial: bool,
    /// As bytes, not as text (gRPC).
    pub as_bytes: bool,
}
