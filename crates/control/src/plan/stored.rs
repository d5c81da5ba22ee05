//! Addresses that were given, for the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_translate::workloads::{Allocation, Slots};
use serde::{Deserialize, Serialize};

/// The document with the addresses given.
pub(crate) const DOCUMENT: &str = "allocation";

#[derive(Serialize, Deserialize)]
struct Stored {
    pods: StoredSlots,
    services: StoredSlots,
    entries: StoredSlots,
}

#[derive(Serialize, Deserialize)]
struct StoredSlots {
    taken: BTreeMap<String, u32>,
    next: u32,
}

impl From<&Slots> for StoredSlots {
    fn from(slots: &Slots) -> Self {
        Self { taken: slots.taken.clone(), next: slots.next }
    }
}

impl From<StoredSlots> for Slots {
    fn from(stored: StoredSlots) -> Self {
        Self { taken: stored.taken, next: stored.next }
    }
}

/// As JSON.
pub(crate) fn format(allocation: &Allocation) -> Arc<[u8]> {
    let Allocation { pods, services, entries } = allocation;
    let stored = Stored { pods: pods.into(), services: services.into(), entries: entries.into() };
    // Maps of texts and numbers have no way to fail.
    serde_json::to_vec(&stored).unwrap_or_default().into()
}

/// From JSON.
pub(crate) fn parse(document: &[u8]) -> Result<Allocation, serde_json::Error> {
    let stored: Stored = serde_json::from_slice(document)?;
    Ok(Allocation {
        pods: stored.pods.into(),
        services: stored.services.into(),
        entries: stored.entries.into(),
    })
}
