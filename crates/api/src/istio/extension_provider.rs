//! External services that the mesh configuration names: authorisation, tracing, logs, metrics.

use std::collections::BTreeMap;

use crate::value::{Duration, Free};

object! {
    /// How much of the body is sent to a check.
    ExtAuthzRequestBody {
        /// At most this many bytes.
        "maxRequestBytes" => max_request_bytes: Option<u32>,
        /// Whether a longer body is cut instead of refused.
        "allowPartialMessage" => allow_partial_message: Option<bool>,
        /// Whether it is sent as bytes.
        "packAsBytes" => pack_as_bytes: Option<bool>,
    }
}

object! {
    /// Authorisation by HTTP: 200 allows.
    ExtAuthzHttp {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        /// Time for a request.
        "timeout" => timeout: Option<Duration>,
        /// Put before the path of the request that is checked.
        "pathPrefix" => path_prefix: Option<String>,
        /// Whether requests pass when it does not answer.
        "failOpen" => fail_open: Option<bool>,
        /// Whether the route is chosen again after the check.
        "clearRouteCache" => clear_route_cache: Option<bool>,
        /// Status when it does not answer; absent means 403.
        "statusOnError" => status_on_error: Option<String>,
        /// The former form of `includeRequestHeadersInCheck`.
        "includeHeadersInCheck" => include_headers_in_check: Vec<String>,
        /// Request headers it gets.
        "includeRequestHeadersInCheck" => include_request_headers_in_check: Vec<String>,
        /// Further headers it gets.
        "includeAdditionalHeadersInCheck" => include_additional_headers_in_check: BTreeMap<String, String>,
        /// How much of the body it gets.
        "includeRequestBodyInCheck" => include_request_body_in_check: Option<ExtAuthzRequestBody>,
        /// Its headers that go on with a request.
        "headersToUpstreamOnAllow" => headers_to_upstream_on_allow: Vec<String>,
        /// Its headers that go back with a refusal.
        "headersToDownstreamOnDeny" => headers_to_downstream_on_deny: Vec<String>,
        /// Its headers that go back with an answer.
        "headersToDownstreamOnAllow" => headers_to_downstream_on_allow: Vec<String>,
    }
}

object! {
    /// Authorisation by Envoy's gRPC service.
    ExtAuthzGrpc {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        /// Time for a request.
        "timeout" => timeout: Option<Duration>,
        /// Whether requests pass when it does not answer.
        "failOpen" => fail_open: Option<bool>,
        /// Whether the route is chosen again after the check.
        "clearRouteCache" => clear_route_cache: Option<bool>,
        /// Status when it does not answer; absent means 403.
        "statusOnError" => status_on_error: Option<String>,
        /// How much of the body it gets.
        "includeRequestBodyInCheck" => include_request_body_in_check: Option<ExtAuthzRequestBody>,
    }
}

object! {
    /// Zipkin.
    ZipkinProvider {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        /// Longest path in a tag.
        "maxTagLength" => max_tag_length: Option<u32>,
        /// Whether trace ids have 64 bits.
        "enable64bitTraceId" => enable_64bit_trace_id: Option<bool>,
        /// Its path.
        "path" => path: Option<String>,
        /// Which trace headers are used.
        "traceContextOption" => trace_context_option: Option<TraceContextOption>,
        /// Time for a request.
        "timeout" => timeout: Option<Duration>,
        /// Its headers.
        "headers" => headers: Vec<ProviderHeader>,
    }
}

object! {
    /// Lightstep; removed from Istio.
    LightstepProvider {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        "accessToken" => access_token: Option<String>,
        /// Longest path in a tag.
        "maxTagLength" => max_tag_length: Option<u32>,
    }
}

object! {
    /// Datadog.
    DatadogProvider {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        /// Longest path in a tag.
        "maxTagLength" => max_tag_length: Option<u32>,
    }
}

object! {
    /// SkyWalking.
    SkyWalkingProvider {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        "accessToken" => access_token: Option<String>,
    }
}

object! {
    /// Logs of Stackdriver.
    StackdriverLogging {
        "labels" => labels: BTreeMap<String, String>,
    }
}

object! {
    /// Stackdriver.
    StackdriverProvider {
        "debug" => debug: Option<bool>,
        "maxNumberOfAttributes" => max_number_of_attributes: Option<i64>,
        "maxNumberOfAnnotations" => max_number_of_annotations: Option<i64>,
        "maxNumberOfMessageEvents" => max_number_of_message_events: Option<i64>,
        /// Longest path in a tag.
        "maxTagLength" => max_tag_length: Option<u32>,
        "logging" => logging: Option<StackdriverLogging>,
    }
}

object! {
    /// OpenCensus; removed from Istio.
    OpenCensusProvider {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        "context" => context: Vec<String>,
        /// Longest path in a tag.
        "maxTagLength" => max_tag_length: Option<u32>,
    }
}

object! {
    /// Something that has no fields: being there is all it says.
    Present {

    }
}

object! {
    /// Format of log lines.
    LogFormat {
        /// As text.
        "text" => text: Option<String>,
        /// As JSON.
        "labels" => labels: Option<Free>,
    }
    at_most_one ["text", "labels"]
}

object! {
    /// Access log in a file.
    FileAccessLog {
        /// The file; absent means standard output.
        "path" => path: Option<String>,
        /// Format of its lines.
        "logFormat" => log_format: Option<LogFormat>,
        /// Whether absent values are left out.
        "omitEmptyValues" => omit_empty_values: Option<bool>,
    }
}

object! {
    /// Access log of HTTP by gRPC.
    HttpAccessLogService {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        /// Name of the log.
        "logName" => log_name: Option<String>,
        "filterStateObjectsToLog" => filter_state_objects_to_log: Vec<String>,
        "additionalRequestHeadersToLog" => additional_request_headers_to_log: Vec<String>,
        "additionalResponseHeadersToLog" => additional_response_headers_to_log: Vec<String>,
        "additionalResponseTrailersToLog" => additional_response_trailers_to_log: Vec<String>,
    }
}

object! {
    /// Access log of TCP by gRPC.
    TcpAccessLogService {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        /// Name of the log.
        "logName" => log_name: Option<String>,
        "filterStateObjectsToLog" => filter_state_objects_to_log: Vec<String>,
    }
}

object! {
    /// Format of log records.
    OtelLogFormat {
        /// Their body.
        "text" => text: Option<String>,
        /// Their attributes.
        "labels" => labels: Option<Free>,
    }
}

object! {
    /// Access log by OpenTelemetry.
    OtelAccessLog {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        /// Name of the log.
        "logName" => log_name: Option<String>,
        /// Format of its lines.
        "logFormat" => log_format: Option<OtelLogFormat>,
    }
}

object! {
    /// Dynatrace's interface.
    DynatraceApi {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        "http" => http: Option<ProviderHttp>,
    }
}

object! {
    /// Sampling by Dynatrace.
    DynatraceSampler {
        "tenant" => tenant: Option<String>,
        "clusterId" => cluster_id: Option<i32>,
        "rootSpansPerMinute" => root_spans_per_minute: Option<u32>,
        "httpService" => http_service: Option<DynatraceApi>,
    }
}

object! {
    /// OpenTelemetry.
    OtelProvider {
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
        /// Longest path in a tag.
        "maxTagLength" => max_tag_length: Option<u32>,
        /// By HTTP.
        "http" => http: Option<ProviderHttp>,
        /// By gRPC.
        "grpc" => grpc: Option<ProviderGrpc>,
        /// Where attributes of the resource come from.
        "resourceDetectors" => resource_detectors: Option<ResourceDetectors>,
        /// Where the name of the service comes from.
        "serviceAttributeEnrichment" => service_attribute_enrichment: Option<ServiceAttributeEnrichment>,
        /// Sampling by Dynatrace.
        "dynatraceSampler" => dynatrace_sampler: Option<DynatraceSampler>,
    }
}

object! {
    /// Keys and certificates.
    SdsProvider {
        /// Name of the resource.
        "name" => name: Option<String>,
        /// Its host, as `namespace/host` or `host`.
        "service" => service: Option<String>,
        /// Its port.
        "port" => port: Option<u16>,
    }
}

object! {
    /// A request to a provider.
    ProviderHttp {
        /// Its path.
        "path" => path: Option<String>,
        /// Time for a request.
        "timeout" => timeout: Option<Duration>,
        /// Its headers.
        "headers" => headers: Vec<ProviderHeader>,
    }
}

object! {
    /// A header.
    ProviderHeader {
        /// Its name.
        "name" => name: Option<String>,
        /// Its value.
        "value" => value: Option<String>,
        /// Environment variable with its value.
        "envName" => env_name: Option<String>,
    }
    at_most_one ["value", "envName"]
}

object! {
    /// Where attributes of the resource come from.
    ResourceDetectors {
        "environment" => environment: Option<Present>,
        "dynatrace" => dynatrace: Option<Present>,
    }
}

object! {
    /// A gRPC call to a provider.
    ProviderGrpc {
        /// Time for a request.
        "timeout" => timeout: Option<Duration>,
        /// Its metadata.
        "initialMetadata" => initial_metadata: Vec<ProviderHeader>,
    }
}

object! {
    /// An external service.
    ExtensionProvider {
        /// Its name, which policies refer to.
        "name" => name: Option<String>,
        /// Authorisation by HTTP.
        "envoyExtAuthzHttp" => envoy_ext_authz_http: Option<ExtAuthzHttp>,
        /// Authorisation by gRPC.
        "envoyExtAuthzGrpc" => envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
        /// Traces to Zipkin.
        "zipkin" => zipkin: Option<ZipkinProvider>,
        /// Traces to Lightstep; removed from Istio.
        "lightstep" => lightstep: Option<LightstepProvider>,
        /// Traces to Datadog.
        "datadog" => datadog: Option<DatadogProvider>,
        /// Traces, logs and metrics to Stackdriver.
        "stackdriver" => stackdriver: Option<StackdriverProvider>,
        /// Traces to OpenCensus; removed from Istio.
        "opencensus" => opencensus: Option<OpenCensusProvider>,
        /// Traces to SkyWalking.
        "skywalking" => skywalking: Option<SkyWalkingProvider>,
        /// Traces by OpenTelemetry.
        "opentelemetry" => opentelemetry: Option<OtelProvider>,
        /// Metrics for Prometheus.
        "prometheus" => prometheus: Option<Present>,
        /// Access log in a file.
        "envoyFileAccessLog" => envoy_file_access_log: Option<FileAccessLog>,
        /// Access log of HTTP by gRPC.
        "envoyHttpAls" => envoy_http_als: Option<HttpAccessLogService>,
        /// Access log of TCP by gRPC.
        "envoyTcpAls" => envoy_tcp_als: Option<TcpAccessLogService>,
        /// Access log by OpenTelemetry.
        "envoyOtelAls" => envoy_otel_als: Option<OtelAccessLog>,
        /// Keys and certificates.
        "sds" => sds: Option<SdsProvider>,
    }
    at_most_one ["envoyExtAuthzHttp", "envoyExtAuthzGrpc", "zipkin", "lightstep", "datadog", "stackdriver", "opencensus", "skywalking", "opentelemetry", "prometheus", "envoyFileAccessLog", "envoyHttpAls", "envoyTcpAls", "envoyOtelAls", "sds"]
}

choice! {
    /// Trace headers.
    TraceContextOption {
        "USE_B3" => UseB3,
        "USE_B3_WITH_W3C_PROPAGATION" => UseB3WithW3cPropagation,
    }
}

choice! {
    /// Where the name of a service comes from.
    ServiceAttributeEnrichment {
        "ISTIO_CANONICAL" => IstioCanonical,
        "OTEL_SEMANTIC_CONVENTIONS" => OtelSemanticConventions,
    }
}
