//! Regular expressions as mesh configuration writes them: RE2 syntax, whole-value matching. Layer 1.
//!
//! `route` and `authz` must agree on what a pattern means, and both must mean what Envoy means, whose engine is
//! RE2. The `regex` crate has the same automata and the same guarantee of linear time, but its dialect differs in
//! small ways (`\d` takes every script's digits, a lone `{` is an error, classes nest). [`FullMatch`] and
//! [`Substitution`] translate the one into the other. This crate knows no configuration and decides nothing.
//!
//! Patterns come from users, so both the text and the compiled program are bounded.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod re2;

use std::fmt;

use regex::{Regex, RegexBuilder, bytes};

/// The longest pattern in bytes (API.md section 1 allows 1024 characters; a character has at most four bytes).
const PATTERN_BYTES_MAX: usize = 4096;
/// The largest compiled program in bytes.
const PROGRAM_BYTES_MAX: usize = 1 << 20;
/// What the lazy automaton may remember per pattern, in bytes; beyond, it starts anew.
const AUTOMATON_BYTES_MAX: usize = 256 << 10;

/// A pattern that must match a value from its first byte to its last.
#[derive(Clone, Debug)]
pub struct FullMatch(bytes::Regex);

impl FullMatch {
    /// Compiles a pattern.
    pub fn compile(pattern: &str) -> Result<Self, PatternError> {
        Self::build(pattern, false)
    }

    /// Compiles a pattern that takes upper and lower case alike.
    pub fn compile_ignoring_case(pattern: &str) -> Result<Self, PatternError> {
        Self::build(pattern, true)
    }

    /// Whether the pattern matches the whole of `value`. Bytes that are not UTF-8 match no `.` and no class, as in
    /// RE2.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.0.is_match(value)
    }

    fn build(pattern: &str, ignore_case: bool) -> Result<Self, PatternError> {
        bytes::RegexBuilder::new(&format!(r"\A(?:{})\z", translate(pattern)?))
            .case_insensitive(ignore_case)
            .size_limit(PROGRAM_BYTES_MAX)
            .dfa_size_limit(AUTOMATON_BYTES_MAX)
            .build()
            .map(Self)
            .map_err(|error| syntax_error(pattern, &error))
    }
}

/// A pattern whose every match in a text is replaced (RE2's `GlobalReplace`).
#[derive(Clone, Debug)]
pub struct Substitution {
    pattern: Regex,
    replacement: Vec<Piece>,
}

/// A part of a replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Group(usize),
    Text(String),
}

impl Substitution {
    /// Compiles pattern and replacement; in the latter `\0` is the whole match, `\1` to `\9` are groups, `\\` is a
    /// backslash.
    pub fn compile(pattern: &str, replacement: &str) -> Result<Self, PatternError> {
        let compiled = RegexBuilder::new(&translate(pattern)?)
            .size_limit(PROGRAM_BYTES_MAX)
            .dfa_size_limit(AUTOMATON_BYTES_MAX)
            .build()
            .map_err(|error| syntax_error(pattern, &error))?;
        let replacement = parse_replacement(replacement, compiled.captures_len())?;
        Ok(Self { pattern: compiled, replacement })
    }

    /// Appends `text` to `out` with every match replaced. An empty match right after another match is not one.
    pub fn write(&self, text: &str, out: &mut String) {
        let mut copied = 0;
        for captures in self.pattern.captures_iter(text) {
            let Some(whole) = captures.get(0) else { continue };
            out.push_str(&text[copied..whole.start()]);
            for piece in &self.replacement {
                match piece {
                    Piece::Text(piece) => out.push_str(piece),
                    Piece::Group(number) => {
                        out.push_str(captures.get(*number).map_or("", |group| group.as_str()));
                    }
                }
            }
            copied = whole.end();
        }
        out.push_str(&text[copied..]);
    }
}

/// Why a pattern or replacement cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// The replacement refers to a group that the pattern does not have.
    Group(usize),
    /// A backslash in the replacement is not followed by a digit or a backslash.
    Replacement,
    /// The pattern is not RE2 syntax, or asks for too much.
    Syntax {
        /// The pattern.
        pattern: String,
        /// What is wrong with it, in a sentence.
        problem: String,
    },
    /// The pattern is longer than 4096 bytes; holds its length.
    TooLong(usize),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(number) => {
                write!(f, "replacement refers to group {number}, which the pattern does not have")
            }
            Self::Replacement => f.write_str(
                "a backslash in the replacement is followed by neither a digit nor a backslash",
            ),
            Self::Syntax { pattern, problem } => {
                write!(f, "regular expression {pattern:?} is not valid: {problem}")
            }
            Self::TooLong(bytes) => {
                write!(f, "regular expression of {bytes} bytes is longer than {PATTERN_BYTES_MAX}")
            }
        }
    }
}

impl std::error::Error for PatternError {}

fn translate(pattern: &str) -> Result<String, PatternError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(PatternError::TooLong(pattern.len()));
    }
    re2::translate(pattern).map_err(|problem| PatternError::Syntax {
        pattern: pattern.into(),
        problem: problem.into(),
    })
}

fn syntax_error(pattern: &str, error: &regex::Error) -> PatternError {
    PatternError::Syntax {
        pattern: pattern.into(),
        problem: match error {
            regex::Error::CompiledTooBig(_) => "it compiles to more than 1 MiB".into(),
            // The library prints the pattern and a caret line; the last line says what is wrong.
            error => error.to_string().lines().last().unwrap_or_default().replace("error: ", ""),
        },
    }
}

fn parse_replacement(text: &str, groups: usize) -> Result<Vec<Piece>, PatternError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            literal.push(c);
            continue;
        }
        match chars.next() {
            Some('\\') => literal.push('\\'),
            Some(digit) if digit.is_ascii_digit() => {
                let number = usize::from(digit as u8 - b'0');
                if number >= groups {
                    return Err(PatternError::Group(number));
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Group(number));
            }
            _ => return Err(PatternError::Replacement),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests;
