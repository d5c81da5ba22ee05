//! Why a peer is not who it should be.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use heddle_cert::Serial;
use heddle_ident::{ParseSpiffeIdError, SpiffeId};

use super::Expected;
use crate::certificate::CertificateError;

/// Why a peer was not accepted. The text is for the operator; the peer only gets a TLS alert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerVerificationError {
    /// A certificate of the chain is not acceptable for a reason not told apart here.
    #[error("chain of {presented} is not acceptable: {detail}")]
    Chain {
        /// Whom the leaf names.
        presented: SpiffeId,
        /// What the validation says.
        detail: String,
    },
    /// The peer sent too many certificates.
    #[error("chain of {certificates} certificates, at most {max} are accepted")]
    ChainTooLong {
        /// How many.
        certificates: usize,
        /// The bound.
        max: usize,
    },
    /// The certificate, or one above it, has expired.
    #[error("certificate of {presented} expired {} ago", ago(*.now, *.not_after))]
    Expired {
        /// Whom the leaf names.
        presented: SpiffeId,
        /// Its last moment.
        not_after: SystemTime,
        /// When it was looked at.
        now: SystemTime,
    },
    /// The one URI in the leaf is not a SPIFFE id.
    #[error("URI {presented:?} in the certificate is not a SPIFFE id")]
    InvalidSpiffeId {
        /// The URI.
        presented: String,
        /// What is wrong with it.
        #[source]
        source: ParseSpiffeIdError,
    },
    /// The leaf is a certificate that signs certificates.
    #[error("{presented} presented an authority's certificate as its own")]
    LeafIsAuthority {
        /// Whom it names.
        presented: SpiffeId,
    },
    /// The certificate cannot be read.
    #[error("certificate cannot be read")]
    Malformed(#[source] CertificateError),
    /// The peer presented no certificate.
    #[error("peer presented no certificate")]
    NoCertificate,
    /// The leaf names no SPIFFE id where one is looked for; common names and DNS names do not count.
    #[error("certificate has no SPIFFE id as URI name{}", others(.other_names))]
    NoSpiffeId {
        /// The names it has instead.
        other_names: Vec<String>,
    },
    /// The certificate is not valid yet: the clocks differ.
    #[error("certificate of {presented} becomes valid only in {}: compare the clocks", ago(*.not_before, *.now))]
    NotYetValid {
        /// Whom the leaf names.
        presented: SpiffeId,
        /// Its first moment.
        not_before: SystemTime,
        /// When it was looked at.
        now: SystemTime,
    },
    /// The certificate, or one above it, was revoked.
    #[error("certificate{} of {presented} is revoked", number(*.serial))]
    Revoked {
        /// Whom the leaf names.
        presented: SpiffeId,
        /// Its serial number where the mesh has revoked it; none: it is in an authority's list, or one above it is.
        serial: Option<Serial>,
    },
    /// The leaf has several URIs, so that nobody can say who the peer is.
    #[error("certificate has {} URI names, exactly one is allowed: {}", .presented.len(), .presented.join(", "))]
    SeveralUris {
        /// The URIs.
        presented: Vec<String>,
    },
    /// No root of the peer's trust domain vouches for it.
    #[error("no root of trust domain {} in bundle {generation} vouches for {presented}", .presented.trust_domain())]
    UnknownAuthority {
        /// Whom the leaf names.
        presented: SpiffeId,
        /// Generation of the bundle.
        generation: u64,
    },
    /// The peer's trust domain is not in the bundle.
    #[error("trust domain of {presented} is not trusted (bundle {generation})")]
    UntrustedDomain {
        /// Whom the leaf names.
        presented: SpiffeId,
        /// Generation of the bundle.
        generation: u64,
    },
    /// The peer is someone else.
    #[error("peer is {presented}, expected {expected}")]
    WrongIdentity {
        /// Who it is.
        presented: SpiffeId,
        /// Who it should be.
        expected: Expected,
    },
    /// The certificate is not for this use (key usage or extended key usage).
    #[error("certificate of {presented} is not made for this use")]
    WrongUsage {
        /// Whom the leaf names.
        presented: SpiffeId,
    },
}

impl PeerVerificationError {
    /// A short label for metrics and logs; the set is closed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Chain { .. } | Self::ChainTooLong { .. } => "chain_invalid",
            Self::Expired { .. } => "expired",
            Self::InvalidSpiffeId { .. } => "spiffe_id_invalid",
            Self::LeafIsAuthority { .. } => "leaf_is_authority",
            Self::Malformed(_) => "malformed",
            Self::NoCertificate => "no_certificate",
            Self::NoSpiffeId { .. } => "spiffe_id_missing",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Revoked { .. } => "revoked",
            Self::SeveralUris { .. } => "several_uris",
            Self::UnknownAuthority { .. } => "unknown_authority",
            Self::UntrustedDomain { .. } => "untrusted_domain",
            Self::WrongIdentity { .. } => "wrong_identity",
            Self::WrongUsage { .. } => "wrong_usage",
        }
    }

    /// Whom the peer claims to be, where it says.
    pub fn presented(&self) -> Option<&SpiffeId> {
        match self {
            Self::Chain { presented, .. }
            | Self::Expired { presented, .. }
            | Self::LeafIsAuthority { presented }
            | Self::NotYetValid { presented, .. }
            | Self::Revoked { presented, .. }
            | Self::UnknownAuthority { presented, .. }
            | Self::UntrustedDomain { presented, .. }
            | Self::WrongIdentity { presented, .. }
            | Self::WrongUsage { presented } => Some(presented),
            Self::ChainTooLong { .. }
            | Self::InvalidSpiffeId { .. }
            | Self::Malformed(_)
            | Self::NoCertificate
            | Self::NoSpiffeId { .. }
            | Self::SeveralUris { .. } => None,
        }
    }

    /// The refusal behind a failed handshake; none when it failed for another reason.
    pub fn from_handshake(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
                other.0.downcast_ref::<Self>().cloned()
            }
            rustls::Error::NoCertificatesPresented => Some(Self::NoCertificate),
            _ => None,
        }
    }

    /// The same for the I/O error that tokio-rustls makes of it.
    pub fn from_io(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().and_then(Self::from_handshake)
    }

    pub(crate) fn into_handshake(self) -> rustls::Error {
        let other = rustls::OtherError(Arc::new(self));
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))
    }
}

fn ago(later: SystemTime, earlier: SystemTime) -> String {
    let seconds = later.duration_since(earlier).unwrap_or_default().as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn number(serial: Option<Serial>) -> String {
    serial.map_or_else(String::new, |serial| format!(" {serial}"))
}

fn others(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (it has {})", names.join(", ")) }
}
