//! The order in which the matches of a table are tried.

use std::cmp::Reverse;

use heddle_ir::http_route::{HttpMatch, HttpRule, RouteTable, RuleOrder};
use heddle_ir::matching::PathMatch;

/// A match of a rule, or a rule without matches, which takes everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) rule: usize,
    /// Index into the rule's matches; none when it has none.
    pub(crate) matched: Option<usize>,
}

/// Every match of every rule, in the order they are tried.
pub(crate) fn entries(table: &RouteTable) -> Vec<Entry> {
    let of_rule = |(rule, HttpRule { matches, .. }): (usize, &HttpRule)| {
        let everything = matches.is_empty().then_some(Entry { rule, matched: None });
        let each = (0..matches.len()).map(move |index| Entry { rule, matched: Some(index) });
        everything.into_iter().chain(each)
    };
    let mut entries: Vec<Entry> = table.rules.iter().enumerate().flat_map(of_rule).collect();
    match table.order {
        RuleOrder::Written => {}
        // The sort is stable: ties keep their place, which `translate` gave by age, name and position.
        RuleOrder::Specificity => entries.sort_by_key(|entry| {
            let matched =
                entry.matched.and_then(|index| table.rules[entry.rule].matches.get(index));
            let tier = table.tiers.partition_point(|first| *first <= entry.rule);
            (tier, Reverse(specificity(matched)))
        }),
    }
    entries
}

/// How much a match says; more specific ones are greater (API.md 6.5).
///
/// Where regular expressions stand is left to implementations: here below every prefix but `/`, longer patterns
/// first. So they act beside a catch-all, and a GRPCRoute that names a service goes before one that names a method only.
fn specificity(matched: Option<&HttpMatch>) -> (u8, usize, bool, usize, usize) {
    let Some(matched) = matched else { return (0, 0, false, 0, 0) };
    let (kind, length) = match &matched.path {
        Some(PathMatch::Exact(path)) => (3, path.chars().count()),
        Some(PathMatch::ElementPrefix(path)) => match path.trim_end_matches('/') {
            "" => (0, 0),
            path => (2, path.chars().count()),
        },
        Some(PathMatch::TextPrefix(path)) if &**path == "/" => (0, 0),
        Some(PathMatch::TextPrefix(path)) => (2, path.chars().count()),
        Some(PathMatch::Regex(pattern)) => (1, pattern.chars().count()),
        None => (0, 0),
    };
    (kind, length, matched.method.is_some(), matched.headers.len(), matched.query.len())
}
