use std::time::{Duration, Instant};

use expect_test::expect;

use super::*;
use crate::flags::{ResponseFlag, ResponseFlags};

fn route(reporter: Reporter) -> Route<'static> {
    Route {
        reporter,
        source: Workload {
            name: "productpage-v1",
            namespace: "default",
            principal: "spiffe://cluster.local/ns/default/sa/bookinfo-productpage",
            app: "productpage",
            version: "v1",
            canonical_service: "productpage",
            canonical_revision: "v1",
            cluster: "standalone",
        },
        destination: Workload { name: "reviews-v2", namespace: "default", ..Workload::default() },
        service: Service {
            host: "reviews.default.svc.cluster.local",
            name: "reviews",
            namespace: "default",
        },
        protocol: Protocol::Http,
        security: Security::MutualTls,
    }
}

fn outcome(response_code: u16) -> RequestOutcome {
    RequestOutcome {
        response_code,
        flags: ResponseFlags::NONE,
        grpc_status: None,
        duration: Duration::from_micros(1_500),
        request_bytes: 300,
        response_bytes: 1_200,
        messages: None,
    }
}

fn text(registry: &Registry) -> String {
    let mut out = String::new();
    registry.encode(Instant::now(), &mut out);
    out
}

fn lines(registry: &Registry, start: &str) -> String {
    let text = text(registry);
    text.split_inclusive('\n').filter(|line| line.starts_with(start)).collect()
}

#[test]
fn a_request_is_counted_under_istios_names_and_labels() {
    let registry = Registry::default();
    let recorder = StandardMetrics::new(&registry).requests(&route(Reporter::Destination));
    recorder.record(&outcome(200));
    recorder.record(&outcome(200));
    expect![[r#"
        istio_requests_total{reporter="destination",source_workload="productpage-v1",source_canonical_service="productpage",source_canonical_revision="v1",source_workload_namespace="default",source_principal="spiffe://cluster.local/ns/default/sa/bookinfo-productpage",source_app="productpage",source_version="v1",source_cluster="standalone",destination_workload="reviews-v2",destination_workload_namespace="default",destination_principal="unknown",destination_app="unknown",destination_version="unknown",destination_service="reviews.default.svc.cluster.local",destination_canonical_service="unknown",destination_canonical_revision="latest",destination_service_name="reviews",destination_service_namespace="default",destination_cluster="unknown",request_protocol="http",response_code="200",grpc_response_status="",response_flags="-",connection_security_policy="mutual_tls"} 2
    "#]]
    .assert_eq(&lines(&registry, "istio_requests_total"));
    let all = text(&registry);
    let value = |start: &str, part: &str| {
        let line = all.lines().find(|line| line.starts_with(start) && line.contains(part));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or("none").to_owned()
    };
    let duration = "istio_request_duration_milliseconds";
    assert_eq!(value(&format!("{duration}_bucket"), "le=\"1\""), "0");
    assert_eq!(value(&format!("{duration}_bucket"), "le=\"5\""), "2");
    assert_eq!(value(&format!("{duration}_sum"), ""), "3");
    assert_eq!(value(&format!("{duration}_count"), ""), "2");
    assert_eq!(value("istio_request_bytes_sum", ""), "600");
    assert_eq!(value("istio_response_bytes_bucket", "le=\"2500\""), "2");
    assert_eq!(value("istio_response_bytes_bucket", "le=\"1000\""), "0");
}

#[test]
fn the_buckets_are_istios() {
    let registry = Registry::default();
    StandardMetrics::new(&registry).requests(&route(Reporter::Source)).record(&outcome(200));
    let bounds: Vec<String> = lines(&registry, "istio_request_duration_milliseconds_bucket")
        .lines()
        .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next().map(str::to_owned))
        .collect();
    assert_eq!(
        bounds.join(" "),
        "0.5 1 5 10 25 50 100 250 500 1000 2500 5000 10000 30000 60000 300000 600000 1800000 3600000 +Inf"
    );
}

#[test]
fn the_calling_side_does_not_claim_to_know_the_security() {
    let registry = Registry::default();
    StandardMetrics::new(&registry).requests(&route(Reporter::Source)).record(&outcome(200));
    let text = lines(&registry, "istio_requests_total");
    assert!(text.contains("connection_security_policy=\"unknown\""), "{text}");
}

#[test]
fn outcomes_are_told_apart() {
    let registry = Registry::default();
    let recorder = StandardMetrics::new(&registry).requests(&route(Reporter::Destination));
    let overflow = RequestOutcome { flags: ResponseFlag::UpstreamOverflow.into(), ..outcome(503) };
    recorder.record(&outcome(503));
    recorder.record(&overflow);
    recorder.record(&RequestOutcome { grpc_status: Some(14), ..outcome(200) });
    recorder.record(&RequestOutcome { grpc_status: Some(99), ..outcome(200) });
    let text = lines(&registry, "istio_requests_total");
    assert_eq!(text.lines().count(), 4);
    for part in [
        "response_code=\"503\",grpc_response_status=\"\",response_flags=\"-\"",
        "response_code=\"503\",grpc_response_status=\"\",response_flags=\"UO\"",
        "response_code=\"200\",grpc_response_status=\"14\"",
        "response_code=\"200\",grpc_response_status=\"unknown\"",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[test]
fn an_upstream_that_invents_statuses_fills_one_series_only() {
    let registry = Registry::default();
    let recorder = StandardMetrics::new(&registry).requests(&route(Reporter::Destination));
    for code in 100..1_000 {
        recorder.record(&outcome(code));
        recorder.record(&outcome(code));
    }
    assert_eq!(registry.series_count(), 64);
    let text = lines(&registry, "istio_requests_total{reporter=\"overflow\"");
    assert!(text.ends_with(&format!("}} {}\n", (900 - 64) * 2)), "{text}");
}

#[test]
fn opaque_connections_have_metrics_of_their_own() {
    let registry = Registry::default();
    let mut route = route(Reporter::Destination);
    route.protocol = Protocol::Tcp;
    let recorder = StandardMetrics::new(&registry).tcp(&route);
    recorder.record_opened();
    recorder.record_bytes(10, 20);
    recorder.record_bytes(1, 2);
    recorder.record_closed(ResponseFlag::UpstreamConnectionTermination.into());
    let text = text(&registry);
    let last = |name: &str, part: &str| {
        let line =
            text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(part));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or("none").to_owned()
    };
    assert_eq!(last(TCP_CONNECTIONS_OPENED_TOTAL, "response_flags=\"-\""), "1");
    assert_eq!(last(TCP_SENT_BYTES_TOTAL, "request_protocol=\"tcp\""), "11");
    assert_eq!(last(TCP_RECEIVED_BYTES_TOTAL, ""), "22");
    assert_eq!(last(TCP_CONNECTIONS_CLOSED_TOTAL, "response_flags=\"UC\""), "1");
    assert!(!text.contains("response_code"), "{text}");
}

#[test]
fn messages_and_builds_are_counted() {
    let registry = Registry::default();
    record_build(&registry, "proxy", "0.1.0");
    let recorder = StandardMetrics::new(&registry).requests(&route(Reporter::Source));
    recorder.record(&RequestOutcome {
        grpc_status: Some(0),
        messages: Some((3, 4)),
        ..outcome(200)
    });
    assert_eq!(
        lines(&registry, "istio_build{"),
        "istio_build{component=\"proxy\",tag=\"0.1.0\"} 1\n"
    );
    assert!(lines(&registry, "istio_request_messages_total{").ends_with(" 3\n"));
    assert!(lines(&registry, "istio_response_messages_total{").ends_with(" 4\n"));
}

#[test]
fn recording_from_many_threads_loses_nothing() {
    let registry = Registry::default();
    let recorder = StandardMetrics::new(&registry).requests(&route(Reporter::Destination));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in 0..10_000_u16 {
                    recorder.record(&outcome(200 + index % 10));
                }
            });
        }
    });
    let total: u64 = lines(&registry, "istio_requests_total{")
        .lines()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(total, 40_000);
}
