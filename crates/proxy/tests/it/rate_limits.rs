//! Limits that a service counts: what it is told, and what becomes of its answers and of its silence.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use heddle_ir::http_route::HeaderEdits;
use heddle_ir::protocol::Protocol;
use heddle_ir::rate_limit::{
    DescriptorAction, DescriptorLevel, GlobalRateLimit, RateLimitDescriptor, RateLimitService,
    RateLimits,
};
use heddle_proto::external_authorization::HeaderValue;
use heddle_proto::rate_limit_service::{
    Code, DescriptorStatus, Duration as Reset, Limit, RateLimitRequest, RateLimitResponse,
    SHOULD_RATE_LIMIT_PATH, Unit,
};
use http::{HeaderMap, Response};
use prost::Message as _;

use crate::authorizers::{ask, framed};
use crate::harness::{Pair, mirror, run};
use crate::http2;
use crate::support::{PORT, ServerSide, origin, service_host};

fn limit(descriptors: Vec<RateLimitDescriptor>) -> GlobalRateLimit {
    GlobalRateLimit {
        origin: origin(),
        port: None,
        matches: Vec::new(),
        domain: "d".into(),
        service: Some(RateLimitService {
            host: service_host("limiter"),
            port: PORT,
            in_mesh: true,
        }),
        timeout: Duration::from_secs(10),
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
    }
}

/// The path, and who asks.
fn path_and_peer() -> Vec<RateLimitDescriptor> {
    let header = |key: &str, header: &str| DescriptorAction::RequestHeader {
        key: key.into(),
        header: header.into(),
        skip_if_absent: false,
        default: None,
    };
    let one = |actions| RateLimitDescriptor {
        actions,
        port: None,
        matches: Vec::new(),
        routes: Vec::new(),
        level: DescriptorLevel::VirtualHost,
        hits: None,
    };
    let identity = DescriptorAction::SourceIdentity { key: "who".into(), as_uri: true };
    vec![one(vec![header("PATH", ":path"), identity]), one(vec![header("org", "x-org")])]
}

type Asked = Rc<RefCell<Vec<RateLimitRequest>>>;

/// A service that answers what `decide` says; none: it hangs.
async fn limiter(
    decide: impl Fn(&RateLimitRequest) -> Option<RateLimitResponse> + Clone + 'static,
) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let seen = asked.clone();
    let address = http2::h2_application(move |request, mut respond| {
        let (decide, seen) = (decide.clone(), seen.clone());
        async move {
            assert_eq!(request.uri().path(), SHOULD_RATE_LIMIT_PATH);
            let body = http2::receive_all(&mut request.into_body()).await;
            let question = RateLimitRequest::decode(&body[5..]).unwrap();
            let answer = decide(&question);
            seen.borrow_mut().push(question);
            let Some(answer) = answer else { return std::future::pending().await };
            let response = Response::builder().header("content-type", "application/grpc");
            let mut sink = respond.send_response(response.body(()).unwrap(), false).unwrap();
            sink.send_data(framed(&answer), false).unwrap();
            let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
            sink.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        }
    })
    .await;
    (address, asked)
}

async fn pair(limit: GlobalRateLimit, address: SocketAddr) -> Pair {
    let server = |server: &mut ServerSide| {
        server.rate_limits = RateLimits { local: Vec::new(), global: vec![limit] };
        server.services = vec![("limiter", address)];
    };
    Pair::with(mirror().await, |_| {}, server).await
}

fn answer(code: Code) -> RateLimitResponse {
    let limit = Limit { requests_per_unit: 5, unit: Unit::Minute.into(), name: String::new() };
    let status = DescriptorStatus {
        code: code.into(),
        current_limit: Some(limit),
        limit_remaining: 3,
        duration_until_reset: Some(Reset { seconds: 42, nanos: 0 }),
    };
    let header = |key: &str, value: &str| HeaderValue {
        key: key.to_owned(),
        value: value.to_owned(),
        raw_value: Vec::new(),
    };
    RateLimitResponse {
        overall_code: code.into(),
        statuses: vec![status],
        response_headers_to_add: vec![header("x-quota", "left")],
        request_headers_to_add: vec![header("x-counted", "yes")],
        raw_body: b"slow down".to_vec(),
    }
}

#[test]
fn a_service_is_told_of_requests_and_its_word_counts() {
    run(async {
        let (address, asked) = limiter(|question| {
            let over = question.descriptors[0].entries[0].value.starts_with("/over");
            Some(answer(if over { Code::OverLimit } else { Code::Ok }))
        })
        .await;
        let mut own = limit(path_and_peer());
        own.tells_limits = true;
        own.response_headers.add.push(("x-limited-by".into(), "us".into()));
        let pair = pair(own, address).await;
        let mut client = pair.connect().await;
        let passed = ask(&mut client, "/a?b=1", "x-org: acme\r\n").await;
        assert_eq!((passed.status(), passed.header("x-quota")), (200, Some("left")), "{passed:?}");
        assert_eq!(passed.header("x-ratelimit-limit"), Some("5, 5;w=60"));
        assert_eq!(passed.header("x-ratelimit-remaining"), Some("3"));
        assert_eq!(passed.header("x-ratelimit-reset"), Some("42"));
        assert_eq!(passed.header("x-envoy-ratelimited"), None);
        assert!(passed.text().contains("x-counted: yes\r\n"), "{passed:?}");
        let refused = ask(&mut client, "/over", "").await;
        assert_eq!((refused.status(), refused.text()), (429, "slow down"));
        assert_eq!(refused.header("x-envoy-ratelimited"), Some("true"));
        assert_eq!(refused.header("x-limited-by"), Some("us"));
        assert_eq!(refused.header("x-ratelimit-remaining"), Some("3"));
        // The connection goes on.
        assert_eq!(ask(&mut client, "/again", "").await.status(), 200);
        let asked = asked.borrow();
        let told: Vec<String> = asked
            .iter()
            .flat_map(|question| &question.descriptors)
            .map(|own| {
                let entries = own.entries.iter();
                entries.map(|entry| format!("{}={}", entry.key, entry.value)).collect::<Vec<_>>()
            })
            .map(|entries| entries.join(" "))
            .collect();
        let who = "who=spiffe://cluster.local/ns/default/sa/client";
        let expected = [
            format!("PATH=/a?b=1 {who}"),
            "org=acme".to_owned(),
            format!("PATH=/over {who}"),
            format!("PATH=/again {who}"),
        ];
        assert_eq!((told, &*asked[0].domain), (expected.to_vec(), "d"));
    });
}

#[test]
fn requests_of_http2_are_limited_too() {
    run(async {
        let (address, asked) = limiter(|_| Some(answer(Code::OverLimit))).await;
        let mut own = limit(path_and_peer());
        own.status = 503;
        own.hides_refusals = true;
        own.resource_exhausted = true;
        let server = |server: &mut ServerSide| {
            server.protocol = Protocol::Http2;
            server.rate_limits = RateLimits { local: Vec::new(), global: vec![own] };
            server.services = vec![("limiter", address)];
        };
        let client = |client: &mut crate::support::ClientSide| client.protocol = Protocol::Http2;
        let pair = Pair::with(mirror().await, client, server).await;
        let mut sender = http2::client(&pair).await;
        let (response, _) = sender.send_request(http2::request("/a"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"] == "8"),
            (200, true)
        );
        assert!(!response.headers().contains_key("x-envoy-ratelimited"));
        let mut plain = http2::request("/a");
        plain.headers_mut().remove("content-type");
        let (response, _) = sender.ready().await.unwrap().send_request(plain, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 503);
        assert_eq!(asked.borrow().len(), 2);
    });
}

#[test]
fn without_an_answer_the_failure_mode_decides() {
    run(async {
        let (silent, asked) = limiter(|_| None).await;
        for (fail_closed, failure_status, expected) in
            [(false, 500, 200), (true, 500, 500), (true, 503, 503)]
        {
            let mut own = limit(path_and_peer());
            own.timeout = Duration::from_millis(50);
            (own.fail_closed, own.failure_status) = (fail_closed, failure_status);
            let pair = pair(own, silent).await;
            let mut client = pair.connect().await;
            assert_eq!(ask(&mut client, "/", "").await.status(), expected);
            assert_eq!(
                ask(&mut client, "/", "").await.status(),
                expected,
                "the connection goes on"
            );
        }
        assert_eq!(asked.borrow().len(), 6);
        // Nobody is there at all, be it heddle itself.
        for service in
            [None, Some(RateLimitService { host: service_host("gone"), port: PORT, in_mesh: true })]
        {
            let mut own = limit(path_and_peer());
            (own.fail_closed, own.service) = (true, service);
            let pair = pair(own, silent).await;
            assert_eq!(ask(&mut pair.connect().await, "/", "").await.status(), 500);
        }
    });
}

#[test]
fn a_share_of_requests_is_asked_about_or_refused() {
    run(async {
        let (address, asked) = limiter(|_| Some(answer(Code::OverLimit))).await;
        let mut own = limit(path_and_peer());
        own.enforced_ppm = 0;
        let shadowed = pair(own.clone(), address).await;
        assert_eq!(ask(&mut shadowed.connect().await, "/", "").await.status(), 200);
        own.asked_ppm = 0;
        let unasked = pair(own, address).await;
        assert_eq!(ask(&mut unasked.connect().await, "/", "").await.status(), 200);
        assert_eq!(asked.borrow().len(), 1);
    });
}
