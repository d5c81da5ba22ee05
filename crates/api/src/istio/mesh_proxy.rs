//! Settings of proxies in the mesh configuration (`defaultConfig`) and in the annotation `proxy.istio.io/config`.

use std::collections::BTreeMap;

use super::connection_pool::TcpKeepalive;
use super::destination_rule::ClientTlsSettings;
use super::extension_provider::Present;
use super::proxy_config::ProxyImage;
use super::workload::ReadinessProbe;
use crate::value::Duration;

object! {
    /// Where traces go.
    TracerAddress {
        /// Its address.
        "address" => address: Option<String>,
    }
}

object! {
    /// Lightstep.
    LightstepTracer {
        /// Its address.
        "address" => address: Option<String>,
        "accessToken" => access_token: Option<String>,
    }
}

object! {
    /// Stackdriver.
    StackdriverTracer {
        "debug" => debug: Option<bool>,
        "maxNumberOfAttributes" => max_number_of_attributes: Option<i64>,
        "maxNumberOfAnnotations" => max_number_of_annotations: Option<i64>,
        "maxNumberOfMessageEvents" => max_number_of_message_events: Option<i64>,
    }
}

object! {
    /// OpenCensus.
    OpenCensusTracer {
        /// Its address.
        "address" => address: Option<String>,
        "context" => context: Vec<String>,
    }
}

object! {
    /// Where a tag comes from.
    MeshCustomTag {
        /// A fixed text.
        "literal" => literal: Option<MeshTagValue>,
        /// An environment variable of the proxy.
        "environment" => environment: Option<MeshNamedTag>,
        /// A request header.
        "header" => header: Option<MeshNamedTag>,
    }
    at_most_one ["literal", "environment", "header"]
}

object! {
    /// A text.
    MeshTagValue {
        /// The text.
        "value" => value: Option<String>,
    }
}

object! {
    /// A named value.
    MeshNamedTag {
        /// Its name.
        "name" => name: Option<String>,
        /// What is used when it is absent.
        "defaultValue" => default_value: Option<String>,
    }
}

object! {
    /// Traces.
    MeshTracing {
        /// Send to Zipkin.
        "zipkin" => zipkin: Option<TracerAddress>,
        /// Send to Lightstep; removed from Istio.
        "lightstep" => lightstep: Option<LightstepTracer>,
        /// Send to Datadog.
        "datadog" => datadog: Option<TracerAddress>,
        /// Send to Stackdriver.
        "stackdriver" => stackdriver: Option<StackdriverTracer>,
        /// Send to OpenCensus; removed from Istio.
        "openCensusAgent" => open_census_agent: Option<OpenCensusTracer>,
        /// Additional tags.
        "customTags" => custom_tags: BTreeMap<String, MeshCustomTag>,
        /// Longest path in a tag; absent means 256.
        "maxPathTagLength" => max_path_tag_length: Option<u32>,
        /// Percentage of requests; absent means 1.
        "sampling" => sampling: Option<f64>,
        /// TLS towards it.
        "tlsSettings" => tls_settings: Option<ClientTlsSettings>,
        /// Whether Istio's own tags are added.
        "enableIstioTags" => enable_istio_tags: Option<bool>,
    }
    at_most_one ["zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"]
}

object! {
    /// Long without effect.
    SdsSettings {
        /// Whether it is on.
        "enabled" => enabled: Option<bool>,
        "k8sSaJwtPath" => k8s_sa_jwt_path: Option<String>,
    }
}

object! {
    /// What stands before a gateway.
    Topology {
        /// How many proxies before it are trusted.
        "numTrustedProxies" => num_trusted_proxies: Option<u32>,
        /// What happens to the header with the client's certificate.
        "forwardClientCertDetails" => forward_client_cert_details: Option<ForwardClientCertDetails>,
        /// Whether the PROXY protocol is expected.
        "proxyProtocol" => proxy_protocol: Option<Present>,
    }
}

object! {
    /// Hardware for private keys.
    KeyAccelerator {
        "pollDelay" => poll_delay: Option<Duration>,
        "fallback" => fallback: Option<bool>,
    }
}

object! {
    /// Hardware for private keys.
    PrivateKeyProvider {
        "cryptomb" => cryptomb: Option<KeyAccelerator>,
        "qat" => qat: Option<KeyAccelerator>,
    }
    at_most_one ["cryptomb", "qat"]
}

object! {
    /// Statistics that are kept in addition.
    ProxyStatsMatcher {
        /// By prefix.
        "inclusionPrefixes" => inclusion_prefixes: Vec<String>,
        /// By suffix.
        "inclusionSuffixes" => inclusion_suffixes: Vec<String>,
        /// By expression.
        "inclusionRegexps" => inclusion_regexps: Vec<String>,
    }
}

object! {
    /// The header `server`.
    ServerHeader {
        /// Whether it is off.
        "disabled" => disabled: Option<bool>,
        /// Its value; absent means `istio-envoy`.
        "value" => value: Option<String>,
    }
}

object! {
    /// A header that is set unless turned off.
    HeaderSwitch {
        /// Whether it is off.
        "disabled" => disabled: Option<bool>,
    }
}

object! {
    /// A header that is not set unless turned on.
    ForwardedSwitch {
        /// Whether it is on.
        "enabled" => enabled: Option<bool>,
    }
}

object! {
    /// Headers by which proxies tell who they are.
    MetadataExchangeHeaders {
        /// To whom they are sent.
        "mode" => mode: Option<MetadataExchangeMode>,
    }
}

object! {
    /// What goes into the header with the client's certificate.
    ClientCertDetails {
        "subject" => subject: Option<bool>,
        "cert" => cert: Option<bool>,
        "chain" => chain: Option<bool>,
        "dns" => dns: Option<bool>,
        "uri" => uri: Option<bool>,
    }
}

object! {
    /// Headers that the proxy sets.
    ProxyHeaders {
        /// `x-forwarded-client-cert`.
        "forwardedClientCert" => forwarded_client_cert: Option<ForwardClientCertDetails>,
        /// What goes into it.
        "setCurrentClientCertDetails" => set_current_client_cert_details: Option<ClientCertDetails>,
        /// `x-request-id`.
        "requestId" => request_id: Option<HeaderSwitch>,
        /// `server`.
        "server" => server: Option<ServerHeader>,
        /// `x-envoy-attempt-count`.
        "attemptCount" => attempt_count: Option<HeaderSwitch>,
        /// Envoy's debugging headers.
        "envoyDebugHeaders" => envoy_debug_headers: Option<HeaderSwitch>,
        /// Headers by which proxies tell who they are.
        "metadataExchangeHeaders" => metadata_exchange_headers: Option<MetadataExchangeHeaders>,
        /// Whether the case of HTTP/1 headers is kept.
        "preserveHttp1HeaderCase" => preserve_http1_header_case: Option<bool>,
        /// `x-forwarded-host`.
        "xForwardedHost" => x_forwarded_host: Option<ForwardedSwitch>,
        /// `x-forwarded-port`.
        "xForwardedPort" => x_forwarded_port: Option<u16>,
    }
}

object! {
    /// Limits on connections of clients.
    ConnectionSettings {
        /// The values of what is not given.
        "profile" => profile: Option<ConnectionProfile>,
        "listenerPerConnectionBufferLimitBytes" => listener_per_connection_buffer_limit_bytes: Option<i32>,
        "clusterPerConnectionBufferLimitBytes" => cluster_per_connection_buffer_limit_bytes: Option<i32>,
        /// Idle time of connections.
        "httpIdleTimeout" => http_idle_timeout: Option<Duration>,
        "httpMaxConnectionDuration" => http_max_connection_duration: Option<Duration>,
        "httpDrainTimeout" => http_drain_timeout: Option<Duration>,
        /// Time for a whole request.
        "httpRequestTimeout" => http_request_timeout: Option<Duration>,
        "httpRequestHeadersTimeout" => http_request_headers_timeout: Option<Duration>,
        "httpStreamIdleTimeout" => http_stream_idle_timeout: Option<Duration>,
        "httpMaxStreamDuration" => http_max_stream_duration: Option<Duration>,
        "httpMaxConcurrentStreams" => http_max_concurrent_streams: Option<i32>,
        "http2InitialStreamWindowSize" => http2_initial_stream_window_size: Option<i32>,
        "http2InitialConnectionWindowSize" => http2_initial_connection_window_size: Option<i32>,
        "httpHeadersWithUnderscoresAction" => http_headers_with_underscores_action: Option<UnderscoresAction>,
        "httpMergeSlashes" => http_merge_slashes: Option<bool>,
        "httpPathWithEscapedSlashesAction" => http_path_with_escaped_slashes_action: Option<EscapedSlashesAction>,
        "listenerConnectionLimit" => listener_connection_limit: Option<i32>,
        "globalDownstreamConnectionLimit" => global_downstream_connection_limit: Option<i32>,
    }
}

object! {
    /// Settings of proxies, most of which take effect when they start.
    MeshProxyConfig {
        /// Folder for generated files.
        "configPath" => config_path: Option<String>,
        /// Envoy's program.
        "binaryPath" => binary_path: Option<String>,
        /// Name of the workload in traces.
        "serviceCluster" => service_cluster: Option<String>,
        /// Where the name of the workload in traces comes from.
        "tracingServiceName" => tracing_service_name: Option<TracingServiceName>,
        /// Time to drain connections of an old listener; absent means 45 s.
        "drainDuration" => drain_duration: Option<Duration>,
        /// Address of the control plane.
        "discoveryAddress" => discovery_address: Option<String>,
        /// Long without effect.
        "discoveryRefreshDelay" => discovery_refresh_delay: Option<Duration>,
        /// The former form of `tracing.zipkin`.
        "zipkinAddress" => zipkin_address: Option<String>,
        /// Where statistics are sent.
        "statsdUdpAddress" => statsd_udp_address: Option<String>,
        /// The former form of `envoyMetricsService`.
        "envoyMetricsServiceAddress" => envoy_metrics_service_address: Option<String>,
        /// Port of the proxy's own interface; absent means 15000.
        "proxyAdminPort" => proxy_admin_port: Option<u16>,
        /// Long without effect.
        "availabilityZone" => availability_zone: Option<String>,
        /// How the control plane is authenticated.
        "controlPlaneAuthPolicy" => control_plane_auth_policy: Option<AuthenticationPolicy>,
        /// A configuration of Envoy instead of the generated one.
        "customConfigFile" => custom_config_file: Option<String>,
        /// Longest name in statistics.
        "statNameLength" => stat_name_length: Option<i32>,
        /// Worker threads; 0 means one a core.
        "concurrency" => concurrency: Option<i32>,
        /// Template of Envoy's bootstrap.
        "proxyBootstrapTemplatePath" => proxy_bootstrap_template_path: Option<String>,
        /// How inbound traffic is captured.
        "interceptionMode" => interception_mode: Option<InterceptionMode>,
        /// Traces.
        "tracing" => tracing: Option<MeshTracing>,
        /// Long without effect.
        "sds" => sds: Option<SdsSettings>,
        /// Service that gets the access log.
        "envoyAccessLogService" => envoy_access_log_service: Option<RemoteService>,
        /// Service that gets metrics.
        "envoyMetricsService" => envoy_metrics_service: Option<RemoteService>,
        /// Environment of the proxy.
        "proxyMetadata" => proxy_metadata: BTreeMap<String, String>,
        /// Envoy's runtime values.
        "runtimeValues" => runtime_values: BTreeMap<String, String>,
        /// Port of health checks and merged metrics; absent means 15020.
        "statusPort" => status_port: Option<u16>,
        /// Tags of statistics.
        "extraStatTags" => extra_stat_tags: Vec<String>,
        /// What stands before a gateway.
        "gatewayTopology" => gateway_topology: Option<Topology>,
        /// Time to drain at the end; absent means 5 s.
        "terminationDrainDuration" => termination_drain_duration: Option<Duration>,
        /// Name of the mesh.
        "meshId" => mesh_id: Option<String>,
        /// How to tell that a workload outside of Kubernetes is ready.
        "readinessProbe" => readiness_probe: Option<ReadinessProbe>,
        /// Statistics that are kept in addition.
        "proxyStatsMatcher" => proxy_stats_matcher: Option<ProxyStatsMatcher>,
        /// Whether the application starts after the proxy.
        "holdApplicationUntilProxyStarts" => hold_application_until_proxy_starts: Option<bool>,
        /// Further authorities for the control plane.
        "caCertificatesPem" => ca_certificates_pem: Vec<String>,
        /// Image of the proxy.
        "image" => image: Option<ProxyImage>,
        /// Hardware for private keys.
        "privateKeyProvider" => private_key_provider: Option<PrivateKeyProvider>,
        /// Headers that the proxy sets.
        "proxyHeaders" => proxy_headers: Option<ProxyHeaders>,
        /// Time between writes of the access log; absent means 1 s.
        "fileFlushInterval" => file_flush_interval: Option<Duration>,
        /// Size of a write of the access log; absent means 64.
        "fileFlushMinSizeKb" => file_flush_min_size_kb: Option<u32>,
        /// Whether statistics are compressed.
        "statsCompression" => stats_compression: Option<bool>,
        /// Limits on connections of clients.
        "connectionSettings" => connection_settings: Option<ConnectionSettings>,
    }
    at_most_one ["serviceCluster", "tracingServiceName"]
    ignored {
        "parentShutdownDuration": "removed from Istio; heddle drains by `terminationDrainDuration`",
        "workloadCertTtl": "not a field of Istio; the life of certificates is the control plane's",
        "connectTimeout": "removed from Istio; use `connectTimeout` of the mesh"
    }
}

object! {
    /// A service outside of the mesh's own.
    RemoteService {
        /// Its address.
        "address" => address: Option<String>,
        /// TLS towards it.
        "tlsSettings" => tls_settings: Option<ClientTlsSettings>,
        /// Keep-alive of the kernel.
        "tcpKeepalive" => tcp_keepalive: Option<TcpKeepalive>,
    }
}

choice! {
    /// What happens to the header with the client's certificate.
    ForwardClientCertDetails {
        "UNDEFINED" => Undefined,
        "SANITIZE" => Sanitize,
        "FORWARD_ONLY" => ForwardOnly,
        "APPEND_FORWARD" => AppendForward,
        "SANITIZE_SET" => SanitizeSet,
        "ALWAYS_FORWARD_ONLY" => AlwaysForwardOnly,
    }
}

choice! {
    /// To whom headers about a proxy are sent.
    MetadataExchangeMode {
        "UNDEFINED" => Undefined,
        "IN_MESH" => InMesh,
    }
}

choice! {
    /// Where a proxy stands.
    ConnectionProfile {
        "SIDECAR" => Sidecar,
        "EDGE" => Edge,
    }
}

choice! {
    /// What happens to headers with underscores.
    UnderscoresAction {
        "HEADERS_WITH_UNDERSCORES_UNSPECIFIED" => HeadersWithUnderscoresUnspecified,
        "HEADERS_WITH_UNDERSCORES_ALLOW" => HeadersWithUnderscoresAllow,
        "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST" => HeadersWithUnderscoresRejectRequest,
        "HEADERS_WITH_UNDERSCORES_DROP_HEADER" => HeadersWithUnderscoresDropHeader,
    }
}

choice! {
    /// What happens to paths with encoded slashes.
    EscapedSlashesAction {
        "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED" => PathWithEscapedSlashesUnspecified,
        "KEEP_UNCHANGED" => KeepUnchanged,
        "REJECT_REQUEST" => RejectRequest,
        "UNESCAPE_AND_REDIRECT" => UnescapeAndRedirect,
        "UNESCAPE_AND_FORWARD" => UnescapeAndForward,
    }
}

choice! {
    /// Where the name in traces comes from.
    TracingServiceName {
        "APP_LABEL_AND_NAMESPACE" => AppLabelAndNamespace,
        "CANONICAL_NAME_ONLY" => CanonicalNameOnly,
        "CANONICAL_NAME_AND_NAMESPACE" => CanonicalNameAndNamespace,
    }
}

choice! {
    /// How the control plane is authenticated.
    AuthenticationPolicy {
        "NONE" => None,
        "MUTUAL_TLS" => MutualTls,
        "INHERIT" => Inherit,
    }
}

choice! {
    /// How inbound traffic is captured.
    InterceptionMode {
        "REDIRECT" => Redirect,
        "TPROXY" => Tproxy,
        "NONE" => None,
    }
}
