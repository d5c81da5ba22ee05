//! Going back to an earlier revision: what changed since is undone in one new step of history.

use std::collections::BTreeMap;
use std::time::SystemTime;

use heddle_store::{ObjectKey as StoredKey, ObjectRecord, Revision, SourceId};

use super::State;
use super::apply::{Along, Applied, OnErrors};
use crate::ControlError;
use crate::objects::{File, Read, key_of, read};

/// Why there is no way back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RollbackError {
    /// The store failed.
    #[error("the control plane failed")]
    Control(#[from] ControlError),
    /// There is no such revision yet.
    #[error("there is no revision {wanted}; the newest is {newest}")]
    Unknown { wanted: u64, newest: u64 },
    /// History does not reach back so far.
    #[error(
        "history does not reach back to revision {wanted}; the oldest to go back to is {oldest}"
    )]
    TooOld { wanted: u64, oldest: u64 },
}

/// How each object that changed since was at that revision; none: it was not there. `steps` are the newest first.
fn before(steps: &[Revision], wanted: u64) -> BTreeMap<StoredKey, Option<ObjectRecord>> {
    let mut then = BTreeMap::new();
    for step in steps.iter().take_while(|step| step.revision > wanted) {
        for change in &step.changes {
            // The earliest change since says how it was.
            then.insert(change.key.clone(), change.before.clone());
        }
    }
    then
}

impl State {
    /// Makes the objects what they were at a revision.
    pub(crate) fn rollback(
        &mut self,
        wanted: u64,
        by: String,
        dry_run: bool,
        now: SystemTime,
    ) -> Result<Applied, RollbackError> {
        let steps = self.history(usize::MAX)?;
        let newest = self.revision;
        if wanted > newest {
            return Err(RollbackError::Unknown { wanted, newest });
        }
        let oldest = steps.last().map_or(newest, |step| step.revision.saturating_sub(1));
        if wanted < oldest {
            return Err(RollbackError::TooOld { wanted, oldest });
        }
        let then = before(&steps, wanted);
        let gone = then.iter().filter(|(_, record)| record.is_none()).map(|(key, _)| key_of(key));
        let note = format!("back to revision {wanted}");
        let along = Along { delete: self.objects.present(gone).into_iter().collect(), by, note };
        let mut by_source: BTreeMap<SourceId, Vec<&StoredKey>> = BTreeMap::new();
        for (key, record) in &then {
            if let Some(record) = record {
                by_source.entry(record.source).or_default().push(key);
            }
        }
        let (mut files, mut restored) = (Vec::new(), Read::default());
        for (source, keys) in by_source {
            let Some(text) = self.store.source(source).map_err(ControlError::from)? else {
                continue;
            };
            let file =
                File { path: text.path, folder: text.folder, text: text.text, size_bytes: 0 };
            let found = read(std::slice::from_ref(&file)).candidates.into_iter();
            let keys: Vec<_> = keys.into_iter().map(key_of).collect();
            let order = restored.candidates.len();
            for mut candidate in found.filter(|candidate| keys.contains(&candidate.key)) {
                candidate.file = files.len();
                candidate.order += order;
                restored.candidates.push(candidate);
            }
            files.push(file);
        }
        Ok(self.apply(&files, restored, OnErrors::SafeMeaning, along, dry_run, now)?)
    }
}
