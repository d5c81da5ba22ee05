//! Keys that tokens of workloads are signed with (SPIFFE JWT-SVID), and their replacement.
//!
//! A key is published before it signs and stays published until every token of it is over, so that whoever looks at the keys
//! every few minutes never meets a token of a key that they do not know.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heddle_ident::{SpiffeId, TrustDomain};
use heddle_proto::certificate::TokenResponse;
use heddle_store::{Store, StoreError};
use heddle_tls::jwt::{TokenKey, TokenKeyError};
use serde_json::json;

use crate::timestamp::millis;

/// How long a token lives.
const TOKEN_LIFETIME: Duration = Duration::from_mins(5);
/// A key signs for this long.
const KEY_LIFETIME: Duration = Duration::from_hours(24 * 7);
/// A key is published for this long before it signs, where another one still does.
const AHEAD: Duration = Duration::from_hours(1);
/// A key stays published for this long after it has signed its last token.
const AFTER: Duration = Duration::from_hours(1);
/// What the names of secrets with keys begin with; the trust domain, when the key was made, and its id follow.
const SECRET_PREFIX: &str = "token-key/";

/// No token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenSigningError {
    /// The library failed, or a stored key cannot be read.
    #[error(transparent)]
    Key(#[from] TokenKeyError),
    /// The store failed.
    #[error("the key for tokens cannot be stored")]
    Store(#[from] StoreError),
}

/// The keys of one trust domain, oldest first.
pub(crate) struct TokenKeys {
    domain: TrustDomain,
    keys: Vec<(SystemTime, TokenKey)>,
}

impl TokenKeys {
    /// Reads the keys of a trust domain; none is made before somebody asks for a token.
    pub(crate) fn open(store: &Store, domain: &TrustDomain) -> Result<Self, TokenSigningError> {
        let mut keys = Vec::new();
        let prefix = format!("{SECRET_PREFIX}{domain}/");
        for (name, secret) in store.secrets()? {
            let made = name.strip_prefix(&prefix).and_then(|rest| rest.split('/').next());
            let Some(made) = made.and_then(|made| made.parse().ok()) else { continue };
            let made = UNIX_EPOCH + Duration::from_millis(made);
            keys.push((made, TokenKey::from_pkcs8(&secret)?));
        }
        keys.sort_by_key(|(made, _)| *made);
        Ok(Self { domain: domain.clone(), keys })
    }

    /// Whose they are.
    pub(crate) fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// A token for an identity, where there are audiences, and the keys.
    pub(crate) fn answer(
        &mut self,
        store: &Store,
        identity: &SpiffeId,
        audiences: &[String],
        now: SystemTime,
    ) -> Result<TokenResponse, TokenSigningError> {
        self.follow(store, now)?;
        let mut answer = TokenResponse {
            identity: identity.to_string(),
            key_sets: BTreeMap::from([(self.domain.to_string(), self.key_set())]),
            ..TokenResponse::default()
        };
        if !audiences.is_empty() {
            let until = now + TOKEN_LIFETIME;
            let key = self.signing(now).ok_or(TokenKeyError)?;
            answer.token = key.sign(identity, audiences, now, until)?;
            answer.expires_ms = millis(until);
        }
        Ok(answer)
    }

    /// The public halves.
    fn key_set(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(|(_, key)| key.jwk()).collect();
        json!({"keys": keys}).to_string()
    }

    /// The newest that has been published for long enough, else the oldest.
    fn signing(&self, now: SystemTime) -> Option<&TokenKey> {
        let is_known = |made: SystemTime| now.duration_since(made).is_ok_and(|age| age >= AHEAD);
        let known = self.keys.iter().rev().find(|(made, _)| is_known(*made));
        known.or(self.keys.first()).map(|(_, key)| key)
    }

    /// Makes the next key where it is time, and lets go of those that nobody needs any more.
    fn follow(&mut self, store: &Store, now: SystemTime) -> Result<(), TokenSigningError> {
        let newest = self.keys.last().map(|(made, _)| *made);
        // A clock that was set back makes no new ones.
        let is_old =
            |made: SystemTime| now.duration_since(made).is_ok_and(|age| age >= KEY_LIFETIME);
        if newest.is_none_or(is_old) {
            let key = TokenKey::generate()?;
            store.put_secret(&self.name(now, &key), &key.to_pkcs8()?)?;
            self.keys.push((now, key));
        }
        // The next one has signed for so long that no token of this one lives.
        while let Some((next, _)) = self.keys.get(1)
            && now >= *next + AHEAD + TOKEN_LIFETIME + AFTER
        {
            let (made, key) = self.keys.remove(0);
            store.remove_secret(&self.name(made, &key))?;
        }
        Ok(())
    }

    fn name(&self, made: SystemTime, key: &TokenKey) -> String {
        format!("{SECRET_PREFIX}{}/{}/{}", self.domain, millis(made), key.id())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use heddle_tls::jwt::{JwtSvidError, KeySet, verify_svid};

    use super::*;

    #[test]
    fn keys_are_known_before_they_sign_and_until_their_last_token_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), None).unwrap();
        let domain = TrustDomain::parse("td").unwrap();
        let web = SpiffeId::parse("spiffe://td/ns/shop/sa/web").unwrap();
        let start = UNIX_EPOCH + Duration::from_hours(500_000);
        let mut keys = TokenKeys::open(&store, &domain).unwrap();
        let known = |answer: &TokenResponse| {
            let set = KeySet::parse(&answer.key_sets["td"]).unwrap();
            BTreeMap::from([("td".to_owned(), Arc::new(set))])
        };
        let mut before: Option<TokenResponse> = None;
        let mut ids = std::collections::BTreeSet::new();
        // Three weeks, looked at every four minutes.
        for minute in (0..3 * 7 * 24 * 60).step_by(4) {
            let now = start + Duration::from_mins(minute);
            let answer = keys.answer(&store, &web, &["db".to_owned()], now).unwrap();
            verify_svid(&answer.token, "db", &known(&answer), now).unwrap();
            if let Some(before) = &before {
                // Whoever has the keys of before knows this token, and whoever has these knows the token of before.
                verify_svid(&answer.token, "db", &known(before), now).unwrap();
                verify_svid(&before.token, "db", &known(&answer), now).unwrap();
            }
            ids.extend(keys.keys.iter().map(|(_, key)| key.id().to_owned()));
            assert!(keys.keys.len() <= 2);
            before = Some(answer);
        }
        assert_eq!(ids.len(), 3, "a key a week");
        let again = TokenKeys::open(&store, &domain).unwrap();
        assert_eq!(again.key_set(), keys.key_set(), "after a restart");
        assert_eq!(store.secrets().unwrap().len(), keys.keys.len(), "old keys are destroyed");
        let late = start + Duration::from_hours(24 * 30);
        let late = verify_svid(&before.unwrap().token, "db", &BTreeMap::new(), late);
        assert!(matches!(late, Err(JwtSvidError::Token(_))));
    }
}
