//! Finds the matches of a large table that a path can satisfy, without asking every one.
//!
//! The index only leaves out matches whose path condition cannot hold; what it names is tested in full, in the order of
//! the table, so that the decision is that of trying all. Measured: trying costs about 8 ns per match, so that a thousand
//! routes on one host would cost as much as half of all the rest of a request; with the index 5,000 cost 0.2 µs.

use heddle_ir::http_route::{HttpMatch, RouteTable};
use heddle_ir::matching::PathMatch;

use crate::order::Entry;

/// Below this, trying all is as fast.
const ENTRIES_MIN: usize = 24;
/// The index may take so many numbers per entry; a table that would need more is tried one by one.
const NUMBERS_PER_ENTRY_MAX: usize = 8;

/// Entries by what they ask of the path. Numbers are indices into the entries, growing in every list.
#[derive(Debug)]
pub(crate) struct PathIndex {
    /// Paths in order, with the entries that ask for exactly this path.
    exact: Box<[Group]>,
    /// Prefixes in order.
    prefixes: Box<[Prefix]>,
    /// Entries that ask for something else, or nothing.
    others: Box<[u32]>,
}

/// A text and the numbers of the entries that have it.
type Group = (Box<str>, Box<[u32]>);

#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    /// The longest other prefix that this one begins with.
    parent: Option<usize>,
    /// Entries of this prefix and of all that it begins with.
    entries: Box<[u32]>,
}

impl PathIndex {
    /// An index of `entries`; none when the table is small, or of a kind that gains nothing.
    pub(crate) fn new(table: &RouteTable, entries: &[Entry]) -> Option<Self> {
        if entries.len() < ENTRIES_MIN {
            return None;
        }
        let (mut exact, mut prefixes, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (number, entry) in (0_u32..).zip(entries) {
            let rule = table.rules.get(entry.rule)?;
            let matched = entry.matched.and_then(|index| rule.matches.get(index));
            match matched {
                Some(HttpMatch { path: Some(path), ignore_path_case: false, .. }) => match path {
                    PathMatch::Exact(text) => exact.push((text.to_string(), number)),
                    PathMatch::ElementPrefix(text) => {
                        prefixes.push((text.trim_end_matches('/').to_owned(), number));
                    }
                    PathMatch::TextPrefix(text) => prefixes.push((text.to_string(), number)),
                    PathMatch::Regex(_) => others.push(number),
                },
                Some(_) | None => others.push(number),
            }
        }
        let prefixes = with_parents(grouped(prefixes), entries.len() * NUMBERS_PER_ENTRY_MAX)?;
        Some(Self { exact: grouped(exact).into(), prefixes, others: others.into() })
    }

    /// The numbers of the entries that `path` can satisfy, growing.
    pub(crate) fn candidates<'i>(&'i self, path: &str) -> impl Iterator<Item = usize> + use<'i> {
        let exact = self.exact.binary_search_by(|(own, _)| (**own).cmp(path));
        let exact = exact.ok().and_then(|place| self.exact.get(place));
        let mut lists = [
            exact.map_or(&[][..], |(_, entries)| entries),
            self.longest_prefix(path).map_or(&[][..], |prefix| &prefix.entries),
            &self.others,
        ];
        std::iter::from_fn(move || {
            let heads = lists.iter_mut().filter(|list| !list.is_empty());
            let least = heads.min_by_key(|list| list.first().copied())?;
            let (first, rest) = least.split_first()?;
            *least = rest;
            Some(*first as usize)
        })
    }

    /// The longest prefix that `path` begins with. In order, it comes last among those up to `path` that `path` begins
    /// with, and whatever lies between begins with it or with one of its kin: so its parents lead to it.
    fn longest_prefix(&self, path: &str) -> Option<&Prefix> {
        let end = self.prefixes.partition_point(|prefix| *prefix.text <= *path);
        let mut place = end.checked_sub(1);
        while let Some(prefix) = place.and_then(|place| self.prefixes.get(place)) {
            if path.starts_with(&*prefix.text) {
                return Some(prefix);
            }
            place = prefix.parent;
        }
        None
    }
}

/// Sorts by text and collects the numbers of equal texts, which come in growing order.
fn grouped(mut pairs: Vec<(String, u32)>) -> Vec<Group> {
    pairs.sort();
    let groups = pairs.chunk_by(|(a, _), (b, _)| a == b);
    let group = |group: &[(String, u32)]| {
        let text = group.first().map(|(text, _)| text.as_str().into())?;
        Some((text, group.iter().map(|(_, number)| *number).collect()))
    };
    groups.filter_map(group).collect()
}

/// Gives every prefix its parent, and the entries of its parents. None when that takes more than `numbers_max` numbers.
fn with_parents(groups: Vec<Group>, numbers_max: usize) -> Option<Box<[Prefix]>> {
    let mut prefixes: Vec<Prefix> = Vec::with_capacity(groups.len());
    let mut numbers = 0;
    for (text, own) in groups {
        // Sorted, so that a parent stands before, and is the one before or among its parents.
        let mut parent = prefixes.len().checked_sub(1);
        while let Some(place) = parent {
            if text.starts_with(&*prefixes[place].text) {
                break;
            }
            parent = prefixes[place].parent;
        }
        let inherited = parent.map_or(&[][..], |place| &prefixes[place].entries);
        let mut entries = [&own, inherited].concat();
        entries.sort_unstable();
        numbers += entries.len();
        if numbers > numbers_max {
            return None;
        }
        prefixes.push(Prefix { text, parent, entries: entries.into() });
    }
    Some(prefixes.into())
}

#[cfg(test)]
mod tests {
    use heddle_ir::http_route::RuleOrder;
    use heddle_ir::matching::PathMatch::{Exact, Regex, TextPrefix};

    use super::*;
    use crate::order;
    use crate::tests::support::{outbound, path, rule};

    fn index(paths: Vec<PathMatch>) -> Option<PathIndex> {
        let rules = paths.into_iter().map(|own| rule("r", vec![path(own)])).collect();
        let mut table = outbound(rules).http;
        table.order = RuleOrder::Written;
        PathIndex::new(&table, &order::entries(&table))
    }

    #[test]
    fn candidates_are_what_the_path_can_satisfy_in_order() {
        let mut paths: Vec<PathMatch> =
            ["/", "/a", "/a/b/c", "/ab", "/a"].map(|text| TextPrefix(text.into())).to_vec();
        paths.push(Regex("x".into()));
        paths.push(Exact("/a/b".into()));
        paths.extend((0..30).map(|i| Exact(format!("/x{i}").into())));
        let index = index(paths).unwrap();
        let candidates = |path: &str| index.candidates(path).collect::<Vec<_>>();
        assert_eq!(candidates("/a/b"), [0, 1, 4, 5, 6]);
        assert_eq!(candidates("/a/b/cd"), [0, 1, 2, 4, 5]);
        assert_eq!(candidates("/ac"), [0, 1, 4, 5]);
        assert_eq!(candidates("/abc"), [0, 1, 3, 4, 5]);
        assert_eq!(candidates("/zzz"), [0, 5]);
        assert_eq!(candidates("*"), [5]);
    }

    #[test]
    fn small_tables_and_those_that_would_take_much_memory_have_no_index() {
        assert!(index((0..23).map(|_| Exact("/".into())).collect()).is_none());
        // Each is a prefix of the next.
        let nested = (1..100).map(|length| TextPrefix("/".repeat(length).into()));
        assert!(index(nested.collect()).is_none());
    }
}
