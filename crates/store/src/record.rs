//! What the store keeps, and its form on disk (JSON, so that a damaged or strange file can be looked into).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names an object. All versions of a kind are one object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ObjectKey {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Names a text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct SourceId(pub u64);

/// A text that objects were read from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceText {
    /// The path as the user gave it.
    pub path: String,
    /// The absolute path of the folder that the file is in; empty where it is in none (standard input).
    #[serde(default)]
    pub folder: String,
    /// The whole text.
    pub text: String,
}

/// An object, without its content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// The text that it is read from.
    pub source: SourceId,
    /// Which of the objects of that name in the text, from 0.
    pub index: usize,
    /// Unique among all objects ever.
    pub uid: String,
    /// When it was first applied, milliseconds since 1970 UTC.
    pub created_at_ms: u64,
    /// Counts its changes, from 1.
    pub generation: u64,
    /// The revision of its last change.
    pub revision: u64,
    /// Names its content: equal digests, equal content. Made by the caller, who knows what counts as equal.
    pub digest: String,
}

/// All objects and the texts they are read from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// The newest revision; 0 for an empty store.
    pub revision: u64,
    /// The objects.
    pub objects: BTreeMap<ObjectKey, ObjectRecord>,
    /// Every text that one of them refers to.
    pub sources: BTreeMap<SourceId, SourceText>,
}

/// What happened to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It was changed.
    Configured,
    /// It is new.
    Created,
    /// It is gone.
    Deleted,
}

/// A change of one object, in history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ObjectChange {
    /// Which.
    pub key: ObjectKey,
    /// What happened.
    pub change: ChangeKind,
    /// The object before; none when it is new.
    pub before: Option<ObjectRecord>,
    /// The object after; none when it is gone.
    pub after: Option<ObjectRecord>,
}

/// One step of history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revision {
    /// Its number, from 1 without gaps.
    pub revision: u64,
    /// When, milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Who asked for it, as they call themselves; may be empty.
    #[serde(default)]
    pub by: String,
    /// Why, where it is not what somebody applied or deleted; may be empty.
    #[serde(default)]
    pub note: String,
    /// What changed.
    pub changes: Vec<ObjectChange>,
}
