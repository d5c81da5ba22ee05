//! One token: its parts, its claims, its validity.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use heddle_ir::authentication::JwtRule;
use heddle_ir::request::{ClaimValue, TokenFacts};
use serde_json::{Map, Value};

use super::key_set::{KeySet, Verified, is_known};
use super::{JwtError, LEEWAY, seconds};

/// The longest token in bytes.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;

/// A token that was taken apart, and says nothing yet.
#[derive(Debug)]
pub struct ParsedToken<'a> {
    algorithm: String,
    key_id: Option<String>,
    header_type: Option<String>,
    /// What is signed.
    content: &'a str,
    /// The payload as it stands in the token.
    pub(super) payload_text: &'a str,
    payload: Map<String, Value>,
    signature: Vec<u8>,
}

impl<'a> ParsedToken<'a> {
    /// Takes a token apart.
    pub fn parse(text: &'a str) -> Result<Self, JwtError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(JwtError::TooLong);
        }
        let (content, signature) = text.rsplit_once('.').ok_or(JwtError::Format)?;
        let (header, payload_text) = content.split_once('.').ok_or(JwtError::Format)?;
        if payload_text.contains('.') {
            return Err(JwtError::Format);
        }
        let header = object(header).ok_or(JwtError::Header)?;
        let algorithm = match header.get("alg") {
            Some(Value::String(algorithm)) if is_known(algorithm) => algorithm.clone(),
            _ => return Err(JwtError::Algorithm),
        };
        if header.contains_key("crit") {
            return Err(JwtError::Critical);
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(JwtError::Header),
        };
        // Of another kind than a text it is no kind that anybody expects.
        let header_type = header
            .get("typ")
            .map(|kind| kind.as_str().map_or_else(|| kind.to_string(), str::to_owned));
        let payload = object(payload_text).ok_or(JwtError::Payload)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Format)?;
        Ok(Self { algorithm, key_id, header_type, content, payload_text, payload, signature })
    }

    /// The algorithm that its header names.
    pub(super) fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// `typ` of its header; none: it says none.
    pub(super) fn header_type(&self) -> Option<&str> {
        self.header_type.as_deref()
    }

    /// When it ends, in seconds since 1970.
    pub(super) fn end(&self) -> Result<Option<u64>, JwtError> {
        self.instant("exp")
    }

    /// What it says, which is not proven.
    pub(super) fn claims(&self) -> &Map<String, Value> {
        &self.payload
    }

    /// Whether a key of the set has signed it.
    pub(super) fn check_signature(&self, keys: &KeySet) -> Verified {
        let content = self.content.as_bytes();
        keys.verify(&self.algorithm, self.key_id.as_deref(), content, &self.signature)
    }

    /// What it says of its issuer, which is not proven; empty: nothing.
    pub fn issuer(&self) -> &str {
        self.payload.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// What it says, if it is valid by a rule whose issuer it is of.
    pub fn verify(
        &self,
        rule: &JwtRule,
        keys: &KeySet,
        now: SystemTime,
    ) -> Result<TokenFacts, JwtError> {
        let leeway = LEEWAY.as_secs();
        let now = seconds(now);
        // As Envoy does: time before the signature, so that an expired token of a key that is gone is said to be expired.
        if self.instant("nbf")?.is_some_and(|from| now.saturating_add(leeway) < from) {
            return Err(JwtError::NotYetValid);
        }
        if self.instant("exp")?.is_some_and(|until| now > until.saturating_add(leeway)) {
            return Err(JwtError::Expired);
        }
        let facts = self.facts(rule)?;
        if !rule.audiences.is_empty() && !is_for(&rule.audiences, &facts.audiences) {
            return Err(JwtError::Audience);
        }
        match self.check_signature(keys) {
            Verified::Yes => Ok(facts),
            Verified::No => Err(JwtError::Signature),
            Verified::NoKey => Err(JwtError::NoKey),
        }
    }

    /// A claim in seconds since 1970.
    fn instant(&self, name: &str) -> Result<Option<u64>, JwtError> {
        match self.payload.get(name) {
            None => Ok(None),
            Some(value) => match (value.as_u64(), value.as_f64()) {
                (Some(seconds), _) => Ok(Some(seconds)),
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is finite and not negative, and saturates"
                )]
                (None, Some(seconds)) if seconds.is_finite() && seconds >= 0.0 => {
                    Ok(Some(seconds as u64))
                }
                _ => Err(JwtError::Payload),
            },
        }
    }

    fn facts(&self, rule: &JwtRule) -> Result<TokenFacts, JwtError> {
        let text = |name: &str| match self.payload.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(JwtError::Payload),
        };
        let audiences = match self.payload.get("aud") {
            None => Vec::new(),
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(several)) => {
                let texts = several.iter().map(|each| each.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().ok_or(JwtError::Payload)?
            }
            Some(_) => return Err(JwtError::Payload),
        };
        let claims = self.payload.iter();
        let claims = claims.map(|(name, value)| {
            let is_delimited = matches!(&**name, "scope" | "permission")
                || rule.space_delimited_claims.iter().any(|claim| **claim == **name);
            let value = match value {
                Value::String(text) if is_delimited => ClaimValue::List(
                    text.split_ascii_whitespace()
                        .map(|word| ClaimValue::Text(word.to_owned()))
                        .collect(),
                ),
                value => claim(value),
            };
            (name.clone(), value)
        });
        Ok(TokenFacts {
            issuer: text("iss")?.unwrap_or_default(),
            subject: text("sub")?.unwrap_or_default(),
            presenter: text("azp")?,
            audiences,
            claims: claims.collect(),
        })
    }

    /// The text of a claim that goes into a header: only texts, whole numbers and booleans do.
    pub(super) fn claim_text(&self, path: &[impl AsRef<str>]) -> Option<String> {
        let (first, rest) = path.split_first()?;
        let value = rest
            .iter()
            .try_fold(self.payload.get(first.as_ref())?, |value, name| value.get(name.as_ref()))?;
        match value {
            // A line break would begin another header.
            Value::String(text) if text.chars().all(|c| !c.is_control()) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }
}

/// Whether a token's audiences meet those of a rule. A trailing slash and the scheme do not count, as in Envoy.
fn is_for(wanted: &[std::sync::Arc<str>], own: &[String]) -> bool {
    fn core(audience: &str) -> &str {
        let audience = audience
            .strip_prefix("https://")
            .or_else(|| audience.strip_prefix("http://"))
            .unwrap_or(audience);
        audience.strip_suffix('/').unwrap_or(audience)
    }
    own.iter().any(|own| wanted.iter().any(|wanted| core(wanted) == core(own)))
}

fn object(text: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

fn claim(value: &Value) -> ClaimValue {
    match value {
        Value::Null => ClaimValue::Null,
        Value::Bool(flag) => ClaimValue::Flag(*flag),
        Value::Number(number) => ClaimValue::Number(number.to_string()),
        Value::String(text) => ClaimValue::Text(text.clone()),
        Value::Array(list) => ClaimValue::List(list.iter().map(claim).collect()),
        Value::Object(object) => ClaimValue::Map(
            object
                .iter()
                .map(|(name, value)| (name.clone(), claim(value)))
                .collect::<BTreeMap<_, _>>(),
        ),
    }
}
