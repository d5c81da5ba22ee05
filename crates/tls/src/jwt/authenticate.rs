//! What all rules together make of a request.

use std::sync::Arc;
use std::time::SystemTime;

use heddle_ir::authentication::{JwtRule, TokenLocation};
use heddle_ir::request::{RequestHead, TokenFacts};

use super::locations::{TOKENS_MAX, tokens_at};
use super::{JwtError, KeySource, KeysNow, ParsedToken};

/// A request whose tokens are valid, or that has none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Authenticated {
    /// What counts for policies: the token of the first listed rule that accepted one.
    pub facts: Option<TokenFacts>,
    /// What changes in the request before it goes on.
    pub edits: Vec<TokenEdit>,
}

/// A change of a request, in order; names are lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenEdit {
    /// A cookie is removed.
    RemoveCookie(Arc<str>),
    /// A header is removed.
    RemoveHeader(Arc<str>),
    /// A query parameter is removed.
    RemoveQuery(Arc<str>),
    /// A header is set, in place of whatever was there.
    SetHeader(Arc<str>, String),
}

/// Headers that only a verified token may set: what a client sent under these names must not reach the application.
pub fn sanitize(rules: &[Arc<JwtRule>]) -> impl Iterator<Item = &Arc<str>> {
    rules.iter().flat_map(|rule| {
        let claims = rule.claim_headers.iter().map(|claim| &claim.header);
        rule.payload_header.iter().chain(claims)
    })
}

/// A token and where it was found.
struct Found<'r> {
    location: &'r TokenLocation,
    text: String,
}

/// Verifies every token of a request. One that is not valid refuses the request; without any it goes on as nobody.
pub fn authenticate<R: RequestHead>(
    rules: &[Arc<JwtRule>],
    keys: &impl KeySource,
    request: &R,
    now: SystemTime,
) -> Result<Authenticated, JwtError> {
    let mut edits: Vec<TokenEdit> =
        sanitize(rules).map(|name| TokenEdit::RemoveHeader(name.clone())).collect();
    // A preflight carries no credentials (Fetch standard), and must not fail for want of them.
    if is_preflight(request) {
        return Ok(Authenticated { facts: None, edits });
    }
    let found = find(rules, request)?;
    if found.is_empty() {
        if rules.iter().any(|rule| rule.required) {
            return Err(JwtError::Missing);
        }
        return Ok(Authenticated { facts: None, edits });
    }
    let mut first: Option<(usize, TokenFacts)> = None;
    let mut outputs = Vec::new();
    for token in &found {
        let parsed = ParsedToken::parse(&token.text)?;
        let (place, rule, facts) = accept(rules, token, &parsed, keys, now)?;
        if !rule.forward {
            edits.push(match token.location {
                TokenLocation::Cookie(name) => TokenEdit::RemoveCookie(name.clone()),
                TokenLocation::Header(name, _) => TokenEdit::RemoveHeader(name.clone()),
                TokenLocation::Query(name) => TokenEdit::RemoveQuery(name.clone()),
            });
        }
        output(rule, &parsed, &mut outputs);
        if first.as_ref().is_none_or(|(other, _)| place < *other) {
            first = Some((place, facts));
        }
    }
    edits.extend(outputs);
    Ok(Authenticated { facts: first.map(|(_, facts)| facts), edits })
}

fn is_preflight(request: &impl RequestHead) -> bool {
    request.method() == "OPTIONS"
        && request.header("origin").is_some_and(|origin| !origin.is_empty())
        && request.header("access-control-request-method").is_some_and(|method| !method.is_empty())
}

/// All tokens, each place looked at once.
fn find<'r, R: RequestHead>(
    rules: &'r [Arc<JwtRule>],
    request: &R,
) -> Result<Vec<Found<'r>>, JwtError> {
    let mut locations: Vec<&TokenLocation> = Vec::new();
    for location in rules.iter().flat_map(|rule| &rule.locations) {
        if !locations.contains(&location) {
            locations.push(location);
        }
    }
    let mut found = Vec::new();
    for location in locations {
        found.extend(tokens_at(location, request).into_iter().map(|text| Found { location, text }));
    }
    if found.len() > TOKENS_MAX {
        return Err(JwtError::Format);
    }
    Ok(found)
}

/// The first rule that takes the token; else why the last one that could does not.
fn accept<'r>(
    rules: &'r [Arc<JwtRule>],
    token: &Found<'_>,
    parsed: &ParsedToken<'_>,
    keys: &impl KeySource,
    now: SystemTime,
) -> Result<(usize, &'r JwtRule, TokenFacts), JwtError> {
    let mut refused = JwtError::Issuer;
    for (place, rule) in rules.iter().enumerate() {
        let is_own = rule.issuer.is_empty() || *rule.issuer == *parsed.issuer();
        if !is_own || !rule.locations.contains(token.location) {
            continue;
        }
        let verified = match keys.keys(rule) {
            KeysNow::Held(keys) => parsed.verify(rule, &keys, now),
            KeysNow::Missing => Err(JwtError::NoKeySet),
        };
        match verified {
            Ok(facts) => return Ok((place, rule, facts)),
            Err(error) => {
                if error == JwtError::NoKey {
                    keys.unknown_key(rule);
                }
                refused = error;
            }
        }
    }
    Err(refused)
}

fn output(rule: &JwtRule, parsed: &ParsedToken<'_>, edits: &mut Vec<TokenEdit>) {
    if let Some(name) = &rule.payload_header {
        edits.push(TokenEdit::SetHeader(name.clone(), parsed.payload_text.to_owned()));
    }
    for wanted in &rule.claim_headers {
        if let Some(text) = parsed.claim_text(&wanted.claim) {
            edits.push(TokenEdit::SetHeader(wanted.header.clone(), text));
        }
    }
}
