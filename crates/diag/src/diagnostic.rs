//! One finding, and the sink that collects all of a run.

use crate::{Code, Origin, Source};

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Worth knowing; the object does what it says.
    Info,
    /// The object likely does not do what its author thinks.
    Warning,
    /// Something of the object is not in force, or its own project would reject it.
    Error,
}

impl Level {
    /// The name as it stands in JSON and in text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Another place that belongs to a finding, for example the first of two equal keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Related {
    /// What is there, for example `first set here`.
    pub note: String,
    /// Where it is.
    pub origin: Origin,
}

/// A finding about a user's file or object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// What kind of finding; carries the upstream names and the page.
    pub code: &'static Code,
    /// How bad it is.
    pub level: Level,
    /// One sentence without full stop: the object or field, the value, what was expected.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The object, field and line it is about.
    pub origin: Origin,
    /// Other places that belong to it.
    pub related: Vec<Related>,
}

impl Diagnostic {
    /// A finding of the given level without hint or related places.
    pub fn new(
        level: Level,
        code: &'static Code,
        origin: Origin,
        message: impl Into<String>,
    ) -> Self {
        Self { code, level, message: message.into(), hint: None, origin, related: Vec::new() }
    }

    /// An error.
    pub fn error(code: &'static Code, origin: Origin, message: impl Into<String>) -> Self {
        Self::new(Level::Error, code, origin, message)
    }

    /// A warning.
    pub fn warning(code: &'static Code, origin: Origin, message: impl Into<String>) -> Self {
        Self::new(Level::Warning, code, origin, message)
    }

    /// A piece of information.
    pub fn info(code: &'static Code, origin: Origin, message: impl Into<String>) -> Self {
        Self::new(Level::Info, code, origin, message)
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a hint, where there is one.
    #[must_use]
    pub fn hint_opt(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// The same with one more related place.
    #[must_use]
    pub fn related(mut self, note: impl Into<String>, origin: Origin) -> Self {
        self.related.push(Related { note: note.into(), origin });
        self
    }
}

/// Collects the findings of a run; checks push and go on.
///
/// Bounded: what comes after [`Diagnostics::LIMIT`] findings is counted and not kept, since nobody reads it and
/// a hostile file could make millions.
#[derive(Clone, Default, Debug)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    dropped: usize,
    errors: usize,
}

impl Diagnostics {
    /// How many findings are kept.
    pub const LIMIT: usize = 10_000;

    /// An empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.level == Level::Error);
        if self.kept.len() < Self::LIMIT {
            self.kept.push(diagnostic);
        } else {
            self.dropped += 1;
        }
    }

    /// Adds everything of another sink.
    pub fn append(&mut self, other: Self) {
        let Self { kept, dropped, errors: _ } = other;
        for diagnostic in kept {
            self.push(diagnostic);
        }
        self.dropped += dropped;
    }

    /// The findings in the order they were made.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.kept.iter()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many findings are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether further findings are only counted, so that making them up is wasted work.
    pub fn is_full(&self) -> bool {
        self.kept.len() >= Self::LIMIT
    }

    /// How many findings came after the limit.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Whether there is an error among them.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The worst level found; none when nothing was.
    pub fn worst(&self) -> Option<Level> {
        self.kept.iter().map(|diagnostic| diagnostic.level).max()
    }

    /// Orders by file and line, which is how people work through them; findings without a line come last.
    pub fn sort(&mut self) {
        self.kept.sort_by(|left, right| place(&left.origin).cmp(&place(&right.origin)));
    }
}

/// The sort key of an origin.
fn place(origin: &Origin) -> (bool, &str, u32, u32, &str, &str, &str) {
    let (no_file, path, line, column) = match &origin.source {
        Source::File { path, position } => (false, &**path, position.line, position.column),
        Source::BuiltIn | Source::Cluster { .. } => (true, "", 0, 0),
    };
    (no_file, path, line, column, &origin.namespace, &origin.name, &origin.field)
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.iter()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, iter: T) {
        for diagnostic in iter {
            self.push(diagnostic);
        }
    }
}
