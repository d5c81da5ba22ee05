//! Property: the compiled table decides as a naive evaluator that reads the IR anew for every request.

use std::borrow::Cow;
use std::cmp::Ordering;

use heddle_ir::http_route::{
    ClaimMatch, HeaderMatch, HttpMatch, HttpRule, PartMatch, QueryMatch, RequestPart, RuleOrder,
};
use heddle_ir::matching::{PathMatch, TextMatch};
use heddle_ir::request::{ClaimValue, RequestHead, TokenFacts};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::support::{Request, compiled, outbound, rule};
use crate::MatchOutcome;

/// What a pattern takes.
type Meaning = fn(&str) -> bool;

/// Patterns that the reference knows by what they mean.
const PATTERNS: [(&str, Meaning); 4] = [
    ("/a.*", |text| text.starts_with("/a")),
    ("(?i)v1", |text| text.eq_ignore_ascii_case("v1")),
    (".+", |text| !text.is_empty()),
    ("a|v1|/b/c", |text| ["a", "v1", "/b/c"].contains(&text)),
];

fn text_holds(matched: &TextMatch, text: &str) -> bool {
    match matched {
        TextMatch::Exact(own) => **own == *text,
        TextMatch::Prefix(own) => text.starts_with(&**own),
        TextMatch::Suffix(own) => text.ends_with(&**own),
        TextMatch::Present => !text.is_empty(),
        TextMatch::Regex(own) => pattern_holds(own, text),
    }
}

fn pattern_holds(pattern: &str, text: &str) -> bool {
    PATTERNS.iter().find(|(own, _)| *own == pattern).is_some_and(|(_, means)| means(text))
}

fn path_holds(matched: &PathMatch, path: &str, ignore_case: bool) -> bool {
    let fold = |text: &str| if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    match matched {
        PathMatch::Exact(own) => fold(own) == fold(path),
        PathMatch::TextPrefix(own) => fold(path).starts_with(&fold(own)),
        PathMatch::ElementPrefix(own) => {
            let elements = |text: &str| -> Vec<String> {
                fold(text).split('/').skip(1).map(str::to_owned).collect()
            };
            let mut wanted = elements(own);
            while wanted.last().is_some_and(String::is_empty) {
                wanted.pop();
            }
            path.starts_with('/') && elements(path).starts_with(&wanted)
        }
        PathMatch::Regex(own) => pattern_holds(own, path),
    }
}

fn header_holds(matched: &HeaderMatch, request: &Request) -> bool {
    let value = request.header(&matched.name).map(|value| {
        let value: Cow<'_, [u8]> = value;
        String::from_utf8(value.into_owned()).unwrap()
    });
    match (&matched.value, matched.invert) {
        (TextMatch::Present, false) => value.is_some(),
        (TextMatch::Present, true) => value.is_none(),
        (test, false) => value.is_some_and(|value| text_holds(test, &value)),
        (test, true) => !text_holds(test, &value.unwrap_or_default()),
    }
}

fn query_holds(matched: &QueryMatch, request: &Request) -> bool {
    let query = request.query.clone().unwrap_or_default();
    let pairs: Vec<(String, String)> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (pair.to_owned(), String::new()),
        })
        .collect();
    let found = pairs.iter().find(|(name, _)| *name == *matched.name);
    match (&matched.value, found) {
        (_, None) => false,
        (TextMatch::Present, Some(_)) => true,
        (test, Some((_, value))) => text_holds(test, value),
    }
}

fn match_holds(matched: &HttpMatch, request: &Request) -> bool {
    let host = request.authority.split(':').next().unwrap();
    matched.path.as_ref().is_none_or(|m| path_holds(m, &request.path, matched.ignore_path_case))
        && matched.method.as_ref().is_none_or(|m| text_holds(m, &request.method))
        && matched.scheme.as_ref().is_none_or(|m| text_holds(m, &request.scheme))
        && matched
            .authority
            .as_ref()
            .is_none_or(|m| text_holds(m, &request.authority) || text_holds(m, host))
        && matched.headers.iter().all(|header| header_holds(header, request))
        && matched.parts.iter().all(|part| part_holds(part, request))
        && matched.claims.iter().all(|claim| claim_holds(claim, request))
        && matched.query.iter().all(|query| query_holds(query, request))
}

fn part_holds(matched: &PartMatch, request: &Request) -> bool {
    let value = match matched.part {
        RequestPart::Method => &request.method,
        RequestPart::Path => &request.path,
    };
    text_holds(&matched.value, value) != matched.invert
}

/// A claim is `{name: text}`, `{name: [text…]}` or within `{name: {inner: …}}`.
fn claim_holds(matched: &ClaimMatch, request: &Request) -> bool {
    let claims = request.token.as_ref().map(|token| &token.claims);
    let value = match &*matched.path {
        [name] => claims.and_then(|claims| claims.get(&**name)),
        [name, inner] => match claims.and_then(|claims| claims.get(&**name)) {
            Some(ClaimValue::Map(within)) => within.get(&**inner),
            _ => None,
        },
        _ => None,
    };
    let holds = |value: &ClaimValue| matches!(value, ClaimValue::Text(text) if text_holds(&matched.value, text));
    let found = match value {
        Some(ClaimValue::List(values)) => values.iter().any(holds),
        Some(value) => holds(value),
        None => false,
    };
    found != matched.invert
}

/// Compares two matches by the Gateway API's list, criterion by criterion; greater decides.
fn compare(a: &HttpMatch, b: &HttpMatch) -> Ordering {
    let exact = |m: &HttpMatch| matches!(m.path, Some(PathMatch::Exact(_)));
    let prefix = |m: &HttpMatch| match &m.path {
        Some(PathMatch::ElementPrefix(own)) => own.trim_end_matches('/').len(),
        Some(PathMatch::TextPrefix(own)) if own.len() > 1 => own.len(),
        _ => 0,
    };
    let regex = |m: &HttpMatch| match &m.path {
        Some(PathMatch::Regex(own)) => own.len(),
        _ => 0,
    };
    let exact_length = |m: &HttpMatch| match &m.path {
        Some(PathMatch::Exact(own)) => own.len(),
        _ => 0,
    };
    exact(a)
        .cmp(&exact(b))
        .then(exact_length(a).cmp(&exact_length(b)))
        .then(prefix(a).cmp(&prefix(b)))
        .then(regex(a).cmp(&regex(b)))
        .then(a.method.is_some().cmp(&b.method.is_some()))
        .then(a.headers.len().cmp(&b.headers.len()))
        .then(a.query.len().cmp(&b.query.len()))
}

/// Rule and match that decide.
fn reference(
    rules: &[HttpRule],
    order: RuleOrder,
    request: &Request,
) -> Option<(usize, Option<usize>)> {
    let everything = any_match();
    let mut best: Option<((usize, Option<usize>), &HttpMatch)> = None;
    for (index, rule) in rules.iter().enumerate() {
        let mut candidates: Vec<(Option<usize>, &HttpMatch)> =
            rule.matches.iter().enumerate().map(|(place, own)| (Some(place), own)).collect();
        if candidates.is_empty() {
            candidates.push((None, &everything));
        }
        for (place, own) in candidates {
            if !match_holds(own, request) {
                continue;
            }
            let beats = match (&best, order) {
                (None, _) => true,
                (Some(_), RuleOrder::Written) => false,
                (Some((_, best)), RuleOrder::Specificity) => compare(own, best).is_gt(),
            };
            if beats {
                best = Some(((index, place), own));
            }
        }
    }
    best.map(|(found, _)| found)
}

fn text() -> impl Strategy<Value = TextMatch> {
    let word = select(vec!["", "a", "v1", "V1", "/a", "a.com", "a.com:80", "GET", "http", "1"]);
    (0..5_u8, word, select(PATTERNS.to_vec())).prop_map(|(kind, word, (pattern, _))| match kind {
        0 => TextMatch::Exact(word.into()),
        1 => TextMatch::Prefix(word.into()),
        2 => TextMatch::Suffix(word.into()),
        3 => TextMatch::Present,
        _ => TextMatch::Regex(pattern.into()),
    })
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let path = select(vec!["/", "/a", "/a/", "/A", "/ab", "/a/b", "/b/c"]);
    (0..4_u8, path, select(PATTERNS.to_vec())).prop_map(|(kind, path, (pattern, _))| match kind {
        0 => PathMatch::Exact(path.into()),
        1 => PathMatch::ElementPrefix(path.into()),
        2 => PathMatch::TextPrefix(path.into()),
        _ => PathMatch::Regex(pattern.into()),
    })
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let name = || select(vec!["h", "i"]);
    let header = (name(), text(), any::<bool>()).prop_map(|(name, value, invert)| HeaderMatch {
        name: name.into(),
        value,
        invert,
    });
    let query = (name(), text()).prop_map(|(name, value)| QueryMatch { name: name.into(), value });
    let part = (any::<bool>(), text(), any::<bool>()).prop_map(|(path, value, invert)| PartMatch {
        part: if path { RequestPart::Path } else { RequestPart::Method },
        value,
        invert,
    });
    let claim = (select(vec![vec!["h"], vec!["i"], vec!["h", "i"]]), text(), any::<bool>());
    let claim = claim.prop_map(|(path, value, invert)| ClaimMatch {
        path: path.into_iter().map(Into::into).collect(),
        value,
        invert,
    });
    let simple = (of(path_match()), any::<bool>(), of(text()), of(text()), of(text()));
    let lists = (vec(header, 0..3), vec(query, 0..2), vec(part, 0..2), vec(claim, 0..2));
    (simple, lists).prop_map(
        |((path, ignore_path_case, method, scheme, authority), (headers, query, parts, claims))| {
            HttpMatch {
                path,
                ignore_path_case,
                // Rarely all of them, or nothing would ever match.
                method: method.filter(|_| headers.is_empty()),
                scheme: scheme.filter(|_| query.is_empty()),
                authority: authority.filter(|_| headers.len() + query.len() == 1),
                headers,
                query,
                parts,
                claims,
                ..any_match()
            }
        },
    )
}

fn token() -> impl Strategy<Value = TokenFacts> {
    let text = || select(vec!["", "a", "v1", "1"]).prop_map(|text| ClaimValue::Text(text.into()));
    let value = prop_oneof![
        text(),
        vec(text(), 0..3).prop_map(ClaimValue::List),
        text().prop_map(|inner| ClaimValue::Map([("i".into(), inner)].into())),
        Just(ClaimValue::Flag(true)),
    ];
    vec((select(vec!["h", "i"]), value), 0..3).prop_map(|claims| TokenFacts {
        claims: claims.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        ..TokenFacts::default()
    })
}

fn any_match() -> HttpMatch {
    super::support::any()
}

fn request() -> impl Strategy<Value = Request> {
    let path = select(vec!["/", "/a", "/a/", "/A/b", "/ab", "/a/b", "/b/c", "/b/c/d", "*"]);
    let query = of(select(vec!["", "h", "h=", "h=a", "i=v1&h=1", "h=V1&h=a", "i"]));
    let authority = select(vec!["a.com", "a.com:80", "v1:1", "a"]);
    let value = || select(vec!["", "a", "v1", "1"]);
    let header = (select(vec!["h", "i"]), value());
    let method = select(vec!["GET", "a", "V1"]);
    let scheme = select(vec!["http", "https"]);
    (path, query, authority, vec(header, 0..3), method, scheme, of(token())).prop_map(
        |(path, query, authority, headers, method, scheme, token)| Request {
            method: method.into(),
            path: path.into(),
            query: query.map(Into::into),
            authority: authority.into(),
            scheme: scheme.into(),
            headers: headers.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
            token,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn compiled_tables_decide_as_the_reference(
        rules in vec(vec(http_match(), 0..4), 0..6),
        specificity in any::<bool>(),
        requests in vec(request(), 1..8),
    ) {
        let order = if specificity { RuleOrder::Specificity } else { RuleOrder::Written };
        let rules: Vec<HttpRule> = rules
            .into_iter()
            .enumerate()
            .map(|(index, matches)| rule(&index.to_string(), matches))
            .collect();
        let mut table = outbound(rules.clone());
        table.http.order = order;
        let routes = compiled(table);
        for request in requests {
            let decided = routes.decide(&request, 0).map(|decision| {
                let place = decision.matched.and_then(|matched| {
                    decision.rule.matches.iter().position(|own| std::ptr::eq(own, matched))
                });
                (decision.rule_index, place)
            });
            prop_assert_eq!(decided, reference(&rules, order, &request));
            let explained = routes.explain(&request);
            let winner = explained.iter().find(|considered| considered.outcome == MatchOutcome::Decides);
            prop_assert_eq!(winner.map(|considered| considered.rule_index), decided.map(|(rule, _)| rule));
            for considered in explained {
                let holds = considered.matched.is_none_or(|matched| match_holds(matched, &request));
                prop_assert_eq!(holds, !matches!(considered.outcome, MatchOutcome::Fails(_)));
            }
        }
    }
}

/// Paths that are often prefixes of each other, by text or by element.
fn nested_path() -> impl Strategy<Value = String> {
    let segment = select(vec!["a", "ab", "b", ""]);
    vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn nested_match() -> impl Strategy<Value = HttpMatch> {
    let header = vec(select(vec!["h", "i"]), 0..2);
    (0..12_u8, nested_path(), header).prop_map(|(kind, path, headers)| {
        let path: std::sync::Arc<str> = path.into();
        HttpMatch {
            ignore_path_case: kind == 0,
            path: match kind {
                0..4 => Some(PathMatch::Exact(path)),
                4..7 => Some(PathMatch::TextPrefix(path)),
                7..10 => Some(PathMatch::ElementPrefix(path)),
                10 => Some(PathMatch::Regex("/a.*".into())),
                _ => None,
            },
            headers: headers
                .into_iter()
                .map(|name| HeaderMatch {
                    name: name.into(),
                    value: TextMatch::Present,
                    invert: false,
                })
                .collect(),
            ..any_match()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Tables that are large enough to be indexed.
    #[test]
    fn large_tables_decide_as_the_reference(
        rules in vec(vec(nested_match(), 0..5), 10..40),
        specificity in any::<bool>(),
        requests in vec((nested_path(), vec(select(vec!["h", "i"]), 0..2)), 10),
    ) {
        let order = if specificity { RuleOrder::Specificity } else { RuleOrder::Written };
        let rules: Vec<HttpRule> = rules
            .into_iter()
            .enumerate()
            // A rule without matches would shadow too much.
            .filter(|(index, matches)| *index > 8 || !matches.is_empty())
            .map(|(index, matches)| rule(&index.to_string(), matches))
            .collect();
        let mut table = outbound(rules.clone());
        table.http.order = order;
        let routes = compiled(table);
        for (path, headers) in requests {
            let request = headers
                .into_iter()
                .fold(Request::get(&path), |request, name| request.header(name, "1"));
            let decided = routes.decide(&request, 0).map(|decision| decision.rule_index);
            prop_assert_eq!(decided, reference(&rules, order, &request).map(|(rule, _)| rule));
        }
    }
}
