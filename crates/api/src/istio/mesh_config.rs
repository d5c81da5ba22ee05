//! The mesh configuration: the key `mesh` of the ConfigMap `istio`.

use super::connection_pool::{ConnectionPoolSettings, TcpKeepalive};
use super::destination_rule::{ClientTlsSettings, OutlierDetection};
use super::extension_provider::ExtensionProvider;
use super::gateway::TlsVersion;
use super::http_action::HttpRetry;
use super::load_balancer::{LocalityLoadBalancer, ZoneAwareLoadBalancer};
use super::mesh_proxy::MeshProxyConfig;
use crate::value::{Duration, LabelSelector};

object! {
    /// What happens to unknown destinations.
    MeshOutboundTrafficPolicy {
        /// Absent means `ALLOW_ANY`.
        "mode" => mode: Option<MeshOutboundMode>,
        /// TLS towards them.
        "tls" => tls: Option<ClientTlsSettings>,
    }
}

object! {
    /// How proxies reach their workload.
    MeshInboundTrafficPolicy {
        /// Absent means `PASSTHROUGH`.
        "mode" => mode: Option<MeshInboundMode>,
    }
}

object! {
    /// An authority.
    CertificateData {
        /// Its certificate.
        "pem" => pem: Option<String>,
        /// Where its bundle is.
        "spiffeBundleUrl" => spiffe_bundle_url: Option<String>,
        /// Kubernetes signers it stands for.
        "certSigners" => cert_signers: Vec<String>,
        /// Trust domains it vouches for.
        "trustDomains" => trust_domains: Vec<String>,
    }
    at_most_one ["pem", "spiffeBundleUrl"]
}

object! {
    /// Settings of services.
    ServiceSettingsValues {
        /// Whether they stay within their cluster.
        "clusterLocal" => cluster_local: Option<bool>,
    }
}

object! {
    /// Settings of services.
    ServiceSettings {
        /// The settings.
        "settings" => settings: Option<ServiceSettingsValues>,
        /// The services.
        "hosts" => hosts: Vec<String>,
    }
}

object! {
    /// Which services other clusters see.
    ServiceScope {
        /// Namespaces.
        "namespaceSelector" => namespace_selector: Option<LabelSelector>,
        /// Services.
        "servicesSelector" => services_selector: Option<LabelSelector>,
        /// Whether they are seen.
        "scope" => scope: Option<Scope>,
    }
}

object! {
    /// An external certificate authority.
    MeshCa {
        /// Its address.
        "address" => address: Option<String>,
        /// TLS towards it.
        "tlsSettings" => tls_settings: Option<ClientTlsSettings>,
        /// Time for a request; absent means 10 s.
        "requestTimeout" => request_timeout: Option<Duration>,
        /// Whether the control plane asks instead of the proxies.
        "istiodSide" => istiod_side: Option<bool>,
    }
}

object! {
    /// Providers that are used by default.
    DefaultProviders {
        /// For traces.
        "tracing" => tracing: Vec<String>,
        /// For metrics.
        "metrics" => metrics: Vec<String>,
        /// For access logs.
        "accessLogging" => access_logging: Vec<String>,
    }
}

object! {
    /// How paths are normalised before policies see them.
    PathNormalization {
        /// Absent means `BASE`.
        "normalization" => normalization: Option<Normalization>,
    }
}

object! {
    /// TLS settings.
    MeshTls {
        /// Lowest version; absent means 1.2.
        "minProtocolVersion" => min_protocol_version: Option<TlsVersion>,
        /// Key exchange groups that are allowed.
        "ecdhCurves" => ecdh_curves: Vec<String>,
        /// Cipher suites that are allowed.
        "cipherSuites" => cipher_suites: Vec<String>,
    }
}

object! {
    /// Blocks that hold where a DestinationRule leaves them out.
    DefaultTrafficPolicy {
        /// Limits on connections and requests.
        "connectionPool" => connection_pool: Option<ConnectionPoolSettings>,
        /// When failing endpoints are ejected.
        "outlierDetection" => outlier_detection: Option<OutlierDetection>,
    }
}

object! {
    /// What holds for the whole mesh. It is decoded leniently, as Istio does it: unknown fields are ignored and reported.
    MeshConfig {
        /// Port of captured outbound traffic; absent means 15001.
        "proxyListenPort" => proxy_listen_port: Option<u16>,
        /// Port of captured inbound traffic; absent means 15006.
        "proxyInboundListenPort" => proxy_inbound_listen_port: Option<u16>,
        /// Port of an explicit HTTP proxy; absent means none.
        "proxyHttpPort" => proxy_http_port: Option<u16>,
        /// Time to connect; absent means 10 s.
        "connectTimeout" => connect_timeout: Option<Duration>,
        /// Idle time of HBONE connections; absent means 1 h.
        "hboneIdleTimeout" => hbone_idle_timeout: Option<Duration>,
        /// Time to wait for bytes that tell the protocol; absent means for ever.
        "protocolDetectionTimeout" => protocol_detection_timeout: Option<Duration>,
        /// Keep-alive of the kernel.
        "tcpKeepalive" => tcp_keepalive: Option<TcpKeepalive>,
        /// Class of Ingress objects it serves; absent means `istio`.
        "ingressClass" => ingress_class: Option<String>,
        /// Service whose address goes into the status of Ingress objects.
        "ingressService" => ingress_service: Option<String>,
        /// Which Ingress objects it serves.
        "ingressControllerMode" => ingress_controller_mode: Option<IngressControllerMode>,
        /// Value of the label `istio` of the gateways for Ingress objects.
        "ingressSelector" => ingress_selector: Option<String>,
        /// Whether requests are traced; absent means yes.
        "enableTracing" => enable_tracing: Option<bool>,
        /// File of the access log; empty means none.
        "accessLogFile" => access_log_file: Option<String>,
        /// Format of its lines.
        "accessLogFormat" => access_log_format: Option<String>,
        /// Whether its lines are text or JSON.
        "accessLogEncoding" => access_log_encoding: Option<AccessLogEncoding>,
        /// Whether the access log is sent to a service.
        "enableEnvoyAccessLogService" => enable_envoy_access_log_service: Option<bool>,
        /// Whether connections that match no filter chain are not logged.
        "disableEnvoyListenerLog" => disable_envoy_listener_log: Option<bool>,
        /// Settings of proxies.
        "defaultConfig" => default_config: Option<MeshProxyConfig>,
        /// What happens to unknown destinations.
        "outboundTrafficPolicy" => outbound_traffic_policy: Option<MeshOutboundTrafficPolicy>,
        /// How proxies reach their workload.
        "inboundTrafficPolicy" => inbound_traffic_policy: Option<MeshInboundTrafficPolicy>,
        /// Where the control plane gets its objects.
        "configSources" => config_sources: Vec<ConfigSource>,
        /// Whether clients use mutual TLS wherever the server can; absent means yes.
        "enableAutoMtls" => enable_auto_mtls: Option<bool>,
        /// The trust domain; absent means `cluster.local`.
        "trustDomain" => trust_domain: Option<String>,
        /// Other trust domains that count as this one.
        "trustDomainAliases" => trust_domain_aliases: Vec<String>,
        /// Further authorities that are trusted.
        "caCertificates" => ca_certificates: Vec<CertificateData>,
        /// `exportTo` of services that say nothing; absent means `*`.
        "defaultServiceExportTo" => default_service_export_to: Vec<String>,
        /// `exportTo` of VirtualServices that say nothing; absent means `*`.
        "defaultVirtualServiceExportTo" => default_virtual_service_export_to: Vec<String>,
        /// `exportTo` of DestinationRules that say nothing; absent means `*`.
        "defaultDestinationRuleExportTo" => default_destination_rule_export_to: Vec<String>,
        /// Namespace whose policies hold everywhere; absent means `istio-system`.
        "rootNamespace" => root_namespace: Option<String>,
        /// Preference of near endpoints.
        "localityLbSetting" => locality_lb_setting: Option<LocalityLoadBalancer>,
        /// Preference of the own zone; wins over `localityLbSetting`.
        "zoneAwareLbSetting" => zone_aware_lb_setting: Option<ZoneAwareLoadBalancer>,
        /// Time between DNS queries after a failure; absent means 60 s.
        "dnsRefreshRate" => dns_refresh_rate: Option<Duration>,
        /// Whether HTTP/1.1 is turned into HTTP/2.
        "h2UpgradePolicy" => h2_upgrade_policy: Option<MeshH2UpgradePolicy>,
        /// Names of inbound clusters in statistics.
        "inboundClusterStatName" => inbound_cluster_stat_name: Option<String>,
        /// Names of outbound clusters in statistics.
        "outboundClusterStatName" => outbound_cluster_stat_name: Option<String>,
        /// Certificates by DNS name; removed from Istio.
        "certificates" => certificates: Vec<DnsCertificate>,
        /// Services that are not seen from other clusters.
        "serviceSettings" => service_settings: Vec<ServiceSettings>,
        /// Services that are seen from other clusters, in ambient mode.
        "serviceScopeConfigs" => service_scope_configs: Vec<ServiceScope>,
        /// Whether metrics of the application are served with the proxy's; absent means yes.
        "enablePrometheusMerge" => enable_prometheus_merge: Option<bool>,
        /// Whether server certificates are verified by default; absent means yes.
        "verifyCertificateAtClient" => verify_certificate_at_client: Option<bool>,
        /// An external certificate authority.
        "ca" => ca: Option<MeshCa>,
        /// External services for authorisation, tracing, logs and metrics.
        "extensionProviders" => extension_providers: Vec<ExtensionProvider>,
        /// Which of them are used by default.
        "defaultProviders" => default_providers: Option<DefaultProviders>,
        /// Namespaces the control plane looks at; any may match, empty means all.
        "discoverySelectors" => discovery_selectors: Vec<LabelSelector>,
        /// How paths are normalised before policies see them.
        "pathNormalization" => path_normalization: Option<PathNormalization>,
        /// Retries of routes that say nothing.
        "defaultHttpRetryPolicy" => default_http_retry_policy: Option<HttpRetry>,
        /// TLS between workloads of the mesh.
        "meshMTLS" => mesh_mtls: Option<MeshTls>,
        /// TLS with everyone else.
        "tlsDefaults" => tls_defaults: Option<MeshTls>,
        /// Blocks that hold where a DestinationRule leaves them out.
        "defaultTrafficPolicy" => default_traffic_policy: Option<DefaultTrafficPolicy>,
        /// Where ServiceEntries are visible.
        "serviceEntryVisibility" => service_entry_visibility: Option<ServiceEntryVisibility>,
        /// Retries of the proxy beside the workload; `attempts`, `retryOn` and `backoff` only.
        "defaultInboundHttpRetryPolicy" => default_inbound_http_retry_policy: Option<HttpRetry>,
    }
    ignored {
        "mixerCheckServer": "removed from Istio",
        "mixerReportServer": "removed from Istio",
        "disablePolicyChecks": "removed from Istio",
        "enableSdsTokenMount": "removed from Istio",
        "sdsUdsPath": "removed from Istio",
        "localityLbSettings": "removed from Istio",
        "thriftConfig": "removed from Istio",
        "authPolicy": "removed from Istio",
        "disableMixerHttpReports": "removed from Istio"
    }
}

object! {
    /// Where some ServiceEntries are visible.
    VisibilityPolicy {
        /// Where.
        "visibility" => visibility: Option<Visibility>,
        /// Which ones.
        "matchingRules" => matching_rules: Vec<VisibilityRule>,
    }
}

object! {
    /// Which ServiceEntries.
    VisibilityRule {
        /// Those of these namespaces.
        "namespaceSelector" => namespace_selector: Option<LabelSelector>,
    }
}

object! {
    /// Where ServiceEntries are visible.
    ServiceEntryVisibility {
        /// Where no policy matches.
        "defaultVisibility" => default_visibility: Option<Visibility>,
        /// Whether it holds for sidecars too.
        "applyToSidecars" => apply_to_sidecars: Option<bool>,
        /// Policies, in order.
        "policies" => policies: Vec<VisibilityPolicy>,
    }
}

object! {
    /// Where objects come from.
    ConfigSource {
        /// Its address.
        "address" => address: Option<String>,
        /// TLS towards it.
        "tlsSettings" => tls_settings: Option<ClientTlsSettings>,
        /// What is asked for.
        "subscribedResources" => subscribed_resources: Vec<String>,
    }
}

object! {
    /// A certificate by DNS name; removed from Istio.
    DnsCertificate {
        /// Secret that gets it.
        "secretName" => secret_name: Option<String>,
        /// Its names.
        "dnsNames" => dns_names: Vec<String>,
    }
}

choice! {
    /// What happens to unknown destinations.
    MeshOutboundMode {
        /// They are refused.
        "REGISTRY_ONLY" => RegistryOnly,
        /// They are passed through.
        "ALLOW_ANY" => AllowAny,
        /// They are passed through by name.
        "ALLOW_ANY_DYNAMIC_DNS" => AllowAnyDynamicDns,
    }
}

choice! {
    /// How proxies reach their workload.
    MeshInboundMode {
        /// At the address that was dialled.
        "PASSTHROUGH" => Passthrough,
        /// At localhost.
        "LOCALHOST" => Localhost,
    }
}

choice! {
    /// Whether other clusters see a service.
    Scope {
        "LOCAL" => Local,
        "GLOBAL" => Global,
    }
}

choice! {
    /// How paths are normalised.
    Normalization {
        /// As `BASE`.
        "DEFAULT" => Default,
        /// Not at all.
        "NONE" => None,
        /// By RFC 3986 (dots), and `\` becomes `/`.
        "BASE" => Base,
        /// And slashes in a row become one.
        "MERGE_SLASHES" => MergeSlashes,
        /// And encoded slashes are decoded first.
        "DECODE_AND_MERGE_SLASHES" => DecodeAndMergeSlashes,
    }
}

choice! {
    /// Which Ingress objects are served.
    IngressControllerMode {
        "UNSPECIFIED" => Unspecified,
        "OFF" => Off,
        "DEFAULT" => Default,
        "STRICT" => Strict,
    }
}

choice! {
    /// Forms of log lines.
    AccessLogEncoding {
        "TEXT" => Text,
        "JSON" => Json,
    }
}

choice! {
    /// Whether HTTP/1.1 is turned into HTTP/2.
    MeshH2UpgradePolicy {
        "DO_NOT_UPGRADE" => DoNotUpgrade,
        "UPGRADE" => Upgrade,
    }
}

choice! {
    /// Where a ServiceEntry is visible.
    Visibility {
        "VISIBILITY_UNSPECIFIED" => VisibilityUnspecified,
        "NONE" => None,
        "NAMESPACE" => Namespace,
        "PUBLIC" => Public,
    }
}
