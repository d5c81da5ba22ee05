//! Why an authority refuses.

use std::time::{Duration, SystemTime};

use heddle_ident::{SpiffeId, TrustDomain};

use super::{RotationPhase, Serial};
use crate::{BundleError, RootId};

/// Why the authority does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The roots do not make a bundle.
    #[error("roots cannot be distributed")]
    Bundle(#[from] BundleError),
    /// The root that signs has expired; rotate.
    #[error("root {root} has expired and cannot vouch for a new leaf")]
    RootExpired {
        /// The root.
        root: RootId,
    },
    /// The asked lifetime is below the least.
    #[error("a lifetime of {asked:?} is below the least, {min:?}")]
    LifetimeTooShort {
        /// What was asked.
        asked: Duration,
        /// The bound.
        min: Duration,
    },
    /// No leaf of this serial number lives.
    #[error("no certificate with serial number {serial} is in use")]
    UnknownLeaf {
        /// The serial number.
        serial: Serial,
    },
    /// The identity belongs to a trust domain this authority does not sign for.
    #[error("{identity} is not of trust domain {domain}")]
    ForeignIdentity {
        /// The identity.
        identity: SpiffeId,
        /// The authority's domain.
        domain: TrustDomain,
    },
    /// A rotation runs already.
    #[error("a rotation runs already: {}", phase_text(.phase))]
    RotationRuns {
        /// Where it stands.
        phase: RotationPhase,
    },
    /// The root may not be retired yet.
    #[error("root {root} cannot be retired yet: {refusal}")]
    RetireRefused {
        /// The root.
        root: RootId,
        /// Why.
        refusal: RetireRefusal,
    },
}

/// Why a root must stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetireRefusal {
    /// Live leaves need it.
    #[error(
        "{leaves} live leaves of {holders} proxies need it, the last until {until:?} (for example {example})"
    )]
    LiveLeaves {
        /// How many leaves are known one by one.
        leaves: usize,
        /// Of how many holders.
        holders: usize,
        /// When the last of them expires at the latest.
        until: SystemTime,
        /// One of the holders; empty when none is known by name.
        example: String,
    },
    /// It signs.
    #[error("it signs new leaves")]
    Signs,
    /// It is not a root of this authority.
    #[error("it is not a root of this authority")]
    Unknown,
    /// Its successor has not reached every proxy.
    #[error("its successor has not reached every proxy")]
    SuccessorNotDistributed,
}

fn phase_text(phase: &RotationPhase) -> String {
    match phase {
        RotationPhase::Distribute { new, .. } => format!("root {new} is being distributed"),
        RotationPhase::Renew { old } => format!("leaves of root {old} are being renewed"),
        RotationPhase::Steady => "none".to_owned(),
    }
}
