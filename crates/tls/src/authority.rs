//! The embedded authority's key: making a root, signing leaves for identities that the caller has authorised.
//!
//! Which root signs, for how long, and when a root may go is `cert`'s business. A leaf carries the SPIFFE id as
//! its only name, may authenticate a server and a client, and may sign nothing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm, SigningKey, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateSigningRequestDer;
use zeroize::{Zeroize, Zeroizing};

use heddle_cert::{BACKDATE, Root, RootId, Serial, Validity};
use heddle_ident::{SpiffeId, TrustDomain};

use crate::certificate::{
    CertificateError, certificates_from_pem, pem_of, public_key_of, root_from_der, validity_of,
};
use crate::provider::sha256_hex;

/// A request with a P-384 key and a long id stays below 3 KB.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

mod plugged;

pub use plugged::{PluggedFiles, PluggedIn, PluggedInError};

/// Why a leaf is not signed, or a root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A certificate of the authority cannot be used.
    #[error("authority's certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// The request names other things than the one authorised identity.
    #[error("request names {requested:?}, authorised is {authorised} alone")]
    IdentityMismatch {
        /// The names in the request.
        requested: Vec<String>,
        /// Whom the caller authorised.
        authorised: SpiffeId,
    },
    /// The authority's key and certificate do not belong together.
    #[error("private key does not belong to the authority's certificate {subject}")]
    KeyMismatch {
        /// What the certificate is called.
        subject: String,
    },
    /// The request's key is of a kind that is not signed.
    #[error("request has a key that is neither ECDSA P-256 nor P-384")]
    KeyNotSupported,
    /// The crypto provider gave no randomness.
    #[error("no randomness for a serial number")]
    NoRandomness,
    /// The request is not PKCS #10, or its sender does not hold the key.
    #[error("request cannot be accepted: {detail}")]
    Request {
        /// What is wrong.
        detail: String,
    },
    /// The request is too large.
    #[error("request of {bytes} bytes, at most {max} are accepted")]
    RequestTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Signing failed.
    #[error("signing failed: {detail}")]
    Signing {
        /// What the library says.
        detail: String,
    },
}

/// A key pair whose private half is overwritten when it goes.
struct SecretKeyPair(KeyPair);

impl Drop for SecretKeyPair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for SecretKeyPair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for SecretKeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// A root, or an intermediate below one, with the key that signs leaves.
pub struct SigningRoot {
    root: Root,
    /// What a leaf's chain carries above the leaf: the intermediates, without the root.
    intermediates: Vec<Arc<[u8]>>,
    issuer: Issuer<'static, SecretKeyPair>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for SigningRoot {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningRoot").field("root", &self.root.id).finish_non_exhaustive()
    }
}

impl SigningRoot {
    /// Makes a self-signed root for a trust domain, valid from shortly before `now` for `lifetime`.
    pub fn generate(
        provider: Arc<CryptoProvider>,
        domain: &TrustDomain,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Self, SignError> {
        let serial = serial_from(&provider)?;
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signing)?;
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, domain.as_str());
        // Roots of one domain differ in name, so that a verifier need not try them one after the other.
        let short: String = serial.to_string().chars().take(16).collect();
        name.push(DnType::CommonName, format!("heddle root {short}"));
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
        set_validity(
            &mut params,
            Validity { not_before: now - BACKDATE, not_after: now + lifetime },
        );
        let pair = SecretKeyPair(pair);
        let certificate = params.self_signed(&pair).map_err(signing)?;
        let root = root_from_der(&provider, certificate.der())?;
        Ok(Self { root, intermediates: Vec::new(), issuer: Issuer::new(params, pair), provider })
    }

    /// Reads an authority from PEM: its certificate first, then those above it up to the root, and its key in
    /// PKCS #8. A single certificate is a root that signs itself.
    pub fn from_pem(
        provider: Arc<CryptoProvider>,
        chain_pem: &str,
        key_pem: &str,
    ) -> Result<Self, SignError> {
        let chain = certificates_from_pem(chain_pem.as_bytes())?;
        let (Some(signer), Some(root)) = (chain.first(), chain.last()) else {
            return Err(CertificateError::NoCertificate.into());
        };
        let pair = SecretKeyPair(KeyPair::from_pem(key_pem).map_err(signing)?);
        let root = root_from_der(&provider, root)?;
        let own = root_from_der(&provider, signer)?;
        if public_key_of(signer)? != pair.0.subject_public_key_info() {
            return Err(SignError::KeyMismatch { subject: own.id.to_string() });
        }
        let above = chain.len() - 1;
        let intermediates = chain.iter().take(above).map(|der| Arc::from(der.as_ref())).collect();
        let issuer = Issuer::from_ca_cert_der(signer, pair).map_err(signing)?;
        Ok(Self { root, intermediates, issuer, provider })
    }

    /// The root that vouches for what this key signs.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The last moment at which everything of the chain is valid, the root included: no leaf may live longer.
    pub fn not_after(&self) -> SystemTime {
        let above = self.intermediates.iter().filter_map(|der| validity_of(der).ok());
        above
            .map(|validity| validity.not_after)
            .chain([self.root.not_after()])
            .min()
            .unwrap_or(UNIX_EPOCH)
    }

    /// The certificates between the root and what is signed, the signer's own first, with their validity; none where
    /// the root signs itself.
    pub fn intermediates(&self) -> impl Iterator<Item = (RootId, Validity)> {
        self.intermediates.iter().filter_map(|der| {
            let id = RootId::new(sha256_hex(&self.provider, der)?);
            Some((id, validity_of(der).ok()?))
        })
    }

    /// The certificates in PEM, as [`SigningRoot::from_pem`] reads them.
    pub fn chain_pem(&self) -> String {
        let mut chain = self.intermediates.clone();
        chain.push(self.root.der.clone());
        chain.iter().map(|der| pem_of("CERTIFICATE", der)).collect()
    }

    /// The private key in PKCS #8 PEM, for the store; overwritten when dropped.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().0.serialize_pem())
    }

    /// A random serial number for a leaf.
    pub fn new_serial(&self) -> Result<Serial, SignError> {
        serial_from(&self.provider)
    }

    /// Signs a request (PKCS #10, DER) for the identity that the caller has authorised; returns the chain, leaf
    /// first, without the root. The request must name that identity and nothing else, and must be signed by
    /// the key it is for. Nothing but the key is taken over from it.
    pub fn sign(
        &self,
        request: &[u8],
        authorised: &SpiffeId,
        validity: Validity,
        serial: Serial,
    ) -> Result<Vec<Arc<[u8]>>, SignError> {
        if request.len() > REQUEST_BYTES_MAX {
            let (bytes, max) = (request.len(), REQUEST_BYTES_MAX);
            return Err(SignError::RequestTooLarge { bytes, max });
        }
        // Checks the request's signature, too: the sender holds the key.
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
                .map_err(|error| SignError::Request { detail: error.to_string() })?;
        let algorithm = PublicKeyData::algorithm(&request.public_key);
        if *algorithm != PKCS_ECDSA_P256_SHA256 && *algorithm != PKCS_ECDSA_P384_SHA384 {
            return Err(SignError::KeyNotSupported);
        }
        let names = &request.params.subject_alt_names;
        let wanted = authorised.to_string();
        if !matches!(names.as_slice(), [SanType::URI(uri)] if uri.as_str() == wanted) {
            return Err(SignError::IdentityMismatch {
                requested: names.iter().take(8).map(|name| format!("{name:?}")).collect(),
                authorised: authorised.clone(),
            });
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri(&wanted)?];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, validity);
        let leaf = params.signed_by(&request.public_key, &self.issuer).map_err(signing)?;
        let mut chain = vec![Arc::from(leaf.der().as_ref())];
        chain.extend(self.intermediates.iter().cloned());
        Ok(chain)
    }
}

/// The one SPIFFE id that a signing request (PKCS #10, DER) names; none: it cannot be read, or names something else or
/// more. Its signature is right: whoever sent it holds the key.
pub fn requested_identity(request: &[u8]) -> Option<SpiffeId> {
    if request.len() > REQUEST_BYTES_MAX {
        return None;
    }
    let request = CertificateSigningRequestDer::from(request);
    let request = CertificateSigningRequestParams::from_der(&request).ok()?;
    match request.params.subject_alt_names.as_slice() {
        [SanType::URI(uri)] => SpiffeId::parse(uri.as_str()).ok(),
        _ => None,
    }
}

fn uri(text: &str) -> Result<SanType, SignError> {
    text.try_into().map(SanType::URI).map_err(signing)
}

/// X.509 has whole seconds: the start is rounded down, the end too, so that nothing lives longer than allowed.
fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let epoch = date_time_ymd(1970, 1, 1);
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(since.as_secs())
    };
    params.not_before = epoch + seconds(validity.not_before);
    params.not_after = epoch + seconds(validity.not_after);
}

fn serial_from(provider: &CryptoProvider) -> Result<Serial, SignError> {
    let mut bytes = [0; 16];
    provider.secure_random.fill(&mut bytes).map_err(|_| SignError::NoRandomness)?;
    // Positive, and of constant length: DER drops leading zeros and reads a leading one as a sign.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(Serial(bytes))
}

fn signing(error: impl fmt::Display) -> SignError {
    SignError::Signing { detail: error.to_string() }
}

#[cfg(test)]
mod tests;
