use std::collections::BTreeMap;

use expect_test::expect;

use super::*;
use crate::flags::ResponseFlag;

struct Map(BTreeMap<&'static str, Vec<u8>>);

impl Headers for Map {
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

fn map(headers: &[(&'static str, &str)]) -> Map {
    Map(headers.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect())
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_678)
}

fn check(format: &AccessLogFormat, record: &AccessRecord<'_>) -> String {
    let mut out = String::new();
    format.write(record, &mut out);
    out
}

fn request() -> Map {
    map(&[
        (":method", "GET"),
        (":path", "/reviews/0"),
        (":authority", "reviews:9080"),
        ("user-agent", "curl/8.14.1"),
        ("x-request-id", "b0aaf0a2-9c0c-4d1a-8d6c-5b6f7b1c2d3e"),
    ])
}

fn response() -> Map {
    map(&[("x-envoy-upstream-service-time", "12")])
}

fn record<'a>(request: &'a Map, response: &'a Map) -> AccessRecord<'a> {
    AccessRecord {
        request,
        response,
        protocol: Some("HTTP/1.1"),
        response_code: 200,
        response_code_details: Some("via_upstream"),
        bytes_sent: 375,
        duration: Duration::from_micros(13_900),
        upstream_host: Some("10.1.0.7:9080".parse().unwrap()),
        upstream_cluster: Some("outbound|9080|v2|reviews.default.svc.cluster.local"),
        upstream_local_address: Some("10.1.0.2:41000".parse().unwrap()),
        downstream_local_address: Some("10.96.0.9:9080".parse().unwrap()),
        downstream_remote_address: Some("[fd00::2]:40000".parse().unwrap()),
        route_name: Some("default"),
        ..AccessRecord::empty(start())
    }
}

#[test]
fn the_default_text_line_is_istios() {
    let (request, response) = (request(), response());
    expect![[r#"
        [2026-01-02T03:04:05.678Z] "GET /reviews/0 HTTP/1.1" 200 - via_upstream - "-" 0 375 13 12 "-" "curl/8.14.1" "b0aaf0a2-9c0c-4d1a-8d6c-5b6f7b1c2d3e" "reviews:9080" "10.1.0.7:9080" outbound|9080|v2|reviews.default.svc.cluster.local 10.1.0.2:41000 10.96.0.9:9080 [fd00::2]:40000 - default
    "#]]
    .assert_eq(&check(&AccessLogFormat::default_text(), &record(&request, &response)));
    let opaque = AccessRecord {
        bytes_received: 10,
        bytes_sent: 20,
        flags: ResponseFlag::UpstreamConnectionFailure.into(),
        upstream_transport_failure_reason: Some("peer is a, expected b"),
        requested_server_name: Some("outbound_.80_._.a.b"),
        ..AccessRecord::empty(start())
    };
    expect![[r#"
        [2026-01-02T03:04:05.678Z] "- - -" 0 UF - - "peer is a, expected b" 10 20 0 - "-" "-" "-" "-" "-" - - - - outbound_.80_._.a.b -
    "#]]
    .assert_eq(&check(&AccessLogFormat::default_text(), &opaque));
}

#[test]
fn the_default_json_line_keeps_types_and_order() {
    let (request, response) = (request(), response());
    expect![[r#"
        {"start_time":"2026-01-02T03:04:05.678Z","route_name":"default","method":"GET","path":"/reviews/0","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","response_code_details":"via_upstream","connection_termination_details":null,"bytes_received":0,"bytes_sent":375,"duration":13,"upstream_service_time":"12","x_forwarded_for":null,"user_agent":"curl/8.14.1","request_id":"b0aaf0a2-9c0c-4d1a-8d6c-5b6f7b1c2d3e","authority":"reviews:9080","upstream_host":"10.1.0.7:9080","upstream_cluster":"outbound|9080|v2|reviews.default.svc.cluster.local","upstream_local_address":"10.1.0.2:41000","downstream_local_address":"10.96.0.9:9080","downstream_remote_address":"[fd00::2]:40000","requested_server_name":null,"upstream_transport_failure_reason":null}
    "#]]
    .assert_eq(&check(&AccessLogFormat::default_json(), &record(&request, &response)));
}

#[test]
fn a_request_can_forge_no_line_and_break_no_json() {
    let evil = "x\"} \\ \r\n[2026] \u{1b}[31m \u{85} é";
    let request = map(&[("user-agent", evil)]);
    let response = Map(BTreeMap::from([("x", vec![b'a', 0xff, b'b', 0])]));
    let record =
        AccessRecord { request: &request, response: &response, ..AccessRecord::empty(start()) };
    let text = AccessLogFormat::text("%REQ(User-Agent)% %RESP(X)%", "").unwrap();
    expect![[r#"
        x"} \ \x0d\x0a[2026] \x1b[31m \x85 é a�b\x00
    "#]]
    .assert_eq(&check(&text, &record));
    let json = AccessLogFormat::json(
        [("agent", "%REQ(USER-AGENT)%"), ("both", "<%REQ(USER-AGENT)%>")],
        "",
    );
    let line = check(&json.unwrap(), &record);
    assert_eq!(line.matches('\n').count(), 1);
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(parsed["agent"], evil);
}

#[test]
fn operators_of_custom_formats() {
    let request = map(&[(":path", "/new"), ("x-envoy-original-path", "/old"), ("a", "é€x")]);
    let trailers = map(&[("grpc-message", "broken")]);
    let record = AccessRecord {
        request: &request,
        trailers: &trailers,
        grpc_status: Some(14),
        downstream_peer_uri_san: Some("spiffe://td/ns/a/sa/b"),
        downstream_tls_version: Some("TLSv1.3"),
        downstream_remote_address: Some("10.0.0.1:5".parse().unwrap()),
        response_duration: Some(Duration::from_millis(7)),
        trace_id: Some("abc"),
        ..AccessRecord::empty(start())
    };
    for (format, expected) in [
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/old"),
        ("%REQ(X-MISSING?:PATH)%", "/new"),
        ("%REQ(A):2%|%REQ(A):0%|", "é€||"),
        ("100%% %HOSTNAME%", "100% node-1"),
        ("%START_TIME(%Y-%m-%d %s.%3f)%", "2026-01-02 1767323045.678"),
        ("%TRAILER(GRPC-MESSAGE)% %GRPC_STATUS%", "broken 14"),
        ("%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_TLS_VERSION%", "spiffe://td/ns/a/sa/b TLSv1.3"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.1"),
        ("%REQUEST_DURATION% %RESPONSE_DURATION% %TRACE_ID%", "- 7 abc"),
        ("%DYNAMIC_METADATA(a:b)% %FILTER_STATE(x)% %ENVIRONMENT(HOME)%", "- - -"),
        ("plain", "plain"),
    ] {
        let parsed = AccessLogFormat::text(format, "node-1").unwrap();
        assert_eq!(check(&parsed, &record), format!("{expected}\n"), "{format}");
    }
}

#[test]
fn formats_that_cannot_be_are_refused_with_the_place() {
    for (format, expected) in [
        ("%NOPE%", "operator %NOPE% is not supported"),
        ("a %REQ(X", "operator that begins with \"REQ(X\" has no closing %"),
        ("%REQ%", "operator REQ needs an argument, as in %REQ(NAME)%"),
        ("%REQ()%", "operator REQ needs an argument, as in %REQ(NAME)%"),
        ("%REQ(X):many%", "\"many\" after the colon is not a length"),
        ("%START_TIME(%Q)%", "time directive %Q is not supported"),
        ("%REQ(X)Y%", "operator %REQ(X)Y% is not supported"),
    ] {
        assert_eq!(AccessLogFormat::text(format, "").unwrap_err().to_string(), expected);
    }
    let long = "x".repeat(64 * 1024 + 1);
    assert!(matches!(AccessLogFormat::text(&long, ""), Err(FormatError::TooLong { .. })));
}

#[test]
fn the_default_formats_are_whole() {
    assert_eq!(AccessLogFormat::text(DEFAULT_TEXT_FORMAT, ""), Ok(AccessLogFormat::default_text()));
    let keys = DEFAULT_JSON_FORMAT.iter().copied();
    assert_eq!(AccessLogFormat::json(keys, ""), Ok(AccessLogFormat::default_json()));
}

#[test]
fn long_values_are_cut() {
    let long = "é".repeat(10_000);
    let request = map(&[("a", &long)]);
    let record =
        AccessRecord { request: &request, route_name: Some(&long), ..AccessRecord::empty(start()) };
    let format = AccessLogFormat::text("%REQ(A)%%ROUTE_NAME%", "").unwrap();
    assert!(check(&format, &record).len() <= 2 * 8 * 1024 + 8);
}
