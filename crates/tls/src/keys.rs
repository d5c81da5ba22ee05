//! A proxy's keys and signing requests.
//!
//! Keys are ECDSA P-256, made here and held inside the crypto library; there is no way to get the private part
//! out again, and every intermediate copy is overwritten. Only the keys of applications, which their proxies make for
//! them ([`ApplicationKeys`]), can be handed over.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::crypto::CryptoProvider;
use rustls::sign::SigningKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

use heddle_cert::{Crypto, CryptoError, TrustBundle, Validity};
use heddle_ident::SpiffeId;

use crate::certificate::public_key_of;
use crate::verify::{Expected, PeerVerifier, Usage};

/// A private key that signs handshakes; cheap to clone.
#[derive(Clone)]
pub struct WorkloadKey(Arc<dyn SigningKey>);

impl WorkloadKey {
    pub(crate) fn signing(&self) -> Arc<dyn SigningKey> {
        self.0.clone()
    }
}

/// A key that an application is given: its proxy makes it and hands it over, and has another one for itself.
#[derive(Clone)]
pub struct ApplicationKey {
    signing: WorkloadKey,
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
}

impl ApplicationKey {
    /// The private key, PKCS #8 in DER.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }
}

impl fmt::Debug for ApplicationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApplicationKey(…)")
    }
}

/// Makes keys for applications, and checks what an authority returned for them.
#[derive(Debug, Clone)]
pub struct ApplicationKeys(Keys);

impl ApplicationKeys {
    /// Keys made with this provider.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self(Keys::new(provider))
    }
}

impl Crypto for ApplicationKeys {
    type Key = ApplicationKey;

    fn make_key(&self, identity: &SpiffeId) -> Result<(ApplicationKey, Arc<[u8]>), CryptoError> {
        let (signing, pkcs8, request) = self.0.make(identity)?;
        Ok((ApplicationKey { signing, pkcs8: Arc::new(pkcs8) }, request))
    }

    fn check_chain(
        &self,
        key: &ApplicationKey,
        identity: &SpiffeId,
        chain: &[Arc<[u8]>],
        bundle: &TrustBundle,
    ) -> Result<Validity, CryptoError> {
        self.0.check_chain(&key.signing, identity, chain, bundle)
    }
}

#[cfg(test)]
impl WorkloadKey {
    pub(crate) fn from_pair(provider: &CryptoProvider, pair: &KeyPair) -> Self {
        let pkcs8 = PrivatePkcs8KeyDer::from(pair.serialize_der());
        Self(provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(pkcs8)).unwrap())
    }
}

impl fmt::Debug for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkloadKey(…)")
    }
}

/// Makes keys and checks what an authority returned for them: what `cert` needs done.
#[derive(Debug, Clone)]
pub struct Keys {
    provider: Arc<CryptoProvider>,
}

impl Keys {
    /// Keys made with this provider.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }

    /// The provider, for reading roots with the same one.
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }
}

/// A key, its private half (PKCS #8, DER), and a request that is signed with it.
type MadeKey = (WorkloadKey, Zeroizing<Vec<u8>>, Arc<[u8]>);

impl Keys {
    /// A key, its private half, and a request that names nothing but the SPIFFE id.
    fn make(&self, identity: &SpiffeId) -> Result<MadeKey, CryptoError> {
        let mut pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto_error)?;
        let request = request_for(identity, &pair);
        let pkcs8 = Zeroizing::new(pair.serialize_der());
        pair.zeroize();
        Ok((self.read(&pkcs8)?, pkcs8, request?))
    }

    /// A private key (PKCS #8, DER) that somebody else has made: a Workload API's.
    pub fn read(&self, pkcs8: &[u8]) -> Result<WorkloadKey, CryptoError> {
        // The provider overwrites the copy it is given.
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
        let signing = self.provider.key_provider.load_private_key(key);
        signing.map(WorkloadKey).map_err(crypto_error)
    }
}

impl Crypto for Keys {
    type Key = WorkloadKey;

    /// The request names nothing but the SPIFFE id, as its only subject alternative name.
    fn make_key(&self, identity: &SpiffeId) -> Result<(WorkloadKey, Arc<[u8]>), CryptoError> {
        self.make(identity).map(|(signing, _, request)| (signing, request))
    }

    fn check_chain(
        &self,
        key: &WorkloadKey,
        identity: &SpiffeId,
        chain: &[Arc<[u8]>],
        bundle: &TrustBundle,
    ) -> Result<Validity, CryptoError> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(CryptoError("the chain is empty".into()));
        };
        let certified = public_key_of(leaf).map_err(crypto_error)?;
        let own = key.0.public_key();
        if own.is_none_or(|own| own.as_ref() != certified) {
            return Err(CryptoError("the certificate is for another key".into()));
        }
        let verifier = PeerVerifier::new(self.provider.clone(), bundle).map_err(crypto_error)?;
        let leaf = CertificateDer::from(leaf.as_ref());
        let intermediates: Vec<_> =
            intermediates.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
        // Whether it is valid *now* is asked by the caller, who has the clock; the chain is checked at the
        // moment the leaf begins to be valid. Backdating can put that before a new root's first moment, but
        // roots, being trusted as such, are not asked for their validity.
        let validity = crate::certificate::validity_of(&leaf).map_err(crypto_error)?;
        let at = middle(validity);
        verifier
            .verify(&leaf, &intermediates, at, Usage::Server, &expected(identity))
            .and_then(|_| {
                verifier.verify(&leaf, &intermediates, at, Usage::Client, &expected(identity))
            })
            .map_err(crypto_error)?;
        Ok(validity)
    }
}

fn expected(identity: &SpiffeId) -> Expected {
    Expected::identities([identity.clone()])
}

fn middle(validity: Validity) -> SystemTime {
    let span = validity.not_after.duration_since(validity.not_before).unwrap_or_default();
    validity.not_before + span / 2
}

fn request_for(identity: &SpiffeId, pair: &KeyPair) -> Result<Arc<[u8]>, CryptoError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let uri = identity.to_string().try_into().map_err(crypto_error)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    let request = params.serialize_request(pair).map_err(crypto_error)?;
    Ok(Arc::from(request.der().as_ref()))
}

fn crypto_error(error: impl std::error::Error) -> CryptoError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    CryptoError(text)
}
