//! The user's objects: read from texts, kept in the store, listed with what there is to say about them.

use std::collections::{BTreeMap, BTreeSet};

use heddle_api::{Reader, Resource as AnyObject};
use heddle_diag::{Diagnostic, Level, Origin, OutcomeRecord};
use heddle_store::{Contents, ObjectRecord, SourceText};
use heddle_translate::ObjectKey;

use crate::digest::digest;
use crate::timestamp;

/// A text with objects, and the path that the user calls it by.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize, serde::Serialize)]
pub struct File {
    /// As the user gave it; `-` for standard input.
    pub path: String,
    /// The absolute path of the folder that the file is in, in which commands start; may be left out.
    #[serde(default)]
    pub folder: String,
    /// YAML or JSON.
    pub text: String,
    /// How long the file is, where `text` is only its beginning.
    #[serde(default)]
    pub size_bytes: u64,
}

/// An object as it was read, before it is accepted.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) key: ObjectKey,
    pub(crate) object: AnyObject,
    /// The mesh configuration inside a ConfigMap.
    pub(crate) companions: Vec<AnyObject>,
    /// Which of the files.
    pub(crate) file: usize,
    /// How many objects stand before it in all files.
    pub(crate) order: usize,
    /// Which of the objects of that name in the file.
    pub(crate) index: usize,
    pub(crate) digest: String,
    /// When it counts as created, should it be new.
    pub(crate) created_at_ms: u64,
    pub(crate) findings: Vec<Diagnostic>,
    pub(crate) outcomes: Vec<OutcomeRecord>,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Of several objects of one name the last.
    pub(crate) candidates: Vec<Candidate>,
    /// What belongs to no object: files that cannot be read, documents that are no objects.
    pub(crate) findings: Vec<Diagnostic>,
}

/// An object that is in force.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) candidate: Candidate,
    pub(crate) record: ObjectRecord,
    pub(crate) source: SourceText,
}

/// All objects that are in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    by_key: BTreeMap<ObjectKey, Stored>,
}

/// Reads files. Nothing is decided here but which finding belongs to which object.
pub(crate) fn read(files: &[File]) -> Read {
    let reader = Reader::default();
    let mut read = Read::default();
    let mut by_key: BTreeMap<ObjectKey, Candidate> = BTreeMap::new();
    let mut all = Vec::new();
    let mut order = 0;
    for (number, file) in files.iter().enumerate() {
        let loaded = reader.read_beginning(&file.path, file.text.as_bytes(), file.size_bytes);
        all.extend(loaded.resources.iter().cloned());
        let mut seen: BTreeMap<ObjectKey, usize> = BTreeMap::new();
        let mut last: Option<ObjectKey> = None;
        for object in loaded.resources {
            if matches!(object, AnyObject::MeshConfig(_) | AnyObject::MeshNetworks(_)) {
                if let Some(owner) = last.as_ref().and_then(|key| by_key.get_mut(key)) {
                    owner.companions.push(object);
                }
                continue;
            }
            let key = ObjectKey::of(&object);
            let count = seen.entry(key.clone()).or_default();
            let told = heddle_translate::workloads::report(&object);
            let candidate = Candidate {
                digest: digest([content(&object).as_bytes()]),
                key: key.clone(),
                object,
                companions: Vec::new(),
                file: number,
                order,
                index: *count,
                created_at_ms: 0,
                findings: told.findings,
                outcomes: told.outcomes,
            };
            *count += 1;
            order += 1;
            by_key.insert(key.clone(), candidate);
            last = Some(key);
        }
        for finding in &loaded.diagnostics {
            match owner(&mut by_key, &finding.origin, number) {
                Some(owner) => owner.findings.push(finding.clone()),
                None => read.findings.push(finding.clone()),
            }
        }
        for outcome in loaded.outcomes {
            if let Some(owner) = owner(&mut by_key, &outcome.origin, number) {
                owner.outcomes.push(outcome);
            }
        }
    }
    read.findings.extend(heddle_translate::duplicates(&all));
    read.candidates = by_key.into_values().collect();
    read
}

/// The object of a file that an origin speaks of.
fn owner<'a>(
    by_key: &'a mut BTreeMap<ObjectKey, Candidate>,
    origin: &Origin,
    file: usize,
) -> Option<&'a mut Candidate> {
    // A finding inside the mesh configuration belongs to the ConfigMap that holds it.
    let kind = match &*origin.kind {
        "MeshConfig" | "MeshNetworks" => "ConfigMap",
        kind => kind,
    };
    let key = ObjectKey::new(&origin.group, kind, &origin.namespace, &origin.name);
    by_key.get_mut(&key).filter(|candidate| candidate.file == file)
}

/// What counts as the object's content: everything but its status and what a cluster fills in.
fn content(object: &AnyObject) -> String {
    let written = object.written();
    let json: serde_json::Value = serde_json::from_str(&written.to_json()).unwrap_or_default();
    let serde_json::Value::Object(mut json) = json else { return String::new() };
    json.remove("status");
    serde_json::Value::Object(json).to_string()
}

impl Candidate {
    /// Whether something of it could not be read, so that it is not accepted.
    pub(crate) fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Error)
    }

    /// Fills in what a cluster would.
    pub(crate) fn set_created(&mut self, uid: &str, created_at_ms: u64) {
        for object in std::iter::once(&mut self.object).chain(&mut self.companions) {
            let meta = object.meta_mut();
            meta.uid = Some(uid.to_owned());
            meta.creation_timestamp = Some(timestamp::text(created_at_ms));
        }
    }

    /// The object and what it brings along.
    pub(crate) fn objects(&self) -> impl Iterator<Item = AnyObject> {
        std::iter::once(self.object.clone()).chain(self.companions.clone())
    }
}

impl Objects {
    /// Reads the texts of the store again. Returns what cannot be found in its text any more.
    pub(crate) fn load(contents: &Contents) -> (Self, Vec<ObjectKey>) {
        let mut objects = Self::default();
        let mut missing = Vec::new();
        let mut wanted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, record) in &contents.objects {
            wanted.entry(record.source).or_default().push((key, record));
        }
        for (source, wanted) in wanted {
            let Some(text) = contents.sources.get(&source) else { continue };
            let (path, folder) = (text.path.clone(), text.folder.clone());
            let file = File { path, folder, text: text.text.clone(), size_bytes: 0 };
            let mut candidates: BTreeMap<ObjectKey, Candidate> = read(&[file])
                .candidates
                .into_iter()
                .map(|candidate| (candidate.key.clone(), candidate))
                .collect();
            for (stored, record) in wanted {
                let key = key_of(stored);
                match candidates.remove(&key) {
                    Some(mut candidate) => {
                        candidate.set_created(&record.uid, record.created_at_ms);
                        objects.put(candidate, record.clone(), text.clone());
                    }
                    None => missing.push(key),
                }
            }
        }
        (objects, missing)
    }

    /// An object; none: it is not there.
    pub(crate) fn of(&self, key: &ObjectKey) -> Option<&Stored> {
        self.by_key.get(key)
    }

    /// When an object that is new now counts as created, so that what is written first is older than what stands
    /// behind it, and all of that older than what comes later.
    pub(crate) fn next_created_ms(&self, now_ms: u64) -> u64 {
        let youngest = self.by_key.values().map(|stored| stored.record.created_at_ms).max();
        youngest.map_or(now_ms, |youngest| now_ms.max(youngest + 1))
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.by_key.values()
    }

    /// Every object with what it brings along, as the plan wants them.
    pub(crate) fn all(&self) -> Vec<AnyObject> {
        self.by_key.values().flat_map(|stored| stored.candidate.objects()).collect()
    }

    /// Accepts an object.
    pub(crate) fn put(&mut self, candidate: Candidate, record: ObjectRecord, source: SourceText) {
        self.by_key.insert(candidate.key.clone(), Stored { candidate, record, source });
    }

    /// Puts a candidate in its place, for a look at what would follow.
    pub(crate) fn try_put(&mut self, candidate: Candidate) {
        let source = SourceText { path: String::new(), folder: String::new(), text: String::new() };
        let record = ObjectRecord {
            source: heddle_store::SourceId(0),
            index: candidate.index,
            uid: String::new(),
            created_at_ms: 0,
            generation: 0,
            revision: 0,
            digest: String::new(),
        };
        self.put(candidate, record, source);
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        self.by_key.remove(key);
    }

    /// Which of these names are there.
    pub(crate) fn present(&self, keys: impl IntoIterator<Item = ObjectKey>) -> BTreeSet<ObjectKey> {
        keys.into_iter().filter(|key| self.by_key.contains_key(key)).collect()
    }
}

impl Stored {
    /// The text of the object alone: its document out of the file it was read from; all of a file that is no YAML
    /// stream.
    pub(crate) fn text(&self) -> &str {
        let line = match &self.candidate.object.origin().source {
            heddle_diag::Source::File { position, .. } => position.line as usize,
            heddle_diag::Source::BuiltIn | heddle_diag::Source::Cluster { .. } => return "",
        };
        document_at(&self.source.text, line)
    }
}

/// The document of a YAML stream that holds a line (from 1), without its marker.
fn document_at(text: &str, line: usize) -> &str {
    let mut offset = 0;
    let (mut start, mut end) = (0, text.len());
    for (number, content) in text.split_inclusive('\n').enumerate() {
        let is_marker = content.starts_with("---")
            && content[3..].chars().next().is_none_or(char::is_whitespace);
        let is_end = content.trim_end() == "...";
        if is_marker || is_end {
            if number + 1 > line {
                end = offset;
                break;
            }
            start = offset + content.len();
        }
        offset += content.len();
    }
    // A document may begin on the line of its marker; then it keeps it.
    if start > end { text } else { text[start..end].trim_matches('\n') }
}

/// The store's form of a name.
pub(crate) fn stored_key(key: &ObjectKey) -> heddle_store::ObjectKey {
    heddle_store::ObjectKey {
        group: key.group.to_string(),
        kind: key.kind.to_string(),
        namespace: key.name.namespace.to_string(),
        name: key.name.name.to_string(),
    }
}

/// The name in its usual form.
pub(crate) fn key_of(key: &heddle_store::ObjectKey) -> ObjectKey {
    ObjectKey::new(&key.group, &key.kind, &key.namespace, &key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_belong_to_their_objects_and_the_rest_to_the_files() {
        let file = |path: &str, text: &str| File {
            path: path.into(),
            folder: String::new(),
            text: text.into(),
            size_bytes: 0,
        };
        let read = read(&[
            file(
                "a.yaml",
                "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {prots: []}\n",
            ),
            file(
                "b.yaml",
                "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{port: 1}]}\n",
            ),
            file("c.yaml", "a: [\n"),
        ]);
        let names: Vec<_> = read.candidates.iter().map(|c| &*c.key.name.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(read.candidates[0].has_errors());
        assert!(!read.candidates[1].has_errors(), "{:?}", read.candidates[1].findings);
        assert!(read.findings.iter().any(|finding| finding.level == Level::Error));
    }

    #[test]
    fn the_document_of_a_line_is_found() {
        let text = "a: 1\n---\nb: 2\nc: 3\n---   # last\nd: 4\n...\n";
        assert_eq!(document_at(text, 1), "a: 1");
        assert_eq!(document_at(text, 3), "b: 2\nc: 3");
        assert_eq!(document_at(text, 4), "b: 2\nc: 3");
        assert_eq!(document_at(text, 6), "d: 4");
        assert_eq!(document_at("a: 1", 1), "a: 1");
        assert_eq!(document_at("---\na: 1\n", 2), "a: 1");
    }

    #[test]
    fn content_is_what_counts_as_a_change() {
        let digest = |text: &str| {
            let file =
                File { path: "a".into(), folder: String::new(), text: text.into(), size_bytes: 0 };
            read(&[file]).candidates[0].digest.clone()
        };
        let one =
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}\n";
        let moved = format!("# a comment\n\n{one}status: {{}}\n");
        assert_eq!(digest(one), digest(&moved));
        assert_ne!(digest(one), digest(&one.replace('1', "2").replace("v2", "v1")));
    }
}
