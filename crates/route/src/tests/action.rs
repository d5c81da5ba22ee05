//! What happens to a matched request.

use std::time::Duration;

use heddle_ir::http_route::{
    AbortStatus, BackendTarget, DirectResponse, Fault, FaultAbort, FaultDelay, HeaderEdits,
    HttpAction, HttpMatch, HttpRule, PathRewrite, Redirect, Rewrite, WeightedBackend,
};
use heddle_ir::matching::PathMatch;

use super::support::{Request, any, backend, compiled, evenly, origin, outbound, path, rule};
use crate::HeaderEdit::{Add, Remove, Set};
use crate::{CompiledRoutes, Effect, RouteAction};
use heddle_ir::http_route::RedirectPort::{Fixed, FromAuthority, FromScheme, Listener};

fn text_prefix(text: &str) -> HttpMatch {
    path(PathMatch::TextPrefix(text.into()))
}

fn element_prefix(text: &str) -> HttpMatch {
    path(PathMatch::ElementPrefix(text.into()))
}

/// What the upstream gets for `target`; none when the path stays.
fn rewritten(matched: HttpMatch, rewrite: PathRewrite, target: &str) -> Option<String> {
    let mut only = rule("r", vec![matched]);
    only.rewrite.path = Some(rewrite);
    let routes = compiled(outbound(vec![only]));
    let mut out = String::new();
    let request = Request::get(target);
    let changed = routes.decide(&request, 0)?.write_path(&request.path, &mut out);
    changed.then_some(out)
}

#[test]
fn a_text_prefix_is_replaced_and_exact_and_regex_matches_are_replaced_as_a_whole() {
    let exact = || path(PathMatch::Exact("/foo/bar".into()));
    let regex = || path(PathMatch::Regex("/foo/.*".into()));
    let ignoring = || HttpMatch { ignore_path_case: true, ..text_prefix("/FOO") };
    let cases = [
        (text_prefix("/foo"), "/xyz", "/foo/bar", "/xyz/bar"),
        (text_prefix("/foo"), "/xyz", "/foobar", "/xyzbar"),
        (text_prefix("/foo/"), "/", "/foo/bar", "/bar"),
        (text_prefix("/foo"), "/", "/foo/bar", "//bar"),
        (text_prefix("/foo"), "/xyz", "/foo", "/xyz"),
        (text_prefix("/"), "/xyz/", "/bar", "/xyz/bar"),
        (ignoring(), "/xyz", "/foo/bar", "/xyz/bar"),
        (exact(), "/xyz", "/foo/bar", "/xyz"),
        (regex(), "/xyz", "/foo/bar", "/xyz"),
        // Without path, what matches is the prefix `/`.
        (any(), "/xyz", "/foo/bar", "/xyzfoo/bar"),
        (any(), "/xyz/", "/foo/bar", "/xyz/foo/bar"),
        (any(), "/", "/foo/bar", "/foo/bar"),
        (any(), "/xyz", "*", "/xyz"),
    ];
    for (matched, new, target, expected) in cases {
        let rewrite = PathRewrite::Prefix(new.into());
        assert_eq!(
            rewritten(matched.clone(), rewrite, target).as_deref(),
            Some(expected),
            "{matched:?} {new}"
        );
    }
}

/// The table of the Gateway API's `HTTPPathModifier` (API.md 6.5).
#[test]
fn an_element_prefix_is_replaced_by_the_gateway_apis_table() {
    let cases = [
        ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo", "/xyz"),
        ("/foo", "/xyz", "/foo/", "/xyz/"),
        ("/foo/", "/xyz", "/foo", "/xyz"),
        ("/foo", "", "/foo/bar", "/bar"),
        ("/foo", "", "/foo/", "/"),
        ("/foo", "", "/foo", "/"),
        ("/foo", "/", "/foo/bar", "/bar"),
        ("/foo", "/", "/foo/", "/"),
        ("/foo", "/", "/foo", "/"),
        ("/", "/xyz", "/bar", "/xyz/bar"),
        ("/", "/xyz", "/", "/xyz/"),
    ];
    for (prefix, new, target, expected) in cases {
        let rewrite = PathRewrite::ElementPrefix(new.into());
        let result = rewritten(element_prefix(prefix), rewrite, target);
        assert_eq!(result.as_deref(), Some(expected), "{prefix} {new} {target}");
    }
    let rewrite = PathRewrite::ElementPrefix("/xyz".into());
    assert_eq!(rewritten(any(), rewrite, "/bar").as_deref(), Some("/xyz/bar"));
}

#[test]
fn full_and_regex_rewrites() {
    let full = PathRewrite::Full("/new".into());
    assert_eq!(rewritten(any(), full, "/old?q=1").as_deref(), Some("/new"));
    let regex = |pattern: &str, substitution: &str| PathRewrite::Regex {
        pattern: pattern.into(),
        substitution: substitution.into(),
    };
    let swap = regex("^/service/([^/]+)(/.*)$", r"\2/instance/\1");
    assert_eq!(
        rewritten(any(), swap.clone(), "/service/foo/v1/api").as_deref(),
        Some("/v1/api/instance/foo")
    );
    assert_eq!(rewritten(any(), swap, "/other").as_deref(), Some("/other"));
}

#[test]
fn a_rewrite_that_does_not_compile_refuses_the_requests_of_its_rule_only() {
    let mut broken = rule("broken", vec![text_prefix("/a")]);
    broken.rewrite.path =
        Some(PathRewrite::Regex { pattern: "(".into(), substitution: String::new().into() });
    let (routes, problems) =
        CompiledRoutes::compile(outbound(vec![broken, rule("rest", vec![])]).into());
    assert_eq!(problems[0].effect, Effect::RuleRefuses);
    let action = routes.decide(&Request::get("/a"), 0).unwrap().action;
    assert!(matches!(action, RouteAction::Refuse { status: 500, .. }), "{action:?}");
    let action = routes.decide(&Request::get("/b"), 0).unwrap().action;
    assert!(matches!(action, RouteAction::Forward { .. }));
}

/// `Location` for a redirection with these changes.
fn location(redirect: Redirect, matched: HttpMatch, request: &Request) -> String {
    let mut only = rule("r", vec![matched]);
    only.action = HttpAction::Redirect(redirect);
    let routes = compiled(outbound(vec![only]));
    let mut out = String::new();
    assert!(routes.decide(request, 0).unwrap().write_location(request, 8080, &mut out));
    out
}

#[test]
fn locations_keep_what_is_not_changed_and_leave_out_well_known_ports() {
    let redirect = |scheme: Option<&str>, host: Option<&str>, port| Redirect {
        status: 301,
        scheme: scheme.map(Into::into),
        host: host.map(Into::into),
        port,
        path: None,
    };
    let cases = [
        (None, None, FromAuthority, "a.com", "http://a.com/p?q=1"),
        (None, None, FromAuthority, "a.com:8000", "http://a.com:8000/p?q=1"),
        (None, None, FromAuthority, "a.com:80", "http://a.com/p?q=1"),
        (None, None, FromAuthority, "[::1]:8000", "http://[::1]:8000/p?q=1"),
        (Some("https"), None, FromAuthority, "a.com:80", "https://a.com/p?q=1"),
        (Some("https"), None, FromAuthority, "a.com:8000", "https://a.com:8000/p?q=1"),
        (None, Some("b.com"), FromAuthority, "a.com:8000", "http://b.com/p?q=1"),
        (None, Some("b.com"), Fixed(9), "a.com:8000", "http://b.com:9/p?q=1"),
        (None, Some("::1"), Fixed(9), "a.com", "http://[::1]:9/p?q=1"),
        (None, None, Fixed(80), "a.com:8000", "http://a.com/p?q=1"),
        (None, None, Fixed(443), "a.com", "http://a.com:443/p?q=1"),
        (Some("https"), None, Fixed(443), "a.com", "https://a.com/p?q=1"),
        (Some("https"), None, Fixed(80), "a.com", "https://a.com:80/p?q=1"),
        (Some("https"), None, FromScheme, "a.com:8000", "https://a.com/p?q=1"),
        (None, None, Listener, "a.com", "http://a.com:8080/p?q=1"),
        (None, Some("b.com"), Listener, "a.com:1", "http://b.com:8080/p?q=1"),
        (None, None, FromAuthority, "", "/p?q=1"),
    ];
    for (scheme, host, port, authority, expected) in cases {
        let request = Request::get("/p?q=1").authority(authority);
        let written = location(redirect(scheme, host, port), any(), &request);
        assert_eq!(written, expected, "{scheme:?} {host:?} {port:?} {authority}");
    }
}

#[test]
fn locations_with_a_new_path() {
    let to = |path| Redirect {
        status: 302,
        scheme: None,
        host: None,
        port: FromAuthority,
        path: Some(path),
    };
    let request = Request::get("/foo/bar?q=1").authority("a.com");
    let full = to(PathRewrite::Full("/new".into()));
    assert_eq!(location(full, any(), &request), "http://a.com/new?q=1");
    // A path with a query of its own replaces the request's (Envoy's `path_redirect`).
    let with_query = to(PathRewrite::Full("/new?x=2".into()));
    assert_eq!(location(with_query, any(), &request), "http://a.com/new?x=2");
    let prefix = to(PathRewrite::Prefix("/xyz".into()));
    assert_eq!(location(prefix, text_prefix("/foo"), &request), "http://a.com/xyz/bar?q=1");
    let element = to(PathRewrite::ElementPrefix("/".into()));
    assert_eq!(location(element, element_prefix("/foo"), &request), "http://a.com/bar?q=1");
}

fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderEdits {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    HeaderEdits {
        set: pairs(set),
        add: pairs(add),
        remove: remove.iter().map(|name| (*name).into()).collect(),
    }
}

/// A rule that forwards, with edits of the request by rule and backend, and a rewrite of the authority.
fn forwarding(
    of_rule: HeaderEdits,
    of_backend: HeaderEdits,
    authority: Option<&str>,
) -> CompiledRoutes {
    let backend = WeightedBackend {
        request_headers: of_backend.clone(),
        response_headers: of_rule.clone(),
        ..backend(1, 1)
    };
    compiled(outbound(vec![HttpRule {
        action: HttpAction::Forward(vec![backend]),
        request_headers: of_rule,
        response_headers: of_backend,
        rewrite: Rewrite { path: None, authority: authority.map(Into::into) },
        ..rule("r", vec![])
    }]))
}

#[test]
fn edits_of_the_rule_come_before_those_of_the_backend() {
    let of_rule = edits(&[("a", "1")], &[("b", "2")], &["c"]);
    let of_backend = edits(&[("d", "3")], &[], &["a"]);
    let routes = forwarding(of_rule, of_backend, None);
    let decision = routes.decide(&Request::get("/"), 0).unwrap();
    let request: Vec<_> = decision.request_edits().collect();
    assert_eq!(request, [Remove("c"), Set("a", "1"), Add("b", "2"), Remove("a"), Set("d", "3")]);
    let response: Vec<_> = decision.response_edits().collect();
    assert_eq!(response, [Remove("a"), Set("d", "3"), Remove("c"), Set("a", "1"), Add("b", "2")]);
    let RouteAction::Forward { destination_index, destination, .. } = decision.action else {
        panic!("{:?}", decision.action)
    };
    assert_eq!((destination_index, &*destination.id.subset), (1, "v2"));
}

#[test]
fn setting_host_rewrites_the_authority_and_pseudo_headers_are_left_alone() {
    let none = HeaderEdits::default;
    let cases = [
        (none(), none(), None, None),
        (none(), none(), Some("x"), Some("x")),
        (edits(&[("host", "r")], &[], &[]), none(), None, Some("r")),
        (edits(&[(":authority", "r")], &[], &[]), none(), None, Some("r")),
        (edits(&[], &[("host", "r")], &[]), none(), None, Some("r")),
        (edits(&[("host", "s")], &[("host", "r")], &[]), none(), None, Some("s")),
        (edits(&[("host", "r")], &[], &[]), edits(&[("host", "b")], &[], &[]), None, Some("r")),
        (none(), edits(&[("host", "b")], &[], &[]), None, Some("b")),
        (edits(&[("host", "r")], &[], &[]), none(), Some("x"), Some("x")),
        (none(), edits(&[("host", "b")], &[], &["host"]), Some("x"), Some("x")),
    ];
    for (of_rule, of_backend, rewrite, expected) in cases {
        let routes = forwarding(of_rule, of_backend, rewrite);
        let decision = routes.decide(&Request::get("/"), 0).unwrap();
        assert_eq!(decision.authority(), expected);
        assert_eq!(decision.request_edits().count(), 0);
    }
    let routes = forwarding(edits(&[(":path", "/x"), ("a", "1")], &[], &[":method"]), none(), None);
    let decision = routes.decide(&Request::get("/"), 0).unwrap();
    assert_eq!(decision.request_edits().collect::<Vec<_>>(), [Set("a", "1")]);
}

#[test]
fn backends_get_their_exact_shares_and_invalid_ones_answer_theirs() {
    let invalid = WeightedBackend {
        target: BackendTarget::Invalid { status: 503, reason: "no such subset".into() },
        ..backend(0, 10)
    };
    let mut only = rule("r", vec![]);
    only.action = HttpAction::Forward(vec![backend(0, 70), invalid, backend(1, 20), backend(2, 0)]);
    let routes = compiled(outbound(vec![only]));
    let request = Request::get("/");
    let mut counts = [0_u32; 4];
    for i in 0..1_000_000_u64 {
        let decision = routes.decide(&request, evenly(i, 1_000_000)).unwrap();
        match decision.action {
            RouteAction::Forward { destination_index, .. } => counts[destination_index] += 1,
            RouteAction::Refuse { status: 503, reason: "no such subset" } => counts[3] += 1,
            action => panic!("{action:?}"),
        }
    }
    assert_eq!(counts, [700_000, 200_000, 0, 100_000]);
    // All that may be drawn is exactly what was drawn.
    let all = routes.decide_all(&request);
    let all: Vec<_> = all.iter().map(|(weight, decision)| (*weight, decision.action)).collect();
    let drawn = |place: u64| routes.decide(&request, evenly(place, 100)).unwrap().action;
    assert_eq!(all, [(70, drawn(0)), (10, drawn(75)), (20, drawn(99))]);
}

#[test]
fn a_rule_without_any_weight_answers_500() {
    for backends in [vec![], vec![backend(0, 0)], vec![backend(0, 0), backend(1, 0)]] {
        let mut only = rule("r", vec![]);
        only.action = HttpAction::Forward(backends);
        let routes = compiled(outbound(vec![only]));
        let action = routes.decide(&Request::get("/"), 0).unwrap().action;
        assert!(matches!(action, RouteAction::Refuse { status: 500, .. }), "{action:?}");
    }
}

#[test]
fn a_destination_that_is_not_there_is_reported_and_answers_500() {
    let mut only = rule("r", vec![]);
    only.action = HttpAction::Forward(vec![backend(3, 1)]);
    let (routes, problems) = CompiledRoutes::compile(outbound(vec![only]).into());
    assert_eq!(problems.len(), 1);
    let action = routes.decide(&Request::get("/"), 0).unwrap().action;
    assert!(matches!(action, RouteAction::Refuse { status: 500, .. }));
}

#[test]
fn direct_responses_and_faults() {
    let mut respond = rule("respond", vec![path(PathMatch::Exact("/r".into()))]);
    let response = DirectResponse { status: 418, body: b"short and stout"[..].into() };
    respond.action = HttpAction::Respond(response.clone());
    let mut faulty = rule("faulty", vec![]);
    let delay = FaultDelay { share_ppm: 1_000_000, duration: Duration::from_secs(7) };
    let abort = FaultAbort { share_ppm: 100_000, status: AbortStatus::Http(555) };
    faulty.fault = Some(Fault { origin: origin("fault"), delay: Some(delay), abort: Some(abort) });
    let routes = compiled(outbound(vec![respond, faulty]));
    let decision = routes.decide(&Request::get("/r"), 0).unwrap();
    assert_eq!(decision.action, RouteAction::Respond(&response));
    assert_eq!((decision.delay, decision.abort), (None, None));
    assert!(!decision.write_location(&Request::get("/r"), 80, &mut String::new()));
    let request = Request::get("/");
    let mut aborted = 0_u32;
    for i in 0..100_000_u64 {
        let decision = routes.decide(&request, evenly(i, 100_000)).unwrap();
        assert_eq!(decision.delay, Some(Duration::from_secs(7)));
        aborted += u32::from(decision.abort == Some(AbortStatus::Http(555)));
    }
    assert!(aborted.abs_diff(10_000) < 600, "{aborted}");
}

#[test]
fn the_same_random_number_gives_the_same_decision() {
    let mut only = rule("r", vec![]);
    only.action = HttpAction::Forward(vec![backend(0, 1), backend(1, 1)]);
    let routes = compiled(outbound(vec![only]));
    for random in [0, 1, u64::MAX / 2, u64::MAX / 2 + 2, u64::MAX] {
        let first = routes.decide(&Request::get("/"), random).unwrap().action;
        assert_eq!(first, routes.decide(&Request::get("/"), random).unwrap().action);
    }
}
