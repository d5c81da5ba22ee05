//! DestinationRule (`networking.istio.io`).

use std::collections::BTreeMap;

use super::common::{PortSelector, WorkloadSelector};
use super::connection_pool::ConnectionPoolSettings;
use super::load_balancer::LoadBalancerSettings;
use crate::value::Duration;

object! {
    /// What holds for traffic to a host after routing.
    DestinationRule {
        /// Namespaces it is visible in.
        "exportTo" => export_to: Vec<String>,
        /// Host in the registry; a wildcard covers many.
        "host" => host: String [required],
        /// Named groups of endpoints.
        "subsets" => subsets: Vec<Subset>,
        /// What holds for all subsets unless they say otherwise.
        "trafficPolicy" => traffic_policy: Option<TrafficPolicy>,
        /// Client workloads it applies to; absent means all.
        "workloadSelector" => workload_selector: Option<WorkloadSelector>,
    }
}

object! {
    /// A named group of endpoints.
    Subset {
        /// Labels of its endpoints.
        "labels" => labels: BTreeMap<String, String>,
        /// Its name, which routes refer to.
        "name" => name: String [required],
        /// What holds for it, block by block instead of the rule's.
        "trafficPolicy" => traffic_policy: Option<TrafficPolicy>,
    }
}

object! {
    /// Load balancing, limits, ejection and TLS towards a host.
    TrafficPolicy {
        /// Limits on connections and requests.
        "connectionPool" => connection_pool: Option<ConnectionPoolSettings>,
        /// How an endpoint is picked.
        "loadBalancer" => load_balancer: Option<LoadBalancerSettings>,
        /// When failing endpoints are ejected.
        "outlierDetection" => outlier_detection: Option<OutlierDetection>,
        /// Settings of single ports; they replace all others there.
        "portLevelSettings" => port_level_settings: Vec<PortTrafficPolicy> [count(0, 4096)],
        /// Whether the PROXY protocol is spoken to the destination.
        "proxyProtocol" => proxy_protocol: Option<ProxyProtocol>,
        /// How many retries may be under way.
        "retryBudget" => retry_budget: Option<RetryBudget>,
        /// TLS of these connections.
        "tls" => tls: Option<ClientTlsSettings>,
        /// Whether connections are tunnelled through the destination.
        "tunnel" => tunnel: Option<TunnelSettings>,
    }
}

object! {
    /// When failing endpoints are ejected.
    OutlierDetection {
        /// Time of the first ejection, multiplied by their number; absent means 30 s.
        "baseEjectionTime" => base_ejection_time: Option<Duration> [duration_min_1ms],
        /// Server errors in a row; absent means 5, 0 means never.
        "consecutive5xxErrors" => consecutive5xx_errors: Option<u32> [nullable],
        /// The former name; current Istio does not read it.
        "consecutiveErrors" => consecutive_errors: Option<i32>,
        /// 502, 503 and 504 in a row; absent or 0 means never.
        "consecutiveGatewayErrors" => consecutive_gateway_errors: Option<u32> [nullable],
        /// Failures to connect in a row, where they are counted apart; absent means 5.
        "consecutiveLocalOriginFailures" => consecutive_local_origin_failures: Option<u32> [nullable],
        /// Time between looks; absent means 10 s.
        "interval" => interval: Option<Duration> [duration_min_1ms],
        /// Share of endpoints that may be out; absent means 10.
        "maxEjectionPercent" => max_ejection_percent: Option<i32>,
        /// Below this share of healthy endpoints all are used; absent means 0.
        "minHealthPercent" => min_health_percent: Option<i32>,
        /// Statuses that count as errors, instead of 5xx.
        "outlierDetectionHttpErrorCodes" => outlier_detection_http_error_codes: Vec<i64> [item_range(100.0, 599.0)],
        /// Whether failures to connect are counted apart.
        "splitExternalLocalOriginErrors" => split_external_local_origin_errors: Option<bool>,
    }
}

object! {
    /// Settings of one port.
    PortTrafficPolicy {
        /// Limits on connections and requests.
        "connectionPool" => connection_pool: Option<ConnectionPoolSettings>,
        /// How an endpoint is picked.
        "loadBalancer" => load_balancer: Option<LoadBalancerSettings>,
        /// When failing endpoints are ejected.
        "outlierDetection" => outlier_detection: Option<OutlierDetection>,
        /// The port of the service.
        "port" => port: Option<PortSelector>,
        /// TLS of these connections.
        "tls" => tls: Option<ClientTlsSettings>,
    }
}

object! {
    /// TLS towards a destination.
    ClientTlsSettings {
        /// File with authorities; absent means those of the system.
        "caCertificates" => ca_certificates: Option<String>,
        /// File with revoked certificates.
        "caCrl" => ca_crl: Option<String>,
        /// File with the client's certificate.
        "clientCertificate" => client_certificate: Option<String>,
        /// Secret with key and certificates.
        "credentialName" => credential_name: Option<String>,
        /// Whether the peer is not verified.
        "insecureSkipVerify" => insecure_skip_verify: Option<bool> [nullable],
        /// Which kind of TLS.
        "mode" => mode: Option<ClientTlsMode>,
        /// File with the client's key.
        "privateKey" => private_key: Option<String>,
        /// Server name to ask for.
        "sni" => sni: Option<String>,
        /// Names the peer's certificate may have.
        "subjectAltNames" => subject_alt_names: Vec<String>,
    }
}

object! {
    /// The PROXY protocol.
    ProxyProtocol {
        /// Its version; absent means V1.
        "version" => version: Option<ProxyProtocolVersion>,
    }
}

object! {
    /// How many retries may be under way.
    RetryBudget {
        /// The time over which requests are counted; absent means only those under way.
        "budgetInterval" => budget_interval: Option<Duration>,
        /// That many are always allowed; absent means 3.
        "minRetryConcurrency" => min_retry_concurrency: Option<u32>,
        /// Share of requests under way; absent means 20.
        "percent" => percent: Option<f64> [nullable, range(0.0, 100.0)],
    }
}

object! {
    /// A tunnel through the destination.
    TunnelSettings {
        /// `CONNECT` or `POST`; absent means `CONNECT`.
        "protocol" => protocol: Option<String>,
        /// Where the tunnel leads.
        "targetHost" => target_host: String [required],
        /// The port where the tunnel leads.
        "targetPort" => target_port: u16 [required],
    }
}

choice! {
    /// Kinds of TLS towards a destination.
    ClientTlsMode {
        /// None.
        "DISABLE" => Disable,
        /// The server has a certificate.
        "SIMPLE" => Simple,
        /// Both have, from files or a Secret.
        "MUTUAL" => Mutual,
        /// Both have the mesh's.
        "ISTIO_MUTUAL" => IstioMutual,
    }
}

choice! {
    /// Versions of the PROXY protocol.
    ProxyProtocolVersion {
        "V1" => V1,
        "V2" => V2,
    }
}
