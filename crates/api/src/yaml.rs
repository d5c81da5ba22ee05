//! Reads one YAML (or JSON) text into positioned trees, one a document.
//!
//! Follows what kubectl makes of YAML: scalars as in [`scalar`](crate::scalar), merge keys (`<<`) expanded, keys turned
//! into texts. Everything is bounded by [`Limits`]: depth, nodes, documents, and what aliases expand to. It
//! must not know what objects are; that is `decode`.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{
    ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag,
};
use heddle_diag::{Code, Position};

use crate::codes;
use crate::scalar;
use crate::tree::{At, Key, Node, Tree, Value};

/// Bounds on what is read, so that no file can exhaust memory or stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of one file; a larger one is refused unread.
    pub file_bytes_max: usize,
    /// Documents of one file.
    pub documents_max: usize,
    /// Nodes (scalars, lists, mappings) of one file, without what aliases expand to.
    pub nodes_max: usize,
    /// Nodes that aliases and merge keys of one file may expand to.
    pub expanded_nodes_max: usize,
    /// How deep collections may nest.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes_max: 16 << 20,
            documents_max: 10_000,
            nodes_max: 2_000_000,
            expanded_nodes_max: 100_000,
            depth_max: 100,
        }
    }
}

/// A finding of the text itself, before it is known which object it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// The node that is broken by it.
    pub(crate) at: At,
    pub(crate) code: &'static Code,
    pub(crate) position: Position,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) related: Option<(&'static str, Position)>,
    /// Whether the node means something else than written; otherwise it is only worth a warning.
    pub(crate) breaks: bool,
}

/// One document and what is wrong with its text.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) tree: Tree,
    pub(crate) problems: Vec<Problem>,
}

/// Why reading stopped.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) code: &'static Code,
    pub(crate) position: Position,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Whether the rest of the file must not be read either, since a bound is used up.
    pub(crate) whole_file: bool,
}

/// What is left of the bounds that hold for a whole file.
#[derive(Debug)]
pub(crate) struct Budget {
    documents: usize,
    nodes: usize,
    expanded: usize,
    depth: usize,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            documents: limits.documents_max,
            nodes: limits.nodes_max,
            expanded: limits.expanded_nodes_max,
            depth: limits.depth_max,
        }
    }
}

/// Reads the documents of a text whose first line is line `first_line` of its file. Documents before an error are
/// kept. Documents without content are left out.
pub(crate) fn read(
    text: &str,
    first_line: u32,
    budget: &mut Budget,
) -> (Vec<Document>, Option<Stop>) {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = budget.depth;
    options.block_nesting_limit = budget.depth;
    let parser: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    let mut builder = Builder::new(first_line, budget);
    for event in parser {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(syntax_error(&error, first_line)),
        };
        match step {
            Ok(None) => {}
            Ok(Some(document)) => documents.push(document),
            Err(stop) => return (documents, Some(stop)),
        }
    }
    (documents, None)
}

fn position(marker: granit_parser::Marker, first_line: u32) -> Position {
    let line = u32::try_from(marker.line().max(1) - 1).unwrap_or(u32::MAX);
    let column = u32::try_from(marker.col()).unwrap_or(u32::MAX);
    Position { line: line.saturating_add(first_line), column: column.saturating_add(1) }
}

/// Says what a syntax error means for someone who writes YAML, not for someone who writes parsers.
fn syntax_error(error: &ScanError, first_line: u32) -> Stop {
    let at = position(*error.marker(), first_line);
    let stop = |code, message: &str, hint: Option<&str>| Stop {
        code,
        position: at,
        message: message.to_owned(),
        hint: hint.map(str::to_owned),
        whole_file: false,
    };
    match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => stop(
            codes::TAB,
            "a tab stands where YAML allows only spaces",
            Some("indent with spaces; `expand -t 2 FILE` replaces the tabs of a file"),
        ),
        ErrorKind::RecursionLimitExceeded => stop(
            codes::TOO_DEEP,
            "the document nests deeper than any object does",
            Some("no Kubernetes object needs this depth; look for a bracket that is never closed"),
        ),
        ErrorKind::MappingValueNotAllowed => stop(
            codes::SYNTAX,
            "a `:` stands where no key can be",
            Some("indent keys of one mapping equally, and quote a text that contains `: `"),
        ),
        ErrorKind::UnclosedQuotedScalar => {
            stop(codes::SYNTAX, "a quoted text is never closed", Some("close the quote"))
        }
        ErrorKind::UnexpectedCharacter { .. } => stop(
            codes::SYNTAX,
            "a text cannot begin with this character",
            Some("quote the text: @, `, % and other signs have a meaning of their own in YAML"),
        ),
        kind => stop(codes::SYNTAX, &format!("not valid YAML: {kind}"), None),
    }
}

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
struct Builder<'a> {
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
    fn new(first_line: u32, budget: &'a mut Budget) -> Self {
        Self {
            first_line,
            budget,
            nodes: Vec::new(),
            frames: Vec::new(),
            anchors: HashMap::new(),
            problems: Vec::new(),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<Option<Document>, Stop> {
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
            return self.key(text, plain && tag.is_none(), anchor, at);
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

    fn key(&mut self, text: &str, plain: bool, anchor: usize, at: Position) -> Result<(), Stop> {
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
            return Ok(());
        };
        let first = if merge { None } else { seen.get(&key).copied() };
        *pending =
            Some(PendingKey { text: key.clone(), position: at, merge: merge || first.is_some() });
        let Some(first) = first else {
            seen.insert(key, at);
            return Ok(());
        };
        // The second value stays out of the object: which of the two was meant is not heddle's to guess.
        if let Some(pending) = pending {
            pending.merge = true;
        }
        let message = format!("the key `{key}` stands twice in one mapping");
        let hint = "remove one of the two; only the first is read";
        let related = Some(("first set here", first));
        self.problem(parent, codes::DUPLICATE_KEY, at, message, Some(hint), related);
        Ok(())
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
            });
        }
        if self.frames.len() >= self.budget.depth {
            return Err(Stop {
                code: codes::TOO_DEEP,
                position: at,
                message: format!("collections nest deeper than {}", self.budget.depth),
                hint: None,
                whole_file: false,
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
                });
            };
            return self.key(&text, false, 0, at);
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
            });
        }
        let id = At(self.next_id());
        let parent = self.frames.last().map_or(0, |frame| frame.at.0);
        let (key, key_position) = self.place(id, at);
        self.copy(source, parent, key, key_position, at)?;
        Ok(())
    }

    /// Appends a copy of a finished subtree. Its inner positions stay those of the text it was written in.
    fn copy(
        &mut self,
        source: At,
        parent: u32,
        key: Key,
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
                    self.copy(child, map.0, Key::Field(key), key_position, position)?;
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

#[cfg(test)]
mod tests;
