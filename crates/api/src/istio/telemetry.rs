//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    Telemetry {
        "accessLogging" => access_logging: Vec<AccessLogging>,
        "metrics" => metrics: Vec<Metrics>,
        "selector" => selector: Option<WorkloadSelector>,
        "targetRef" => target_ref: Option<PolicyTargetReference>,
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
        "tracing" => tracing: Vec<Tracing>,
    }
    at_most_one ["selector", "targetRef", "targetRefs"]
}

object! {
    /// TODO.
    AccessLogging {
        "disabled" => disabled: Option<bool> [nullable],
        "filter" => filter: Option<AccessLogFilter>,
        "match" => matches: Option<LogSelector>,
        "providers" => providers: Vec<ProviderRef>,
    }
}

object! {
    /// TODO.
    AccessLogFilter {
        "expression" => expression: Option<String>,
    }
}

object! {
    /// TODO.
    LogSelector {
        "mode" => mode: Option<TelemetryMode>,
    }
}

object! {
    /// TODO.
    ProviderRef {
        "name" => name: String [required, len(1, usize::MAX)],
    }
}

object! {
    /// TODO.
    Metrics {
        "overrides" => overrides: Vec<MetricsOverride>,
        "providers" => providers: Vec<ProviderRef>,
        "reportingInterval" => reporting_interval: Option<Duration> [duration_min_1ms],
    }
}

object! {
    /// TODO.
    MetricsOverride {
        "disabled" => disabled: Option<bool> [nullable],
        "match" => matches: Option<MetricSelector>,
        "tagOverrides" => tag_overrides: BTreeMap<String, TagOverride>,
    }
}

object! {
    /// TODO.
    MetricSelector {
        "customMetric" => custom_metric: Option<String> [len(1, usize::MAX)],
        "metric" => metric: Option<Metric>,
        "mode" => mode: Option<TelemetryMode>,
    }
    at_most_one ["metric", "customMetric"]
}

object! {
    /// TODO.
    TagOverride {
        "operation" => operation: Option<TagOperation>,
        "value" => value: Option<String>,
    }
    // CEL ((has(self.operation) ? self.operation : "") == "UPSERT") ? (self.value != "") : true
    // CEL ((has(self.operation) ? self.operation : "") == "REMOVE") ? !has(self.value) : true
}

object! {
    /// TODO.
    Tracing {
        "customTags" => custom_tags: BTreeMap<String, CustomTag>,
        "disableContextPropagation" => disable_context_propagation: Option<bool> [nullable],
        "disableSpanReporting" => disable_span_reporting: Option<bool> [nullable],
        "enableIstioTags" => enable_istio_tags: Option<bool> [nullable],
        "match" => matches: Option<LogSelector>,
        "providers" => providers: Vec<ProviderRef>,
        "randomSamplingPercentage" => random_sampling_percentage: Option<f64> [nullable, range(0.0, 100.0)],
        "useRequestIdForTraceSampling" => use_request_id_for_trace_sampling: Option<bool> [nullable],
    }
}

object! {
    /// TODO.
    CustomTag {
        "environment" => environment: Option<NamedTag>,
        "formatter" => formatter: Option<TagValue>,
        "header" => header: Option<NamedTag>,
        "literal" => literal: Option<TagValue>,
    }
    at_most_one ["literal", "environment", "header", "formatter"]
}

object! {
    /// TODO.
    NamedTag {
        "defaultValue" => default_value: Option<String>,
        "name" => name: String [required, len(1, usize::MAX)],
    }
}

object! {
    /// TODO.
    TagValue {
        "value" => value: String [required, len(1, usize::MAX)],
    }
}

choice! {
    /// TODO.
    TelemetryMode {
        "CLIENT_AND_SERVER" => ClientAndServer,
        "CLIENT" => Client,
        "SERVER" => Server,
    }
}

choice! {
    /// TODO.
    Metric {
        "ALL_METRICS" => AllMetrics,
        "REQUEST_COUNT" => RequestCount,
        "REQUEST_DURATION" => RequestDuration,
        "REQUEST_SIZE" => RequestSize,
        "RESPONSE_SIZE" => ResponseSize,
        "TCP_OPENED_CONNECTIONS" => TcpOpenedConnections,
        "TCP_CLOSED_CONNECTIONS" => TcpClosedConnections,
        "TCP_SENT_BYTES" => TcpSentBytes,
        "TCP_RECEIVED_BYTES" => TcpReceivedBytes,
        "GRPC_REQUEST_MESSAGES" => GrpcRequestMessages,
        "GRPC_RESPONSE_MESSAGES" => GrpcResponseMessages,
    }
}

choice! {
    /// TODO.
    TagOperation {
        "UPSERT" => Upsert,
        "REMOVE" => Remove,
    }
}
