//! How configuration matches texts.

use std::sync::Arc;

/// A test on a text. Absent values are the business of whoever holds the matcher.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TextMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Begins with; a raw string prefix, not by path element.
    Prefix(Arc<str>),
    /// Present and not empty (Istio's `*` in authorisation values).
    Present,
    /// The regular expression (RE2 syntax) matches the whole text.
    Regex(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
}

/// A test on the path of a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PathMatch {
    /// The path is equal.
    Exact(Arc<str>),
    /// The path begins with these path elements: `/foo` takes `/foo` and `/foo/x`, not `/foobar` (Gateway API).
    ElementPrefix(Arc<str>),
    /// The regular expression (RE2 syntax) matches the whole path.
    Regex(Arc<str>),
    /// The path begins with this text: `/foo` takes `/foobar` (Istio).
    TextPrefix(Arc<str>),
}
