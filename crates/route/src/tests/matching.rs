//! What each condition takes.

use heddle_ir::http_route::{HeaderMatch, HttpMatch, QueryMatch};
use heddle_ir::matching::{PathMatch, TextMatch};

use super::support::{Request, any, compiled, matched, outbound, path, rule};
use crate::{CompiledRoutes, Effect, FailedCondition, MatchOutcome};

fn holds(condition: &HttpMatch, request: &Request) -> bool {
    matched(&compiled(outbound(vec![rule("r", vec![condition.clone()])])), request).is_some()
}

fn exact(text: &str) -> TextMatch {
    TextMatch::Exact(text.into())
}

fn regex(text: &str) -> TextMatch {
    TextMatch::Regex(text.into())
}

#[test]
fn paths() {
    let exact = |text: &str| PathMatch::Exact(text.into());
    let text = |text: &str| PathMatch::TextPrefix(text.into());
    let element = |text: &str| PathMatch::ElementPrefix(text.into());
    let regex = |text: &str| PathMatch::Regex(text.into());
    let cases = [
        (exact("/foo"), "/foo", true),
        (exact("/foo"), "/foo/", false),
        (exact("/foo"), "/Foo", false),
        (exact("/foo"), "/foo?x=1", true),
        // Istio's prefix is raw text (hazard 2).
        (text("/foo"), "/foo", true),
        (text("/foo"), "/foobar", true),
        (text("/foo"), "/foo/bar", true),
        (text("/foo/"), "/foo", false),
        (text("/foo"), "/fo", false),
        (text("/"), "/x", true),
        // The Gateway API's is by element, and a trailing slash says nothing.
        (element("/abc"), "/abc", true),
        (element("/abc"), "/abc/", true),
        (element("/abc"), "/abc/d", true),
        (element("/abc"), "/abcd", false),
        (element("/abc/"), "/abc", true),
        (element("/abc/"), "/abc/d", true),
        (element("/abc/"), "/abcd", false),
        (element("/"), "/anything", true),
        (element("/"), "/", true),
        (element("/"), "*", false),
        // Regular expressions match the whole path (hazard 3), without query.
        (regex("/api/v[0-9]"), "/api/v1", true),
        (regex("/api/v[0-9]"), "/api/v1/x", false),
        (regex("/api/v[0-9]"), "/x/api/v1", false),
        (regex("/api"), "/api?x=1", true),
        (regex("/a|/b"), "/b", true),
        (regex("/a|/b"), "/ab", false),
    ];
    for (condition, target, expected) in cases {
        assert_eq!(
            holds(&path(condition.clone()), &Request::get(target)),
            expected,
            "{condition:?} {target}"
        );
    }
}

#[test]
fn case_of_paths_is_ignored_for_exact_and_prefix_only() {
    let ignoring = |path| HttpMatch { path: Some(path), ignore_path_case: true, ..any() };
    let cases = [
        (PathMatch::Exact("/Foo".into()), "/fOO", true),
        (PathMatch::TextPrefix("/Foo".into()), "/fOObar", true),
        (PathMatch::TextPrefix("/foo".into()), "/fé", false),
        (PathMatch::ElementPrefix("/Foo".into()), "/foo/x", true),
        (PathMatch::ElementPrefix("/Foo".into()), "/foobar", false),
        (PathMatch::Regex("/foo".into()), "/FOO", false),
        (PathMatch::Regex("(?i)/foo".into()), "/FOO", true),
    ];
    for (condition, target, expected) in cases {
        assert_eq!(
            holds(&ignoring(condition.clone()), &Request::get(target)),
            expected,
            "{condition:?}"
        );
    }
}

#[test]
fn headers() {
    let header = |value: TextMatch, invert| HttpMatch {
        headers: vec![HeaderMatch { name: "x-a".into(), value, invert }],
        ..any()
    };
    let absent = Request::get("/");
    let empty = Request::get("/").header("x-a", "");
    let value = Request::get("/").header("x-a", "jason");
    let repeated = Request::get("/").header("x-a", "a").header("x-a", "b");
    let binary = Request::get("/").header("x-a", [b'a', 0xff]);
    let other = Request::get("/").header("x-b", "jason");
    let cases = [
        (exact("jason"), [false, false, true, false, false, false]),
        (exact("Jason"), [false; 6]),
        (exact(""), [false, true, false, false, false, false]),
        (exact("a,b"), [false, false, false, true, false, false]),
        (TextMatch::Prefix("a".into()), [false, false, false, true, true, false]),
        (TextMatch::Suffix("son".into()), [false, false, true, false, false, false]),
        (TextMatch::Present, [false, true, true, true, true, false]),
        (regex("*"), [false, true, true, true, true, false]),
        (regex(".*"), [false, true, true, true, false, false]),
        (regex(".+"), [false, false, true, true, false, false]),
        (regex("jas"), [false; 6]),
    ];
    let requests = [absent, empty, value, repeated, binary, other];
    for (condition, expected) in cases {
        for (request, expected) in requests.iter().zip(expected) {
            assert_eq!(
                holds(&header(condition.clone(), false), request),
                expected,
                "{condition:?} {request:?}"
            );
        }
    }
    // `withoutHeaders`: a missing header counts as empty, so that most conditions let it pass; presence must be absence.
    let inverted = [
        (exact("jason"), [true, true, false, true, true, true]),
        (exact(""), [false, false, true, true, true, false]),
        (TextMatch::Present, [true, false, false, false, false, true]),
        (regex("*"), [true, false, false, false, false, true]),
        (regex(".*"), [false, false, false, false, true, false]),
    ];
    for (condition, expected) in inverted {
        for (request, expected) in requests.iter().zip(expected) {
            assert_eq!(
                holds(&header(condition.clone(), true), request),
                expected,
                "not {condition:?} {request:?}"
            );
        }
    }
}

#[test]
fn query_parameters() {
    let query = |value| HttpMatch { query: vec![QueryMatch { name: "k".into(), value }], ..any() };
    let cases = [
        (exact("v"), "/?k=v", true),
        (exact("v"), "/?a=b&k=v", true),
        (exact("v"), "/?K=v", false),
        (exact("v"), "/?k=V", false),
        (exact("v"), "/?kk=v", false),
        // Of a repeated parameter the first counts.
        (exact("v"), "/?k=x&k=v", false),
        (exact("v"), "/?k=v&k=x", true),
        (exact("a=b"), "/?k=a=b", true),
        // Nothing is decoded, as in Envoy.
        (exact("a b"), "/?k=a%20b", false),
        (exact("a%20b"), "/?k=a%20b", true),
        (exact(""), "/?k=", true),
        (exact(""), "/?k", true),
        (exact(""), "/?k=v", false),
        (exact(""), "/?", false),
        (exact(""), "/", false),
        (TextMatch::Present, "/?k", true),
        (TextMatch::Present, "/?k=v", true),
        (TextMatch::Present, "/?x=k", false),
        (TextMatch::Present, "/", false),
        (regex("*"), "/?k=", true),
        (regex("v+"), "/?k=vv", true),
        (regex("v+"), "/?k=vx", false),
    ];
    for (condition, target, expected) in cases {
        assert_eq!(
            holds(&query(condition.clone()), &Request::get(target)),
            expected,
            "{condition:?} {target}"
        );
    }
}

#[test]
fn authority_is_compared_with_and_without_its_port() {
    let cases = [
        (exact("reviews"), "reviews", true),
        (exact("reviews"), "reviews:9080", true),
        (exact("reviews:9080"), "reviews:9080", true),
        (exact("reviews:9080"), "reviews", false),
        (exact("reviews:9080"), "reviews:80", false),
        (exact("Reviews"), "reviews", false),
        (TextMatch::Prefix("rev".into()), "reviews:9080", true),
        (TextMatch::Suffix(".com".into()), "a.com:80", true),
        (regex(r".*\.com"), "a.com:80", true),
        (exact("[::1]"), "[::1]:80", true),
        (exact("[::1]"), "[::1]", true),
        (exact("[:"), "[::1]", false),
        (exact("a"), "a:", false),
    ];
    for (condition, authority, expected) in cases {
        let matched = HttpMatch { authority: Some(condition.clone()), ..any() };
        let request = Request::get("/").authority(authority);
        assert_eq!(holds(&matched, &request), expected, "{condition:?} {authority}");
    }
}

#[test]
fn scheme_and_method() {
    let method = HttpMatch { method: Some(exact("POST")), ..any() };
    assert!(holds(&method, &Request::get("/").method("POST")));
    assert!(!holds(&method, &Request::get("/").method("post")));
    let present = HttpMatch {
        method: Some(regex("*")),
        scheme: Some(regex("*")),
        authority: Some(regex("*")),
        ..any()
    };
    assert!(holds(&present, &Request::get("/").authority("")));
    let scheme = HttpMatch { scheme: Some(exact("https")), ..any() };
    assert!(holds(&scheme, &Request::get("/").scheme("https")));
    assert!(!holds(&scheme, &Request::get("/")));
}

#[test]
fn all_conditions_of_a_match_and_any_match_of_a_rule() {
    let both = HttpMatch { method: Some(exact("GET")), ..path(PathMatch::Exact("/a".into())) };
    let routes = compiled(outbound(vec![
        rule("both", vec![both]),
        rule(
            "either",
            vec![
                path(PathMatch::Exact("/b".into())),
                HttpMatch { name: "c".into(), ..path(PathMatch::Exact("/c".into())) },
            ],
        ),
    ]));
    assert_eq!(matched(&routes, &Request::get("/a")), Some("both"));
    assert_eq!(matched(&routes, &Request::get("/a").method("PUT")), None);
    assert_eq!(matched(&routes, &Request::get("/b")), Some("either"));
    let request = Request::get("/c");
    let decision = routes.decide(&request, 0).unwrap();
    assert_eq!((decision.rule_index, decision.name), (1, "either.c"));
    assert_eq!(decision.matched.map(|m| &*m.name), Some("c"));
}

#[test]
fn what_does_not_compile_never_matches_and_is_reported() {
    let bad =
        HttpMatch { origin: super::support::origin("bad"), ..path(PathMatch::Regex("(".into())) };
    let worse = HttpMatch {
        headers: vec![HeaderMatch { name: "a".into(), value: regex("+"), invert: true }],
        ..any()
    };
    let table = outbound(vec![rule("bad", vec![bad, worse]), rule("rest", vec![])]);
    let (routes, problems) = CompiledRoutes::compile(table.into());
    assert_eq!(matched(&routes, &Request::get("(")), Some("rest"));
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|problem| problem.effect == Effect::MatchNeverMatches));
    assert_eq!(&*problems[0].origin.name, "bad");
    let considered = routes.explain(&Request::get("/"));
    assert_eq!(considered[0].outcome, MatchOutcome::Fails(FailedCondition::Uncompilable));
}

#[test]
fn explanations_name_the_condition_that_failed() {
    let conditions = HttpMatch {
        method: Some(exact("GET")),
        headers: vec![
            HeaderMatch { name: "a".into(), value: TextMatch::Present, invert: false },
            HeaderMatch { name: "end-user".into(), value: exact("jason"), invert: false },
        ],
        query: vec![QueryMatch { name: "q".into(), value: TextMatch::Present }],
        ..path(PathMatch::TextPrefix("/a".into()))
    };
    let routes = compiled(outbound(vec![
        rule("first", vec![conditions]),
        rule("second", vec![]),
        rule("third", vec![any()]),
    ]));
    let story = |request: &Request| -> Vec<String> {
        routes.explain(request).iter().map(super::super::ConsideredMatch::describe).collect()
    };
    let shadowed = "would match, but an earlier rule did";
    let request = Request::get("/a").header("a", "1");
    assert_eq!(story(&request), ["not matched: header end-user", "matched", shadowed]);
    assert_eq!(story(&Request::get("/b"))[0], "not matched: path");
    let request = request.header("end-user", "jason");
    assert_eq!(story(&request)[0], "not matched: query parameter q");
    let request = Request { query: Some("q".into()), ..request };
    assert_eq!(story(&request), ["matched", shadowed, shadowed]);
    assert_eq!(&*routes.explain(&request)[0].origin().name, "match");
    assert_eq!(&*routes.explain(&request)[1].origin().name, "second");
}
