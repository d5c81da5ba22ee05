//! The authority's state as it is stored: JSON with certificates in PEM, without keys.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heddle_cert::{
    AuthorityRecord, HolderId, HolderRecord, LeafRecord, Root, RootId, RotationPhase, Serial,
};
use heddle_ident::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use super::pem;

/// The stored form.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    domain: String,
    generation: u64,
    /// In PEM, oldest first.
    roots: Vec<String>,
    signer: String,
    phase: Phase,
    federated: BTreeMap<String, Vec<String>>,
    /// Revoked leaves that have not expired, by serial number in hexadecimal; milliseconds since 1970.
    #[serde(default)]
    revoked_until_ms: BTreeMap<String, u64>,
    /// Milliseconds since 1970 by root.
    leaves_until_ms: BTreeMap<String, u64>,
    holders: Vec<Holder>,
    /// Chains of the roots that can sign, by id.
    pub(super) chains: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Holder {
    name: String,
    acknowledged: u64,
    seen_at_ms: u64,
    leaves: Vec<Leaf>,
}

#[derive(Serialize, Deserialize)]
struct Leaf {
    identity: String,
    root: String,
    serial: [u8; 16],
    #[serde(default)]
    not_before_ms: u64,
    not_after_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage")]
enum Phase {
    Distribute { new: String, generation: u64 },
    Renew { old: String },
    Steady,
}

impl Record {
    /// Leaves of holders that the caller leaves out must be covered by `reserved_until`.
    pub(super) fn new(
        record: AuthorityRecord,
        reserved_until: &BTreeMap<RootId, SystemTime>,
        chains: BTreeMap<String, String>,
    ) -> Self {
        let mut until = record.unlisted_until;
        for (root, reserved) in reserved_until {
            let entry = until.entry(root.clone()).or_insert(*reserved);
            *entry = (*entry).max(*reserved);
        }
        let pems =
            |roots: &[Root]| roots.iter().map(|root| pem("CERTIFICATE", &root.der)).collect();
        Self {
            domain: record.domain.to_string(),
            generation: record.generation,
            roots: pems(&record.roots),
            signer: record.signer.as_str().to_owned(),
            phase: match record.phase {
                RotationPhase::Distribute { new, generation } => {
                    Phase::Distribute { new: new.as_str().to_owned(), generation }
                }
                RotationPhase::Renew { old } => Phase::Renew { old: old.as_str().to_owned() },
                RotationPhase::Steady => Phase::Steady,
            },
            federated: record
                .federated
                .iter()
                .map(|(domain, roots)| (domain.to_string(), pems(roots)))
                .collect(),
            revoked_until_ms: record
                .revoked
                .into_iter()
                .map(|(serial, until)| (serial.to_string(), millis(until)))
                .collect(),
            leaves_until_ms: until
                .into_iter()
                .map(|(root, until)| (root.as_str().to_owned(), millis(until)))
                .collect(),
            holders: record.holders.into_iter().map(Holder::from).collect(),
            chains,
        }
    }

    pub(super) fn parse(document: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(document).map_err(|error| error.to_string())
    }

    pub(super) fn format(&self) -> Vec<u8> {
        // Texts, numbers and maps with text keys have no way to fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn into_authority(
        self,
        roots_from_pem: impl Fn(&str) -> Result<Vec<Root>, String>,
    ) -> Result<AuthorityRecord, String> {
        let domain = |text: &str| TrustDomain::parse(text).map_err(|error| error.to_string());
        let roots = |pems: &[String]| {
            let roots = pems.iter().map(|pem| roots_from_pem(pem));
            Ok::<_, String>(roots.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        };
        let mut federated = BTreeMap::new();
        for (other, pems) in &self.federated {
            federated.insert(domain(other)?, roots(pems)?);
        }
        Ok(AuthorityRecord {
            domain: domain(&self.domain)?,
            generation: self.generation,
            roots: roots(&self.roots)?,
            signer: RootId::new(self.signer),
            phase: match self.phase {
                Phase::Distribute { new, generation } => {
                    RotationPhase::Distribute { new: RootId::new(new), generation }
                }
                Phase::Renew { old } => RotationPhase::Renew { old: RootId::new(old) },
                Phase::Steady => RotationPhase::Steady,
            },
            federated,
            revoked: self
                .revoked_until_ms
                .iter()
                .map(|(text, until)| {
                    Ok((text.parse::<Serial>().map_err(|e| e.to_string())?, time(*until)))
                })
                .collect::<Result<_, String>>()?,
            holders: self
                .holders
                .into_iter()
                .map(Holder::into_record)
                .collect::<Result<_, String>>()?,
            unlisted_until: self
                .leaves_until_ms
                .into_iter()
                .map(|(root, until)| (RootId::new(root), time(until)))
                .collect(),
        })
    }
}

impl From<HolderRecord> for Holder {
    fn from(record: HolderRecord) -> Self {
        let leaf = |leaf: LeafRecord| Leaf {
            identity: leaf.identity.to_string(),
            root: leaf.root.as_str().to_owned(),
            serial: leaf.serial.0,
            not_before_ms: millis(leaf.not_before),
            not_after_ms: millis(leaf.not_after),
        };
        Self {
            name: record.holder.as_str().to_owned(),
            acknowledged: record.acknowledged,
            seen_at_ms: millis(record.seen_at),
            leaves: record.leaves.into_iter().map(leaf).collect(),
        }
    }
}

impl Holder {
    fn into_record(self) -> Result<HolderRecord, String> {
        let leaf = |leaf: Leaf| {
            Ok(LeafRecord {
                identity: SpiffeId::parse(&leaf.identity).map_err(|error| error.to_string())?,
                root: RootId::new(leaf.root),
                serial: Serial(leaf.serial),
                not_before: time(leaf.not_before_ms),
                not_after: time(leaf.not_after_ms),
            })
        };
        Ok(HolderRecord {
            holder: HolderId::new(self.name),
            acknowledged: self.acknowledged,
            seen_at: time(self.seen_at_ms),
            leaves: self.leaves.into_iter().map(leaf).collect::<Result<_, String>>()?,
        })
    }
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// Rounded up: a leaf must never be forgotten early.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).map_or(u64::MAX, |millis| millis + 1)
}
