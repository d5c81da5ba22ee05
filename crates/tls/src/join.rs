//! Join tokens: secrets that a machine proves itself with once. `cert` says what one is good for.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use zeroize::Zeroizing;

use heddle_cert::TokenHash;

use crate::data_key::{DataKey, DataKeyError};

/// What tokens begin with, so that scanners for lost secrets can find them.
const PREFIX: &str = "heddle-join-";
/// The longest text that is looked at.
const TOKEN_BYTES_MAX: usize = 128;

/// A token that was just made. Its text is shown to whoever asked for it, and then nobody has it.
#[derive(Debug)]
pub struct NewToken {
    /// What to give to the machine: 256 bits that nobody can guess.
    pub text: Zeroizing<String>,
    /// What to keep.
    pub hash: TokenHash,
}

impl NewToken {
    /// Draws a token.
    pub fn generate() -> Result<Self, DataKeyError> {
        let secret = DataKey::generate()?;
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*secret);
        let text = Zeroizing::new(format!("{PREFIX}{text}"));
        let hash = hash_of(&text);
        Ok(Self { text, hash })
    }
}

/// The hash of a token as a machine presents it; none: it cannot be a token. A plain hash does, since what is hashed
/// cannot be guessed.
pub fn token_hash(text: &str) -> Option<TokenHash> {
    let is_token = text.len() <= TOKEN_BYTES_MAX && text.starts_with(PREFIX);
    is_token.then(|| hash_of(text))
}

fn hash_of(text: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    TokenHash(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_and_no_two_are_alike() {
        let (one, other) = (NewToken::generate().unwrap(), NewToken::generate().unwrap());
        assert_eq!(token_hash(&one.text), Some(one.hash));
        assert_ne!(one.hash, other.hash);
        assert_eq!(one.text.len(), PREFIX.len() + 43, "256 bits");
        assert_eq!(token_hash("anything"), None);
        assert_eq!(token_hash(&format!("{PREFIX}{}", "x".repeat(TOKEN_BYTES_MAX))), None);
    }
}
