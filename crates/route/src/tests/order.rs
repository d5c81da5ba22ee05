//! Which of several rules decides.

use heddle_ir::http_route::{HeaderMatch, HttpMatch, HttpRule, QueryMatch, RuleOrder};
use heddle_ir::matching::{PathMatch, TextMatch};

use super::support::{Request, any, compiled, matched, outbound, path, rule};

fn exact(text: &str) -> HttpMatch {
    path(PathMatch::Exact(text.into()))
}

fn prefix(text: &str) -> HttpMatch {
    path(PathMatch::ElementPrefix(text.into()))
}

fn header(name: &str, of: HttpMatch) -> HttpMatch {
    let mut headers = of.headers.clone();
    headers.push(HeaderMatch { name: name.into(), value: TextMatch::Present, invert: false });
    HttpMatch { headers, ..of }
}

fn query(name: &str, of: HttpMatch) -> HttpMatch {
    let query = vec![QueryMatch { name: name.into(), value: TextMatch::Present }];
    HttpMatch { query, ..of }
}

fn method(of: HttpMatch) -> HttpMatch {
    HttpMatch { method: Some(TextMatch::Exact("GET".into())), ..of }
}

/// Every request here satisfies every condition used.
fn request(target: &str) -> Request {
    Request::get(target).header("h1", "1").header("h2", "1")
}

fn decides(order: RuleOrder, rules: Vec<HttpRule>, target: &str) -> String {
    let mut table = outbound(rules);
    table.http.order = order;
    matched(&compiled(table), &request(target)).unwrap_or("none").to_owned()
}

#[test]
fn written_order_is_kept_however_specific_rules_are() {
    let rules = || {
        vec![
            rule("root", vec![prefix("/")]),
            rule("exact", vec![exact("/a")]),
            rule("header", vec![header("h1", exact("/a"))]),
        ]
    };
    assert_eq!(decides(RuleOrder::Written, rules(), "/a"), "root");
    assert_eq!(decides(RuleOrder::Specificity, rules(), "/a"), "header");
}

#[test]
fn a_rule_without_matches_takes_everything_at_its_place() {
    let rules = || vec![rule("all", vec![]), rule("a", vec![exact("/a")])];
    assert_eq!(decides(RuleOrder::Written, rules(), "/a"), "all");
    assert_eq!(decides(RuleOrder::Specificity, rules(), "/a"), "a");
    assert_eq!(decides(RuleOrder::Specificity, rules(), "/b"), "all");
}

/// API.md 6.5: exact path, longest prefix, method, headers, query; here each pair in both positions.
#[test]
fn the_more_specific_of_two_decides_wherever_it_stands() {
    let regex = |text: &str| path(PathMatch::Regex(text.into()));
    let pairs = [
        (exact("/a/b"), method(header("h2", header("h1", prefix("/a/b"))))),
        (exact("/a/b"), regex("/a/b|/something/much/longer")),
        (prefix("/a/b"), method(header("h1", prefix("/a")))),
        (prefix("/a/"), prefix("/")),
        (prefix("/a"), regex("/a/b|/something/much/longer")),
        (regex("/a/.*"), method(header("h1", prefix("/")))),
        (regex("/a/[b]"), regex("/a/.*")),
        (method(prefix("/a")), header("h2", header("h1", prefix("/a")))),
        (header("h2", header("h1", prefix("/a"))), query("q", header("h1", prefix("/a")))),
        (query("q", prefix("/a")), prefix("/a")),
        (query("q", any()), prefix("/")),
        (method(any()), query("q", prefix("/"))),
    ];
    for (more, less) in pairs {
        for swap in [false, true] {
            let mut rules =
                vec![rule("more", vec![more.clone()]), rule("less", vec![less.clone()])];
            if swap {
                rules.reverse();
            }
            let decided = decides(RuleOrder::Specificity, rules, "/a/b?q=1");
            assert_eq!(decided, "more", "{more:?} {less:?}");
        }
    }
}

#[test]
fn ties_are_decided_by_position() {
    let ties = [
        (prefix("/a"), prefix("/a/")),
        (header("h1", any()), header("h2", prefix("/"))),
        (any(), prefix("/")),
        (exact("/a"), exact("/a")),
    ];
    for (first, second) in ties {
        let forth = vec![rule("1", vec![first.clone()]), rule("2", vec![second.clone()])];
        let back = vec![rule("1", vec![second]), rule("2", vec![first])];
        assert_eq!(decides(RuleOrder::Specificity, forth, "/a"), "1");
        assert_eq!(decides(RuleOrder::Specificity, back, "/a"), "1");
    }
}

#[test]
fn matches_of_one_rule_are_ordered_among_those_of_others() {
    let rules =
        vec![rule("wide", vec![prefix("/a/b/c"), prefix("/")]), rule("middle", vec![prefix("/a")])];
    assert_eq!(decides(RuleOrder::Specificity, rules.clone(), "/a/b/c"), "wide");
    assert_eq!(decides(RuleOrder::Specificity, rules.clone(), "/a/b"), "middle");
    assert_eq!(decides(RuleOrder::Specificity, rules, "/x"), "wide");
}

#[test]
fn a_tier_goes_before_whatever_is_more_specific_in_the_next() {
    let decides = |tiers: Vec<usize>, target: &str| {
        let mut table = outbound(vec![
            rule("prefix of the first", vec![prefix("/a")]),
            rule("exact of the second", vec![exact("/a/b")]),
            rule("rest of the second", vec![]),
        ]);
        table.http.order = RuleOrder::Specificity;
        table.http.tiers = tiers;
        matched(&compiled(table), &request(target)).unwrap_or("none").to_owned()
    };
    assert_eq!(decides(vec![1], "/a/b"), "prefix of the first");
    assert_eq!(decides(vec![1], "/c"), "rest of the second");
    assert_eq!(decides(vec![], "/a/b"), "exact of the second");
}
