//! Telemetry (`telemetry.istio.io`).

use std::collections::BTreeMap;

use super::common::{PolicyTargetReference, WorkloadSelector};
use crate::codes;
use crate::decode::Decoder;
use crate::value::Duration;

object! {
    /// What is recorded of requests.
    Telemetry {
        /// Access logs.
        "accessLogging" => access_logging: Vec<AccessLogging>,
        /// Metrics.
        "metrics" => metrics: Vec<Metrics>,
        /// Workloads it applies to; absent means the whole namespace.
        "selector" => selector: Option<WorkloadSelector>,
        /// The former form of `targetRefs`.
        "targetRef" => target_ref: Option<PolicyTargetReference>,
        /// Objects it is attached to, instead of a selector.
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
        /// Traces.
        "tracing" => tracing: Vec<Tracing>,
    }
    at_most_one ["selector", "targetRef", "targetRefs"]
}

object! {
    /// What is logged.
    AccessLogging {
        /// Whether it is off.
        "disabled" => disabled: Option<bool> [nullable],
        /// Which requests.
        "filter" => filter: Option<AccessLogFilter>,
        /// What it applies to.
        "match" => matches: Option<LogSelector>,
        /// Where it goes; absent means the mesh's default.
        "providers" => providers: Vec<ProviderRef>,
    }
}

object! {
    /// Which requests are logged.
    AccessLogFilter {
        /// CEL expression.
        "expression" => expression: Option<String>,
    }
}

object! {
    /// Which side records.
    LogSelector {
        /// The side; absent means both.
        "mode" => mode: Option<TelemetryMode>,
    }
}

object! {
    /// A provider of the mesh configuration.
    ProviderRef {
        /// Its name.
        "name" => name: String [required, len(1, usize::MAX)],
    }
}

object! {
    /// What is measured.
    Metrics {
        /// Changes, in order.
        "overrides" => overrides: Vec<MetricsOverride>,
        /// Where it goes; absent means the mesh's default.
        "providers" => providers: Vec<ProviderRef>,
        /// Time between reports of TCP metrics; absent means 5 s.
        "reportingInterval" => reporting_interval: Option<Duration> [duration_min_1ms],
    }
}

object! {
    /// A change of metrics.
    MetricsOverride {
        /// Whether it is off.
        "disabled" => disabled: Option<bool> [nullable],
        /// What it applies to.
        "match" => matches: Option<MetricSelector>,
        /// Changes of labels.
        "tagOverrides" => tag_overrides: BTreeMap<String, TagOverride>,
    }
}

object! {
    /// Which metrics.
    MetricSelector {
        /// By name.
        "customMetric" => custom_metric: Option<String> [len(1, usize::MAX)],
        /// One of Istio's.
        "metric" => metric: Option<Metric>,
        /// Which side.
        "mode" => mode: Option<TelemetryMode>,
    }
    at_most_one ["metric", "customMetric"]
}

object! {
    /// A change of a label.
    TagOverride {
        /// What happens to it; absent means `UPSERT`.
        "operation" => operation: Option<TagOperation>,
        /// CEL expression of its new value.
        "value" => value: Option<String>,
    }
    check value_fits_operation
}

object! {
    /// What is traced.
    Tracing {
        /// Additional tags.
        "customTags" => custom_tags: BTreeMap<String, CustomTag>,
        /// Whether trace headers are not passed on.
        "disableContextPropagation" => disable_context_propagation: Option<bool> [nullable],
        /// Whether spans are not reported.
        "disableSpanReporting" => disable_span_reporting: Option<bool> [nullable],
        /// Whether Istio's own tags are added; absent means yes.
        "enableIstioTags" => enable_istio_tags: Option<bool> [nullable],
        /// What it applies to.
        "match" => matches: Option<LogSelector>,
        /// Where it goes; absent means the mesh's default.
        "providers" => providers: Vec<ProviderRef>,
        /// Share of requests, 0 to 100.
        "randomSamplingPercentage" => random_sampling_percentage: Option<f64> [nullable, range(0.0, 100.0)],
        /// Whether the request id decides; absent means yes.
        "useRequestIdForTraceSampling" => use_request_id_for_trace_sampling: Option<bool> [nullable],
    }
}

object! {
    /// Where a tag comes from.
    CustomTag {
        /// An environment variable of the proxy.
        "environment" => environment: Option<NamedTag>,
        /// A format as of access logs.
        "formatter" => formatter: Option<TagValue>,
        /// A request header.
        "header" => header: Option<NamedTag>,
        /// A fixed text.
        "literal" => literal: Option<TagValue>,
    }
    at_most_one ["literal", "environment", "header", "formatter"]
}

object! {
    /// A named value.
    NamedTag {
        /// What is used when it is absent.
        "defaultValue" => default_value: Option<String>,
        /// Its name.
        "name" => name: String [required, len(1, usize::MAX)],
    }
}

object! {
    /// A text.
    TagValue {
        /// The text.
        "value" => value: String [required, len(1, usize::MAX)],
    }
}

choice! {
    /// Which side records.
    TelemetryMode {
        "CLIENT_AND_SERVER" => ClientAndServer,
        "CLIENT" => Client,
        "SERVER" => Server,
    }
}

choice! {
    /// Istio's metrics.
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
    /// What happens to a label.
    TagOperation {
        "UPSERT" => Upsert,
        "REMOVE" => Remove,
    }
}

/// A new value needs one, a removal takes none.
fn value_fits_operation(decoder: &mut Decoder<'_>, tag: &TagOverride) {
    let message = match (tag.operation, tag.value.as_deref()) {
        (Some(TagOperation::Upsert), None | Some("")) => "`UPSERT` needs a `value`",
        (Some(TagOperation::Remove), Some(_)) => "`REMOVE` takes no `value`",
        _ => return,
    };
    decoder.error(codes::RULE, tag.at, message, None);
}
