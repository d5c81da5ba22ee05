use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ir::http_route::HeaderEdits;
use heddle_ir::matching::TextMatch;
use heddle_ir::rate_limit::RateLimitDescriptor;
use heddle_ir::request::{Known, TokenFacts};

use super::*;
use crate::tests::support::Request;

fn one(actions: Vec<DescriptorAction>) -> RateLimitDescriptor {
    RateLimitDescriptor {
        actions,
        port: None,
        matches: Vec::new(),
        routes: Vec::new(),
        level: DescriptorLevel::VirtualHost,
        hits: None,
    }
}

fn limit(descriptors: Vec<RateLimitDescriptor>) -> CompiledDescriptors {
    let limit = GlobalRateLimit {
        origin: Origin::built_in("limit"),
        port: None,
        matches: Vec::new(),
        domain: "d".into(),
        service: None,
        timeout: Duration::from_millis(20),
        fail_closed: false,
        descriptors,
        status: 429,
        failure_status: 500,
        response_headers: HeaderEdits::default(),
        tells_limits: false,
        hides_refusals: false,
        resource_exhausted: false,
        asked_ppm: 1_000_000,
        enforced_ppm: 1_000_000,
    };
    let (compiled, problems) = CompiledDescriptors::compile(&limit);
    assert_eq!(problems, Vec::<String>::new());
    compiled
}

fn facts<'a>() -> DescriptorFacts<'a> {
    DescriptorFacts {
        client: "10.1.2.3".parse().unwrap(),
        identity: None,
        port: 8080,
        route: "",
        client_certificate: None,
    }
}

fn told(descriptors: Vec<RateLimitDescriptor>, head: &impl RequestHead) -> Vec<String> {
    let facts = facts();
    limit(descriptors).of(head, facts).iter().map(ToString::to_string).collect()
}

fn header(name: &str, key: &str, skip_if_absent: bool) -> DescriptorAction {
    let (key, header) = (key.into(), name.into());
    DescriptorAction::RequestHeader { key, header, skip_if_absent, default: None }
}

#[test]
fn entries_come_from_the_head_in_the_order_of_actions() {
    let request = Request::get("/a/b?user=x&user=y&empty").header("x-org", "acme");
    let actions = vec![
        header(":path", "PATH", false),
        header("x-org", "org", false),
        DescriptorAction::RemoteAddress,
        DescriptorAction::MaskedRemoteAddress { v4_bits: 24, v6_bits: 64 },
        DescriptorAction::QueryParameter {
            key: "user".into(),
            parameter: "user".into(),
            skip_if_absent: false,
        },
        DescriptorAction::Destination,
        DescriptorAction::Generic { key: "generic_key".into(), value: "all".into() },
    ];
    let expected = "PATH=/a/b?user=x&user=y&empty org=acme remote_address=10.1.2.3 \
                    masked_remote_address=10.1.2.0/24 user=x destination_cluster=inbound|8080|| \
                    generic_key=all";
    assert_eq!(told(vec![one(actions)], &request), [expected]);
}

#[test]
fn an_action_without_value_leaves_out_its_descriptor_or_its_entry() {
    let request = Request::get("/");
    let fixed = || DescriptorAction::Generic { key: "k".into(), value: "v".into() };
    let descriptors = vec![
        one(vec![fixed(), header("x-org", "org", false)]),
        one(vec![fixed(), header("x-org", "org", true)]),
        one(vec![header("x-org", "org", true)]),
        one(vec![DescriptorAction::SourceIdentity { key: "who".into(), as_uri: false }]),
        one(vec![DescriptorAction::RequestHeader {
            key: "org".into(),
            header: "x-org".into(),
            skip_if_absent: false,
            default: Some("none".into()),
        }]),
    ];
    assert_eq!(told(descriptors, &request), ["k=v", "org=none"]);
}

#[test]
fn conditions_hold_as_envoys() {
    let condition = |name: &str, value, invert, absent_is_empty| ValueCondition {
        name: name.into(),
        value,
        invert,
        absent_is_empty,
    };
    let exact = || TextMatch::Exact("1".into());
    // Condition, and whether it holds for `x: 1`, `x: 2` and no `x`.
    let cases = [
        (condition("x", exact(), false, false), [true, false, false]),
        (condition("x", exact(), true, false), [false, true, false]),
        (condition("x", exact(), true, true), [false, true, true]),
        (condition("x", TextMatch::Present, false, false), [true, true, false]),
        (condition("x", TextMatch::Present, true, false), [false, false, true]),
        (condition(":path", TextMatch::Regex("/a.*".into()), false, false), [true, true, true]),
        (condition(":method", TextMatch::Exact("POST".into()), false, false), [false; 3]),
    ];
    let requests = [
        Request::get("/a?x=1").header("x", "1"),
        Request::get("/a?x=2").header("x", "2"),
        Request::get("/a"),
    ];
    for (condition, expected) in cases {
        for (request, expected) in requests.iter().zip(expected) {
            for invert in [false, true] {
                let (key, value) = ("header_match".into(), "v".into());
                let conditions = vec![condition.clone()];
                let action = DescriptorAction::HeaderMatch { key, value, conditions, invert };
                let found = told(vec![one(vec![action])], request);
                assert_eq!(found.is_empty(), expected == invert, "{condition:?} {request:?}");
            }
            if !condition.name.starts_with(':') {
                let (key, value) = ("query_match".into(), "v".into());
                let conditions = vec![condition.clone()];
                let action = DescriptorAction::QueryMatch { key, value, conditions, invert: false };
                let found = told(vec![one(vec![action])], request);
                assert_eq!(found.is_empty(), !expected, "{condition:?} {request:?}");
            }
        }
    }
}

#[test]
fn who_asks_is_told_by_token_and_certificate() {
    let identity = SpiffeId::parse("spiffe://cluster.local/ns/a/sa/b").unwrap();
    let claim = |path: &[&str]| DescriptorAction::Claim {
        key: "tier".into(),
        path: path.iter().map(|name| Arc::from(*name)).collect(),
        default: Some("free".into()),
        skip_if_absent: false,
    };
    let own = |as_uri| DescriptorAction::SourceIdentity { key: "who".into(), as_uri };
    let compiled = limit(vec![
        one(vec![claim(&["plan", "tier"])]),
        one(vec![claim(&["plan", "none"])]),
        one(vec![own(false)]),
        one(vec![own(true)]),
        one(vec![header("x-forwarded-client-cert", "xfcc", false)]),
    ]);
    let plan = BTreeMap::from([("tier".to_owned(), ClaimValue::Text("gold".to_owned()))]);
    let claims = BTreeMap::from([("plan".to_owned(), ClaimValue::Map(plan))]);
    let token = TokenFacts { claims, ..TokenFacts::default() };
    // What a client says about certificates counts for nothing.
    let request = Request::get("/").header("x-forwarded-client-cert", "lie");
    let head = Known { head: &request, token: Some(&token), route: None };
    let facts = DescriptorFacts {
        identity: Some(&identity),
        client_certificate: Some("Hash=1"),
        ..facts()
    };
    let told: Vec<String> = compiled.of(&head, facts).iter().map(ToString::to_string).collect();
    let expected = [
        "tier=gold",
        "tier=free",
        "who=cluster.local/ns/a/sa/b",
        "who=spiffe://cluster.local/ns/a/sa/b",
        "xfcc=Hash=1",
    ];
    assert_eq!(told, expected);
}

#[test]
fn routes_speak_for_their_hosts_unless_they_include_them() {
    let of = |name: &str, level, routes: &[&str]| {
        let action = DescriptorAction::Generic { key: "k".into(), value: name.into() };
        let routes = routes.iter().map(|name| Arc::from(*name)).collect();
        RateLimitDescriptor { level, routes, ..one(vec![action]) }
    };
    let compiled = limit(vec![
        of("host", DescriptorLevel::VirtualHost, &[]),
        of("alone", DescriptorLevel::Route, &["a"]),
        of("both", DescriptorLevel::RouteAndHost, &["b"]),
    ]);
    assert!(compiled.needs_route());
    let request = Request::get("/");
    let told = |route| {
        let facts = DescriptorFacts { route, ..facts() };
        let found = compiled.of(&request, facts);
        found.iter().map(|one| one.entries[0].1.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told("a"), ["alone"]);
    assert_eq!(told("b"), ["host", "both"]);
    assert_eq!(told("c"), ["host"]);
}

#[test]
fn values_have_a_bound() {
    let request = Request::get("/").header("x", "ü".repeat(VALUE_BYTES_MAX));
    let compiled = limit(vec![one(vec![header("x", "x", false)])]);
    let found = compiled.of(&request, facts());
    assert_eq!(found[0].entries[0].1, "ü".repeat(VALUE_BYTES_MAX / 2));
}
