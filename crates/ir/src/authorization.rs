//! Authorisation: who may do what.
//!
//! Systems are intersected, policies within a system are combined by the system's own rule
//! (API.md 11.1 row 5). `authz` evaluates; nothing else does.

use std::sync::Arc;

use heddle_diag::Origin;
use heddle_ident::Cidr;

use crate::matching::TextMatch;

/// All authorisation that applies to a workload. Empty: everything is allowed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Authorization {
    /// Each must allow.
    pub systems: Vec<SystemPolicies>,
}

/// The policies of one system that select the workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemPolicies {
    /// What is decided when no policy with action `Allow` exists.
    pub without_allow: Fallback,
    /// The policies in a stable order.
    pub policies: Vec<Arc<Policy>>,
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

/// What a condition looks at.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Attribute {
    /// Address that the connection was made to.
    DestinationAddress,
    /// Port that the connection was made to: the workload's, not the service's.
    DestinationPort,
    /// `Host` / `:authority`, compared without regard to case; with and without its port.
    Host,
    /// The request's method.
    Method,
    /// The request's path after normalisation, without query.
    Path,
    /// Client address as `X-Forwarded-For` and the trusted hops tell it.
    RemoteAddress,
    /// A request header, lower case.
    RequestHeader(Arc<str>),
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
}

impl Attribute {
    /// Whether the attribute exists on HTTP requests only. On a stream that is not HTTP an `Allow` rule with such a
    /// condition never matches; a `Deny` rule keeps its other conditions (DESIGN section 4).
    pub fn is_http(&self) -> bool {
        match self {
            Self::Host
            | Self::Method
            | Self::Path
            | Self::RemoteAddress
            | Self::RequestHeader(_) => true,
            Self::DestinationAddress
            | Self::DestinationPort
            | Self::ServerName
            | Self::SourceAddress
            | Self::SourceNamespace
            | Self::SourcePrincipal
            | Self::SourceServiceAccount
            | Self::SourceTrustDomain => false,
        }
    }
}

/// A test on the value of an attribute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueMatch {
    /// An address inside the range.
    Range(Cidr),
    /// A path template: `{*}` takes one segment, `{**}` any number (API.md 3.3).
    PathTemplate(Arc<str>),
    /// A port.
    Port(u16),
    /// A text.
    Text(TextMatch),
    /// A text with `*` for any run of characters, anywhere (namespaces).
    Glob(Arc<str>),
    /// Could not be read: a `Deny` condition with it matches, an `Allow` condition does not, negated or not
    /// (a rule is never weakened by what did not parse).
    Poisoned,
}
