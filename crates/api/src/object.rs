//! An object: its metadata, what it asks for, and where each part is written.

use std::sync::Arc;

use heddle_diag::{Origin, Position};

use crate::meta::Meta;
use crate::tree::{At, Key, Tree, Value};

/// A decoded object of kind `T`.
#[derive(Clone, Debug)]
pub struct Object<T> {
    /// `metadata`.
    pub meta: Meta,
    /// What the object asks for: its `spec`, or its top-level fields where the kind has no `spec`. Parts that could not
    /// be decoded have their defaults and are [broken](Written::is_broken).
    pub spec: T,
    /// Where and how it is written.
    pub written: Written,
}

impl<T> Object<T> {
    /// The origin of the whole object.
    pub fn origin(&self) -> &Origin {
        &self.written.origin
    }

    /// The origin of a value by its place: every decoded mapping has one as `at`.
    pub fn origin_at(&self, at: At) -> Origin {
        self.written.origin_at(at)
    }

    /// The origin of a field of a mapping, whether written or not.
    pub fn origin_of(&self, at: At, field: &str) -> Origin {
        self.written.origin_of(at, field)
    }

    /// The origin of an item of a list, or of an entry of a list field.
    pub fn origin_of_item(&self, at: At, field: &str, index: usize) -> Origin {
        self.written.origin_of_item(at, field, index)
    }

    /// Whether the value at a place, or anything in it, is not what its author wrote.
    pub fn is_broken(&self, at: At) -> bool {
        self.written.is_broken(at)
    }

    /// As [`Object::is_broken`] for a field of a mapping; also true when the mapping has an unknown field or misses
    /// a required one, since then nothing in it can be relied on to restrict.
    pub fn is_field_broken(&self, at: At, field: &str) -> bool {
        self.written.is_field_broken(at, field)
    }
}

/// How an object is written: positions, paths, and broken parts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Written {
    pub(crate) tree: Arc<Tree>,
    pub(crate) root: At,
    pub(crate) origin: Origin,
    /// Sorted.
    pub(crate) broken: Arc<[At]>,
}

impl Written {
    /// The origin of the whole object.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The tree that the object was decoded from; other objects of a `List` are in it too.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Where the object is in its tree.
    pub fn root(&self) -> At {
        self.root
    }

    /// The path of a place within the object, for example `spec.http[0].route[1]`.
    pub fn path(&self, at: At) -> String {
        if self.inside(at) { self.tree.path(self.root, at) } else { String::new() }
    }

    /// Where a place is written: the key of a field, the beginning of a list item.
    pub fn position(&self, at: At) -> Position {
        self.tree.key_position(if self.inside(at) { at } else { self.root })
    }

    fn inside(&self, at: At) -> bool {
        self.tree.contains(self.root, at)
    }

    /// The origin of a place.
    pub fn origin_at(&self, at: At) -> Origin {
        self.origin.at(self.path(at), Some(self.position(at)))
    }

    /// The origin of a field of the mapping at a place. A field that is not written has its path and the mapping's
    /// position.
    pub fn origin_of(&self, at: At, field: &str) -> Origin {
        if let Some(child) = self.field(at, field) {
            return self.origin_at(child);
        }
        let mut path = self.path(at);
        crate::tree::push_field(&mut path, field);
        self.origin.at(path, Some(self.position(at)))
    }

    /// The origin of item `index` of the list field `field` of the mapping at a place.
    pub fn origin_of_item(&self, at: At, field: &str, index: usize) -> Origin {
        let item = self.field(at, field).and_then(|list| self.tree.item(list, index));
        item.map_or_else(|| self.origin_of(at, field), |item| self.origin_at(item))
    }

    /// The origin of entry `key` of the mapping field `field` of the mapping at a place (`headers["end-user"]`).
    pub fn origin_of_entry(&self, at: At, field: &str, key: &str) -> Origin {
        let entry = self.field(at, field).and_then(|map| self.tree.field(map, key));
        entry.map_or_else(|| self.origin_of(at, field), |entry| self.origin_at(entry))
    }

    /// The place of a field of the mapping at a place, where it is written.
    pub fn field(&self, at: At, field: &str) -> Option<At> {
        if self.inside(at) { self.tree.field(at, field) } else { None }
    }

    /// Whether a field is written with a value, be it an empty one.
    pub fn has(&self, at: At, field: &str) -> bool {
        self.field(at, field).is_some_and(|child| self.tree.value(child) != Value::Null)
    }

    /// Whether the value at a place, or anything in it, is not what its author wrote.
    pub fn is_broken(&self, at: At) -> bool {
        let end = self.tree.node(at).map_or(at.0 + 1, |node| node.end);
        let first = self.broken.partition_point(|broken| *broken < at);
        self.broken.get(first).is_some_and(|broken| broken.0 < end)
    }

    /// Whether a field of the mapping at a place is broken, or the mapping itself is (an unknown or missing field).
    pub fn is_field_broken(&self, at: At, field: &str) -> bool {
        self.broken.binary_search(&at).is_ok()
            || self.field(at, field).is_some_and(|child| self.is_broken(child))
    }

    /// Whether nothing of the object is broken.
    pub fn is_sound(&self) -> bool {
        self.broken.is_empty()
    }

    /// The broken places, in written order.
    pub fn broken(&self) -> &[At] {
        &self.broken
    }

    /// Every scalar and empty collection of the object's own fields (not the envelope and `status`), in written order:
    /// what must have an outcome.
    pub fn leaves(&self) -> impl Iterator<Item = At> + '_ {
        self.tree
            .children(self.root)
            .filter(|child| {
                !matches!(self.tree.node(*child).map(|node| &node.key),
                    Some(Key::Field(key)) if matches!(&**key, "apiVersion" | "kind" | "metadata" | "status"))
            })
            .flat_map(|child| self.tree.leaves(child))
    }

    /// The object as JSON, as the API server would take it.
    pub fn to_json(&self) -> String {
        self.tree.to_json(self.root)
    }
}
