//! VirtualService (`networking.istio.io`): rules and what they match.

use std::collections::BTreeMap;

use super::common::{Destination, Percent, StringMatch};
use super::http_action::{
    CorsPolicy, Delegate, DirectResponse, FaultInjection, Headers, HttpMirror, HttpRedirect,
    HttpRetry, HttpRewrite,
};
use crate::value::Duration;

object! {
    /// How requests to hosts are routed. Rules are tried in written order.
    VirtualService {
        /// Namespaces it is visible in; empty means what the mesh says, usually all.
        "exportTo" => export_to: Vec<String>,
        /// Gateways it is bound to as `namespace/name`; `mesh` means all sidecars. Empty means `mesh`.
        "gateways" => gateways: Vec<String>,
        /// Hosts the rules apply to; empty for one that others delegate to.
        "hosts" => hosts: Vec<String>,
        /// Rules for HTTP, in order.
        "http" => http: Vec<HttpRoute>,
        /// Rules for opaque TCP, in order.
        "tcp" => tcp: Vec<TcpRoute>,
        /// Rules for TLS that is passed through, by SNI, in order.
        "tls" => tls: Vec<TlsRoute>,
    }
}

object! {
    /// A rule for requests: what it matches and what happens then.
    HttpRoute {
        /// Cross-origin rules.
        "corsPolicy" => cors_policy: Option<CorsPolicy>,
        /// Another VirtualService that has the rules.
        "delegate" => delegate: Option<Delegate>,
        /// A fixed answer.
        "directResponse" => direct_response: Option<DirectResponse>,
        /// Faults to inject at the client.
        "fault" => fault: Option<FaultInjection>,
        /// Changes of headers, before those of the destination.
        "headers" => headers: Option<Headers>,
        /// What requests it applies to; any may match. Empty matches all.
        "match" => matches: Vec<HttpMatch>,
        /// Where a copy of each request goes.
        "mirror" => mirror: Option<Destination>,
        /// The former spelling of `mirrorPercent`.
        "mirror_percent" => mirror_percent_old: Option<u32> [nullable],
        /// Percentage of requests that are copied; deprecated.
        "mirrorPercent" => mirror_percent: Option<u32> [nullable],
        /// Percentage of requests that are copied; absent means all.
        "mirrorPercentage" => mirror_percentage: Option<Percent>,
        /// Where copies of requests go.
        "mirrors" => mirrors: Vec<HttpMirror>,
        /// Name for logs.
        "name" => name: Option<String>,
        /// A redirect.
        "redirect" => redirect: Option<HttpRedirect>,
        /// Retries; absent means the mesh's.
        "retries" => retries: Option<HttpRetry>,
        /// Changes of path and authority.
        "rewrite" => rewrite: Option<HttpRewrite>,
        /// Weighted destinations.
        "route" => route: Vec<HttpRouteDestination>,
        /// Time for the whole request with its retries; absent means no limit.
        "timeout" => timeout: Option<Duration> [duration_min_1ms],
    }
}

object! {
    /// Conditions on a request; all must hold.
    HttpMatch {
        /// The authority (`Host`).
        "authority" => authority: Option<StringMatch>,
        /// Gateways it applies to, instead of those of the VirtualService.
        "gateways" => gateways: Vec<String>,
        /// Headers, by lower-case name.
        "headers" => headers: BTreeMap<String, StringMatch>,
        /// Whether `exact` and `prefix` of `uri` ignore case.
        "ignoreUriCase" => ignore_uri_case: Option<bool>,
        /// The method.
        "method" => method: Option<StringMatch>,
        /// Name for logs.
        "name" => name: Option<String>,
        /// The port the request was sent to.
        "port" => port: Option<u16>,
        /// Query parameters.
        "queryParams" => query_params: BTreeMap<String, StringMatch>,
        /// The scheme.
        "scheme" => scheme: Option<StringMatch>,
        /// Labels of the calling workload.
        "sourceLabels" => source_labels: BTreeMap<String, String>,
        /// Namespace of the calling workload.
        "sourceNamespace" => source_namespace: Option<String>,
        /// Prefix of statistics.
        "statPrefix" => stat_prefix: Option<String>,
        /// The path with its query.
        "uri" => uri: Option<StringMatch>,
        /// Headers that must not match; a missing header counts as empty.
        "withoutHeaders" => without_headers: BTreeMap<String, StringMatch>,
    }
}

object! {
    /// A destination of requests and its share.
    HttpRouteDestination {
        /// Where.
        "destination" => destination: Destination [required],
        /// Changes of headers, after those of the rule.
        "headers" => headers: Option<Headers>,
        /// Share relative to the others; ignored for a single destination.
        "weight" => weight: Option<i32>,
    }
}

object! {
    /// A rule for TCP connections.
    TcpRoute {
        /// What it applies to; any may match. Empty matches all.
        "match" => matches: Vec<L4Match>,
        /// Weighted destinations.
        "route" => route: Vec<RouteDestination>,
    }
}

object! {
    /// Conditions on a TCP connection; all must hold.
    L4Match {
        /// Address ranges of the destination.
        "destinationSubnets" => destination_subnets: Vec<String>,
        /// Gateways it applies to.
        "gateways" => gateways: Vec<String>,
        /// The port connected to.
        "port" => port: Option<u16>,
        /// Labels of the calling workload.
        "sourceLabels" => source_labels: BTreeMap<String, String>,
        /// Namespace of the calling workload.
        "sourceNamespace" => source_namespace: Option<String>,
        /// Address range of the client; not documented upstream.
        "sourceSubnet" => source_subnet: Option<String>,
    }
}

object! {
    /// A destination of connections and its share.
    RouteDestination {
        /// Where.
        "destination" => destination: Destination [required],
        /// Share relative to the others.
        "weight" => weight: Option<i32>,
    }
}

object! {
    /// A rule for TLS connections that are passed through.
    TlsRoute {
        /// What it applies to; any may match.
        "match" => matches: Vec<TlsMatch> [required],
        /// Weighted destinations.
        "route" => route: Vec<RouteDestination>,
    }
}

object! {
    /// Conditions on a TLS connection; all must hold.
    TlsMatch {
        /// Address ranges of the destination.
        "destinationSubnets" => destination_subnets: Vec<String>,
        /// Gateways it applies to.
        "gateways" => gateways: Vec<String>,
        /// The port connected to.
        "port" => port: Option<u16>,
        /// Server names, within the hosts of the VirtualService.
        "sniHosts" => sni_hosts: Vec<String> [required],
        /// Labels of the calling workload.
        "sourceLabels" => source_labels: BTreeMap<String, String>,
        /// Namespace of the calling workload.
        "sourceNamespace" => source_namespace: Option<String>,
    }
}
