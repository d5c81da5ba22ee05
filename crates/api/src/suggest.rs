//! Near misses: what a user likely meant by a name that does not exist.

/// The candidate nearest to `text`, where one is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Names longer than any field are not misspelled fields, and the distance costs their product.
    if text.is_empty() || text.len() > 80 {
        return None;
    }
    let folded = fold(text);
    let allowed = (text.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = distance(&folded, &fold(candidate));
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Lower case without the signs by which spellings of one name differ (`max_connections`, `max-connections`).
fn fold(text: &str) -> Vec<char> {
    text.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Edits between two words: insert, delete, replace, and swap of neighbours (optimal string alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let width = right.len() + 1;
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..width).collect();
    for (row, l) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, r) in right.iter().enumerate() {
            let at =
                |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&previous, column) + usize::from(l != r))
                .min(at(&previous, column + 1) + 1)
                .min(at(&current, column) + 1);
            let swapped = row > 0
                && column > 0
                && left.get(row - 1) == Some(r)
                && right.get(column - 1) == Some(l);
            if swapped {
                best = best.min(at(&before, column - 1) + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous.last().copied().unwrap_or(left.len())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggests_what_was_meant_and_nothing_far_off() {
        let fields = ["hosts", "http", "gateways", "exportTo", "maxConnections"];
        for (text, expected) in [
            ("host", Some("hosts")),
            ("hotss", Some("hosts")),
            ("gateway", Some("gateways")),
            ("export_to", Some("exportTo")),
            ("MaxConnections", Some("maxConnections")),
            ("retries", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, fields), expected, "{text:?}");
        }
    }
}
