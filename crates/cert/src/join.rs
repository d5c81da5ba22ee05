//! One-time tokens with which a machine proves once who it is, before it has a certificate.
//!
//! A token is a secret that only whoever asked for it has seen: here it is known by its hash ([`TokenHash`], which
//! `tls` computes). It is bound to one identity, lives for a bounded time and is used up by its first success. What
//! was used up or has expired is remembered for a day, so that whoever comes second learns that somebody came first.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use heddle_ident::SpiffeId;

/// The longest life of a token.
pub const JOIN_TOKEN_LIFETIME_MAX: Duration = Duration::from_hours(24 * 7);
/// How long a token that is over is remembered.
const MEMORY: Duration = Duration::from_hours(24);
/// Tokens that are remembered.
const TOKENS_MAX: usize = 10_000;
/// So much of a hash names a token to people.
const SHOWN_BYTES: usize = 6;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Display for TokenHash {
    /// The first 12 hexadecimal digits: enough to name it, of no use to whoever wants to use it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(SHOWN_BYTES).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is known of a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinToken {
    /// The only identity that it gives.
    pub identity: SpiffeId,
    /// From then on it is of no use.
    pub expires_at: SystemTime,
    /// When it was used up; none: not yet.
    pub used_at: Option<SystemTime>,
}

/// Why a token gives nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It was used before: either twice by the same machine, or somebody else was first.
    #[error("join token {token} was used before, {} s ago", .ago.as_secs())]
    AlreadyUsed {
        /// Which token.
        token: TokenHash,
        /// How long ago.
        ago: Duration,
    },
    /// Its time is over.
    #[error("join token {token} expired {} s ago", .ago.as_secs())]
    Expired {
        /// Which token.
        token: TokenHash,
        /// How long ago.
        ago: Duration,
    },
    /// The lifetime asked for is none, or too long.
    #[error("a join token lives at least a second and at most {} hours", .max.as_secs() / 3600)]
    Lifetime {
        /// The bound.
        max: Duration,
    },
    /// It is for somebody else.
    #[error("join token {token} is for {bound}, not for {asked}")]
    OtherIdentity {
        /// Which token.
        token: TokenHash,
        /// Whom it is for.
        bound: SpiffeId,
        /// Who was asked for.
        asked: SpiffeId,
    },
    /// Too many tokens are waiting.
    #[error("{max} join tokens are waiting or remembered; wait until some have expired")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// Nobody made it, or it is forgotten.
    #[error("join token {token} is not known")]
    Unknown {
        /// Which token.
        token: TokenHash,
    },
}

/// The tokens of a mesh.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JoinTokens(BTreeMap<TokenHash, JoinToken>);

impl JoinTokens {
    /// Takes stored tokens back.
    pub fn restore(tokens: impl IntoIterator<Item = (TokenHash, JoinToken)>) -> Self {
        Self(tokens.into_iter().collect())
    }

    /// Every token that is remembered.
    pub fn iter(&self) -> impl Iterator<Item = (&TokenHash, &JoinToken)> {
        self.0.iter()
    }

    /// Notes a new token.
    pub fn add(
        &mut self,
        now: SystemTime,
        hash: TokenHash,
        identity: SpiffeId,
        lifetime: Duration,
    ) -> Result<JoinToken, JoinError> {
        if lifetime < Duration::from_secs(1) || lifetime > JOIN_TOKEN_LIFETIME_MAX {
            return Err(JoinError::Lifetime { max: JOIN_TOKEN_LIFETIME_MAX });
        }
        self.forget(now);
        if self.0.len() >= TOKENS_MAX {
            return Err(JoinError::TooMany { max: TOKENS_MAX });
        }
        let token = JoinToken { identity, expires_at: now + lifetime, used_at: None };
        self.0.insert(hash, token.clone());
        Ok(token)
    }

    /// Uses a token up. Store what is left before anything is given for it: a token that is used up for nothing costs
    /// another one, one that is given twice costs an identity. A refusal uses nothing up.
    pub fn redeem(
        &mut self,
        now: SystemTime,
        hash: TokenHash,
        asked: &SpiffeId,
    ) -> Result<(), JoinError> {
        let token = self.0.get_mut(&hash).ok_or(JoinError::Unknown { token: hash })?;
        if let Some(used_at) = token.used_at {
            let ago = now.duration_since(used_at).unwrap_or_default();
            return Err(JoinError::AlreadyUsed { token: hash, ago });
        }
        if let Ok(ago) = now.duration_since(token.expires_at) {
            return Err(JoinError::Expired { token: hash, ago });
        }
        if token.identity != *asked {
            let (bound, asked) = (token.identity.clone(), asked.clone());
            return Err(JoinError::OtherIdentity { token: hash, bound, asked });
        }
        token.used_at = Some(now);
        Ok(())
    }

    fn forget(&mut self, now: SystemTime) {
        self.0.retain(|_, token| now < token.used_at.unwrap_or(token.expires_at) + MEMORY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn id(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://td/ns/n/sa/{name}")).unwrap()
    }

    const TEN_MINUTES: Duration = Duration::from_mins(10);
    const ONE: TokenHash = TokenHash([1; 32]);

    fn with_one() -> JoinTokens {
        let mut tokens = JoinTokens::default();
        tokens.add(start(), ONE, id("a"), TEN_MINUTES).unwrap();
        tokens
    }

    #[test]
    fn a_token_is_good_once() {
        let mut tokens = with_one();
        tokens.redeem(start(), ONE, &id("a")).unwrap();
        let later = start() + Duration::from_secs(5);
        let ago = Duration::from_secs(5);
        let used = Err(JoinError::AlreadyUsed { token: ONE, ago });
        assert_eq!(tokens.redeem(later, ONE, &id("a")), used);
        let mut restored =
            JoinTokens::restore(tokens.iter().map(|(hash, token)| (*hash, token.clone())));
        assert_eq!(restored.redeem(later, ONE, &id("a")), used, "after a restart too");
        let back = start() - Duration::from_hours(24);
        assert!(restored.redeem(back, ONE, &id("a")).is_err(), "the clock was set back");
    }

    #[test]
    fn a_token_is_good_for_its_time_only() {
        let last = start() + TEN_MINUTES - Duration::from_millis(1);
        assert_eq!(with_one().redeem(last, ONE, &id("a")), Ok(()));
        let expired = Err(JoinError::Expired { token: ONE, ago: Duration::ZERO });
        assert_eq!(with_one().redeem(start() + TEN_MINUTES, ONE, &id("a")), expired);
    }

    #[test]
    fn a_token_gives_its_own_identity_and_asking_for_another_uses_nothing_up() {
        let mut tokens = with_one();
        let refused = tokens.redeem(start(), ONE, &id("b")).unwrap_err();
        assert!(matches!(refused, JoinError::OtherIdentity { .. }));
        assert_eq!(tokens.redeem(start(), ONE, &id("a")), Ok(()));
    }

    #[test]
    fn nothing_is_given_for_what_nobody_made_and_lifetimes_are_bounded() {
        let other = TokenHash([2; 32]);
        let mut tokens = with_one();
        assert_eq!(
            tokens.redeem(start(), other, &id("a")),
            Err(JoinError::Unknown { token: other })
        );
        for lifetime in [Duration::ZERO, JOIN_TOKEN_LIFETIME_MAX + Duration::from_secs(1)] {
            let refused = tokens.add(start(), other, id("a"), lifetime).unwrap_err();
            assert!(matches!(refused, JoinError::Lifetime { .. }));
        }
        assert_eq!(other.to_string(), "020202020202", "an error shows no whole hash");
    }

    #[test]
    fn what_is_over_is_forgotten_after_a_day() {
        let mut tokens = with_one();
        let day_later = start() + TEN_MINUTES + MEMORY;
        tokens.add(day_later, TokenHash([3; 32]), id("b"), TEN_MINUTES).unwrap();
        assert_eq!(tokens.iter().count(), 1);
    }
}
