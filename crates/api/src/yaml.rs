//! Reads one YAML (or JSON) text into positioned trees, one a document.
//!
//! Follows what kubectl makes of YAML: scalars as in [`scalar`](crate::scalar), merge keys (`<<`) expanded, keys turned
//! into texts. Everything is bounded by [`Limits`]: depth, nodes, documents, and what aliases expand to. It
//! must not know what objects are; that is `decode`.

mod builder;

use granit_parser::{ErrorKind, Options, Parser, ScanError, StrInput};
use heddle_diag::{Code, Position};

use crate::codes;
use crate::tree::{At, Tree};

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
    /// What was found before in the document that is lost.
    pub(crate) before: Vec<Problem>,
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
    let mut builder = builder::Builder::new(first_line, budget);
    for event in parser {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(syntax_error(&error, first_line)),
        };
        match step {
            Ok(None) => {}
            Ok(Some(document)) => documents.push(document),
            Err(mut stop) => {
                if text.contains("{{") && !stop.whole_file {
                    stop.hint = Some("this looks like a template: render it first".to_owned());
                }
                stop.before = builder.problems();
                return (documents, Some(stop));
            }
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
        before: Vec::new(),
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
        ErrorKind::InvalidQuotedScalarIndent | ErrorKind::DocumentIndicatorInQuotedScalar => {
            stop(codes::SYNTAX, "a quoted text above is not closed", Some("close the quote"))
        }
        ErrorKind::UnexpectedCharacter { .. } => stop(
            codes::SYNTAX,
            "a text cannot begin with this character",
            Some("quote the text: @, `, % and other signs have a meaning of their own in YAML"),
        ),
        kind => stop(codes::SYNTAX, &format!("not valid YAML: {kind}"), None),
    }
}
