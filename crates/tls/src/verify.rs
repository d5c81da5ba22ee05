//! Who the peer of a mesh connection is: verification of its chain by the roots of its own trust domain.
//!
//! Host names play no part; what is compared is the one SPIFFE id in the leaf (SPIFFE X.509-SVID sections 2
//! to 5). Authorisation is not decided here, only identity. The same code serves both directions, and
//! `identity` asks it again about resumed sessions.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder, UnknownStatusPolicy,
    anchor_from_trusted_cert,
};

use heddle_cert::{Serial, TrustBundle, Validity};
use heddle_ident::{SpiffeId, TrustDomain};

use crate::certificate::{CertificateError, LeafFacts, revocation_list, validity_of};

mod error;
mod rustls_verifier;

pub use error::PeerVerificationError;
pub(crate) use rustls_verifier::{ClientSide, ServerSide, system_time};

/// Chains that were verified before and need no second signature check, per direction.
const VERIFIED_MAX: usize = 1_024;
/// Certificates a peer may send beside its leaf.
const INTERMEDIATES_MAX: usize = 8;

/// Whom one side of a connection accepts as the other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Expected {
    /// Anyone of any trust domain in the bundle; authorisation decides further.
    AnyTrusted,
    /// One of these identities.
    Identities(Arc<[SpiffeId]>),
    /// Anyone of this trust domain.
    TrustDomain(TrustDomain),
}

impl Expected {
    /// One of these identities. None at all matches nobody.
    pub fn identities(identities: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self::Identities(identities.into_iter().collect())
    }

    /// Whether `identity` is accepted, given that its chain is good.
    pub fn accepts(&self, identity: &SpiffeId) -> bool {
        match self {
            Self::AnyTrusted => true,
            Self::Identities(identities) => identities.contains(identity),
            Self::TrustDomain(domain) => identity.trust_domain() == domain,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyTrusted => f.write_str("any identity of a trusted domain"),
            Self::Identities(identities) => match identities.as_ref() {
                [] => f.write_str("nobody"),
                [one] => write!(f, "{one}"),
                [first, rest @ ..] => write!(f, "{first} or {} others", rest.len()),
            },
            Self::TrustDomain(domain) => write!(f, "any identity of trust domain {domain}"),
        }
    }
}

/// A verified peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Who it is.
    pub identity: SpiffeId,
    /// When its chain may be used: the time that all its certificates have in common.
    pub validity: Validity,
    /// The serial number of its certificate; none where it is longer than any of the mesh's own.
    pub serial: Option<Serial>,
}

/// In which role the peer's certificate is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Usage {
    Client,
    Server,
}

/// Verifies peers by one bundle. Immutable but for its memory of verified chains; a new bundle is a new
/// verifier.
pub(crate) struct PeerVerifier {
    provider: Arc<CryptoProvider>,
    generation: u64,
    anchors: HashMap<TrustDomain, Vec<TrustAnchor<'static>>>,
    revoked: HashSet<Serial>,
    revocation_lists: Vec<CertRevocationList<'static>>,
    /// A chain's bytes, leaf first, to what verification found. Signatures do not change, so that only time
    /// has to be asked again; everything else in a verification depends on the chain and the bundle alone.
    verified: [Mutex<HashMap<Box<[u8]>, Peer>>; 2],
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl PeerVerifier {
    pub(crate) fn new(
        provider: Arc<CryptoProvider>,
        bundle: &TrustBundle,
    ) -> Result<Self, CertificateError> {
        let mut anchors: HashMap<TrustDomain, Vec<TrustAnchor<'static>>> = HashMap::new();
        for (domain, roots) in bundle.domains() {
            for root in roots {
                let der = CertificateDer::from(root.der.as_ref());
                let anchor = anchor_from_trusted_cert(&der).map_err(|error| {
                    CertificateError::Malformed { detail: format!("root {}: {error}", root.id) }
                })?;
                anchors.entry(domain.clone()).or_default().push(anchor.to_owned());
            }
        }
        let lists = bundle.revocation_lists().iter().map(|der| revocation_list(der));
        Ok(Self {
            provider,
            generation: bundle.generation(),
            anchors,
            revoked: bundle.revoked().iter().copied().collect(),
            revocation_lists: lists.collect::<Result<_, _>>()?,
            verified: [Mutex::default(), Mutex::default()],
        })
    }

    /// Whether the leaf of this serial number is revoked.
    pub(crate) fn revokes(&self, serial: Serial) -> bool {
        self.revoked.contains(&serial)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Verifies a chain and compares the identity with whom the caller expects.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: SystemTime,
        usage: Usage,
        expected: &Expected,
    ) -> Result<Peer, PeerVerificationError> {
        if intermediates.len() > INTERMEDIATES_MAX {
            return Err(PeerVerificationError::ChainTooLong {
                certificates: intermediates.len() + 1,
                max: INTERMEDIATES_MAX + 1,
            });
        }
        // With lengths, so that no two chains have the same bytes.
        let mut key = Vec::new();
        for der in std::iter::once(leaf).chain(intermediates) {
            key.extend_from_slice(&der.len().to_le_bytes());
            key.extend_from_slice(der);
        }
        let verified = &self.verified[usize::from(usage == Usage::Server)];
        let known =
            verified.lock().unwrap_or_else(PoisonError::into_inner).get(key.as_slice()).cloned();
        let peer = match known {
            Some(peer) if peer.validity.contains(now) => peer,
            Some(_) | None => {
                let peer = self.verify_chain(leaf, intermediates, now, usage)?;
                let mut verified = verified.lock().unwrap_or_else(PoisonError::into_inner);
                if verified.len() >= VERIFIED_MAX {
                    verified.clear();
                }
                verified.insert(key.into(), peer.clone());
                peer
            }
        };
        if !expected.accepts(&peer.identity) {
            return Err(PeerVerificationError::WrongIdentity {
                presented: peer.identity,
                expected: expected.clone(),
            });
        }
        Ok(peer)
    }

    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: SystemTime,
        usage: Usage,
    ) -> Result<Peer, PeerVerificationError> {
        let facts = LeafFacts::parse(leaf).map_err(PeerVerificationError::Malformed)?;
        let identity = identity_of(&facts)?;
        if facts.is_authority {
            return Err(PeerVerificationError::LeafIsAuthority { presented: identity });
        }
        if !facts.may_sign {
            return Err(PeerVerificationError::WrongUsage { presented: identity });
        }
        check_time(&identity, facts.validity, now)?;
        let Some(anchors) = self.anchors.get(identity.trust_domain()) else {
            return Err(PeerVerificationError::UntrustedDomain {
                presented: identity,
                generation: self.generation,
            });
        };
        let certificate = EndEntityCert::try_from(leaf)
            .map_err(|error| chain_error(identity.clone(), self.generation, now, error))?;
        let key_usage = match usage {
            Usage::Client => KeyUsage::client_auth(),
            Usage::Server => KeyUsage::server_auth(),
        };
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let lists: Vec<&CertRevocationList<'_>> = self.revocation_lists.iter().collect();
        // Lists are there for some authorities of a chain only: the mesh's own names what it has revoked. One that is
        // overdue still counts, since what it names stays revoked; that it is overdue is warned of where it came from.
        let revocation = RevocationOptionsBuilder::new(&lists).ok();
        let revocation = revocation
            .map(|builder| builder.with_status_policy(UnknownStatusPolicy::Allow).build());
        certificate
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                anchors,
                intermediates,
                UnixTime::since_unix_epoch(since_epoch),
                key_usage,
                revocation,
                None,
            )
            .map_err(|error| chain_error(identity.clone(), self.generation, now, error))?;
        let mut validity = facts.validity;
        for intermediate in intermediates {
            let own = validity_of(intermediate).map_err(PeerVerificationError::Malformed)?;
            validity.not_before = validity.not_before.max(own.not_before);
            validity.not_after = validity.not_after.min(own.not_after);
        }
        let serial = facts.serial;
        if serial.is_some_and(|serial| self.revokes(serial)) {
            return Err(PeerVerificationError::Revoked { presented: identity, serial });
        }
        Ok(Peer { identity, validity, serial })
    }
}

/// Whether `validity` holds at `now`.
pub(crate) fn check_time(
    identity: &SpiffeId,
    validity: Validity,
    now: SystemTime,
) -> Result<(), PeerVerificationError> {
    let presented = || identity.clone();
    if now < validity.not_before {
        let not_before = validity.not_before;
        return Err(PeerVerificationError::NotYetValid { presented: presented(), not_before, now });
    }
    if now > validity.not_after {
        let not_after = validity.not_after;
        return Err(PeerVerificationError::Expired { presented: presented(), not_after, now });
    }
    Ok(())
}

/// The one SPIFFE id of a leaf.
pub(crate) fn identity_of(facts: &LeafFacts) -> Result<SpiffeId, PeerVerificationError> {
    match facts.uri_names.as_slice() {
        [uri] => SpiffeId::parse(uri).map_err(|source| PeerVerificationError::InvalidSpiffeId {
            presented: uri.clone(),
            source,
        }),
        [] => Err(PeerVerificationError::NoSpiffeId { other_names: facts.other_names.clone() }),
        uris => Err(PeerVerificationError::SeveralUris { presented: uris.to_vec() }),
    }
}

fn chain_error(
    presented: SpiffeId,
    generation: u64,
    now: SystemTime,
    error: webpki::Error,
) -> PeerVerificationError {
    use webpki::Error;
    match error {
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => {
            PeerVerificationError::UnknownAuthority { presented, generation }
        }
        // The leaf's own times were asked before: these are an intermediate's.
        Error::CertExpired { not_after, .. } => {
            let not_after =
                SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(not_after.as_secs());
            PeerVerificationError::Expired { presented, not_after, now }
        }
        Error::CertNotValidYet { not_before, .. } => {
            let not_before =
                SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(not_before.as_secs());
            PeerVerificationError::NotYetValid { presented, not_before, now }
        }
        Error::RequiredEkuNotFoundContext(_) => PeerVerificationError::WrongUsage { presented },
        // The leaf's own number may be in the list, or that of an intermediate.
        Error::CertRevoked => PeerVerificationError::Revoked { presented, serial: None },
        Error::CaUsedAsEndEntity => PeerVerificationError::LeafIsAuthority { presented },
        other => PeerVerificationError::Chain { presented, detail: other.to_string() },
    }
}
