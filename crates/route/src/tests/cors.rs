//! Cross-origin requests.

use std::time::Duration;

use heddle_ir::http_route::CorsPolicy;
use heddle_ir::matching::TextMatch;

use super::support::{Request, compiled, origin, outbound, rule};
use crate::{CompiledRoutes, CorsOutcome};

fn policy() -> CorsPolicy {
    CorsPolicy {
        origin: origin("cors"),
        allow_origins: vec![
            TextMatch::Exact("https://a.com".into()),
            TextMatch::Prefix("https://b.".into()),
            TextMatch::Regex(r"https://.*\.c\.com".into()),
        ],
        allow_methods: vec!["GET".into(), "POST".into()],
        allow_headers: vec!["x-a".into(), "x-b".into()],
        expose_headers: vec!["x-e".into()],
        max_age: Some(Duration::from_hours(24)),
        allow_credentials: false,
        forward_unmatched_preflights: true,
    }
}

fn routes(policy: CorsPolicy) -> CompiledRoutes {
    let mut only = rule("r", vec![]);
    only.cors = Some(policy);
    compiled(outbound(vec![only]))
}

/// The outcome in words: its kind, then the headers.
fn outcome(policy: &CorsPolicy, request: &Request) -> String {
    let routes = routes(policy.clone());
    let decision = routes.decide(request, 0).unwrap();
    let outcome = decision.cors(request);
    let (kind, headers) = match &outcome {
        CorsOutcome::None => return "none".into(),
        CorsOutcome::PreflightUnmatched => return "unmatched".into(),
        CorsOutcome::Add(headers) => ("add", headers),
        CorsOutcome::Preflight(headers) => ("preflight", headers),
    };
    let headers = headers.iter().map(|(name, value)| {
        let name = name.strip_prefix("access-control-").unwrap();
        format!(" {name}={}", std::str::from_utf8(value).unwrap())
    });
    format!("{kind}{}", headers.collect::<String>())
}

fn from(origin: &str) -> Request {
    Request::get("/").header("origin", origin)
}

fn preflight(origin: &str) -> Request {
    from(origin)
        .method("OPTIONS")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "x-z")
}

#[test]
fn allowed_origins_get_headers_and_preflights_an_answer() {
    let policy = policy();
    let added = "add allow-origin=https://a.com expose-headers=x-e";
    assert_eq!(outcome(&policy, &from("https://a.com")), added);
    assert_eq!(
        outcome(&policy, &preflight("https://b.org")),
        "preflight allow-origin=https://b.org allow-methods=GET,POST allow-headers=x-a,x-b \
         expose-headers=x-e max-age=86400"
    );
    assert!(outcome(&policy, &from("https://x.c.com")).starts_with("add"));
    // Without the header that makes it one, OPTIONS is no preflight.
    assert!(outcome(&policy, &from("https://a.com").method("OPTIONS")).starts_with("add"));
    let not_options = preflight("https://a.com").method("GET");
    assert!(outcome(&policy, &not_options).starts_with("add"));
}

#[test]
fn other_origins_get_nothing_and_their_preflights_go_on_unless_told_otherwise() {
    let mut policy = policy();
    for origin in ["https://a.com.evil", "http://a.com", "https://A.com", "null", "https://xc.com"]
    {
        assert_eq!(outcome(&policy, &from(origin)), "none", "{origin}");
        assert_eq!(outcome(&policy, &preflight(origin)), "none", "{origin}");
    }
    policy.forward_unmatched_preflights = false;
    assert_eq!(outcome(&policy, &from("https://evil")), "none");
    assert_eq!(outcome(&policy, &preflight("https://evil")), "unmatched");
    assert_eq!(outcome(&policy, &Request::get("/")), "none");
    assert_eq!(outcome(&policy, &from("")), "none");
}

#[test]
fn a_star_allows_every_origin_and_is_never_sent_with_credentials() {
    let star = || vec!["*".into()];
    let mut policy = CorsPolicy {
        allow_origins: vec![TextMatch::Exact("*".into())],
        allow_methods: star(),
        allow_headers: star(),
        expose_headers: vec![],
        max_age: None,
        ..policy()
    };
    assert_eq!(
        outcome(&policy, &preflight("https://any")),
        "preflight allow-origin=https://any allow-methods=PUT allow-headers=x-z"
    );
    let no_headers =
        from("https://any").method("OPTIONS").header("access-control-request-method", "PUT");
    assert_eq!(
        outcome(&policy, &no_headers),
        "preflight allow-origin=https://any allow-methods=PUT"
    );
    // One among others is a wildcard only without credentials.
    policy.allow_methods.push("GET".into());
    assert!(outcome(&policy, &no_headers).ends_with("allow-methods=*,GET"));
    policy.allow_credentials = true;
    assert_eq!(
        outcome(&policy, &preflight("https://any")),
        "preflight allow-origin=https://any allow-credentials=true allow-methods=PUT allow-headers=x-z"
    );
    assert_eq!(
        outcome(&policy, &from("https://any")),
        "add allow-origin=https://any allow-credentials=true"
    );
}

#[test]
fn an_origin_that_does_not_compile_matches_nothing() {
    let policy = CorsPolicy { allow_origins: vec![TextMatch::Regex("*".into())], ..policy() };
    let mut only = rule("r", vec![]);
    only.cors = Some(policy);
    let (routes, problems) = CompiledRoutes::compile(outbound(vec![only]).into());
    assert_eq!(problems.len(), 1);
    let request = from("https://a.com");
    assert_eq!(routes.decide(&request, 0).unwrap().cors(&request), CorsOutcome::None);
}
