//! Conditions that nest (`all`, `any`, `not`) as alternatives of plain conditions (disjunctive normal form).

use std::sync::Arc;

use heddle_api::linkerd::{RequestCondition, ResponseCondition, StatusRange};
use heddle_ir::http_route::{PartMatch, RequestPart};
use heddle_ir::matching::TextMatch;

/// More alternatives than this a condition may not have: each costs a comparison per request.
const ALTERNATIVES_MAX: usize = 128;

/// Any alternative must hold; all of its parts must. No alternatives: never holds. One without parts: always holds.
pub(crate) type Alternatives = Vec<Vec<PartMatch>>;

/// A condition on a request; none where it has too many alternatives.
pub(crate) fn request(condition: &RequestCondition, invert: bool) -> Option<Alternatives> {
    let mut terms: Vec<Alternatives> = Vec::new();
    if let Some(pattern) = &condition.path_regex {
        terms.push(literal(RequestPart::Path, TextMatch::Regex(pattern.as_str().into()), invert));
    }
    if let Some(method) = &condition.method {
        let method: Arc<str> = method.to_ascii_uppercase().into();
        terms.push(literal(RequestPart::Method, TextMatch::Exact(method), invert));
    }
    if !condition.all.0.is_empty() {
        let of: Option<Vec<_>> = condition.all.0.iter().map(|one| request(one, invert)).collect();
        terms.push(combine(of?, !invert)?);
    }
    if !condition.any.0.is_empty() {
        let of: Option<Vec<_>> = condition.any.0.iter().map(|one| request(one, invert)).collect();
        terms.push(combine(of?, invert)?);
    }
    if !condition.not.0.is_empty() {
        // None of them may hold.
        let of: Option<Vec<_>> = condition.not.0.iter().map(|one| request(one, !invert)).collect();
        terms.push(combine(of?, !invert)?);
    }
    if terms.is_empty() {
        // A condition without any field holds for nothing.
        return Some(if invert { vec![Vec::new()] } else { Vec::new() });
    }
    combine(terms, !invert)
}

fn literal(part: RequestPart, value: TextMatch, invert: bool) -> Alternatives {
    vec![vec![PartMatch { part, value, invert }]]
}

/// All of them, or any of them.
fn combine(terms: Vec<Alternatives>, all: bool) -> Option<Alternatives> {
    if !all {
        let joined: Alternatives = terms.into_iter().flatten().collect();
        return (joined.len() <= ALTERNATIVES_MAX).then_some(joined);
    }
    let mut product: Alternatives = vec![Vec::new()];
    for term in terms {
        if product.len().saturating_mul(term.len()) > ALTERNATIVES_MAX {
            return None;
        }
        product = product
            .iter()
            .flat_map(|left| {
                term.iter().map(|right| left.iter().chain(right).cloned().collect::<Vec<_>>())
            })
            .collect();
    }
    Some(product)
}

/// Whether a condition on a response holds for a status.
pub(crate) fn response(condition: &ResponseCondition, status: u16) -> bool {
    let holds = |one: &ResponseCondition| response(one, status);
    let mut terms = Vec::new();
    if let Some(range) = &condition.status {
        let (first, last) = bounds(range);
        terms.push((first..=last).contains(&status));
    }
    if !condition.all.0.is_empty() {
        terms.push(condition.all.0.iter().all(holds));
    }
    if !condition.any.0.is_empty() {
        terms.push(condition.any.0.iter().any(holds));
    }
    if !condition.not.0.is_empty() {
        terms.push(!condition.not.0.iter().any(holds));
    }
    !terms.is_empty() && terms.into_iter().all(|term| term)
}

/// The ends of a range; one that is absent is the other.
fn bounds(range: &StatusRange) -> (u16, u16) {
    match (range.min, range.max) {
        (Some(min), Some(max)) => (min, max),
        (Some(one), None) | (None, Some(one)) => (one, one),
        (None, None) => (1, 0),
    }
}
