//! The one choice of a crypto library: aws-lc-rs.
//!
//! Cipher suites: AES-128-GCM first, since its keys suffice and it costs least on every machine with AES
//! instructions; the peer may still choose another. Key exchange: the hybrid of X25519 and ML-KEM-768 first.
//! rustls sends its X25519 half as a share of its own, so that a peer without ML-KEM costs no round trip more.
//!
//! With the feature `fips` the library is its validated module, and only what that module's policy approves is offered:
//! no ChaCha20-Poly1305, and no key exchange by X25519 alone.

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::hash::HashAlgorithm;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ProducesTickets;

/// The provider of every configuration, made once in the binary and passed down.
#[cfg(not(feature = "fips"))]
pub fn default_provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::{cipher_suite, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            // For servers outside the mesh that know nothing newer.
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    })
}

/// The provider of every configuration, made once in the binary and passed down.
#[cfg(feature = "fips")]
pub fn default_provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::{cipher_suite, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ],
        // The hybrid's classical half is X25519, but its ML-KEM half is approved, which suffices (SP 800-56C).
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    })
}

/// What encrypts session tickets; its keys live and die with it.
pub(crate) fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    aws_lc_rs::Ticketer::new()
}

/// The SHA-256 of `bytes` in lower-case hex; none when the provider has no SHA-256, which no usable one lacks.
pub fn sha256_hex(provider: &CryptoProvider, bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(64);
    for byte in sha256(provider, bytes)? {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

/// The SHA-256 of `bytes`; none when the provider has none.
pub(crate) fn sha256(provider: &CryptoProvider, bytes: &[u8]) -> Option<Vec<u8>> {
    let hash = provider.cipher_suites.iter().find_map(|suite| {
        let common = match suite {
            SupportedCipherSuite::Tls12(suite) => &suite.common,
            SupportedCipherSuite::Tls13(suite) => &suite.common,
        };
        let hash = common.hash_provider;
        (hash.algorithm() == HashAlgorithm::SHA256).then_some(hash)
    })?;
    Some(hash.hash(bytes).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "fips")]
    fn everything_offered_is_approved() {
        assert!(default_provider().fips());
    }

    #[test]
    fn the_hash_is_sha256() {
        assert_eq!(
            sha256_hex(&default_provider(), b"abc").unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
