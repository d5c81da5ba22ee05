//! The positioned tree: what a YAML or JSON document says, and where each part of it stands.
//!
//! Nodes live in one vector in document order, so a subtree is a range, dropping needs no recursion, and a decoded
//! value remembers its place as four bytes ([`At`]). The tree knows no types of objects; `decode` does.

use std::fmt::Write;
use std::sync::Arc;

use heddle_diag::{JsonWriter, Position};

/// The place of a value within its document: which node of the [`Tree`] it was decoded from.
///
/// The default is the root, so that values made by hand have a place too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct At(pub(crate) u32);

/// What a node is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number that fits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text; [`Tree::text`] has it.
    Text,
    /// A list; [`Tree::children`] has its items.
    List,
    /// A mapping; [`Tree::children`] has its entries.
    Map,
}

impl Value {
    /// What it is called in messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "a mapping",
        }
    }
}

/// How a node hangs on its parent.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Key {
    /// It is the document.
    Root,
    /// It is the value of this key.
    Field(Arc<str>),
    /// It is this item of a list.
    Index(u32),
    /// It is written but has no effect itself: a merge (`<<`), or the second value of a key.
    Hidden(Arc<str>),
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) key: Key,
    pub(crate) parent: u32,
    /// One past the last node of the subtree.
    pub(crate) end: u32,
    /// Where the key stands; the value's position where there is no key.
    pub(crate) key_position: Position,
    pub(crate) position: Position,
    pub(crate) value: Value,
    /// The text of a text, the spelling of another scalar, empty for collections.
    pub(crate) text: Arc<str>,
    /// For a literal block scalar (`|`): where its first content line begins, so that a document within it can be
    /// mapped back.
    pub(crate) block: Option<Position>,
}

/// A document with the position of everything in it.
#[derive(Clone, Debug)]
pub struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// Put before every path, for a document within a document (`data.mesh`).
    pub(crate) prefix: Arc<str>,
}

impl Tree {
    /// The document itself.
    pub const ROOT: At = At(0);

    pub(crate) fn node(&self, at: At) -> Option<&Node> {
        self.nodes.get(at.0 as usize)
    }

    /// What is at a place; [`Value::Null`] for a place of another tree.
    pub fn value(&self, at: At) -> Value {
        self.node(at).map_or(Value::Null, |node| node.value)
    }

    /// The text there; for other scalars how they are spelled; empty for collections.
    pub fn text(&self, at: At) -> &Arc<str> {
        static EMPTY: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(Arc::default);
        self.node(at).map_or(&EMPTY, |node| &node.text)
    }

    /// Where the value stands.
    pub fn position(&self, at: At) -> Position {
        self.node(at).map_or(Position { line: 1, column: 1 }, |node| node.position)
    }

    /// Where the key of the value stands; the value itself, for list items and the root.
    pub fn key_position(&self, at: At) -> Position {
        self.node(at).map_or(Position { line: 1, column: 1 }, |node| node.key_position)
    }

    /// The key of a mapping's entry; none for list items and the root.
    pub fn key(&self, at: At) -> Option<&Arc<str>> {
        match &self.node(at)?.key {
            Key::Field(key) | Key::Hidden(key) => Some(key),
            Key::Root | Key::Index(_) => None,
        }
    }

    /// The items of a list or the entries of a mapping, in written order; merged entries come last.
    pub fn children(&self, at: At) -> Children<'_> {
        let end = self.node(at).map_or(0, |node| node.end);
        Children { tree: self, next: at.0 + 1, end }
    }

    /// The value of a key; none where the key is absent. A key with `null` is there.
    pub fn field(&self, at: At, name: &str) -> Option<At> {
        self.children(at)
            .find(|child| matches!(&self.node(*child), Some(node) if matches!(&node.key, Key::Field(key) if **key == *name)))
    }

    /// An item of a list.
    pub fn item(&self, at: At, index: usize) -> Option<At> {
        self.children(at).nth(index)
    }

    /// What a place is called in a message: its key, for an item of a list the list's with its index.
    pub(crate) fn label(&self, at: At) -> Option<String> {
        let mut suffix = String::new();
        let mut here = at;
        while here != Self::ROOT {
            let node = self.node(here)?;
            match &node.key {
                Key::Root => return None,
                Key::Field(key) | Key::Hidden(key) => return Some(format!("{key}{suffix}")),
                Key::Index(index) => suffix.insert_str(0, &format!("[{index}]")),
            }
            here = At(node.parent);
        }
        None
    }

    /// Every scalar and every empty collection at or below a place, in written order.
    pub fn leaves(&self, at: At) -> impl Iterator<Item = At> + '_ {
        let end = self.node(at).map_or(0, |node| node.end);
        let mut next = at.0;
        std::iter::from_fn(move || {
            while next < end {
                let node = self.nodes.get(next as usize)?;
                if matches!(node.key, Key::Hidden(_)) && next != at.0 {
                    next = node.end;
                    continue;
                }
                let leaf = At(next);
                next += 1;
                if node.end == leaf.0 + 1 {
                    return Some(leaf);
                }
            }
            None
        })
    }

    /// Whether `inner` is at or below `outer`.
    pub fn contains(&self, outer: At, inner: At) -> bool {
        outer <= inner && self.node(outer).is_some_and(|node| inner.0 < node.end)
    }

    /// The path of a place from `root` down, for example `spec.http[0].match[1].headers["x.y"]`.
    pub fn path(&self, root: At, at: At) -> String {
        let mut keys = Vec::new();
        let mut here = at;
        while here != root {
            let Some(node) = self.node(here) else { break };
            keys.push(&node.key);
            if here == Self::ROOT {
                break;
            }
            here = At(node.parent);
        }
        let mut path = self.prefix.to_string();
        for key in keys.into_iter().rev() {
            match key {
                Key::Root => {}
                Key::Field(key) | Key::Hidden(key) => push_field(&mut path, key),
                Key::Index(index) => {
                    let _ = write!(path, "[{index}]");
                }
            }
        }
        path
    }

    /// The subtree as JSON.
    pub fn to_json(&self, at: At) -> String {
        let mut json = JsonWriter::new();
        self.write_json(at, &mut json);
        json.finish()
    }

    /// Writes the subtree as the next JSON value. The depth of a tree is bounded by its reader.
    pub fn write_json(&self, at: At, json: &mut JsonWriter) {
        match self.value(at) {
            Value::Null => json.raw("null"),
            Value::Bool(value) => json.raw(if value { "true" } else { "false" }),
            Value::Int(value) => json.raw(&value.to_string()),
            Value::Float(value) if value.is_finite() => json.raw(&value.to_string()),
            Value::Float(_) | Value::Text => json.string(self.text(at)),
            Value::List => {
                json.open_list();
                for child in self.children(at) {
                    self.write_json(child, json);
                }
                json.close_list();
            }
            Value::Map => {
                json.open_object();
                for child in self.children(at) {
                    json.key(self.key(child).map_or("", |key| key));
                    self.write_json(child, json);
                }
                json.close_object();
            }
        }
    }
}

/// Appends a key to a path; keys that are not plain words are quoted in brackets.
pub(crate) fn push_field(path: &mut String, key: &str) {
    let plain = !key.is_empty()
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if plain {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    } else {
        let _ = write!(path, "[{key:?}]");
    }
}

/// The items of a list or the values of a mapping.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    tree: &'a Tree,
    next: u32,
    end: u32,
}

impl Iterator for Children<'_> {
    type Item = At;

    fn next(&mut self) -> Option<At> {
        while self.next < self.end {
            let node = self.tree.nodes.get(self.next as usize)?;
            let at = At(self.next);
            self.next = node.end;
            if !matches!(node.key, Key::Hidden(_)) {
                return Some(at);
            }
        }
        None
    }
}
