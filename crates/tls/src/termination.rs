//! TLS that a gateway takes off for clients that are not of the mesh: which certificate is presented, and which clients'
//! certificates are accepted.
//!
//! Certificates of clients are verified as the web's are: a chain to the given authorities, not revoked, with one of the
//! given names, or one of the given digests. Nothing here knows where the material comes from.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError as RustlsCertificateError, CipherSuite, CommonState, DigitallySignedStruct,
    DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme, version,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};

use heddle_ir::gateway::{CertificatePin, ClientCertificate, TlsTermination, TlsVersion};

use crate::certificate::{CertificateError, certificates_from_pem, public_key_of};
use crate::clock::{Clock, RustlsClock};
use crate::origination::has_name;
use crate::provider::{new_ticketer, sha256};

/// A chain and its key, both in PEM, the chain leaf first.
#[derive(Clone)]
pub struct ServerCertificate {
    /// What it is called in errors.
    pub name: String,
    /// The chain.
    pub chain_pem: Arc<[u8]>,
    /// The private key.
    pub key_pem: Arc<[u8]>,
}

impl fmt::Debug for ServerCertificate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a termination refers to, as it was read. Every PEM text may hold several items, and be empty.
#[derive(Debug, Clone, Default)]
pub struct TerminationMaterial {
    /// What is presented, best first.
    pub certificates: Vec<ServerCertificate>,
    /// Certificates of the authorities that vouch for clients.
    pub authorities_pem: Vec<Arc<[u8]>>,
    /// Their revocation lists.
    pub revocations_pem: Vec<Arc<[u8]>>,
}

/// Why nothing can be accepted.
#[derive(Debug, thiserror::Error)]
pub enum TerminationError {
    /// The authorities of clients cannot be used.
    #[error("certificates of the clients' authorities cannot be used")]
    Authorities(#[source] CertificateError),
    /// None of the certificates can be used.
    #[error("no certificate can be presented: {0}")]
    NoCertificate(String),
    /// The TLS library refused the configuration.
    #[error("TLS library refused the configuration")]
    Provider(#[from] Error),
    /// A revocation list cannot be read.
    #[error("a revocation list cannot be read: {0}")]
    Revocations(String),
    /// The authorities or revocation lists do not make a verifier.
    #[error("clients cannot be verified: {0}")]
    Verifier(String),
    /// The bounds leave no version.
    #[error("no version of TLS is between the lowest and the highest")]
    NoVersion,
}

/// A termination, ready to accept.
#[derive(Debug, Clone)]
pub struct TerminationConfig {
    config: Arc<ServerConfig>,
    clients: Option<Arc<ClientCheck>>,
    clock: Arc<dyn Clock>,
    problems: Arc<[String]>,
}

impl TerminationConfig {
    /// Checks the material and makes the configuration; `protocols` are accepted inside, best first.
    pub fn new(
        provider: &Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
        termination: &TlsTermination,
        material: &TerminationMaterial,
        protocols: &[&[u8]],
    ) -> Result<Self, TerminationError> {
        let provider = with_suites(provider, &termination.cipher_suites);
        let (keys, problems) = usable(&provider, &material.certificates);
        if keys.is_empty() {
            return Err(TerminationError::NoCertificate(if problems.is_empty() {
                "none is configured".to_owned()
            } else {
                problems.join("; ")
            }));
        }
        let versions: Vec<_> =
            [(TlsVersion::V1_3, &version::TLS13), (TlsVersion::V1_2, &version::TLS12)]
                .into_iter()
                .filter(|(own, _)| {
                    (termination.version_min..=termination.version_max).contains(own)
                })
                .map(|(_, version)| version)
                .collect();
        if versions.is_empty() {
            return Err(TerminationError::NoVersion);
        }
        let time = Arc::new(RustlsClock(clock.clone()));
        let builder = ServerConfig::builder_with_details(provider.clone(), time)
            .with_protocol_versions(&versions)?;
        let clients = match termination.client_certificate {
            ClientCertificate::Ignore => None,
            _ => Some(Arc::new(ClientCheck::new(provider, termination, material)?)),
        };
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(clients.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(FirstFitting(keys)));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        if clients.is_some() {
            // A resumed session is not verified again, and a certificate may have been revoked since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
        } else {
            config.ticketer = new_ticketer()?;
        }
        Ok(Self { config: Arc::new(config), clients, clock, problems: problems.into() })
    }

    /// The configuration to accept with.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// What of the material cannot be used, while the rest acts; sentences for the operator.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The leaf that the client of a finished handshake has proven to have; none where it has none, or none that is
    /// accepted.
    pub fn client<'c>(&self, connection: &'c CommonState) -> Option<&'c CertificateDer<'static>> {
        let (leaf, intermediates) = connection.peer_certificates()?.split_first()?;
        let clients = self.clients.as_ref()?;
        let now = self.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(now);
        // Verified in the handshake already, but for those that are let in whatever they present.
        let is_valid = !clients.lets_all_in || clients.check(leaf, intermediates, now).is_ok();
        is_valid.then_some(leaf)
    }
}

/// The certificates that can be used, and what is wrong with others.
fn usable(
    provider: &CryptoProvider,
    certificates: &[ServerCertificate],
) -> (Vec<Arc<CertifiedKey>>, Vec<String>) {
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    for ServerCertificate { name, chain_pem, key_pem } in certificates {
        let made =
            certificates_from_pem(chain_pem).map_err(|error| error.to_string()).and_then(|chain| {
                let key = PrivateKeyDer::from_pem_slice(key_pem)
                    .map_err(|error| format!("its key cannot be read: {error}"))?;
                let key = provider
                    .key_provider
                    .load_private_key(key)
                    .map_err(|error| format!("its key cannot be used: {error}"))?;
                let certified = CertifiedKey::new(chain, key);
                certified.keys_match().map_err(|error| error.to_string())?;
                Ok(certified)
            });
        match made {
            Ok(certified) => keys.push(Arc::new(certified)),
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    (keys, problems)
}

/// What is wrong with a chain and a key in PEM, as a sentence; none where they can be presented together.
pub fn pair_problem(provider: &CryptoProvider, chain_pem: &[u8], key_pem: &[u8]) -> Option<String> {
    let own = ServerCertificate {
        name: String::new(),
        chain_pem: chain_pem.into(),
        key_pem: key_pem.into(),
    };
    let (_, problems) = usable(provider, &[own]);
    problems.into_iter().next().map(|problem| problem.trim_start_matches(": ").to_owned())
}

/// The names that OpenSSL gives to suites of TLS 1.2.
const SUITES: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The provider with no more than these suites of TLS 1.2; those of 1.3 cannot be chosen among.
fn with_suites(provider: &Arc<CryptoProvider>, names: &[Arc<str>]) -> Arc<CryptoProvider> {
    let wanted: Vec<CipherSuite> = names
        .iter()
        .filter_map(|name| SUITES.iter().find(|(own, _)| **own == **name).map(|(_, suite)| *suite))
        .collect();
    // Names that are none of these are ignored, and told of where they were written.
    if wanted.is_empty() {
        return provider.clone();
    }
    let suites = provider.cipher_suites.iter();
    let cipher_suites = suites
        .filter(|suite| suite.tls13().is_some() || wanted.contains(&suite.suite()))
        .copied()
        .collect();
    Arc::new(CryptoProvider { cipher_suites, ..CryptoProvider::clone(provider) })
}

/// Presents the first certificate whose key the client can verify.
#[derive(Debug)]
struct FirstFitting(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for FirstFitting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.0.iter().find(|own| own.key.choose_scheme(schemes).is_some()).cloned()
    }
}

/// Which clients' certificates are accepted.
#[derive(Debug)]
struct ClientCheck {
    provider: Arc<CryptoProvider>,
    /// None: nobody vouches, so that no certificate is valid.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    names: Vec<Arc<str>>,
    pins: Vec<CertificatePin>,
    is_mandatory: bool,
    /// What is not valid counts as none.
    lets_all_in: bool,
}

impl ClientCheck {
    fn new(
        provider: Arc<CryptoProvider>,
        termination: &TlsTermination,
        material: &TerminationMaterial,
    ) -> Result<Self, TerminationError> {
        let mut roots = RootCertStore::empty();
        for pem in material.authorities_pem.iter().filter(|pem| !pem.is_empty()) {
            for root in certificates_from_pem(pem).map_err(TerminationError::Authorities)? {
                roots.add(root)?;
            }
        }
        let chain = if roots.is_empty() {
            None
        } else {
            let mut lists = Vec::new();
            for pem in &material.revocations_pem {
                for list in CertificateRevocationListDer::pem_slice_iter(pem) {
                    let broken = |error| TerminationError::Revocations(format!("{error}"));
                    lists.push(list.map_err(broken)?);
                }
            }
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let verifier = verifier.with_crls(lists).enforce_revocation_expiration().build();
            Some(verifier.map_err(|error| TerminationError::Verifier(error.to_string()))?)
        };
        Ok(Self {
            provider,
            chain,
            names: termination.subject_alt_names.clone(),
            pins: termination.certificate_pins.clone(),
            is_mandatory: termination.client_certificate == ClientCertificate::Require,
            lets_all_in: termination.client_certificate == ClientCertificate::Unverified,
        })
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let refuse = |why| Err(Error::InvalidCertificate(why));
        let Some(chain) = &self.chain else {
            return refuse(RustlsCertificateError::UnknownIssuer);
        };
        chain.verify_client_cert(leaf, intermediates, now)?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        let has_any = |name: &Arc<str>| has_name(&parsed, leaf, name);
        if !self.names.is_empty() && !self.names.iter().any(has_any) {
            return refuse(RustlsCertificateError::ApplicationVerificationFailure);
        }
        if !self.pins.is_empty() && !self.pins.iter().any(|pin| self.is_pinned(leaf, pin)) {
            return refuse(RustlsCertificateError::ApplicationVerificationFailure);
        }
        Ok(())
    }

    fn is_pinned(&self, leaf: &CertificateDer<'_>, pin: &CertificatePin) -> bool {
        let digest = |bytes: &[u8]| sha256(&self.provider, bytes);
        match pin {
            CertificatePin::Certificate(wanted) => digest(leaf).is_some_and(|own| own == **wanted),
            CertificatePin::PublicKey(wanted) => {
                let key = public_key_of(leaf).ok();
                key.and_then(|key| digest(&key)).is_some_and(|own| own == **wanted)
            }
        }
    }
}

impl ClientCertVerifier for ClientCheck {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !self.lets_all_in {
            self.check(leaf, intermediates, now)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
