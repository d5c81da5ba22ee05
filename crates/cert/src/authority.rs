//! The signer's side: which root signs, which roots are distributed, and the staged rotation of roots.
//!
//! A rotation has three stages, each left only when nobody can be hurt by it:
//! 1. **distribute**: the new root is in the bundle, the old one signs. Left when every holder of a live leaf
//!    has acknowledged the bundle: from then on everyone can verify leaves of the new root.
//! 2. **renew**: the new root signs, both are in the bundle. Left when no live leaf of the old root remains:
//!    each has expired, or its holder has confirmed that a newer one is in its place.
//! 3. **retire**: the old root leaves the bundle.
//!
//! Losing a holder's connection proves nothing, since its leaf stays usable; only expiry, replacement or
//! [`Authority::forget_holder`] (its process is gone, and with it the key) releases it.
//! This module must not sign: it says with which root and until when, `tls` signs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_ident::{SpiffeId, TrustDomain};

use crate::{BACKDATE, LEAF_LIFETIME_DEFAULT, LEAF_LIFETIME_MIN, Root, RootId, Validity};

mod error;
mod record;
mod trust;

pub use error::{AuthorityError, RetireRefusal};
pub use record::{AuthorityRecord, HolderRecord, LeafRecord};

/// Holders whose leaves are followed one by one; beyond that, only the time matters.
const HOLDERS_MAX: usize = 100_000;
/// Live leaves of one holder that are followed one by one: a node proxy has one per service account, and two
/// while it renews.
const LEAVES_PER_HOLDER_MAX: usize = 1_024;
/// How long a holder without a leaf is remembered; it then counts as one that has acknowledged nothing.
const LEAFLESS_HOLDER_MEMORY: Duration = LEAF_LIFETIME_DEFAULT;
/// Holders named in a [`RotationStatus`].
const SAMPLE_MAX: usize = 10;
/// A root is due for rotation in the last quarter of its life.
const ROTATE_AT_REMAINING: u32 = 4;

/// The name of whoever holds keys and a bundle: one run of one proxy.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HolderId(Arc<str>);

impl HolderId {
    /// Takes the text as it is.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The serial number of a certificate: random, positive, 128 bits (RFC 5280 section 4.1.2.2 asks for at
/// least 64 random ones).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(pub [u8; 16]);

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text is not a serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a serial number has 32 hexadecimal digits, as `heddle certs` shows it")]
pub struct ParseSerialError;

impl FromStr for Serial {
    type Err = ParseSerialError;

    /// 32 hexadecimal digits; colons between them, as other tools write them, do not count.
    fn from_str(text: &str) -> Result<Self, ParseSerialError> {
        let digits: Vec<u32> = text
            .chars()
            .filter(|character| *character != ':')
            .map(|character| character.to_digit(16).ok_or(ParseSerialError))
            .collect::<Result<_, _>>()?;
        let mut serial = [0; 16];
        if digits.len() != 2 * serial.len() {
            return Err(ParseSerialError);
        }
        for (byte, pair) in serial.iter_mut().zip(digits.chunks_exact(2)) {
            *byte =
                pair.iter().fold(0, |byte, digit| byte << 4 | u8::try_from(*digit).unwrap_or(0));
        }
        Ok(Self(serial))
    }
}

/// Where a rotation stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RotationPhase {
    /// The new root is being distributed; the old one signs.
    Distribute {
        /// The root to come.
        new: RootId,
        /// The generation that everyone must have acknowledged.
        generation: u64,
    },
    /// The new root signs; leaves of the old one are being replaced.
    Renew {
        /// The root to go.
        old: RootId,
    },
    /// No rotation runs.
    Steady,
}

/// How a leaf is to be signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuePlan {
    /// The root (or the intermediate below it) that signs.
    pub root: RootId,
    /// When the leaf may be used.
    pub validity: Validity,
    /// Its serial number.
    pub serial: Serial,
}

/// What [`Authority::advance`] or a command changed; each is worth a log line and a new push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthorityChange {
    /// Send [`Authority::bundle`] to every proxy.
    Bundle {
        /// The new generation.
        generation: u64,
    },
    /// A root left the bundle; its key can be destroyed.
    RootRetired {
        /// The root.
        root: RootId,
    },
    /// Leaves are signed with this root from now on.
    SignerSwitched {
        /// The root.
        root: RootId,
    },
}

/// Where a rotation stands and whom it waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RotationStatus {
    /// The stage.
    pub phase: RotationPhase,
    /// How many holders it waits for by name.
    pub waiting: usize,
    /// Up to ten of them.
    pub sample: Vec<HolderId>,
    /// When the stage ends at the latest even if nobody of them does anything.
    pub ends_by: Option<SystemTime>,
}

#[derive(Debug, Clone)]
struct Leaf {
    root: RootId,
    serial: Serial,
    not_before: SystemTime,
    not_after: SystemTime,
}

#[derive(Debug, Clone)]
struct Holder {
    acknowledged: u64,
    seen_at: SystemTime,
    leaves: BTreeMap<SpiffeId, Vec<Leaf>>,
}

impl Holder {
    fn new(seen_at: SystemTime) -> Self {
        Self { acknowledged: 0, seen_at, leaves: BTreeMap::new() }
    }

    fn live(&self, now: SystemTime) -> impl Iterator<Item = &Leaf> {
        self.leaves.values().flatten().filter(move |leaf| leaf.not_after >= now)
    }
}

/// The state machine of one trust domain's authority.
#[derive(Debug)]
pub struct Authority {
    domain: TrustDomain,
    generation: u64,
    roots: Vec<Root>,
    signer: RootId,
    phase: RotationPhase,
    federated: BTreeMap<TrustDomain, Vec<Root>>,
    /// Other names of the own trust domain: the own roots vouch for their identities too.
    aliases: Vec<TrustDomain>,
    /// Roots that are configured, by trust domain; of the own domain, those with which others sign.
    trusted: BTreeMap<TrustDomain, Vec<Root>>,
    /// Leaves that are not accepted any more, and until when they would be.
    revoked: BTreeMap<Serial, SystemTime>,
    /// Revocation lists of authorities above the own one, in DER.
    revocation_lists: Vec<Arc<[u8]>>,
    holders: BTreeMap<HolderId, Holder>,
    /// For each root, until when leaves may live that are not followed one by one.
    unlisted_until: BTreeMap<RootId, SystemTime>,
}

impl Authority {
    /// An authority with its first root. Generations begin at the present second, so that an authority that
    /// lost its state and begins anew is still ahead of what its proxies hold.
    pub fn new(domain: TrustDomain, root: Root, now: SystemTime) -> Self {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            domain,
            generation: since_epoch.as_secs(),
            signer: root.id.clone(),
            roots: vec![root],
            phase: RotationPhase::Steady,
            federated: BTreeMap::new(),
            aliases: Vec::new(),
            trusted: BTreeMap::new(),
            revoked: BTreeMap::new(),
            revocation_lists: Vec::new(),
            holders: BTreeMap::new(),
            unlisted_until: BTreeMap::new(),
        }
    }

    /// The trust domain.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root that signs.
    pub fn signer(&self) -> &RootId {
        &self.signer
    }

    /// The roots in the bundle, oldest first.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Plans a leaf and takes note of it, before it is signed: a leaf that is never signed costs patience, one
    /// that is signed and forgotten costs a failed handshake. `lifetime` is cut to the root's.
    pub fn issue(
        &mut self,
        now: SystemTime,
        holder: &HolderId,
        identity: &SpiffeId,
        lifetime: Duration,
        serial: Serial,
    ) -> Result<IssuePlan, AuthorityError> {
        if *identity.trust_domain() != self.domain {
            return Err(AuthorityError::ForeignIdentity {
                identity: identity.clone(),
                domain: self.domain.clone(),
            });
        }
        if lifetime < LEAF_LIFETIME_MIN {
            let (asked, min) = (lifetime, LEAF_LIFETIME_MIN);
            return Err(AuthorityError::LifetimeTooShort { asked, min });
        }
        let root_not_after = self.root_not_after(&self.signer);
        let not_after = (now + lifetime).min(root_not_after);
        if not_after <= now {
            return Err(AuthorityError::RootExpired { root: self.signer.clone() });
        }
        let root = self.signer.clone();
        let validity = Validity { not_before: now - BACKDATE, not_after };
        let Validity { not_before, .. } = validity;
        let leaf = Leaf { root: root.clone(), serial, not_before, not_after };
        self.note_leaf(now, holder, identity, leaf);
        Ok(IssuePlan { root, validity, serial })
    }

    /// A holder confirms that the leaf `serial` is in use for `identity`; its older ones are gone. Says whether there
    /// were any.
    pub fn handle_installed(
        &mut self,
        holder: &HolderId,
        identity: &SpiffeId,
        serial: Serial,
    ) -> bool {
        let Some(holder) = self.holders.get_mut(holder) else { return false };
        let Some(leaves) = holder.leaves.get_mut(identity) else { return false };
        let Some(index) = leaves.iter().position(|leaf| leaf.serial == serial) else {
            return false;
        };
        // Leaves are in the order of issue; an answer overtaken by a newer one keeps the newer.
        leaves.drain(..index);
        index > 0
    }

    /// A holder confirms that it verifies with the bundle of this generation.
    pub fn handle_acknowledged(&mut self, now: SystemTime, holder: &HolderId, generation: u64) {
        // A generation that was never sent is a lie or a mix-up, and must not let a rotation go on.
        let has_room = self.holders.contains_key(holder) || self.holders.len() < HOLDERS_MAX;
        if generation > self.generation || !has_room {
            return;
        }
        let holder = self.holders.entry(holder.clone()).or_insert_with(|| Holder::new(now));
        holder.acknowledged = holder.acknowledged.max(generation);
        holder.seen_at = now;
    }

    /// Whether the holder has a leaf, or had one lately.
    pub fn knows(&self, holder: &HolderId) -> bool {
        self.holders.contains_key(holder)
    }

    /// The holder's process has ended, and with it its keys. A lost connection is not enough.
    pub fn forget_holder(&mut self, holder: &HolderId) {
        self.holders.remove(holder);
    }

    /// Whether the signing root is in the last quarter of its life; then make a new one and
    /// [`Authority::begin_rotation`].
    pub fn rotation_due(&self, now: SystemTime) -> bool {
        let Some(signer) = self.roots.iter().find(|root| root.id == self.signer) else {
            return false;
        };
        let Validity { not_before, not_after } = signer.validity;
        let life = not_after.duration_since(not_before).unwrap_or_default();
        self.phase == RotationPhase::Steady
            && not_after.duration_since(now).unwrap_or_default() < life / ROTATE_AT_REMAINING
    }

    /// Begins a rotation to `root`: it is in the bundle from now on. [`Authority::advance`] does the rest.
    pub fn begin_rotation(&mut self, root: Root) -> Result<AuthorityChange, AuthorityError> {
        if self.phase != RotationPhase::Steady {
            return Err(AuthorityError::RotationRuns { phase: self.phase.clone() });
        }
        let new = root.id.clone();
        self.roots.push(root);
        if let Err(error) = self.bundle() {
            self.roots.pop();
            return Err(error.into());
        }
        let change = self.next_generation();
        self.phase = RotationPhase::Distribute { new, generation: self.generation };
        Ok(change)
    }

    /// Goes to the next stage of a rotation if nobody would be hurt. Call it after acknowledgements and
    /// confirmations, and now and then, since leaves expire.
    pub fn advance(&mut self, now: SystemTime) -> Vec<AuthorityChange> {
        self.drop_expired(now);
        let mut changes = self.drop_expired_revocations(now);
        if let RotationPhase::Distribute { new, generation } = self.phase.clone()
            && self.missing_acknowledgement(now, generation).next().is_none()
            && self.unlisted_end(now, None).is_none()
        {
            let old = std::mem::replace(&mut self.signer, new.clone());
            self.phase = RotationPhase::Renew { old };
            changes.push(AuthorityChange::SignerSwitched { root: new });
            // The bundle names the signer, so that proxies renew early.
            changes.push(self.next_generation());
        }
        if let RotationPhase::Renew { old } = self.phase.clone()
            && let Ok(mut retired) = self.retire(now, &old)
        {
            changes.append(&mut retired);
        }
        changes
    }

    /// Removes a root, or says why it must stay.
    pub fn retire(
        &mut self,
        now: SystemTime,
        root: &RootId,
    ) -> Result<Vec<AuthorityChange>, AuthorityError> {
        if let Some(refusal) = self.retire_refusal(now, root) {
            return Err(AuthorityError::RetireRefused { root: root.clone(), refusal });
        }
        self.roots.retain(|held| held.id != *root);
        self.unlisted_until.remove(root);
        // Retiring the root to come gives the rotation up: no leaf of it was ever signed.
        if let RotationPhase::Renew { old: concerned }
        | RotationPhase::Distribute { new: concerned, .. } = &self.phase
            && concerned == root
        {
            self.phase = RotationPhase::Steady;
        }
        Ok(vec![AuthorityChange::RootRetired { root: root.clone() }, self.next_generation()])
    }

    /// Where the rotation stands and whom it waits for.
    pub fn status(&self, now: SystemTime) -> RotationStatus {
        let (holders, unlisted): (Vec<&HolderId>, _) = match &self.phase {
            RotationPhase::Distribute { generation, .. } => (
                self.missing_acknowledgement(now, *generation).collect(),
                self.unlisted_end(now, None),
            ),
            RotationPhase::Renew { old } => (
                self.leaves_of(now, old).map(|(holder, _)| holder).collect(),
                self.unlisted_end(now, Some(old)),
            ),
            RotationPhase::Steady => (Vec::new(), None),
        };
        let mut holders = holders;
        holders.dedup();
        let listed = holders
            .iter()
            .filter_map(|id| self.holders.get(*id))
            .flat_map(|holder| holder.live(now).map(|leaf| leaf.not_after))
            .max();
        RotationStatus {
            phase: self.phase.clone(),
            waiting: holders.len(),
            sample: holders.iter().take(SAMPLE_MAX).map(|id| (*id).clone()).collect(),
            ends_by: listed.max(unlisted),
        }
    }

    fn retire_refusal(&self, now: SystemTime, root: &RootId) -> Option<RetireRefusal> {
        if !self.roots.iter().any(|held| held.id == *root) {
            return Some(RetireRefusal::Unknown);
        }
        if *root == self.signer {
            let distributing = matches!(self.phase, RotationPhase::Distribute { .. });
            return Some(if distributing {
                RetireRefusal::SuccessorNotDistributed
            } else {
                RetireRefusal::Signs
            });
        }
        let mut holders: Vec<&HolderId> = Vec::new();
        let mut leaves = 0;
        let mut until = self.unlisted_end(now, Some(root));
        for (holder, leaf) in self.leaves_of(now, root) {
            holders.push(holder);
            leaves += 1;
            until = until.max(Some(leaf.not_after));
        }
        holders.dedup();
        until.map(|until| RetireRefusal::LiveLeaves {
            leaves,
            holders: holders.len(),
            until,
            example: holders.first().map(ToString::to_string).unwrap_or_default(),
        })
    }

    fn leaves_of<'a>(
        &'a self,
        now: SystemTime,
        root: &'a RootId,
    ) -> impl Iterator<Item = (&'a HolderId, &'a Leaf)> {
        self.holders.iter().flat_map(move |(id, holder)| {
            holder.live(now).filter(move |leaf| leaf.root == *root).map(move |leaf| (id, leaf))
        })
    }

    /// Holders of a live leaf that have not acknowledged `generation`.
    fn missing_acknowledgement(
        &self,
        now: SystemTime,
        generation: u64,
    ) -> impl Iterator<Item = &HolderId> {
        self.holders
            .iter()
            .filter(move |(_, holder)| {
                holder.acknowledged < generation && holder.live(now).next().is_some()
            })
            .map(|(id, _)| id)
    }

    /// Until when leaves of `root` (of any root when none is given) may live that are not followed one by one.
    fn unlisted_end(&self, now: SystemTime, root: Option<&RootId>) -> Option<SystemTime> {
        self.unlisted_until
            .iter()
            .filter(|(of, until)| root.is_none_or(|root| root == *of) && **until >= now)
            .map(|(_, until)| *until)
            .max()
    }

    fn note_leaf(&mut self, now: SystemTime, holder: &HolderId, identity: &SpiffeId, leaf: Leaf) {
        let has_room = self.holders.contains_key(holder) || self.holders.len() < HOLDERS_MAX;
        if has_room {
            let record = self.holders.entry(holder.clone()).or_insert_with(|| Holder::new(now));
            record.seen_at = now;
            if record.live(now).count() < LEAVES_PER_HOLDER_MAX {
                let leaves = record.leaves.entry(identity.clone()).or_default();
                leaves.retain(|leaf| leaf.not_after >= now);
                leaves.push(leaf);
                return;
            }
        }
        let until = self.unlisted_until.entry(leaf.root).or_insert(leaf.not_after);
        *until = leaf.not_after.max(*until);
    }

    fn drop_expired(&mut self, now: SystemTime) {
        self.unlisted_until.retain(|_, until| *until >= now);
        self.holders.retain(|_, holder| {
            holder.leaves.retain(|_, leaves| {
                leaves.retain(|leaf| leaf.not_after >= now);
                !leaves.is_empty()
            });
            // A clock set back keeps everything.
            let age = now.duration_since(holder.seen_at).unwrap_or_default();
            !holder.leaves.is_empty() || age < LEAFLESS_HOLDER_MEMORY
        });
    }

    fn root_not_after(&self, id: &RootId) -> SystemTime {
        let root = self.roots.iter().find(|root| root.id == *id);
        root.map_or(SystemTime::UNIX_EPOCH, Root::not_after)
    }

    fn next_generation(&mut self) -> AuthorityChange {
        self.generation += 1;
        AuthorityChange::Bundle { generation: self.generation }
    }
}

#[cfg(test)]
mod tests;
