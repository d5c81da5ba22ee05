//! The file and its transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::error::StoreError;
use crate::record::{
    ChangeKind, Contents, ObjectChange, ObjectKey, ObjectRecord, Revision, SourceId, SourceText,
};

/// The format this program writes. Since 2 texts and secrets may be sealed; what is not is still read.
const FORMAT: u64 = 2;
/// What sealed bytes begin with; texts in the clear begin with a brace, and keys in the clear with a dash.
const SEALED: &[u8] = b"\x01sealed\x01";
/// Steps of history that are kept, with the texts they need.
const REVISIONS_MAX: u64 = 200;
/// The largest text in bytes.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// The largest document in bytes.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// What is kept in memory of the file.
const CACHE_BYTES: usize = 4 << 20;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
const SOURCES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sources");
const REVISIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("revisions");
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
const SECRETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("secrets");

/// Encrypts what the store writes down of texts and secrets, and reads it again. `name` is part of what is sealed.
pub trait Seal: Send + Sync {
    /// Encrypts.
    fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, String>;
    /// Decrypts.
    fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String>;
}

/// The store. One process has it open at a time.
pub struct Store {
    /// None after a failure: the next use opens it again, since redb refuses everything after a failed write.
    database: Mutex<Option<Database>>,
    open: Opener,
    path: PathBuf,
    seal: Option<Box<dyn Seal>>,
}

/// Opens the database at a path.
type Opener = Box<dyn Fn(&Path) -> Result<Database, StoreError> + Send + Sync>;

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A change of objects; all of it happens or none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// When, milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Who asked for it; may be empty.
    pub by: String,
    /// Why, where it is not what somebody applied or deleted; may be empty.
    pub note: String,
    /// Texts that `put` refers to by position.
    pub sources: Vec<SourceText>,
    /// Objects to create or change.
    pub put: Vec<Put>,
    /// Objects to remove; one that is not there is ignored.
    pub delete: Vec<ObjectKey>,
}

/// An object to create or change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// Which.
    pub key: ObjectKey,
    /// Position in [`Change::sources`].
    pub source: usize,
    /// [`ObjectRecord::index`].
    pub index: usize,
    /// [`ObjectRecord::digest`].
    pub digest: String,
    /// [`ObjectRecord::uid`], used when the object is new.
    pub new_uid: String,
    /// [`ObjectRecord::created_at_ms`], used when the object is new.
    pub created_at_ms: u64,
}

impl Store {
    /// Opens the file, or makes it; a new one is readable by its owner only. Texts and secrets are sealed by `seal`;
    /// without it they are written in the clear.
    pub fn open(path: &Path, seal: Option<Box<dyn Seal>>) -> Result<Self, StoreError> {
        Self::open_with(path, seal, Box::new(open_file))
    }

    fn open_with(
        path: &Path,
        seal: Option<Box<dyn Seal>>,
        open: Opener,
    ) -> Result<Self, StoreError> {
        let store = Self { database: Mutex::new(None), open, path: path.to_owned(), seal };
        store.with(|database| store.prepare(database))?;
        Ok(store)
    }

    /// Works with the database, which is opened where it is not.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A panic inside leaves a database whose transaction was rolled back.
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => (self.open)(&self.path)?,
        };
        let outcome = work(&database);
        if !matches!(outcome, Err(StoreError::Full { .. } | StoreError::Io { .. })) {
            *slot = Some(database);
        }
        outcome
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|database| work(&database.begin_read().map_err(|e| self.error(e))?))
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|database| {
            let write = database.begin_write().map_err(|e| self.error(e))?;
            let done = work(&write)?;
            write.commit().map_err(|e| self.error(e))?;
            Ok(done)
        })
    }

    /// Everything about objects.
    pub fn contents(&self) -> Result<Contents, StoreError> {
        self.read(|read| self.read_contents(read))
    }

    fn read_contents(&self, read: &ReadTransaction) -> Result<Contents, StoreError> {
        let meta = read.open_table(META).map_err(|e| self.error(e))?;
        let revision = self.number(&meta, "revision")?;
        let table = read.open_table(OBJECTS).map_err(|e| self.error(e))?;
        let mut objects = BTreeMap::new();
        for entry in table.iter().map_err(|e| self.error(e))? {
            let (key, record) = entry.map_err(|e| self.error(e))?;
            let record: ObjectRecord = self.parse(record.value(), "an object")?;
            objects.insert(self.parse(key.value(), "the name of an object")?, record);
        }
        let table = read.open_table(SOURCES).map_err(|e| self.error(e))?;
        let mut sources = BTreeMap::new();
        for id in objects.values().map(|record| record.source).collect::<BTreeSet<_>>() {
            let text = table.get(id.0).map_err(|e| self.error(e))?;
            let text = text.ok_or_else(|| self.damaged(format!("text {} is missing", id.0)))?;
            sources.insert(id, self.parse_source(id, text.value())?);
        }
        Ok(Contents { revision, objects, sources })
    }

    /// Carries out a change. An object put with the digest it has already keeps its record, but for where it is read
    /// from. Returns the step of history; its changes are empty when nothing really changed.
    pub fn commit(&self, change: &Change) -> Result<Revision, StoreError> {
        for source in &change.sources {
            within(&source.path, source.text.len(), TEXT_BYTES_MAX)?;
        }
        self.write(|write| self.apply(write, change))
    }

    /// The newest steps of history, the newest first.
    pub fn history(&self, limit: usize) -> Result<Vec<Revision>, StoreError> {
        self.read(|read| {
            let table = read.open_table(REVISIONS).map_err(|e| self.error(e))?;
            let mut steps = Vec::new();
            for entry in table.iter().map_err(|e| self.error(e))?.rev().take(limit) {
                let (_, step) = entry.map_err(|e| self.error(e))?;
                steps.push(self.parse(step.value(), "a step of history")?);
            }
            Ok(steps)
        })
    }

    /// A text, also one that only history refers to.
    pub fn source(&self, id: SourceId) -> Result<Option<SourceText>, StoreError> {
        self.read(|read| {
            let table = read.open_table(SOURCES).map_err(|e| self.error(e))?;
            let text = table.get(id.0).map_err(|e| self.error(e))?;
            text.map(|text| self.parse_source(id, text.value())).transpose()
        })
    }

    /// A small document of the caller's own; none when it was never put.
    pub fn document(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|read| {
            let table = read.open_table(DOCUMENTS).map_err(|e| self.error(e))?;
            let content = table.get(name).map_err(|e| self.error(e))?;
            Ok(content.map(|content| content.value().to_vec()))
        })
    }

    /// Puts a small document.
    pub fn put_document(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        within(name, content.len(), DOCUMENT_BYTES_MAX)?;
        self.put(DOCUMENTS, name, content)
    }

    /// All secrets, by name.
    pub fn secrets(&self) -> Result<BTreeMap<String, Zeroizing<Vec<u8>>>, StoreError> {
        self.read(|read| {
            let table = read.open_table(SECRETS).map_err(|e| self.error(e))?;
            let mut secrets = BTreeMap::new();
            for entry in table.iter().map_err(|e| self.error(e))? {
                let (name, secret) = entry.map_err(|e| self.error(e))?;
                let plain = self.unsealed(&format!("secret/{}", name.value()), secret.value())?;
                secrets.insert(name.value().to_owned(), plain);
            }
            Ok(secrets)
        })
    }

    /// Puts a secret: the private key of an authority.
    pub fn put_secret(&self, name: &str, secret: &[u8]) -> Result<(), StoreError> {
        within(name, secret.len(), DOCUMENT_BYTES_MAX)?;
        self.put(SECRETS, name, &self.sealed(&format!("secret/{name}"), secret)?)
    }

    /// Removes a secret.
    pub fn remove_secret(&self, name: &str) -> Result<(), StoreError> {
        self.write(|write| {
            let mut table = write.open_table(SECRETS).map_err(|e| self.error(e))?;
            table.remove(name).map_err(|e| self.error(e))?;
            Ok(())
        })
    }

    /// Makes the tables of a new file and checks the format of an old one.
    fn prepare(&self, database: &Database) -> Result<(), StoreError> {
        let write = database.begin_write().map_err(|e| self.error(e))?;
        {
            let mut meta = write.open_table(META).map_err(|e| self.error(e))?;
            let found = self.number(&meta, "format")?;
            if found > FORMAT {
                return Err(StoreError::Newer { path: self.path.clone(), found, known: FORMAT });
            }
            meta.insert("format", FORMAT).map_err(|e| self.error(e))?;
            write.open_table(OBJECTS).map_err(|e| self.error(e))?;
            write.open_table(SOURCES).map_err(|e| self.error(e))?;
            write.open_table(REVISIONS).map_err(|e| self.error(e))?;
            write.open_table(DOCUMENTS).map_err(|e| self.error(e))?;
            write.open_table(SECRETS).map_err(|e| self.error(e))?;
        }
        write.commit().map_err(|e| self.error(e))
    }

    fn apply(&self, write: &WriteTransaction, change: &Change) -> Result<Revision, StoreError> {
        let mut meta = write.open_table(META).map_err(|e| self.error(e))?;
        let mut objects = write.open_table(OBJECTS).map_err(|e| self.error(e))?;
        let number = self.number(&meta, "revision")? + 1;
        let first_source = self.number(&meta, "next-source")?;
        let mut changes = Vec::new();
        for put in &change.put {
            let key = self.format(&put.key)?;
            let before = self.object(&objects, &key)?;
            let mut after = ObjectRecord {
                source: SourceId(first_source + put.source as u64),
                index: put.index,
                uid: put.new_uid.clone(),
                created_at_ms: put.created_at_ms,
                generation: 1,
                revision: number,
                digest: put.digest.clone(),
            };
            if let Some(before) = &before {
                after.uid.clone_from(&before.uid);
                after.created_at_ms = before.created_at_ms;
                let same = before.digest == after.digest;
                after.generation = before.generation + u64::from(!same);
                after.revision = if same { before.revision } else { number };
            }
            objects.insert(&*key, &*self.format(&after)?).map_err(|e| self.error(e))?;
            let kind = match &before {
                None => ChangeKind::Created,
                Some(before) if before.digest == after.digest => continue,
                Some(_) => ChangeKind::Configured,
            };
            let key = put.key.clone();
            changes.push(ObjectChange { key, change: kind, before, after: Some(after) });
        }
        for key in &change.delete {
            let name = self.format(key)?;
            let before = self.object(&objects, &name)?;
            if before.is_some() {
                objects.remove(&*name).map_err(|e| self.error(e))?;
                let (key, change) = (key.clone(), ChangeKind::Deleted);
                changes.push(ObjectChange { key, change, before, after: None });
            }
        }
        if !change.sources.is_empty() {
            let mut sources = write.open_table(SOURCES).map_err(|e| self.error(e))?;
            for (id, source) in (first_source..).zip(&change.sources) {
                let text = Zeroizing::new(self.format(source)?);
                let text = self.sealed(&format!("source/{id}"), &text)?;
                sources.insert(id, &*text).map_err(|e| self.error(e))?;
            }
            let next = first_source + change.sources.len() as u64;
            meta.insert("next-source", next).map_err(|e| self.error(e))?;
        }
        drop(objects);
        let Change { at_ms, by, note, .. } = change;
        let mut step = Revision {
            revision: number,
            at_ms: *at_ms,
            by: by.clone(),
            note: note.clone(),
            changes,
        };
        if step.changes.is_empty() {
            step.revision = number - 1;
        } else {
            meta.insert("revision", number).map_err(|e| self.error(e))?;
            let mut revisions = write.open_table(REVISIONS).map_err(|e| self.error(e))?;
            revisions.insert(number, &*self.format(&step)?).map_err(|e| self.error(e))?;
            if let Some(oldest) = number.checked_sub(REVISIONS_MAX) {
                revisions.remove(oldest).map_err(|e| self.error(e))?;
            }
        }
        self.drop_unused_sources(write)?;
        Ok(step)
    }

    /// Removes texts that neither an object nor history refers to.
    fn drop_unused_sources(&self, write: &WriteTransaction) -> Result<(), StoreError> {
        let mut used = BTreeSet::new();
        let objects = write.open_table(OBJECTS).map_err(|e| self.error(e))?;
        for entry in objects.iter().map_err(|e| self.error(e))? {
            let (_, record) = entry.map_err(|e| self.error(e))?;
            let record: ObjectRecord = self.parse(record.value(), "an object")?;
            used.insert(record.source.0);
        }
        let revisions = write.open_table(REVISIONS).map_err(|e| self.error(e))?;
        for entry in revisions.iter().map_err(|e| self.error(e))? {
            let (_, step) = entry.map_err(|e| self.error(e))?;
            let step: Revision = self.parse(step.value(), "a step of history")?;
            let records = step.changes.into_iter().flat_map(|c| [c.before, c.after]);
            used.extend(records.flatten().map(|record| record.source.0));
        }
        let mut sources = write.open_table(SOURCES).map_err(|e| self.error(e))?;
        if sources.len().map_err(|e| self.error(e))? > used.len() as u64 {
            sources.retain(|id, _| used.contains(&id)).map_err(|e| self.error(e))?;
        }
        Ok(())
    }

    fn put(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
        name: &str,
        content: &[u8],
    ) -> Result<(), StoreError> {
        self.write(|write| {
            let mut table = write.open_table(table).map_err(|e| self.error(e))?;
            table.insert(name, content).map_err(|e| self.error(e))?;
            Ok(())
        })
    }

    fn number(
        &self,
        table: &impl ReadableTable<&'static str, u64>,
        name: &'static str,
    ) -> Result<u64, StoreError> {
        let value = table.get(name).map_err(|e| self.error(e))?;
        Ok(value.map_or(0, |value| value.value()))
    }

    fn object(
        &self,
        table: &impl ReadableTable<&'static [u8], &'static [u8]>,
        key: &[u8],
    ) -> Result<Option<ObjectRecord>, StoreError> {
        let record = table.get(key).map_err(|e| self.error(e))?;
        record.map(|record| self.parse(record.value(), "an object")).transpose()
    }

    fn parse_source(&self, id: SourceId, bytes: &[u8]) -> Result<SourceText, StoreError> {
        let plain = self.unsealed(&format!("source/{}", id.0), bytes)?;
        self.parse(&plain, "a text")
    }

    /// What is written down of something that may be secret.
    fn sealed(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let Some(seal) = &self.seal else { return Ok(plain.to_vec()) };
        let sealed = seal.seal(name, plain);
        let sealed = sealed.map_err(|error| self.damaged(format!("{name}: {error}")))?;
        Ok([SEALED, &sealed].concat())
    }

    fn unsealed(&self, name: &str, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let Some(sealed) = bytes.strip_prefix(SEALED) else {
            return Ok(Zeroizing::new(bytes.to_vec()));
        };
        let unreadable =
            |error: String| self.damaged(format!("{name} cannot be decrypted: {error}"));
        match &self.seal {
            Some(seal) => seal.open(name, sealed).map_err(unreadable),
            None => Err(unreadable("there is no key".to_owned())),
        }
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8], what: &str) -> Result<T, StoreError> {
        serde_json::from_slice(bytes).map_err(|e| self.damaged(format!("{what}: {e}")))
    }

    fn format<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(value).map_err(|e| self.damaged(format!("cannot be written: {e}")))
    }

    fn damaged(&self, detail: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), detail }
    }

    fn error(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::database(&self.path, error)
    }
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::io(path, source))?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.create_file(file).map_err(|error| StoreError::database(path, error))
}

fn within(what: &str, bytes: usize, max: usize) -> Result<(), StoreError> {
    if bytes <= max {
        return Ok(());
    }
    Err(StoreError::TooLarge { what: what.to_owned(), bytes, max })
}

#[cfg(test)]
mod tests;
