//! Compiled conditions of one match, and how they are tested.
//!
//! Conditions are tested from cheap to dear. The result names the first that failed, at no cost, so that
//! `decide` and `explain` run the same code.

use std::fmt;
use std::sync::Arc;

use heddle_ir::http_route::{
    ClaimMatch, HeaderMatch, HttpMatch, PartMatch, QueryMatch, RequestPart,
};
use heddle_ir::matching::{PathMatch, TextMatch};
use heddle_ir::request::{ClaimValue, RequestHead};
use heddle_pattern::{FullMatch, PatternError};

/// The condition of a match that a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FailedCondition {
    /// The authority.
    Authority,
    /// A claim of the token; index into [`HttpMatch::claims`].
    Claim(usize),
    /// A header; index into [`HttpMatch::headers`].
    Header(usize),
    /// The method.
    Method,
    /// A further condition; index into [`HttpMatch::parts`].
    Part(usize),
    /// The path.
    Path,
    /// A query parameter; index into [`HttpMatch::query`].
    Query(usize),
    /// The scheme.
    Scheme,
    /// A part of the match could not be compiled, so that it never matches.
    Uncompilable,
}

impl FailedCondition {
    /// The condition in words, for example `header end-user`; `matched` is the match it belongs to.
    pub fn describe(self, matched: &HttpMatch) -> Description<'_> {
        Description { condition: self, matched }
    }
}

/// Prints a [`FailedCondition`].
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    condition: FailedCondition,
    matched: &'a HttpMatch,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.condition {
            FailedCondition::Authority => f.write_str("authority"),
            FailedCondition::Claim(index) => {
                f.write_str("claim ")?;
                let path = self.matched.claims.get(index).map_or(&[][..], |claim| &claim.path);
                path.iter().try_for_each(|name| write!(f, "[{name}]"))
            }
            FailedCondition::Header(index) => {
                write!(f, "header {}", self.matched.headers.get(index).map_or("", |h| &h.name))
            }
            FailedCondition::Method => f.write_str("method"),
            FailedCondition::Part(index) => match self.matched.parts.get(index) {
                Some(PartMatch { part: RequestPart::Method, .. }) => f.write_str("method"),
                _ => f.write_str("path"),
            },
            FailedCondition::Path => f.write_str("path"),
            FailedCondition::Query(index) => {
                let name = self.matched.query.get(index).map_or("", |q| &q.name);
                write!(f, "query parameter {name}")
            }
            FailedCondition::Scheme => f.write_str("scheme"),
            FailedCondition::Uncompilable => f.write_str("a regular expression that is not valid"),
        }
    }
}

/// A compiled [`HttpMatch`].
#[derive(Debug)]
pub(crate) struct CompiledMatch {
    path: Option<CompiledPath>,
    method: Option<CompiledText>,
    scheme: Option<CompiledText>,
    authority: Option<CompiledText>,
    headers: Box<[CompiledHeader]>,
    query: Box<[CompiledQuery]>,
    parts: Box<[CompiledPart]>,
    claims: Box<[CompiledClaim]>,
    /// Some part could not be compiled.
    uncompilable: bool,
}

impl CompiledMatch {
    /// Compiles `matched`; what does not compile is pushed to `errors` and makes the whole match never match.
    pub(crate) fn compile(matched: &HttpMatch, errors: &mut Vec<PatternError>) -> Self {
        let before = errors.len();
        // Istio: the regular expression `*` means presence, and these are always present.
        let is_star = |value: &&TextMatch| matches!(value, TextMatch::Regex(own) if &**own == "*");
        let text = |value: &Option<TextMatch>, errors: &mut Vec<PatternError>| {
            let value = value.as_ref().filter(|value| !is_star(value))?;
            Some(CompiledText::compile(value, errors))
        };
        let path = matched
            .path
            .as_ref()
            .map(|path| CompiledPath::compile(path, matched.ignore_path_case, errors));
        let method = text(&matched.method, errors);
        let scheme = text(&matched.scheme, errors);
        let authority = text(&matched.authority, errors);
        let headers =
            matched.headers.iter().map(|header| CompiledHeader::compile(header, errors)).collect();
        let query =
            matched.query.iter().map(|query| CompiledQuery::compile(query, errors)).collect();
        let parts = matched.parts.iter().map(|part| CompiledPart::compile(part, errors)).collect();
        let claims =
            matched.claims.iter().map(|claim| CompiledClaim::compile(claim, errors)).collect();
        let uncompilable = errors.len() > before;
        Self { path, method, scheme, authority, headers, query, parts, claims, uncompilable }
    }

    /// Tests all conditions; the error is the first that fails.
    pub(crate) fn test(&self, request: &impl RequestHead) -> Result<(), FailedCondition> {
        let check = |holds: bool, failed: FailedCondition| if holds { Ok(()) } else { Err(failed) };
        check(!self.uncompilable, FailedCondition::Uncompilable)?;
        if let Some(path) = &self.path {
            check(path.matches(request.path()), FailedCondition::Path)?;
        }
        if let Some(method) = &self.method {
            check(method.matches(request.method().as_bytes()), FailedCondition::Method)?;
        }
        if let Some(scheme) = &self.scheme {
            check(scheme.matches(request.scheme().as_bytes()), FailedCondition::Scheme)?;
        }
        if let Some(wanted) = &self.authority {
            let authority = request.authority();
            let holds = wanted.matches(authority.as_bytes())
                || wanted.matches(split_port(authority).0.as_bytes());
            check(holds, FailedCondition::Authority)?;
        }
        for (index, header) in self.headers.iter().enumerate() {
            check(header.matches(request), FailedCondition::Header(index))?;
        }
        for (index, part) in self.parts.iter().enumerate() {
            check(part.matches(request), FailedCondition::Part(index))?;
        }
        for (index, query) in self.query.iter().enumerate() {
            check(query.matches(request.query()), FailedCondition::Query(index))?;
        }
        for (index, claim) in self.claims.iter().enumerate() {
            check(claim.matches(request), FailedCondition::Claim(index))?;
        }
        Ok(())
    }

    /// What the match says about the path; none when it says nothing.
    pub(crate) fn path(&self) -> Option<&CompiledPath> {
        self.path.as_ref()
    }
}

/// A compiled [`PathMatch`].
#[derive(Debug)]
pub(crate) enum CompiledPath {
    /// Equal; `true`: without regard to case.
    Exact(Arc<str>, bool),
    /// Path elements, without trailing slash (so empty for `/`); `true`: without regard to case.
    ElementPrefix(Arc<str>, bool),
    Regex(FullMatch),
    /// Raw text; `true`: without regard to case.
    TextPrefix(Arc<str>, bool),
    /// Could not be compiled.
    Never,
}

impl CompiledPath {
    fn compile(path: &PathMatch, ignore_case: bool, errors: &mut Vec<PatternError>) -> Self {
        match path {
            PathMatch::Exact(text) => Self::Exact(text.clone(), ignore_case),
            PathMatch::ElementPrefix(text) => {
                Self::ElementPrefix(text.trim_end_matches('/').into(), ignore_case)
            }
            PathMatch::TextPrefix(text) => Self::TextPrefix(text.clone(), ignore_case),
            PathMatch::Regex(pattern) => match FullMatch::compile(pattern) {
                Ok(pattern) => Self::Regex(pattern),
                Err(error) => {
                    errors.push(error);
                    Self::Never
                }
            },
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact, false) => **exact == *path,
            Self::Exact(exact, true) => exact.eq_ignore_ascii_case(path),
            Self::ElementPrefix(prefix, ignore_case) => rest_after(path, prefix, *ignore_case)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(pattern) => pattern.matches(path.as_bytes()),
            Self::TextPrefix(prefix, ignore_case) => {
                rest_after(path, prefix, *ignore_case).is_some()
            }
            Self::Never => false,
        }
    }

    /// The part of a matched path behind the prefix that matched; none when there is no such prefix.
    pub(crate) fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self {
            Self::ElementPrefix(prefix, ignore_case) | Self::TextPrefix(prefix, ignore_case) => {
                rest_after(path, prefix, *ignore_case)
            }
            Self::Exact(..) | Self::Regex(_) | Self::Never => None,
        }
    }
}

/// What follows `prefix` in `path`; none when `path` does not begin with it.
fn rest_after<'p>(path: &'p str, prefix: &str, ignore_case: bool) -> Option<&'p str> {
    // `get` is none inside a character; no prefix of the same bytes could end there.
    let head = path.get(..prefix.len())?;
    let equal = if ignore_case { head.eq_ignore_ascii_case(prefix) } else { head == prefix };
    equal.then(|| &path[prefix.len()..])
}

/// A compiled [`TextMatch`].
#[derive(Debug)]
pub(crate) enum CompiledText {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Present,
    Regex(FullMatch),
    Suffix(Arc<str>),
    /// Could not be compiled.
    Never,
}

impl CompiledText {
    pub(crate) fn compile(text: &TextMatch, errors: &mut Vec<PatternError>) -> Self {
        match text {
            TextMatch::Exact(text) => Self::Exact(text.clone()),
            TextMatch::Prefix(text) => Self::Prefix(text.clone()),
            TextMatch::Present => Self::Present,
            TextMatch::Suffix(text) => Self::Suffix(text.clone()),
            TextMatch::Regex(pattern) => match FullMatch::compile(pattern) {
                Ok(pattern) => Self::Regex(pattern),
                Err(error) => {
                    errors.push(error);
                    Self::Never
                }
            },
        }
    }

    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == value,
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Present => !value.is_empty(),
            Self::Regex(pattern) => pattern.matches(value),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            Self::Never => false,
        }
    }
}

/// A test on something that may be absent.
#[derive(Debug)]
enum ValueTest {
    /// It is there, empty or not.
    Present,
    /// It is there and matches.
    Text(CompiledText),
}

impl ValueTest {
    /// In headers and query parameters the regular expression `*` means presence (API.md section 1).
    fn compile(value: &TextMatch, errors: &mut Vec<PatternError>) -> Self {
        match value {
            TextMatch::Present => Self::Present,
            TextMatch::Regex(pattern) if &**pattern == "*" => Self::Present,
            value => Self::Text(CompiledText::compile(value, errors)),
        }
    }
}

/// A compiled [`HeaderMatch`].
#[derive(Debug)]
pub(crate) struct CompiledHeader {
    name: Arc<str>,
    test: ValueTest,
    invert: bool,
}

impl CompiledHeader {
    pub(crate) fn compile(header: &HeaderMatch, errors: &mut Vec<PatternError>) -> Self {
        Self {
            name: header.name.clone(),
            test: ValueTest::compile(&header.value, errors),
            invert: header.invert,
        }
    }

    pub(crate) fn matches(&self, request: &impl RequestHead) -> bool {
        let value = request.header(&self.name);
        match (&self.test, self.invert) {
            (ValueTest::Present, invert) => value.is_some() != invert,
            (ValueTest::Text(text), false) => value.is_some_and(|value| text.matches(&value)),
            // Envoy: `treat_missing_header_as_empty` with `invert_match`.
            (ValueTest::Text(text), true) => !text.matches(value.as_deref().unwrap_or_default()),
        }
    }
}

/// A compiled [`PartMatch`].
#[derive(Debug)]
struct CompiledPart {
    part: RequestPart,
    text: CompiledText,
    invert: bool,
}

impl CompiledPart {
    fn compile(part: &PartMatch, errors: &mut Vec<PatternError>) -> Self {
        let text = CompiledText::compile(&part.value, errors);
        Self { part: part.part, text, invert: part.invert }
    }

    fn matches(&self, request: &impl RequestHead) -> bool {
        let value = match self.part {
            RequestPart::Method => request.method(),
            RequestPart::Path => request.path(),
        };
        self.text.matches(value.as_bytes()) != self.invert
    }
}

/// A compiled [`ClaimMatch`].
#[derive(Debug)]
struct CompiledClaim {
    path: Box<[Arc<str>]>,
    text: CompiledText,
    invert: bool,
}

impl CompiledClaim {
    fn compile(claim: &ClaimMatch, errors: &mut Vec<PatternError>) -> Self {
        let text = CompiledText::compile(&claim.value, errors);
        Self { path: claim.path.iter().cloned().collect(), text, invert: claim.invert }
    }

    /// Claims that are neither texts nor lists of texts match nothing. Without a token every claim is absent, as Envoy has
    /// it.
    fn matches(&self, request: &impl RequestHead) -> bool {
        let is_text = |value: &ClaimValue| matches!(value, ClaimValue::Text(text) if self.text.matches(text.as_bytes()));
        let holds = match request.token().and_then(|token| token.claim(&self.path)) {
            Some(ClaimValue::List(values)) => values.iter().any(is_text),
            Some(value) => is_text(value),
            None => false,
        };
        holds != self.invert
    }
}

/// A compiled [`QueryMatch`].
#[derive(Debug)]
struct CompiledQuery {
    name: Arc<str>,
    test: ValueTest,
}

impl CompiledQuery {
    fn compile(query: &QueryMatch, errors: &mut Vec<PatternError>) -> Self {
        Self { name: query.name.clone(), test: ValueTest::compile(&query.value, errors) }
    }

    fn matches(&self, query: Option<&str>) -> bool {
        let value = query.and_then(|query| query_parameter(query, &self.name));
        match &self.test {
            ValueTest::Present => value.is_some(),
            ValueTest::Text(text) => value.is_some_and(|value| text.matches(value.as_bytes())),
        }
    }
}

/// The value of the first parameter called `name`, as sent: like Envoy, nothing is decoded. A parameter without
/// `=` has the empty value.
pub(crate) fn query_parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// Host and port of an authority; brackets of an IPv6 address stay with the host.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    let Some((host, port)) = authority.rsplit_once(':') else { return (authority, None) };
    let inside_brackets = port.contains(']');
    match port.parse() {
        Ok(number) if !inside_brackets && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(number))
        }
        _ => (authority, None),
    }
}
