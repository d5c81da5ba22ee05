//! Issuing, renewing and rotating certificates and trust bundles, as state machines. Layer 3, pure.
//!
//! Time and seeds are arguments and cryptography is a trait object ([`Crypto`]), so the same code runs in
//! the proxy, in the control plane and in a simulation with a virtual clock. This crate must not sign,
//! verify or parse a certificate itself (that is `tls`), and must not send anything: callers carry the
//! messages.
//!
//! Invariants, which the simulation in this crate's tests holds:
//! - no certificate is handed out after it has expired ([`Issuance::current`]);
//! - while a root rotates, every peer can verify every other peer ([`Authority`]).
//!
//! The main types are [`Issuance`] (a proxy's side), [`Authority`] (the signer's side) and [`TrustBundle`]
//! (what the second distributes to the first).

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod authority;
mod bundle;
mod issuance;
mod join;
mod seed;

#[cfg(test)]
mod simulation;

pub use authority::{
    Authority, AuthorityChange, AuthorityError, AuthorityRecord, HolderId, HolderRecord, IssuePlan,
    LeafRecord, ParseSerialError, RetireRefusal, RotationPhase, RotationStatus, Serial,
};
pub use bundle::{BundleError, Root, RootId, TrustBundle};
pub use issuance::{
    Crypto, CryptoError, Issuance, IssuanceError, IssuancePolicy, IssuanceStatus, Issued, Step,
    Svid,
};
pub use join::{JOIN_TOKEN_LIFETIME_MAX, JoinError, JoinToken, JoinTokens, TokenHash};

use std::time::{Duration, SystemTime};

/// How far a certificate's start lies before the moment of signing, so that a peer whose clock is behind
/// by less than this accepts it at once.
pub const BACKDATE: Duration = Duration::from_mins(1);

/// How long a leaf lives unless its authority is told otherwise.
pub const LEAF_LIFETIME_DEFAULT: Duration = Duration::from_hours(24);

/// The shortest leaf an authority signs. X.509 counts whole seconds, so one second may be none at all.
pub const LEAF_LIFETIME_MIN: Duration = Duration::from_secs(2);

/// When a certificate may be used; both ends belong to it (RFC 5280 section 4.1.2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

impl Validity {
    /// Whether the certificate may be used at `now`.
    pub fn contains(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}
