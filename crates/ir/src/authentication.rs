//! Authentication of requests: which tokens (JWT, RFC 7519) a workload takes, and what becomes of them.
//!
//! A request without token goes on without identity, unless a rule requires one; a token that is there must be valid.
//! Whether it is needed for anything is for authorisation to say.

use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;

/// The tokens of one issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JwtRule {
    /// Where it was written.
    pub origin: Origin,
    /// `iss` must be equal; empty: it is not compared.
    pub issuer: Arc<str>,
    /// One of them must be among `aud`; empty: it is not looked at.
    pub audiences: Vec<Arc<str>>,
    /// What signatures are checked with.
    pub keys: JwtKeys,
    /// Where tokens are looked for; never empty.
    pub locations: Vec<TokenLocation>,
    /// Whether the token goes on to the application.
    pub forward: bool,
    /// Gets the payload as it stands in the token, base64url; lower case. None: no header does.
    pub payload_header: Option<Arc<str>>,
    /// Claims that go into headers.
    pub claim_headers: Vec<ClaimHeader>,
    /// Claims besides `scope` and `permission` that are lists delimited by spaces.
    pub space_delimited_claims: Vec<Arc<str>>,
    /// How long fetching the keys may take.
    pub fetch_timeout: Duration,
    /// Whether a request without any token is refused.
    pub required: bool,
}

/// What signatures of tokens are checked with.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum JwtKeys {
    /// A key set (RFC 7517) at the `jwks_uri` of the issuer's metadata, which is at this URL
    /// (`<issuer>/.well-known/openid-configuration`).
    Discovery(Arc<str>),
    /// A key set, as text.
    Inline(Arc<str>),
    /// None, since what was written cannot be used: no token of the issuer is valid.
    Unusable,
    /// A key set at this URL.
    Url(Arc<str>),
}

/// A place in a request where a token may be.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TokenLocation {
    /// A cookie.
    Cookie(Arc<str>),
    /// A header, lower case; its value begins with the prefix, which is no part of the token.
    Header(Arc<str>, Arc<str>),
    /// A query parameter.
    Query(Arc<str>),
}

/// A claim that goes into a header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimHeader {
    /// Lower case; what the client sent under it is removed.
    pub header: Arc<str>,
    /// The path to the claim; texts, numbers and booleans are passed on.
    pub claim: Vec<Arc<str>>,
}
