//! The roots that peers are verified against.

use std::sync::Arc;

use heddle_ident::TrustDomain;

/// All roots, by trust domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustBundle {
    /// Grows with every change; a proxy that acknowledged it verifies against it.
    pub generation: u64,
    /// The mesh's own trust domain; it is among `domains`.
    pub trust_domain: TrustDomain,
    /// Which of the own roots vouches for certificates issued now: the SHA-256 of its DER in lower-case hexadecimal.
    /// A proxy whose certificate comes from another root renews early.
    pub signer: Arc<str>,
    /// Each trust domain and its roots.
    pub domains: Vec<TrustedDomain>,
    /// Serial numbers, of 16 bytes each, of leaves of the own authority that are not accepted any more.
    pub revoked: Vec<Arc<[u8]>>,
    /// Revocation lists of authorities above it, in DER (RFC 5280 section 5).
    pub revocation_lists: Vec<Arc<[u8]>>,
}

/// A trust domain and its roots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustedDomain {
    /// The domain.
    pub trust_domain: TrustDomain,
    /// Certificates in DER; several while a root is being replaced.
    pub roots: Vec<Arc<[u8]>>,
}
