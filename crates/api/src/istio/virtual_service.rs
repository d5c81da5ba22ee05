//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    VirtualService {
        "exportTo" => export_to: Vec<String>,
        "gateways" => gateways: Vec<String>,
        "hosts" => hosts: Vec<String>,
        "http" => http: Vec<HttpRoute>,
        "tcp" => tcp: Vec<TcpRoute>,
        "tls" => tls: Vec<TlsRoute>,
    }
}

object! {
    /// TODO.
    HttpRoute {
        "corsPolicy" => cors_policy: Option<CorsPolicy>,
        "delegate" => delegate: Option<Delegate>,
        "directResponse" => direct_response: Option<DirectResponse>,
        "fault" => fault: Option<FaultInjection>,
        "headers" => headers: Option<Headers>,
        "match" => matches: Vec<HttpMatch>,
        "mirror" => mirror: Option<Destination>,
        "mirror_percent" => mirror_percent_old: Option<u32> [nullable],
        "mirrorPercent" => mirror_percent: Option<u32> [nullable],
        "mirrorPercentage" => mirror_percentage: Option<Percent>,
        "mirrors" => mirrors: Vec<HttpMirror>,
        "name" => name: Option<String>,
        "redirect" => redirect: Option<HttpRedirect>,
        "retries" => retries: Option<HttpRetry>,
        "rewrite" => rewrite: Option<HttpRewrite>,
        "route" => route: Vec<HttpRouteDestination>,
        "timeout" => timeout: Option<Duration> [duration_min_1ms],
    }
}

object! {
    /// TODO.
    HttpMatch {
        "authority" => authority: Option<StringMatch>,
        "gateways" => gateways: Vec<String>,
        "headers" => headers: BTreeMap<String, StringMatch>,
        "ignoreUriCase" => ignore_uri_case: Option<bool>,
        "method" => method: Option<StringMatch>,
        "name" => name: Option<String>,
        "port" => port: Option<u16>,
        "queryParams" => query_params: BTreeMap<String, StringMatch>,
        "scheme" => scheme: Option<StringMatch>,
        "sourceLabels" => source_labels: BTreeMap<String, String>,
        "sourceNamespace" => source_namespace: Option<String>,
        "statPrefix" => stat_prefix: Option<String>,
        "uri" => uri: Option<StringMatch>,
        "withoutHeaders" => without_headers: BTreeMap<String, StringMatch>,
    }
}

object! {
    /// TODO.
    HttpRouteDestination {
        "destination" => destination: Destination [required],
        "headers" => headers: Option<Headers>,
        "weight" => weight: Option<i32>,
    }
}

object! {
    /// TODO.
    TcpRoute {
        "match" => matches: Vec<L4Match>,
        "route" => route: Vec<RouteDestination>,
    }
}

object! {
    /// TODO.
    L4Match {
        "destinationSubnets" => destination_subnets: Vec<String>,
        "gateways" => gateways: Vec<String>,
        "port" => port: Option<u16>,
        "sourceLabels" => source_labels: BTreeMap<String, String>,
        "sourceNamespace" => source_namespace: Option<String>,
        "sourceSubnet" => source_subnet: Option<String>,
    }
}

object! {
    /// TODO.
    RouteDestination {
        "destination" => destination: Destination [required],
        "weight" => weight: Option<i32>,
    }
}

object! {
    /// TODO.
    TlsRoute {
        "match" => matches: Vec<TlsMatch> [required],
        "route" => route: Vec<RouteDestination>,
    }
}

object! {
    /// TODO.
    TlsMatch {
        "destinationSubnets" => destination_subnets: Vec<String>,
        "gateways" => gateways: Vec<String>,
        "port" => port: Option<u16>,
        "sniHosts" => sni_hosts: Vec<String> [required],
        "sourceLabels" => source_labels: BTreeMap<String, String>,
        "sourceNamespace" => source_namespace: Option<String>,
    }
}
