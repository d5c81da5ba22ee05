//! Tokens that prove a SPIFFE identity (SPIFFE JWT-SVID): signed for the mesh's workloads, and validated for their
//! applications.
//!
//! A token is for the audiences it names and lives for minutes: whoever gets hold of it can show it to them and to nobody
//! else. Keys are ECDSA P-256 (ES256).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use heddle_ident::SpiffeId;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::key_set::{KeySet, Verified};
use super::token::ParsedToken;
use super::{JwtError, seconds};

/// A point that is not compressed: a mark, and two coordinates.
const POINT_BYTES: usize = 65;
/// Bytes of a key's hash that name it.
const KEY_ID_BYTES: usize = 16;

/// No key can be made or used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the key for tokens cannot be made or used")]
pub struct TokenKeyError;

/// Signs tokens.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl fmt::Debug for TokenKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// Draws a key.
    pub fn generate() -> Result<Self, TokenKeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::of(pair.map_err(|_| TokenKeyError)?)
    }

    /// Reads a key (PKCS #8, DER).
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TokenKeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        Self::of(pair.map_err(|_| TokenKeyError)?)
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self, TokenKeyError> {
        let point = pair.public_key().as_ref();
        if point.len() != POINT_BYTES {
            return Err(TokenKeyError);
        }
        let hash = digest(&SHA256, point);
        let id = URL_SAFE_NO_PAD.encode(hash.as_ref().get(..KEY_ID_BYTES).unwrap_or_default());
        Ok(Self { pair, id })
    }

    /// What to keep: PKCS #8 in DER.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, TokenKeyError> {
        let whole = self.pair.to_pkcs8v1().map_err(|_| TokenKeyError)?;
        Ok(Zeroizing::new(whole.as_ref().to_vec()))
    }

    /// The name of the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its public half (RFC 7517, RFC 7518 section 6.2).
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let coordinates = point.get(1..).unwrap_or_default();
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        json!({
            "kty": "EC", "crv": "P-256", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }

    /// A token for an identity and its audiences, of which there must be one at least.
    pub fn sign(
        &self,
        identity: &SpiffeId,
        audiences: &[String],
        issued_at: SystemTime,
        expires_at: SystemTime,
    ) -> Result<String, TokenKeyError> {
        let header = json!({"alg": "ES256", "kid": self.id, "typ": "JWT"});
        let claims = json!({
            "sub": identity.to_string(), "aud": audiences,
            "iat": seconds(issued_at), "exp": seconds(expires_at),
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let content = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.pair.sign(&SystemRandom::new(), content.as_bytes());
        let signature = signature.map_err(|_| TokenKeyError)?;
        Ok(format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

/// Why a token proves no identity.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JwtSvidError {
    /// Not a token, or its signature, time or key do not fit.
    #[error(transparent)]
    Token(#[from] JwtError),
    /// Section 3.3: `exp` is needed.
    #[error("the token says no end (exp)")]
    NoEnd,
    /// Section 3.1: `sub` is a SPIFFE id.
    #[error("the token's subject is not a SPIFFE id")]
    Subject,
    /// Section 2.3: `typ` is `JWT` or `JOSE`.
    #[error("the token's type is not JWT")]
    Type,
    /// Section 2.1: signatures of RSA and ECDSA only.
    #[error("the token's algorithm is none that JWT-SVIDs may have")]
    Algorithm,
    /// Nobody of that trust domain is known.
    #[error("no keys of trust domain {0} are known")]
    Domain(String),
}

/// Whom a token proves to be, for one audience; and all of its claims.
pub fn verify_svid(
    text: &str,
    audience: &str,
    keys: &BTreeMap<String, Arc<KeySet>>,
    now: SystemTime,
) -> Result<(SpiffeId, Map<String, Value>), JwtSvidError> {
    let token = ParsedToken::parse(text)?;
    let kind = token.header_type().map(str::to_owned);
    if kind.is_some_and(|kind| kind != "JWT" && kind != "JOSE") {
        return Err(JwtSvidError::Type);
    }
    if !matches!(token.algorithm().get(..2), Some("RS" | "ES" | "PS")) {
        return Err(JwtSvidError::Algorithm);
    }
    let end = token.end()?.ok_or(JwtSvidError::NoEnd)?;
    // No leeway: the token lives for minutes, and whoever asks is on a machine of the mesh.
    if seconds(now) > end {
        return Err(JwtError::Expired.into());
    }
    let claims = token.claims();
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(JwtSvidError::Subject)?;
    let identity = SpiffeId::parse(subject).map_err(|_| JwtSvidError::Subject)?;
    let is_for = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(several)) => several.iter().any(|each| each == audience),
        _ => false,
    };
    if !is_for {
        return Err(JwtError::Audience.into());
    }
    let domain = identity.trust_domain().to_string();
    let keys = keys.get(&domain).ok_or(JwtSvidError::Domain(domain))?;
    match token.check_signature(keys) {
        Verified::Yes => Ok((identity, claims.clone())),
        Verified::No => Err(JwtError::Signature.into()),
        Verified::NoKey => Err(JwtError::NoKey.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn web() -> SpiffeId {
        SpiffeId::parse("spiffe://td/ns/shop/sa/web").unwrap()
    }

    fn known(key: &TokenKey) -> BTreeMap<String, Arc<KeySet>> {
        let set = json!({"keys": [key.jwk()]}).to_string();
        [("td".to_owned(), Arc::new(KeySet::parse(&set).unwrap()))].into()
    }

    fn token(key: &TokenKey, id: &SpiffeId) -> String {
        let end = start() + Duration::from_mins(5);
        key.sign(id, &["db".to_owned(), "cache".to_owned()], start(), end).unwrap()
    }

    #[test]
    fn a_token_proves_its_identity_to_its_audiences_for_minutes() {
        let key = TokenKey::generate().unwrap();
        let again = TokenKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!((key.id(), key.jwk()), (again.id(), again.jwk()));
        let (text, keys) = (token(&again, &web()), known(&key));
        for audience in ["db", "cache"] {
            let (identity, claims) = verify_svid(&text, audience, &keys, start()).unwrap();
            assert_eq!(identity, web());
            assert_eq!(claims["aud"], json!(["db", "cache"]));
        }
        let of = |audience, at| verify_svid(&text, audience, &keys, at).unwrap_err();
        assert_eq!(of("https://db", start()), JwtError::Audience.into());
        assert_eq!(of("", start()), JwtError::Audience.into());
        let late = start() + Duration::from_secs(301);
        assert_eq!(of("db", late), JwtError::Expired.into());
    }

    #[test]
    fn other_keys_domains_and_kinds_of_tokens_prove_nothing() {
        let (key, other) = (TokenKey::generate().unwrap(), TokenKey::generate().unwrap());
        let keys = known(&key);
        let refused = |text: &str| verify_svid(text, "db", &keys, start()).unwrap_err();
        assert_eq!(refused(&token(&other, &web())), JwtError::NoKey.into());
        let foreign = SpiffeId::parse("spiffe://elsewhere/ns/shop/sa/web").unwrap();
        assert_eq!(refused(&token(&key, &foreign)), JwtSvidError::Domain("elsewhere".into()));
        let text = token(&key, &web());
        let (content, signature) = text.rsplit_once('.').unwrap();
        let (header, claims) = content.split_once('.').unwrap();
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let admin = encode(
            json!({"sub": "spiffe://td/ns/shop/sa/admin", "aud": "db", "exp": 9_999_999_999_u64}),
        );
        assert_eq!(refused(&format!("{header}.{admin}.{signature}")), JwtError::Signature.into());
        let none = encode(json!({"alg": "none"}));
        assert_eq!(refused(&format!("{none}.{claims}.")), JwtError::Algorithm.into());
        let symmetric = encode(json!({"alg": "HS256", "kid": key.id()}));
        assert_eq!(
            refused(&format!("{symmetric}.{claims}.{signature}")),
            JwtError::Algorithm.into()
        );
        let edwards = encode(json!({"alg": "EdDSA", "kid": key.id()}));
        assert_eq!(refused(&format!("{edwards}.{claims}.{signature}")), JwtSvidError::Algorithm);
        let typed = encode(json!({"alg": "ES256", "kid": key.id(), "typ": "at+jwt"}));
        assert_eq!(refused(&format!("{typed}.{claims}.{signature}")), JwtSvidError::Type);
        let endless = encode(json!({"sub": web().to_string(), "aud": "db"}));
        assert_eq!(refused(&format!("{header}.{endless}.{signature}")), JwtSvidError::NoEnd);
        let nobody = encode(json!({"sub": "web", "aud": "db", "exp": 9_999_999_999_u64}));
        assert_eq!(refused(&format!("{header}.{nobody}.{signature}")), JwtSvidError::Subject);
    }
}
