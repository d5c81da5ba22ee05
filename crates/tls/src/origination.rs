//! TLS towards servers outside the mesh (`DestinationRule` tls modes SIMPLE and MUTUAL, `BackendTLSPolicy`).
//!
//! Verification is the web's: a chain to given roots, and either one of the given subject alternative names or
//! the name that was connected to. Nothing here speaks with mesh peers.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError as RustlsCertificateError, ClientConfig, DigitallySignedStruct, Error,
    OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    CertificateDer, IpAddr, PrivateKeyDer, ServerName, SignatureVerificationAlgorithm, UnixTime,
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder,
};

use crate::certificate::{
    CertificateError, LeafFacts, certificates_from_pem, revocation_list, revocation_lists_from_pem,
};
use crate::clock::{Clock, RustlsClock};

/// Sessions kept per configuration.
const SESSIONS_MAX: usize = 32;

/// Where distributions keep the certificates of public authorities; the first that exists is used.
pub const SYSTEM_ROOT_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How a client shows itself.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientTlsMode {
    /// With a certificate of its own; both in PEM, the chain leaf first.
    Mutual {
        /// The chain.
        chain_pem: Arc<[u8]>,
        /// The private key.
        key_pem: Arc<[u8]>,
    },
    /// Without a certificate.
    Simple,
}

impl std::fmt::Debug for ClientTlsMode {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mutual { .. } => "Mutual",
            Self::Simple => "Simple",
        })
    }
}

/// Settings of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// How the client shows itself.
    pub mode: ClientTlsMode,
    /// The authorities that may vouch for the server, in PEM. Ignored with `skip_verification`.
    pub roots_pem: Arc<[u8]>,
    /// Revocation lists in PEM; empty: nothing is revoked. Where there is one, each certificate of a chain must be covered by
    /// one that is not overdue (as in Envoy), or the server is refused. Ignored with `skip_verification`.
    pub revocations_pem: Arc<[u8]>,
    /// Names of which the certificate must have one: DNS names, addresses, or URIs. Empty: the name that was
    /// connected to.
    pub subject_alt_names: Vec<String>,
    /// The server name to send; absent: the host that was connected to.
    pub server_name: Option<String>,
    /// Accepts any certificate whatever (`insecureSkipVerify`).
    pub skip_verification: bool,
    /// Application protocols to offer, best first.
    pub protocols: Vec<Vec<u8>>,
}

/// Why settings do not make a configuration.
#[derive(Debug, thiserror::Error)]
pub enum OriginationError {
    /// The client's chain cannot be used.
    #[error("client certificate cannot be used")]
    ClientCertificate(#[source] CertificateError),
    /// The client's key is no PEM private key, or does not belong to the certificate.
    #[error("client key cannot be used")]
    ClientKey {
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The provider refused the configuration.
    #[error("TLS library refused the configuration")]
    Provider(#[source] Error),
    /// The revocation lists cannot be used.
    #[error("revocation lists cannot be used")]
    Revocations(#[source] CertificateError),
    /// The roots cannot be used.
    #[error("certificates of authorities cannot be used")]
    Roots(#[source] CertificateError),
    /// A root is not one.
    #[error("certificate number {index} of the authorities cannot be used as a root")]
    Root {
        /// Which, counted from 1.
        index: usize,
        /// What is wrong.
        #[source]
        source: Error,
    },
    /// The server name is neither a DNS name nor an address.
    #[error("server name {name:?} is neither a DNS name nor an address")]
    ServerName {
        /// The name.
        name: String,
    },
}

/// None of the names a destination must have is in its certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("certificate has none of the names {expected:?}; it has {presented:?}")]
pub struct NameMismatch {
    /// The names asked for.
    pub expected: Vec<String>,
    /// The names found.
    pub presented: Vec<String>,
}

/// A configuration made of [`ClientTls`].
#[derive(Debug, Clone)]
pub struct OriginationConfig {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl OriginationConfig {
    /// Checks the settings and makes the configuration.
    pub fn new(
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
        settings: &ClientTls,
    ) -> Result<Self, OriginationError> {
        let server_name = settings.server_name.as_deref().map(parse_name).transpose()?;
        let check = if settings.skip_verification {
            Check::Nothing
        } else {
            Check::Chain {
                roots: roots_of(&settings.roots_pem)?,
                lists: lists_of(&settings.revocations_pem)?,
                names: settings.subject_alt_names.clone(),
            }
        };
        let verifier = Arc::new(WebVerifier { provider: provider.clone(), check });
        let builder = ClientConfig::builder_with_details(provider, Arc::new(RustlsClock(clock)))
            .with_safe_default_protocol_versions()
            .map_err(OriginationError::Provider)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.mode {
            ClientTlsMode::Simple => builder.with_no_client_auth(),
            ClientTlsMode::Mutual { chain_pem, key_pem } => {
                let chain = certificates_from_pem(chain_pem)
                    .map_err(OriginationError::ClientCertificate)?;
                let key = PrivateKeyDer::from_pem_slice(key_pem)
                    .map_err(|error| OriginationError::ClientKey { source: error.into() })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| OriginationError::ClientKey { source: error.into() })?
            }
        };
        config.alpn_protocols.clone_from(&settings.protocols);
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// The configuration to connect with.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// The name to connect with, for a request to `host` (without port).
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, OriginationError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => parse_name(host),
        }
    }
}

fn parse_name(name: &str) -> Result<ServerName<'static>, OriginationError> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| OriginationError::ServerName { name: name.to_owned() })
}

fn roots_of(pem: &[u8]) -> Result<RootCertStore, OriginationError> {
    let mut roots = RootCertStore::empty();
    for (index, root) in
        certificates_from_pem(pem).map_err(OriginationError::Roots)?.into_iter().enumerate()
    {
        roots.add(root).map_err(|source| OriginationError::Root { index: index + 1, source })?;
    }
    Ok(roots)
}

fn lists_of(pem: &[u8]) -> Result<Vec<CertRevocationList<'static>>, OriginationError> {
    let lists = revocation_lists_from_pem(pem).map_err(OriginationError::Revocations)?;
    let read = lists.iter().map(|der| revocation_list(der));
    read.collect::<Result<_, _>>().map_err(OriginationError::Revocations)
}

/// Nothing in the chain below the root is revoked, as lists that are not overdue say. Without any list nothing is asked.
fn check_revocation(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    lists: &[CertRevocationList<'static>],
    now: UnixTime,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), Error> {
    let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
    let Ok(builder) = RevocationOptionsBuilder::new(&lists) else { return Ok(()) };
    let options = builder.with_expiration_policy(ExpirationPolicy::Enforce).build();
    let usage = KeyUsage::server_auth();
    let refused = |error: webpki::Error| {
        Error::InvalidCertificate(match error {
            webpki::Error::CertRevoked => RustlsCertificateError::Revoked,
            webpki::Error::UnknownRevocationStatus => {
                RustlsCertificateError::UnknownRevocationStatus
            }
            other => RustlsCertificateError::Other(OtherError(Arc::new(other))),
        })
    };
    let leaf = EndEntityCert::try_from(leaf).map_err(refused)?;
    let verified = leaf.verify_for_usage(
        algorithms,
        &roots.roots,
        intermediates,
        now,
        usage,
        Some(options),
        None,
    );
    verified.map(|_| ()).map_err(refused)
}

#[derive(Debug)]
enum Check {
    Chain { roots: RootCertStore, lists: Vec<CertRevocationList<'static>>, names: Vec<String> },
    Nothing,
}

#[derive(Debug)]
struct WebVerifier {
    provider: Arc<CryptoProvider>,
    check: Check,
}

impl ServerCertVerifier for WebVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Check::Chain { roots, lists, names } = &self.check else {
            return Ok(ServerCertVerified::assertion());
        };
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, now, algorithms)?;
        check_revocation(end_entity, intermediates, roots, lists, now, algorithms)?;
        if names.is_empty() {
            verify_server_name(&leaf, server_name)?;
        } else if !names.iter().any(|name| has_name(&leaf, end_entity, name)) {
            let presented = LeafFacts::parse(end_entity)
                .map(|facts| [facts.uri_names, facts.other_names].concat())
                .unwrap_or_default();
            let mismatch = NameMismatch { expected: names.clone(), presented };
            return Err(Error::InvalidCertificate(RustlsCertificateError::Other(OtherError(
                Arc::new(mismatch),
            ))));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether the certificate has `name`: a URI is compared as text, an address and a DNS name as the web does
/// (so that a wildcard in the certificate counts).
pub(crate) fn has_name(leaf: &ParsedCertificate<'_>, der: &CertificateDer<'_>, name: &str) -> bool {
    if name.contains("://") {
        let facts = LeafFacts::parse(der);
        return facts.is_ok_and(|facts| facts.uri_names.iter().any(|uri| uri == name));
    }
    let name = match name.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(ServerName::IpAddress(IpAddr::from(address))),
        Err(_) => ServerName::try_from(name),
    };
    name.is_ok_and(|name| verify_server_name(leaf, &name).is_ok())
}

#[cfg(test)]
mod tests;
