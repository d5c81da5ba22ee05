//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    DestinationRule {
        "exportTo" => export_to: Vec<String>,
        "host" => host: String [required],
        "subsets" => subsets: Vec<Subset>,
        "trafficPolicy" => traffic_policy: Option<TrafficPolicy>,
        "workloadSelector" => workload_selector: Option<WorkloadSelector>,
    }
}

object! {
    /// TODO.
    Subset {
        "labels" => labels: BTreeMap<String, String>,
        "name" => name: String [required],
        "trafficPolicy" => traffic_policy: Option<TrafficPolicy>,
    }
}

object! {
    /// TODO.
    TrafficPolicy {
        "connectionPool" => connection_pool: Option<ConnectionPoolSettings>,
        "loadBalancer" => load_balancer: Option<LoadBalancerSettings>,
        "outlierDetection" => outlier_detection: Option<OutlierDetection>,
        "portLevelSettings" => port_level_settings: Vec<PortTrafficPolicy> [count(0, 4096)],
        "proxyProtocol" => proxy_protocol: Option<ProxyProtocol>,
        "retryBudget" => retry_budget: Option<RetryBudget>,
        "tls" => tls: Option<ClientTlsSettings>,
        "tunnel" => tunnel: Option<TunnelSettings>,
    }
}

object! {
    /// TODO.
    OutlierDetection {
        "baseEjectionTime" => base_ejection_time: Option<Duration> [duration_min_1ms],
        "consecutive5xxErrors" => consecutive5xx_errors: Option<u32> [nullable],
        "consecutiveErrors" => consecutive_errors: Option<i32>,
        "consecutiveGatewayErrors" => consecutive_gateway_errors: Option<u32> [nullable],
        "consecutiveLocalOriginFailures" => consecutive_local_origin_failures: Option<u32> [nullable],
        "interval" => interval: Option<Duration> [duration_min_1ms],
        "maxEjectionPercent" => max_ejection_percent: Option<i32>,
        "minHealthPercent" => min_health_percent: Option<i32>,
        "outlierDetectionHttpErrorCodes" => outlier_detection_http_error_codes: Vec<i64> [item_range(100.0, 599.0)],
        "splitExternalLocalOriginErrors" => split_external_local_origin_errors: Option<bool>,
    }
}

object! {
    /// TODO.
    PortTrafficPolicy {
        "connectionPool" => connection_pool: Option<ConnectionPoolSettings>,
        "loadBalancer" => load_balancer: Option<LoadBalancerSettings>,
        "outlierDetection" => outlier_detection: Option<OutlierDetection>,
        "port" => port: Option<PortSelector>,
        "tls" => tls: Option<ClientTlsSettings>,
    }
}

object! {
    /// TODO.
    ClientTlsSettings {
        "caCertificates" => ca_certificates: Option<String>,
        "caCrl" => ca_crl: Option<String>,
        "clientCertificate" => client_certificate: Option<String>,
        "credentialName" => credential_name: Option<String>,
        "insecureSkipVerify" => insecure_skip_verify: Option<bool> [nullable],
        "mode" => mode: Option<ClientTlsMode>,
        "privateKey" => private_key: Option<String>,
        "sni" => sni: Option<String>,
        "subjectAltNames" => subject_alt_names: Vec<String>,
    }
}

object! {
    /// TODO.
    ProxyProtocol {
        "version" => version: Option<ProxyProtocolVersion>,
    }
}

object! {
    /// TODO.
    RetryBudget {
        "budgetInterval" => budget_interval: Option<Duration>,
        "minRetryConcurrency" => min_retry_concurrency: Option<u32>,
        "percent" => percent: Option<f64> [nullable, range(0.0, 100.0)],
    }
}

object! {
    /// TODO.
    TunnelSettings {
        "protocol" => protocol: Option<String>,
        "targetHost" => target_host: String [required],
        "targetPort" => target_port: u16 [required],
    }
}

choice! {
    /// TODO.
    ClientTlsMode {
        "DISABLE" => Disable,
        "SIMPLE" => Simple,
        "MUTUAL" => Mutual,
        "ISTIO_MUTUAL" => IstioMutual,
    }
}

choice! {
    /// TODO.
    ProxyProtocolVersion {
        "V1" => V1,
        "V2" => V2,
    }
}
