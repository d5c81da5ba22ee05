//! [`PeerVerifier`] in the two forms that rustls asks for.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Expected, PeerVerifier, Usage};

/// Verifies servers: the client's side of a mesh connection.
#[derive(Debug)]
pub(crate) struct ClientSide {
    pub(crate) verifier: Arc<PeerVerifier>,
    pub(crate) expected: Expected,
}

/// Verifies clients: the server's side of a mesh connection. A client must present a certificate, but where guests are
/// expected; anyone of a trusted domain is let in, since who may do what is for authorisation to say.
#[derive(Debug)]
pub(crate) struct ServerSide {
    pub(crate) verifier: Arc<PeerVerifier>,
    /// Whether a client without certificate is let in, as nobody.
    pub(crate) admits_guests: bool,
}

impl ServerCertVerifier for ClientSide {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier
            .verify(end_entity, intermediates, system_time(now), Usage::Server, &self.expected)
            .map(|_| ServerCertVerified::assertion())
            .map_err(super::PeerVerificationError::into_handshake)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.verifier.provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.verifier.provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for ServerSide {
    /// None: the roots' names would only make the handshake longer, a proxy has one certificate to send.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        !self.admits_guests
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let expected = &Expected::AnyTrusted;
        self.verifier
            .verify(end_entity, intermediates, system_time(now), Usage::Client, expected)
            .map(|_| ClientCertVerified::assertion())
            .map_err(super::PeerVerificationError::into_handshake)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.verifier.provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.verifier.provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(crate) fn system_time(now: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(now.as_secs())
}
