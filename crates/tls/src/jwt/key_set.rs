//! Key sets (RFC 7517) and signatures (RFC 7515, 7518, 8037).

use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The longest key set in bytes.
const BYTES_MAX: usize = 512 * 1024;
/// Keys of a set that are looked at; further ones are not there.
const KEYS_MAX: usize = 256;

/// The public keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// See [`KeySet::assumed`].
    assumed: bool,
}

/// Why a text is no key set.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON.
    #[error("the key set is not JSON: {0}")]
    Json(String),
    /// No `keys`.
    #[error("the key set has no list `keys`")]
    NoKeys,
    /// Nothing in it can verify anything.
    #[error(
        "no key of the set can be used: RSA of at least 2048 bits, EC on P-256, P-384 or P-521, and Ed25519 can"
    )]
    NoneUsable,
    /// Over the limit.
    #[error("the key set has {0} bytes, more than {BYTES_MAX}")]
    TooLong(usize),
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// `alg`: the only algorithm the key is for.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Ed25519(Vec<u8>),
    Elliptic { name: &'static str, curve: &'static EcdsaVerificationAlgorithm, point: Vec<u8> },
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

/// What became of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verified {
    /// A key confirms it.
    Yes,
    /// Keys go with it, and none confirms it.
    No,
    /// No key goes with key id and algorithm.
    NoKey,
}

impl KeySet {
    /// Reads a key set, or a single key. Keys for encryption, symmetric keys and what is not understood are passed over.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        if text.len() > BYTES_MAX {
            return Err(KeySetError::TooLong(text.len()));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| KeySetError::Json(error.to_string()))?;
        let single = [value.clone()];
        let list: &[Value] = match value.get("keys").and_then(Value::as_array) {
            Some(list) => list,
            None if value.get("kty").is_some() => &single,
            None => return Err(KeySetError::NoKeys),
        };
        let keys: Vec<Key> = list.iter().take(KEYS_MAX).filter_map(Key::parse).collect();
        if keys.is_empty() && !list.is_empty() {
            return Err(KeySetError::NoneUsable);
        }
        Ok(Self { keys, assumed: false })
    }

    /// Stands for keys that nobody has at hand: every signature counts as confirmed. It says what would become of a request
    /// if its token were valid, in `heddle explain`; whatever admits requests must never use it.
    pub fn assumed() -> Self {
        Self { keys: Vec::new(), assumed: true }
    }

    /// Keys that can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks a signature. Of a token that names a key only that key counts, and keys without name.
    pub(super) fn verify(
        &self,
        algorithm: &str,
        key_id: Option<&str>,
        content: &[u8],
        signature: &[u8],
    ) -> Verified {
        let fits = |key: &&Key| {
            let id = match (key_id, &key.id) {
                (Some(wanted), Some(own)) => wanted == own,
                (None, _) | (_, None) => true,
            };
            id && key.algorithm.as_deref().is_none_or(|own| own == algorithm)
        };
        if self.assumed {
            return Verified::Yes;
        }
        let mut verified = Verified::NoKey;
        for key in self.keys.iter().filter(fits) {
            match key.material.verify(algorithm, content, signature) {
                Some(true) => return Verified::Yes,
                Some(false) => verified = Verified::No,
                None => {}
            }
        }
        verified
    }
}

impl Key {
    fn parse(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let text = text(name)?.trim_end_matches('=');
            URL_SAFE_NO_PAD.decode(text).ok()
        };
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let verifies = |operations: &Vec<Value>| operations.iter().any(|each| each == "verify");
        if value.get("key_ops").and_then(Value::as_array).is_some_and(|ops| !verifies(ops)) {
            return None;
        }
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => Material::Rsa { modulus: modulus(&bytes("n")?)?, exponent: bytes("e")? },
            ("EC", Some(curve)) => {
                let (name, curve, length): (_, &'static EcdsaVerificationAlgorithm, usize) =
                    match curve {
                        "P-256" => ("ES256", &signature::ECDSA_P256_SHA256_FIXED, 32),
                        "P-384" => ("ES384", &signature::ECDSA_P384_SHA384_FIXED, 48),
                        "P-521" => ("ES512", &signature::ECDSA_P521_SHA512_FIXED, 66),
                        _ => return None,
                    };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != length || y.len() != length {
                    return None;
                }
                Material::Elliptic { name, curve, point: [&[4], &*x, &*y].concat() }
            }
            ("OKP", Some("Ed25519")) => {
                Material::Ed25519(bytes("x").filter(|point| point.len() == 32)?)
            }
            _ => return None,
        };
        Some(Self {
            id: text("kid").map(str::to_owned),
            algorithm: text("alg").map(str::to_owned),
            material,
        })
    }
}

/// A modulus without leading zeros, of at least 2048 bits.
fn modulus(bytes: &[u8]) -> Option<Vec<u8>> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let modulus = bytes.get(zeros..)?.to_vec();
    (modulus.len() >= 256).then_some(modulus)
}

impl Material {
    /// Whether the signature is right; none: the algorithm is not one for such a key.
    fn verify(&self, algorithm: &str, content: &[u8], signature: &[u8]) -> Option<bool> {
        match self {
            Self::Rsa { modulus, exponent } => {
                let parameters = rsa(algorithm)?;
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                Some(key.verify(parameters, content, signature).is_ok())
            }
            Self::Elliptic { name, curve, point } => (*name == algorithm)
                .then(|| UnparsedPublicKey::new(*curve, point).verify(content, signature).is_ok()),
            Self::Ed25519(point) => matches!(algorithm, "EdDSA" | "Ed25519").then(|| {
                let key = UnparsedPublicKey::new(&signature::ED25519, point);
                key.verify(content, signature).is_ok()
            }),
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// Whether signatures of that name can be checked at all.
pub(super) fn is_known(algorithm: &str) -> bool {
    rsa(algorithm).is_some()
        || matches!(algorithm, "ES256" | "ES384" | "ES512" | "EdDSA" | "Ed25519")
}
