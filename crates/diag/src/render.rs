//! The text form of a finding, for terminals and logs.

use std::fmt::Write;

use crate::{Diagnostic, Origin, Position, Source};

/// The longest excerpt line in characters; longer lines are cut around the place they are shown for.
const EXCERPT_CHARS_MAX: usize = 120;

/// Renders a finding as text of several lines, ending with a line break.
///
/// `source` gives the text of a file by the path that the origin names; where it gives none, the excerpt is
/// left out. Writes no colours: those are the terminal's business.
pub fn render_text<'a>(
    diagnostic: &Diagnostic,
    source: impl Fn(&str) -> Option<&'a str>,
) -> String {
    let mut out = format!(
        "{}[{}]: {}\n",
        diagnostic.level.as_str(),
        diagnostic.code.id,
        one_line(&diagnostic.message)
    );
    place(&mut out, &diagnostic.origin, &source);
    for related in &diagnostic.related {
        let _ = writeln!(out, "note: {}", one_line(&related.note));
        place(&mut out, &related.origin, &source);
    }
    if let Some(hint) = &diagnostic.hint {
        let _ = writeln!(out, "hint: {}", one_line(hint));
    }
    out
}

/// Renders a place as findings have it: `--> file:line:column  Kind namespace/name field`, and the line itself where
/// `source` gives the text of the file. Several lines, each with its line break.
pub fn render_place<'a>(origin: &Origin, source: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::new();
    place(&mut out, origin, &source);
    out
}

/// Where it is: `--> file:line:column  Kind namespace/name field`, and the line itself.
fn place<'a>(out: &mut String, origin: &Origin, source: &impl Fn(&str) -> Option<&'a str>) {
    let (file, position) = match &origin.source {
        Source::File { path, position } => (Some(path), Some(*position)),
        Source::BuiltIn | Source::Cluster { .. } => (None, None),
    };
    let subject = subject(origin);
    match (file, position) {
        (Some(path), Some(position)) => {
            let _ = write!(out, "  --> {path}:{}:{}", position.line, position.column);
            if !subject.is_empty() {
                let _ = write!(out, "  {subject}");
            }
            out.push('\n');
            if let Some(text) = source(path) {
                excerpt(out, text, position);
            }
        }
        _ => {
            let _ = writeln!(out, "  --> {subject}");
        }
    }
}

/// `Kind namespace/name field`, leaving out what is absent.
fn subject(origin: &Origin) -> String {
    let mut subject = String::new();
    if !origin.kind.is_empty() {
        subject.push_str(&origin.kind);
        subject.push(' ');
        if !origin.namespace.is_empty() {
            let _ = write!(subject, "{}/", origin.namespace);
        }
        subject.push_str(&origin.name);
    }
    if !origin.field.is_empty() {
        subject.push(' ');
        subject.push_str(&origin.field);
    }
    one_line(subject.trim())
}

/// The line with a caret under the place; nothing where the text has no such line.
fn excerpt(out: &mut String, text: &str, position: Position) {
    let Some(line) = text.lines().nth(position.line.saturating_sub(1) as usize) else {
        return;
    };
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let at = (position.column.saturating_sub(1) as usize).min(chars.len());
    let start = if at < EXCERPT_CHARS_MAX { 0 } else { at - EXCERPT_CHARS_MAX / 2 };
    let end = chars.len().min(start + EXCERPT_CHARS_MAX);
    let shown: String = chars.get(start..end).unwrap_or_default().iter().collect();
    let word = chars
        .get(at..end)
        .unwrap_or_default()
        .iter()
        .take_while(|c| !c.is_whitespace() && !matches!(c, ':' | ',' | '}' | ']'))
        .count()
        .max(1);
    let number = position.line.to_string();
    let margin = " ".repeat(number.len());
    let _ = writeln!(out, "{margin} |");
    let _ = writeln!(out, "{number} | {}", shown.trim_end());
    let _ = writeln!(out, "{margin} | {}{}", " ".repeat(at - start), "^".repeat(word));
}

/// Control characters of a user's file must not reach the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
