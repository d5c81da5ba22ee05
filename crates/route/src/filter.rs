//! Conditions of rules that are not routes: which requests a rate limit counts, which headers make up a descriptor.

use heddle_ir::http_route::{HeaderMatch, HttpMatch};
use heddle_ir::matching::TextMatch;
use heddle_ir::request::RequestHead;
use heddle_pattern::PatternError;

use crate::matching::{CompiledHeader, CompiledMatch, CompiledText};

/// Compiled matches, of which any one must match; none: every request does.
#[derive(Debug)]
pub struct CompiledFilter {
    matches: Box<[CompiledMatch]>,
}

impl CompiledFilter {
    /// Compiles `matches`. What does not compile never matches and is said.
    pub fn compile(matches: &[HttpMatch]) -> (Self, Vec<String>) {
        let mut errors = Vec::new();
        let compiled = matches.iter().map(|own| CompiledMatch::compile(own, &mut errors)).collect();
        (Self { matches: compiled }, sentences(&errors))
    }

    /// Whether a request is one of those.
    pub fn takes(&self, request: &impl RequestHead) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|own| own.test(request).is_ok())
    }
}

/// Compiled conditions on headers, all of which must hold.
#[derive(Debug)]
pub struct CompiledHeaders {
    headers: Box<[CompiledHeader]>,
    uncompilable: bool,
}

impl CompiledHeaders {
    /// Compiles `headers`. What does not compile never holds and is said.
    pub fn compile(headers: &[HeaderMatch]) -> (Self, Vec<String>) {
        let mut errors = Vec::new();
        let headers = headers.iter().map(|own| CompiledHeader::compile(own, &mut errors)).collect();
        let uncompilable = !errors.is_empty();
        (Self { headers, uncompilable }, sentences(&errors))
    }

    /// Whether all conditions hold.
    pub fn hold(&self, request: &impl RequestHead) -> bool {
        !self.uncompilable && self.headers.iter().all(|header| header.matches(request))
    }
}

/// Compiled tests on one text, of which any one must match.
#[derive(Debug)]
pub struct CompiledTexts {
    texts: Box<[CompiledText]>,
}

impl CompiledTexts {
    /// Compiles `texts`. What does not compile never matches and is said.
    pub fn compile(texts: &[TextMatch]) -> (Self, Vec<String>) {
        let mut errors = Vec::new();
        let texts = texts.iter().filter_map(|own| {
            let before = errors.len();
            let compiled = CompiledText::compile(own, &mut errors);
            (errors.len() == before).then_some(compiled)
        });
        let texts = texts.collect();
        (Self { texts }, sentences(&errors))
    }

    /// Whether any one matches.
    pub fn match_any(&self, text: &str) -> bool {
        self.texts.iter().any(|own| own.matches(text.as_bytes()))
    }
}

fn sentences(errors: &[PatternError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}
