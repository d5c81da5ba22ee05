//! Tokens of requests (JWT, RFC 7519): found, verified, and turned into facts that policies read.
//!
//! Pure but for the cryptography: the clock and the key sets are arguments. A token says nothing before its signature
//! was checked with a key of its issuer. The key says which algorithms may be used with it, never the token: `none` and
//! symmetric algorithms (HS256 and the like) do not exist here, so that nobody can pass a public key off as a secret.

mod authenticate;
mod key_set;
mod locations;
mod svid;
mod token;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_ir::authentication::JwtRule;

pub use authenticate::{Authenticated, TokenEdit, authenticate, sanitize};
pub use key_set::{KeySet, KeySetError};
pub use locations::{without_cookie, without_query};
pub use svid::{JwtSvidError, TokenKey, TokenKeyError, verify_svid};
pub use token::{ParsedToken, TOKEN_BYTES_MAX};

/// How far the clocks of an issuer and of a proxy may be apart, as in Envoy.
pub const LEEWAY: Duration = Duration::from_mins(1);

/// Why a token is refused. The text is what the client reads; it is Envoy's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum JwtError {
    /// `aud` names nobody that the rule names.
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    /// The key set has not come, and there is no former one.
    #[error("Jwks remote fetch is failed")]
    NoKeySet,
    /// `exp` has passed.
    #[error("Jwt is expired")]
    Expired,
    /// Not three parts.
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Format,
    /// The first part is not the base64url form of a JSON object.
    #[error("Jwt header is an invalid JSON")]
    Header,
    /// The header names an algorithm that is not supported, `none` among them.
    #[error("Jwt header [alg] is not supported")]
    Algorithm,
    /// The header demands the understanding of extensions (`crit`).
    #[error("Jwt header [crit] is not supported")]
    Critical,
    /// No rule is for the issuer.
    #[error("Jwt issuer is not configured")]
    Issuer,
    /// A rule requires a token, and the request has none.
    #[error("Jwt is missing")]
    Missing,
    /// No key of the set goes with the token's key id and algorithm.
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    /// `nbf` has not come.
    #[error("Jwt not yet valid")]
    NotYetValid,
    /// The second part is not the base64url form of a JSON object, or a registered claim is of the wrong type.
    #[error("Jwt payload is an invalid JSON")]
    Payload,
    /// The signature is not that of the content by any key that goes with it.
    #[error("Jwt verification fails")]
    Signature,
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("Jwt is too long")]
    TooLong,
}

impl JwtError {
    /// Status of the refusal, as in Envoy.
    pub fn status(self) -> u16 {
        if self == Self::Audience { 403 } else { 401 }
    }

    /// A word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audience => "audience",
            Self::NoKeySet => "no_key_set",
            Self::Expired => "expired",
            Self::Format | Self::TooLong => "format",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::Issuer => "issuer",
            Self::Missing => "missing",
            Self::NoKey => "no_key",
            Self::NotYetValid => "not_yet_valid",
            Self::Payload => "payload",
            Self::Signature => "signature",
        }
    }
}

/// What the keys of a rule are at the moment.
#[derive(Clone, Debug)]
pub enum KeysNow {
    /// These.
    Held(Arc<KeySet>),
    /// Not fetched yet, or never with success.
    Missing,
}

/// Where key sets come from. Asked for every token; must not block.
pub trait KeySource {
    /// The keys of a rule.
    fn keys(&self, rule: &JwtRule) -> KeysNow;
    /// Takes note that no key of the set went with a token, so that newer ones are worth fetching.
    fn unknown_key(&self, rule: &JwtRule);
}

/// Seconds since 1970; 0 before.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
