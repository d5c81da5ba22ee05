//! Applying and deleting objects.

use std::collections::BTreeSet;
use std::time::SystemTime;

use heddle_diag::{Diagnostic, OutcomeRecord};
use heddle_store::{Change, ChangeKind, ObjectRecord, Put, Revision, SourceId, SourceText};
use heddle_translate::ObjectKey;

use super::State;
use crate::ControlError;
use crate::digest::digest;
use crate::objects::{Candidate, File, Read, key_of, stored_key};
use crate::timestamp::millis;

/// What became of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was there, and is another one now.
    Configured,
    /// It is new.
    Created,
    /// It is gone.
    Deleted,
    /// It was not accepted; what was there before stays.
    Rejected,
    /// It was there, and is the same.
    Unchanged,
}

/// What becomes of an object with an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnErrors {
    /// It is rejected; what was there before stays.
    Reject,
    /// It is taken, and means what is safe: refuse, never match, or answer with an error.
    SafeMeaning,
}

/// What goes along with objects that are applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Along {
    /// Objects to remove in the same step.
    pub(crate) delete: Vec<ObjectKey>,
    /// Who asks for it; may be empty.
    pub(crate) by: String,
    /// Why, for history; may be empty.
    pub(crate) note: String,
}

/// One object of a request.
#[derive(Clone, Debug)]
pub struct ObjectResult {
    /// Which.
    pub key: ObjectKey,
    /// What became of it.
    pub action: Action,
}

/// What became of a request.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The newest revision; waiting for it waits for this change.
    pub revision: u64,
    /// The objects, by name.
    pub results: Vec<ObjectResult>,
    /// Everything there is to say about them and about their files.
    pub findings: Vec<Diagnostic>,
    /// What became of their fields.
    pub outcomes: Vec<OutcomeRecord>,
}

impl State {
    /// Applies what was read from files, and everything else goes on. What has an error is rejected, as a cluster's
    /// admission would, and what was there stays; or it is taken with its safe meaning, as `errors` says.
    pub(crate) fn apply(
        &mut self,
        files: &[File],
        read: Read,
        errors: OnErrors,
        along: Along,
        dry_run: bool,
        now: SystemTime,
    ) -> Result<Applied, ControlError> {
        let at_ms = millis(now);
        let mut candidates = read.candidates;
        let first_created_ms = self.objects.next_created_ms(at_ms);
        for candidate in &mut candidates {
            candidate.created_at_ms = first_created_ms + candidate.order as u64;
            let known = self.objects.of(&candidate.key).map(|stored| &stored.record);
            let uid = known.map_or_else(|| new_uid(candidate, at_ms), |record| record.uid.clone());
            let created = known.map_or(candidate.created_at_ms, |record| record.created_at_ms);
            candidate.set_created(&uid, created);
        }
        let mut applied = Applied { findings: read.findings, ..Applied::default() };
        let rejected = self.validate(&candidates, &along.delete, errors, &mut applied);
        let accepted: Vec<_> =
            candidates.iter().filter(|c| !rejected.contains(&c.key)).cloned().collect();
        for candidate in &candidates {
            let known = self.objects.of(&candidate.key);
            let action = match known {
                _ if rejected.contains(&candidate.key) => Action::Rejected,
                None => Action::Created,
                Some(known) if known.record.digest == candidate.digest => Action::Unchanged,
                Some(_) => Action::Configured,
            };
            applied.results.push(ObjectResult { key: candidate.key.clone(), action });
        }
        let gone = along.delete.iter().map(|key| (key.clone(), Action::Deleted));
        applied.results.extend(gone.map(|(key, action)| ObjectResult { key, action }));
        let outcome = if dry_run { Ok(()) } else { self.accept(files, accepted, along, at_ms) };
        // Puts right what validation has tried, also after a failure.
        self.replan(now)?;
        outcome?;
        applied.revision = self.revision;
        Ok(applied)
    }

    /// Deletes objects; those that are not there are left out of the answer.
    pub(crate) fn delete(
        &mut self,
        keys: impl IntoIterator<Item = ObjectKey>,
        by: &str,
        dry_run: bool,
        now: SystemTime,
    ) -> Result<Applied, ControlError> {
        let present = self.objects.present(keys);
        if !dry_run && !present.is_empty() {
            let change = Change {
                at_ms: millis(now),
                by: by.to_owned(),
                delete: present.iter().map(stored_key).collect(),
                ..Change::default()
            };
            self.revision = self.store.commit(&change)?.revision;
            for key in &present {
                self.objects.remove(key);
            }
            self.replan(now)?;
        }
        let result = |key| ObjectResult { key, action: Action::Deleted };
        let results = present.into_iter().map(result).collect();
        Ok(Applied { revision: self.revision, results, ..Applied::default() })
    }

    /// Steps of history, the newest first.
    pub(crate) fn history(&self, limit: usize) -> Result<Vec<Revision>, ControlError> {
        Ok(self.store.history(limit)?)
    }

    /// Says what is wrong with candidates, and which of them cannot be accepted: those that could not be read in full,
    /// and those that their own project would reject.
    fn validate(
        &mut self,
        candidates: &[Candidate],
        deleted: &[ObjectKey],
        errors: OnErrors,
        applied: &mut Applied,
    ) -> BTreeSet<ObjectKey> {
        let is_unusable = |c: &&Candidate| errors == OnErrors::Reject && c.has_errors();
        let mut rejected: BTreeSet<ObjectKey> =
            candidates.iter().filter(is_unusable).map(|c| c.key.clone()).collect();
        let mut wanted = self.objects.clone();
        for key in deleted {
            wanted.remove(key);
        }
        for candidate in candidates.iter().filter(|c| !is_unusable(c)) {
            wanted.try_put(candidate.clone());
        }
        let tried = self.plan.try_objects(wanted.all());
        self.pending.merge(tried);
        for candidate in candidates {
            applied.findings.extend(candidate.findings.iter().cloned());
            applied.outcomes.extend(candidate.outcomes.iter().cloned());
            if is_unusable(&candidate) {
                continue;
            }
            if let Some(known) = self.objects.of(&candidate.key) {
                let former = &known.candidate.object;
                applied.findings.extend(heddle_translate::losses(former, &candidate.object));
            }
            for object in candidate.objects() {
                let report = self.plan.translator().report(&ObjectKey::of(&object));
                let refuses =
                    |finding: &&Diagnostic| finding.code.id == heddle_translate::codes::REJECTED.id;
                let refused = report.findings.iter().any(|finding| refuses(&finding));
                if refused && errors == OnErrors::Reject {
                    rejected.insert(candidate.key.clone());
                }
                applied.findings.extend(report.findings.iter().cloned());
                applied.outcomes.extend(report.outcomes.iter().cloned());
            }
        }
        rejected
    }

    fn accept(
        &mut self,
        files: &[File],
        accepted: Vec<Candidate>,
        along: Along,
        at_ms: u64,
    ) -> Result<(), ControlError> {
        if accepted.is_empty() && along.delete.is_empty() {
            return Ok(());
        }
        // Only files that something accepted comes from.
        let used: Vec<usize> =
            accepted.iter().map(|c| c.file).collect::<BTreeSet<_>>().into_iter().collect();
        let source = |candidate: &Candidate| used.binary_search(&candidate.file).unwrap_or(0);
        let sources: Vec<SourceText> = used
            .iter()
            .filter_map(|number| files.get(*number))
            .map(|file| SourceText {
                path: file.path.clone(),
                folder: file.folder.clone(),
                text: file.text.clone(),
            })
            .collect();
        let put = accepted.iter().map(|candidate| Put {
            key: stored_key(&candidate.key),
            source: source(candidate),
            index: candidate.index,
            digest: candidate.digest.clone(),
            new_uid: new_uid(candidate, at_ms),
            created_at_ms: candidate.created_at_ms,
        });
        let Along { delete, by, note } = along;
        let change = Change {
            at_ms,
            by,
            note,
            put: put.collect(),
            sources,
            delete: delete.iter().map(stored_key).collect(),
        };
        let step = self.store.commit(&change)?;
        self.revision = step.revision;
        for key in &delete {
            self.objects.remove(key);
        }
        for candidate in accepted {
            let record = self.record(&candidate, &step, at_ms);
            let source = change.sources.get(source(&candidate)).cloned();
            if let Some(source) = source {
                self.objects.put(candidate, record, source);
            }
        }
        Ok(())
    }

    /// The record of an object as the store has it after a step.
    fn record(&self, candidate: &Candidate, step: &Revision, at_ms: u64) -> ObjectRecord {
        let changed = step.changes.iter().find(|change| key_of(&change.key) == candidate.key);
        if let Some(after) = changed
            .filter(|change| change.change != ChangeKind::Deleted)
            .and_then(|change| change.after.clone())
        {
            return after;
        }
        // Unchanged: only where it is read from is another place.
        self.objects.of(&candidate.key).map_or_else(
            || ObjectRecord {
                source: SourceId(0),
                index: candidate.index,
                uid: new_uid(candidate, at_ms),
                created_at_ms: candidate.created_at_ms,
                generation: 1,
                revision: step.revision,
                digest: candidate.digest.clone(),
            },
            |stored| stored.record.clone(),
        )
    }

    /// Derives everything from the objects again, and makes the difference known.
    pub(super) fn replan(&mut self, now: SystemTime) -> Result<(), ControlError> {
        let mut consequences = std::mem::take(&mut self.pending);
        let objects = self.all_objects();
        consequences.merge(self.plan.set_objects(objects, &self.facts, millis(now)));
        let stored = self.store_allocation();
        // The roots first, so that nobody proves an identity that others do not know yet.
        let followed = self.follow_trust_domain(now);
        self.follow_trust(now);
        self.publish(&consequences);
        followed?;
        Ok(stored?)
    }
}

/// Unique among all objects ever: names the object and the moment.
fn new_uid(candidate: &Candidate, at_ms: u64) -> String {
    let key = candidate.key.to_string();
    let group = candidate.key.group.as_bytes();
    let text = digest([group, key.as_bytes(), &at_ms.to_be_bytes()]);
    // In the form that people know.
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}
