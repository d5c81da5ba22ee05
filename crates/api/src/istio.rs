//! Istio's kinds, with every field of every served version (the versions of a kind share one schema).
//!
//! The rules are those of the CRDs; a test compares field by field. What a field means is `translate`'s business.

mod authentication;
mod authorization_policy;
mod common;
mod connection_pool;
mod destination_rule;
mod envoy_filter;
mod extension_provider;
mod gateway;
mod http_action;
mod load_balancer;
mod mesh_config;
mod mesh_networks;
mod mesh_proxy;
mod proxy_config;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;
mod wasm;
mod workload;

pub use authentication::{
    ClaimToHeader, JwtHeader, JwtPresence, JwtRule, MutualTls, MutualTlsMode, PeerAuthentication,
    RequestAuthentication,
};
pub use authorization_policy::{
    Action, AuthorizationPolicy, Condition, Operation, PeerSource, PolicyProvider, Rule, RuleFrom,
    RuleTo,
};
pub use common::{
    Destination, LabelsSelector, Percent, PolicyTargetReference, PortSelector, StringMatch,
    WorkloadSelector,
};
pub use connection_pool::{
    ConnectionPoolSettings, H2UpgradePolicy, Http2KeepAlive, HttpSettings, TcpKeepalive,
    TcpSettings,
};
pub use destination_rule::{
    ClientTlsMode, ClientTlsSettings, DestinationRule, OutlierDetection, PortTrafficPolicy,
    ProxyProtocol, ProxyProtocolVersion, RetryBudget, Subset, TrafficPolicy, TunnelSettings,
};
pub use envoy_filter::{
    ApplyTo, ClusterMatch, ConfigPatch, EnvoyFilter, EnvoyRouteAction, EnvoyRouteMatch,
    FilterChainMatch, FilterMatch, ListenerMatch, NameMatch, Patch, PatchContext, PatchMatch,
    PatchOperation, ProxyMatch, RouteConfigurationMatch, VirtualHostMatch, WaypointMatch,
};
pub use extension_provider::{
    DatadogProvider, DynatraceApi, DynatraceSampler, ExtAuthzGrpc, ExtAuthzHttp,
    ExtAuthzRequestBody, ExtensionProvider, FileAccessLog, HttpAccessLogService, LightstepProvider,
    LogFormat, OpenCensusProvider, OtelAccessLog, OtelLogFormat, OtelProvider, Present,
    ProviderGrpc, ProviderHeader, ProviderHttp, ResourceDetectors, SdsProvider,
    ServiceAttributeEnrichment, SkyWalkingProvider, StackdriverLogging, StackdriverProvider,
    TcpAccessLogService, TraceContextOption, ZipkinProvider,
};
pub use gateway::{
    Gateway, Server, ServerPort, ServerTlsMode, ServerTlsSettings, TlsCertificate, TlsVersion,
};
pub use http_action::{
    CorsPolicy, Delegate, DerivePort, DirectResponse, DirectResponseBody, FaultAbort, FaultDelay,
    FaultInjection, HeaderOperations, Headers, HttpMirror, HttpRedirect, HttpRetry, HttpRewrite,
    RegexRewrite, UnmatchedPreflights,
};
pub use load_balancer::{
    BackendUtilization, ConsistentHash, CookieAttribute, HttpCookie, LoadBalancerSettings,
    LocalityDistribute, LocalityFailover, LocalityLoadBalancer, Maglev, RingHash,
    SimpleLoadBalancer, Warmup, ZoneAwareLoadBalancer,
};
pub use mesh_config::{
    AccessLogEncoding, CertificateData, ConfigSource, DefaultProviders, DefaultTrafficPolicy,
    DnsCertificate, IngressControllerMode, MeshCa, MeshConfig, MeshH2UpgradePolicy,
    MeshInboundMode, MeshInboundTrafficPolicy, MeshOutboundMode, MeshOutboundTrafficPolicy,
    MeshTls, Normalization, PathNormalization, Scope, ServiceEntryVisibility, ServiceScope,
    ServiceSettings, ServiceSettingsValues, Visibility, VisibilityPolicy, VisibilityRule,
};
pub use mesh_networks::{MeshNetworks, Network, NetworkEndpoints, NetworkGateway};
pub use mesh_proxy::{
    AuthenticationPolicy, ClientCertDetails, ConnectionProfile, ConnectionSettings,
    EscapedSlashesAction, ForwardClientCertDetails, ForwardedSwitch, HeaderSwitch,
    InterceptionMode, KeyAccelerator, LightstepTracer, MeshCustomTag, MeshNamedTag,
    MeshProxyConfig, MeshTagValue, MeshTracing, MetadataExchangeHeaders, MetadataExchangeMode,
    OpenCensusTracer, PrivateKeyProvider, ProxyHeaders, ProxyStatsMatcher, RemoteService,
    SdsSettings, ServerHeader, StackdriverTracer, Topology, TracerAddress, TracingServiceName,
    UnderscoresAction,
};
pub use proxy_config::{ProxyConfig, ProxyImage};
pub use service_entry::{Location, Resolution, ServiceEntry, ServicePort};
pub use sidecar::{
    CaptureMode, EgressListener, IngressListener, OutboundTrafficMode, OutboundTrafficPolicy,
    Sidecar, SidecarPort,
};
pub use telemetry::{
    AccessLogFilter, AccessLogging, CustomTag, LogSelector, Metric, MetricSelector, Metrics,
    MetricsOverride, NamedTag, ProviderRef, TagOperation, TagOverride, TagValue, Telemetry,
    TelemetryMode, Tracing,
};
pub use virtual_service::{
    HttpMatch, HttpRoute, HttpRouteDestination, L4Match, RouteDestination, TcpRoute, TlsMatch,
    TlsRoute, VirtualService,
};
pub use wasm::{
    ExtensionPhase, FailStrategy, ImagePullPolicy, LuaFilter, PluginPhase, PluginType,
    TrafficExtension, TrafficMode, TrafficPort, TrafficSelector, ValueFrom, VmConfig,
    VmEnvironment, WasmFilter, WasmPlugin,
};
pub use workload::{
    ExecProbe, GrpcProbe, HttpProbe, ProbeHeader, ReadinessProbe, TcpProbe, WorkloadEntry,
    WorkloadGroup, WorkloadGroupMetadata, WorkloadTemplate,
};
