//! Builds trees out of the events of the YAML parser: keys, anchors, aliases, merges.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, ScalarStyle, Span, Tag};
use heddle_diag::{Code, Diagnostics, Position};

use super::{Budget, Document, Problem, Stop, position};
use crate::codes;
use crate::scalar;
use crate::tree::{At, Key, Node, Tree, Value};

/// A key that waits for its value.
#[derive(Debug)]
struct PendingKey {
    text: Arc<str>,
    position: Position,
    merge: bool,
}

#[derive(Debug)]
enum Open {
    List { next: u32 },
    Map { seen: HashMap<Arc<str>, Position>, pending: Option<PendingKey>, merges: Vec<At> },
}

#[derive(Debug)]
struct Frame {
    at: At,
    open: Open,
}

/// Builds the tree of one document after the other.
pub(super) struct Builder<'a> {
    first_line: u32,
    budget: &'a mut Budget,
    nodes: Vec<Node>,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Anchor>,
    problems: Vec<Problem>,
}

/// What an alias stands for.
#[derive(Clone, Debug)]
enum Anchor {
    Node(At),
    /// The anchored node is a key.
    Key(Arc<str>),
}

impl<'a> Builder<'a> {
    pub(super) fn new(first_line: u32, budget: &'a mut Budget) -> Self {
        Self {
            first_line,
            budget,
            nodes: Vec::new(),
            frames: Vec::new(),
            anchors: HashMap::new(),
            problems: Vec::new(),
        }
    }

    /// What was found in the document that is being read.
    pub(super) fn problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    pub(super) fn event(&mut self, event: Event<'_>, span: Span) -> Result<Option<Document>, Stop> {
        let at = position(span.start, self.first_line);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), at)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                let open = Open::List { next: 0 };
                self.open(Value::List, open, anchor, tag.as_deref(), at)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                let open = Open::Map { seen: HashMap::new(), pending: None, merges: Vec::new() };
                self.open(Value::Map, open, anchor, tag.as_deref(), at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => self.alias(anchor, at)?,
            Event::UnresolvedAlias(name) => {
                let node = self.leaf(Value::Null, Arc::default(), at)?;
                let message = format!("the alias `*{name}` refers to nothing");
                let hint = "an anchor (`&name`) must stand before its aliases, in the same document; \
                            quote a text that begins with a star";
                self.problem(node, codes::UNKNOWN_ALIAS, at, message, Some(hint), None);
            }
            Event::DocumentEnd => return self.finish(at),
            _ => {}
        }
        Ok(None)
    }

    fn finish(&mut self, at: Position) -> Result<Option<Document>, Stop> {
        let nodes = std::mem::take(&mut self.nodes);
        let problems = std::mem::take(&mut self.problems);
        self.frames.clear();
        self.anchors.clear();
        let empty = matches!(nodes.first(), None | Some(Node { value: Value::Null, .. }));
        if empty && problems.is_empty() {
            return Ok(None);
        }
        self.budget.documents = self
            .budget
            .documents
            .checked_sub(1)
            .ok_or_else(|| exhausted(at, "has more documents than are read from one file"))?;
        Ok(Some(Document { tree: Tree { nodes, prefix: Arc::default() }, problems }))
    }

    fn problem(
        &mut self,
        at: At,
        code: &'static Code,
        position: Position,
        message: String,
        hint: Option<&str>,
        related: Option<(&'static str, Position)>,
    ) {
        // Nobody reads more, and a hostile file could make millions; one of them is enough to break the place.
        if self.problems.len() >= Diagnostics::LIMIT
            && self.problems.last().is_some_and(|problem| problem.at == at)
        {
            return;
        }
        let hint = hint.map(str::to_owned);
        self.problems.push(Problem { at, code, position, message, hint, related, breaks: true });
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: Position,
    ) -> Result<(), Stop> {
        let plain = style == ScalarStyle::Plain;
        if self.wants_key() {
            self.key(text, plain && tag.is_none(), anchor, at);
            return Ok(());
        }
        let (value, wrong_tag) = tagged(text, plain, tag);
        let node = self.leaf(value, text.into(), at)?;
        if style == ScalarStyle::Literal {
            let blank = text.bytes().take_while(|b| *b == b'\n').count();
            let blank = u32::try_from(blank).unwrap_or(u32::MAX);
            if let Some(node) = self.nodes.get_mut(node.0 as usize) {
                node.block =
                    Some(Position { line: at.line.saturating_sub(blank), column: at.column });
            }
        }
        if let Some(message) = wrong_tag {
            self.problem(node, codes::TAG, at, message, None, None);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Node(node));
        }
        Ok(())
    }

    /// Whether the next scalar is a key.
    fn wants_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { open: Open::Map { pending: None, .. }, .. }))
    }

    fn key(&mut self, text: &str, plain: bool, anchor: usize, at: Position) {
        let merge = plain && text == "<<";
        let (key, changed) = if plain { key_text(text) } else { (text.into(), false) };
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Key(key.clone()));
        }
        let parent = self.frames.last().map_or(Tree::ROOT, |frame| frame.at);
        if changed {
            let message = format!("the key `{text}` is read as `{key}`, as kubectl reads it");
            self.problem(parent, codes::KEY_NOT_TEXT, at, message, Some("quote the key"), None);
            if let Some(problem) = self.problems.last_mut() {
                problem.breaks = false;
            }
        }
        let Some(Frame { open: Open::Map { seen, pending, .. }, .. }) = self.frames.last_mut()
        else {
            return;
        };
        let first = if merge { None } else { seen.get(&key).copied() };
        *pending =
            Some(PendingKey { text: key.clone(), position: at, merge: merge || first.is_some() });
        let Some(first) = first else {
            seen.insert(key, at);
            return;
        };
        // The second value stays out of the object: which of the two was meant is not heddle's to guess.
        if let Some(pending) = pending {
            pending.merge = true;
        }
        let message = format!("the key `{key}` stands twice in one mapping");
        let hint = "remove one of the two; only the first is read";
        let related = Some(("first set here", first));
        self.problem(parent, codes::DUPLICATE_KEY, at, message, Some(hint), related);
    }

    fn open(
        &mut self,
        value: Value,
        open: Open,
        anchor: usize,
        tag: Option<&Tag>,
        at: Position,
    ) -> Result<(), Stop> {
        if self.wants_key() {
            return Err(Stop {
                code: codes::KEY_NOT_TEXT,
                position: at,
                message: "a key must be a text, not a list or mapping".to_owned(),
                hint: Some("quote a text that begins with `{` or `[`, such as a template".into()),
                whole_file: false,
                before: Vec::new(),
            });
        }
        if self.frames.len() >= self.budget.depth {
            return Err(Stop {
                code: codes::TOO_DEEP,
                position: at,
                message: format!("collections nest deeper than {}", self.budget.depth),
                hint: None,
                whole_file: false,
                before: Vec::new(),
            });
        }
        let node = self.push(value, Arc::default(), at)?;
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            let message = format!("the tag `{}` means nothing here", tag.original());
            self.problem(node, codes::TAG, at, message, None, None);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Node(node));
        }
        self.frames.push(Frame { at: node, open });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        if let Open::Map { seen, merges, .. } = frame.open {
            self.merge(frame.at, seen, &merges)?;
        }
        let end = self.next_id();
        if let Some(node) = self.nodes.get_mut(frame.at.0 as usize) {
            node.end = end;
        }
        Ok(())
    }

    fn next_id(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// A scalar with its end set.
    fn leaf(&mut self, value: Value, text: Arc<str>, at: Position) -> Result<At, Stop> {
        let node = self.push(value, text, at)?;
        let end = self.next_id();
        if let Some(node) = self.nodes.get_mut(node.0 as usize) {
            node.end = end;
        }
        Ok(node)
    }

    /// Adds a node where the innermost open collection expects one.
    fn push(&mut self, value: Value, text: Arc<str>, at: Position) -> Result<At, Stop> {
        self.budget.nodes = self
            .budget
            .nodes
            .checked_sub(1)
            .ok_or_else(|| exhausted(at, "has more values than are read from one file"))?;
        let id = At(self.next_id());
        let parent = self.frames.last().map_or(0, |frame| frame.at.0);
        let (key, key_position) = self.place(id, at);
        self.nodes.push(Node {
            key,
            parent,
            end: id.0 + 1,
            key_position,
            position: at,
            value,
            text,
            block: None,
        });
        Ok(id)
    }

    /// The key of the next node of the innermost open collection.
    fn place(&mut self, id: At, at: Position) -> (Key, Position) {
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => (Key::Root, at),
            Some(Open::List { next }) => {
                *next += 1;
                (Key::Index(*next - 1), at)
            }
            Some(Open::Map { pending, merges, .. }) => match pending.take() {
                Some(PendingKey { text, position, merge: true }) => {
                    if &*text == "<<" {
                        merges.push(id);
                    }
                    (Key::Hidden(text), position)
                }
                Some(PendingKey { text, position, merge: false }) => (Key::Field(text), position),
                None => (Key::Hidden(Arc::default()), at),
            },
        }
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Stop> {
        let target = self.anchors.get(&anchor).cloned();
        if self.wants_key() {
            let text: Option<Arc<str>> = match &target {
                Some(Anchor::Key(text)) => Some(text.clone()),
                Some(Anchor::Node(node)) => self.nodes.get(node.0 as usize).and_then(|node| {
                    (!matches!(node.value, Value::List | Value::Map)).then(|| node.text.clone())
                }),
                None => None,
            };
            let Some(text) = text else {
                return Err(Stop {
                    code: codes::KEY_NOT_TEXT,
                    position: at,
                    message: "an alias that stands as a key must refer to a text".to_owned(),
                    hint: None,
                    whole_file: false,
                    before: Vec::new(),
                });
            };
            self.key(&text, false, 0, at);
            return Ok(());
        }
        let source = match target {
            Some(Anchor::Key(text)) => {
                self.leaf(Value::Text, text, at)?;
                return Ok(());
            }
            Some(Anchor::Node(source)) => source,
            None => Tree::ROOT,
        };
        if self.frames.iter().any(|frame| frame.at == source) {
            return Err(Stop {
                code: codes::UNKNOWN_ALIAS,
                position: at,
                message: "an alias refers to a value that contains it".to_owned(),
                hint: None,
                whole_file: false,
                before: Vec::new(),
            });
        }
        let id = At(self.next_id());
        let parent = self.frames.last().map_or(0, |frame| frame.at.0);
        let (key, key_position) = self.place(id, at);
        self.copy(source, parent, &key, key_position, at)?;
        Ok(())
    }

    /// Appends a copy of a finished subtree. Its inner positions stay those of the text it was written in.
    fn copy(
        &mut self,
        source: At,
        parent: u32,
        key: &Key,
        key_position: Position,
        at: Position,
    ) -> Result<(), Stop> {
        let start = source.0 as usize;
        let end = self.nodes.get(start).map_or(start, |node| node.end as usize);
        self.budget.expanded =
            self.budget.expanded.checked_sub(end - start).ok_or_else(|| Stop {
                code: codes::ALIAS_BOMB,
                ..exhausted(at, "has aliases that expand to more than is read from one file")
            })?;
        let offset = self.next_id() - source.0;
        for index in start..end {
            let Some(node) = self.nodes.get(index) else { break };
            let mut node = node.clone();
            node.parent += offset;
            node.end += offset;
            if index == start {
                node.parent = parent;
                node.key = key.clone();
                node.key_position = key_position;
            }
            self.nodes.push(node);
        }
        Ok(())
    }

    /// Gives a mapping the entries of what it merges (`<<`); its own entries and earlier merges win.
    fn merge(
        &mut self,
        map: At,
        mut seen: HashMap<Arc<str>, Position>,
        merges: &[At],
    ) -> Result<(), Stop> {
        let mut sources = Vec::new();
        for merge in merges {
            let Some(node) = self.nodes.get(merge.0 as usize) else { continue };
            let position = node.position;
            let of = match node.value {
                Value::Map => vec![*merge],
                Value::List => self.children(*merge),
                _ => Vec::new(),
            };
            let all_maps = of.iter().all(|source| {
                self.nodes.get(source.0 as usize).is_some_and(|node| node.value == Value::Map)
            });
            if of.is_empty() || !all_maps {
                let message = "`<<` merges a mapping or a list of mappings".to_owned();
                self.problem(map, codes::MERGE, position, message, None, None);
            } else {
                sources.extend(of);
            }
        }
        for source in sources {
            for child in self.children(source) {
                let Some(Node { key: Key::Field(key), key_position, position, .. }) =
                    self.nodes.get(child.0 as usize)
                else {
                    continue;
                };
                let (key, key_position, position) = (key.clone(), *key_position, *position);
                if seen.insert(key.clone(), key_position).is_none() {
                    self.copy(child, map.0, &Key::Field(key), key_position, position)?;
                }
            }
        }
        Ok(())
    }

    fn children(&self, at: At) -> Vec<At> {
        let mut children = Vec::new();
        let mut next = at.0 + 1;
        let end = self.nodes.get(at.0 as usize).map_or(0, |node| node.end);
        while let Some(node) = self.nodes.get(next as usize).filter(|_| next < end) {
            if !matches!(node.key, Key::Hidden(_)) {
                children.push(At(next));
            }
            next = node.end;
        }
        children
    }
}

fn exhausted(position: Position, what: &str) -> Stop {
    Stop {
        code: codes::TOO_LARGE,
        position,
        message: format!("the file {what}"),
        hint: Some("split the file".to_owned()),
        whole_file: true,
        before: Vec::new(),
    }
}

/// The meaning of a scalar with an optional tag, and what is wrong with the tag.
fn tagged(text: &str, plain: bool, tag: Option<&Tag>) -> (Value, Option<String>) {
    let resolved = if plain { scalar::resolve(text) } else { Value::Text };
    let Some(tag) = tag else { return (resolved, None) };
    let by_tag = match tag.core_suffix() {
        Some("str") => return (Value::Text, None),
        Some("int" | "bool" | "float" | "null") => scalar::resolve(text),
        _ if tag.is_yaml_core_schema_tag("binary") => {
            return (Value::Text, Some("`!!binary` is not supported; write base64 text".into()));
        }
        _ => {
            return (resolved, Some(format!("the tag `{}` means nothing here", tag.original())));
        }
    };
    let fits = matches!(
        (tag.core_suffix(), by_tag),
        (Some("int"), Value::Int(_))
            | (Some("bool"), Value::Bool(_))
            | (Some("float"), Value::Float(_) | Value::Int(_))
            | (Some("null"), Value::Null)
    );
    let wrong = (!fits).then(|| format!("`{text}` is not what its tag `{}` says", tag.original()));
    (by_tag, wrong)
}

/// The text that kubectl makes of an unquoted key, and whether that differs from what is written.
fn key_text(text: &str) -> (Arc<str>, bool) {
    let key = match scalar::resolve(text) {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if value.is_finite() => value.to_string(),
        Value::Null | Value::Float(_) | Value::Text | Value::List | Value::Map => {
            return (text.into(), false);
        }
    };
    let changed = key != text;
    (key.into(), changed)
}
