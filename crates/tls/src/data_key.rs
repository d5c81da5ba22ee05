//! A key for what lies on the disk: authenticated encryption (AES-256-GCM) with a nonce drawn for each text.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

/// Bytes of a key.
pub const DATA_KEY_BYTES: usize = 32;

/// Encrypts and decrypts. A key serves up to 2^32 texts, since nonces are random (NIST SP 800-38D section 8.3).
pub struct DataKey(RandomizedNonceKey);

/// What was encrypted cannot be read: another key, another name, or changed bytes; or the library failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the data key does not fit")]
pub struct DataKeyError;

impl fmt::Debug for DataKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

impl DataKey {
    /// Draws the bytes of a new key.
    pub fn generate() -> Result<Zeroizing<[u8; DATA_KEY_BYTES]>, DataKeyError> {
        let mut bytes = Zeroizing::new([0; DATA_KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| DataKeyError)?;
        Ok(bytes)
    }

    /// The key with these bytes.
    pub fn new(bytes: &[u8; DATA_KEY_BYTES]) -> Result<Self, DataKeyError> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| DataKeyError)
    }

    /// Encrypts a text that can only be read under this name again.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, DataKeyError> {
        let mut text = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut text)
            .map_err(|_| DataKeyError)?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    /// Reads what [`DataKey::seal`] made.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DataKeyError> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(DataKeyError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| DataKeyError)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self
            .0
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut text)
            .map_err(|_| DataKeyError)?
            .len();
        text.truncate(length);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_with_the_same_key_and_name_only() {
        let bytes = DataKey::generate().unwrap();
        let key = DataKey::new(&bytes).unwrap();
        let sealed = key.seal("a", b"a secret").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_ne!(sealed, key.seal("a", b"a secret").unwrap(), "each text has a nonce of its own");
        assert_eq!(key.open("a", &sealed).unwrap().as_slice(), b"a secret");
        let other = DataKey::new(&DataKey::generate().unwrap()).unwrap();
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        for (key, name, sealed) in [
            (&other, "a", &sealed),
            (&key, "b", &sealed),
            (&key, "a", &changed),
            (&key, "a", &vec![1; 5]),
        ] {
            assert_eq!(key.open(name, sealed).err(), Some(DataKeyError));
        }
    }
}
