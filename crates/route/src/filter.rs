//! Conditions of rules that are not routes: which requests a rate limit counts, whom an override is for.

use heddle_ir::http_route::HttpMatch;
use heddle_ir::matching::TextMatch;
use heddle_ir::request::RequestHead;
use heddle_pattern::PatternError;

use crate::matching::{CompiledMatch, CompiledText};

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
