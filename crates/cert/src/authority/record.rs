//! What an authority must remember across restarts, as plain values for a store.

use std::collections::BTreeMap;
use std::time::SystemTime;

use heddle_ident::{SpiffeId, TrustDomain};

use super::{Authority, Holder, HolderId, Leaf, RotationPhase, Serial};
use crate::{Root, RootId};

/// Everything an [`Authority`] knows, without keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorityRecord {
    /// The trust domain.
    pub domain: TrustDomain,
    /// The bundle's generation.
    pub generation: u64,
    /// The roots in the bundle, oldest first.
    pub roots: Vec<Root>,
    /// The root that signs.
    pub signer: RootId,
    /// Where a rotation stands.
    pub phase: RotationPhase,
    /// Roots of other trust domains.
    pub federated: BTreeMap<TrustDomain, Vec<Root>>,
    /// Leaves that are revoked, and until when they would be valid.
    pub revoked: BTreeMap<Serial, SystemTime>,
    /// Holders of live leaves. A store may leave them out when it sets `unlisted_until` to the latest expiry.
    pub holders: Vec<HolderRecord>,
    /// For each root, until when leaves may live that are not in `holders`.
    pub unlisted_until: BTreeMap<RootId, SystemTime>,
}

/// One holder of leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HolderRecord {
    /// Its name.
    pub holder: HolderId,
    /// The newest bundle it has confirmed.
    pub acknowledged: u64,
    /// When it last asked or confirmed something.
    pub seen_at: SystemTime,
    /// Its leaves, in the order of issue.
    pub leaves: Vec<LeafRecord>,
}

/// One leaf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeafRecord {
    /// Whom it names.
    pub identity: SpiffeId,
    /// The root that vouches for it.
    pub root: RootId,
    /// Its serial number.
    pub serial: Serial,
    /// Its first moment.
    pub not_before: SystemTime,
    /// Its last moment.
    pub not_after: SystemTime,
}

impl Authority {
    /// The state to store. Call it after everything that changed something, before the answer goes out.
    pub fn record(&self) -> AuthorityRecord {
        let leaf = |identity: &SpiffeId, leaf: &Leaf| LeafRecord {
            identity: identity.clone(),
            root: leaf.root.clone(),
            serial: leaf.serial,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        };
        AuthorityRecord {
            domain: self.domain.clone(),
            generation: self.generation,
            roots: self.roots.clone(),
            signer: self.signer.clone(),
            phase: self.phase.clone(),
            federated: self.federated.clone(),
            revoked: self.revoked.clone(),
            holders: self
                .holders
                .iter()
                .map(|(id, holder)| HolderRecord {
                    holder: id.clone(),
                    acknowledged: holder.acknowledged,
                    seen_at: holder.seen_at,
                    leaves: holder
                        .leaves
                        .iter()
                        .flat_map(|(identity, leaves)| leaves.iter().map(|l| leaf(identity, l)))
                        .collect(),
                })
                .collect(),
            unlisted_until: self.unlisted_until.clone(),
        }
    }

    /// The authority of a stored state. Aliases, further roots and revocation lists are configuration, not state: the
    /// caller sets them again.
    pub fn restore(record: AuthorityRecord) -> Self {
        let holders = record.holders.into_iter().map(|stored| {
            let mut holder = Holder::new(stored.seen_at);
            holder.acknowledged = stored.acknowledged;
            for LeafRecord { identity, root, serial, not_before, not_after } in stored.leaves {
                let leaves = holder.leaves.entry(identity).or_default();
                leaves.push(Leaf { root, serial, not_before, not_after });
            }
            (stored.holder, holder)
        });
        Self {
            domain: record.domain,
            generation: record.generation,
            roots: record.roots,
            signer: record.signer,
            phase: record.phase,
            federated: record.federated,
            aliases: Vec::new(),
            trusted: BTreeMap::new(),
            revoked: record.revoked,
            revocation_lists: Vec::new(),
            holders: holders.collect(),
            unlisted_until: record.unlisted_until,
        }
    }
}
