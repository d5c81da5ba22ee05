//! rustls configuration, keys, certificate signing and verification. Layer 4.
//!
//! Everything of the mesh that touches X.509 or TLS is here: a proxy's key and signing request
//! ([`Keys`]), the embedded authority ([`SigningRoot`]), verification of a peer by its SPIFFE id
//! ([`Peer`], [`PeerVerificationError`]), the configuration of mesh connections ([`MeshIdentity`], held by
//! the hot-swappable [`Identity`]) and TLS towards servers outside the mesh ([`ClientTls`]).
//!
//! Invariants:
//! - a private key never leaves its type, is never printed and is overwritten when dropped;
//! - a mesh connection exists only between peers whose SPIFFE ids the roots of *their own* trust domain vouch
//!   for; host names play no part;
//! - a resumed session lives only within the configuration generation that began it.
//!
//! No sockets and no runtime: `http` and `proxy` drive the connections. The crypto provider and the clock are
//! values passed in; [`default_provider`] is the one place that names a crypto library.

#![forbid(unsafe_code)]

pub mod alpn;
mod authority;
mod certificate;
mod clock;
mod data_key;
mod identity;
mod join;
pub mod jwt;
mod keys;
mod machine;
mod origination;
mod provider;
mod sessions;
mod termination;
#[cfg(test)]
mod testing;
mod verify;

pub use authority::{
    PluggedFiles, PluggedIn, PluggedInError, SignError, SigningRoot, requested_identity,
};
pub use certificate::{
    CertificateError, LeafNames, certificates_from_der, certificates_from_pem, expiry_from_pem,
    pem_of, revocation_list_due, revocation_lists_from_pem, root_from_der, root_from_pem,
    roots_from_bundle, serial_of,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use data_key::{DATA_KEY_BYTES, DataKey, DataKeyError};
pub use identity::{Identity, MeshClient, MeshIdentity, MeshServer};
pub use join::{NewToken, token_hash};
pub use keys::{ApplicationKey, ApplicationKeys, Keys, WorkloadKey};
pub use machine::{CONTROL_PROTOCOL, JoinTrust, RELAY_PROTOCOL, control_identity, join_client};
pub use origination::{
    ClientTls, ClientTlsMode, NameMismatch, OriginationConfig, OriginationError, SYSTEM_ROOT_FILES,
};
pub use provider::{default_provider, sha256_hex};
pub use termination::{
    ServerCertificate, TerminationConfig, TerminationError, TerminationMaterial, pair_problem,
};
pub use verify::{Expected, Peer, PeerVerificationError};

pub use rustls::ServerConfig;
pub use rustls::crypto::CryptoProvider;

/// Why a configuration could not be made of an identity and a bundle.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or root cannot be read.
    #[error("certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// The crypto provider lacks something or refused.
    #[error("crypto provider refused the configuration")]
    Provider(#[from] rustls::Error),
}
