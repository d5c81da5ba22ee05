//! TLS of the port at which machines outside reach their control plane.
//!
//! Whoever has no certificate yet may connect too, and is a guest there: what it may ask for is its token's to say. The
//! control plane proves itself by its SPIFFE id in either case. Before a machine knows whom the mesh trusts it knows a
//! root, or the hash of one ([`JoinTrust`]), which came to it with its token.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use heddle_cert::{Root, RootId, TrustBundle};
use heddle_ident::{ParseSpiffeIdError, SpiffeId, TrustDomain};

use crate::certificate::{LeafFacts, root_from_der};
use crate::clock::{Clock, RustlsClock};
use crate::verify::{Expected, PeerVerifier, Usage, identity_of, system_time};

/// ALPN of calls to the control plane.
pub const CONTROL_PROTOCOL: &[u8] = b"h2";
/// ALPN of connections that are to be carried to a workload inside of the mesh.
pub const RELAY_PROTOCOL: &[u8] = b"heddle-relay/1";

const CONTROL_NAMESPACE: &str = "heddle-system";
const CONTROL_ACCOUNT: &str = "control-plane";

/// Who the control plane of a trust domain is.
pub fn control_identity(domain: &TrustDomain) -> Result<SpiffeId, ParseSpiffeIdError> {
    SpiffeId::for_service_account(domain, CONTROL_NAMESPACE, CONTROL_ACCOUNT)
}

/// What a machine knows of the mesh before it has joined.
#[derive(Clone, Debug)]
pub enum JoinTrust {
    /// Its roots.
    Roots(Vec<Root>),
    /// The SHA-256 of a root, in hexadecimal digits; the control plane presents the root itself.
    Hash(RootId),
}

impl JoinTrust {
    /// The hash as people write it: digits of either case, colons between them if they like.
    pub fn hash(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|c| *c != ':').collect();
        let is_hash = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| Self::Hash(RootId::new(digits.to_ascii_lowercase())))
    }
}

/// Connects to a control plane without a certificate of one's own, to join.
pub fn join_client(
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    trust: JoinTrust,
) -> Result<Arc<ClientConfig>, Error> {
    let verifier = Arc::new(JoinVerifier { provider: provider.clone(), trust });
    let time = Arc::new(RustlsClock(clock));
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![CONTROL_PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Verifies the control plane of a mesh that is not known yet.
#[derive(Debug)]
struct JoinVerifier {
    provider: Arc<CryptoProvider>,
    trust: JoinTrust,
}

fn refused(why: impl Into<String>) -> Error {
    Error::General(why.into())
}

impl JoinVerifier {
    /// The roots that vouch, whatever trust domain they are of: there is one mesh at the other end.
    fn roots(&self, presented: &[CertificateDer<'_>]) -> Result<Vec<Root>, Error> {
        match &self.trust {
            JoinTrust::Roots(roots) => Ok(roots.clone()),
            JoinTrust::Hash(hash) => {
                let roots =
                    presented.iter().filter_map(|der| root_from_der(&self.provider, der).ok());
                let found: Vec<Root> = roots.filter(|root| root.id == *hash).collect();
                if found.is_empty() {
                    let why = "the control plane presents no root of the hash that was given: another mesh, another \
                               root since, or somebody in between";
                    return Err(refused(why));
                }
                Ok(found)
            }
        }
    }
}

impl ServerCertVerifier for JoinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let facts = LeafFacts::parse(end_entity).map_err(|error| refused(error.to_string()))?;
        let presented = identity_of(&facts).map_err(|error| refused(error.to_string()))?;
        let domain = presented.trust_domain();
        let expected = control_identity(domain).map_err(|error| refused(error.to_string()))?;
        let roots = self.roots(intermediates)?;
        let signer = roots.first().map(|root| root.id.clone());
        let signer = signer.ok_or_else(|| refused("no root is given"))?;
        let bundle = TrustBundle::new(1, domain.clone(), signer, roots)
            .map_err(|error| refused(error.to_string()))?;
        let verifier = PeerVerifier::new(self.provider.clone(), &bundle)
            .map_err(|error| refused(error.to_string()))?;
        let expected = Expected::identities([expected]);
        verifier
            .verify(end_entity, intermediates, system_time(now), Usage::Server, &expected)
            .map(|_| ServerCertVerified::assertion())
            .map_err(|error| refused(error.to_string()))
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

#[cfg(test)]
mod tests;
