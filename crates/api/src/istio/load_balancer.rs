//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    LoadBalancerSettings {
        "backendUtilization" => backend_utilization: Option<BackendUtilization>,
        "consistentHash" => consistent_hash: Option<ConsistentHash>,
        "localityLbSetting" => locality_lb_setting: Option<LocalityLoadBalancer>,
        "simple" => simple: Option<SimpleLoadBalancer>,
        "warmup" => warmup: Option<Warmup>,
        "warmupDurationSecs" => warmup_duration_secs: Option<Duration> [duration_min_1ms],
        "zoneAwareLbSetting" => zone_aware_lb_setting: Option<ZoneAwareLoadBalancer>,
    }
    at_most_one ["simple", "consistentHash", "backendUtilization"]
}

object! {
    /// TODO.
    BackendUtilization {
        "errorUtilizationPenaltyPercent" => error_utilization_penalty_percent: Option<u32>,
        "metricNamesForComputingUtilization" => metric_names_for_computing_utilization: Vec<String>,
        "weightExpirationPeriod" => weight_expiration_period: Option<Duration>,
        "weightStabilizationPeriod" => weight_stabilization_period: Option<Duration>,
        "weightUpdatePeriod" => weight_update_period: Option<Duration>,
    }
}

object! {
    /// TODO.
    ConsistentHash {
        "httpCookie" => http_cookie: Option<HttpCookie>,
        "httpHeaderName" => http_header_name: Option<String>,
        "httpQueryParameterName" => http_query_parameter_name: Option<String>,
        "maglev" => maglev: Option<Maglev>,
        "minimumRingSize" => minimum_ring_size: Option<i64> [range(0.0, f64::INFINITY)],
        "ringHash" => ring_hash: Option<RingHash>,
        "useSourceIp" => use_source_ip: Option<bool>,
    }
}

object! {
    /// TODO.
    HttpCookie {
        "attributes" => attributes: Vec<CookieAttribute>,
        "name" => name: String [required],
        "path" => path: Option<String>,
        "ttl" => ttl: Option<Duration>,
    }
}

object! {
    /// TODO.
    CookieAttribute {
        "name" => name: String [required],
        "value" => value: Option<String>,
    }
}

object! {
    /// TODO.
    Maglev {
        "tableSize" => table_size: Option<i64> [range(0.0, f64::INFINITY)],
    }
}

object! {
    /// TODO.
    RingHash {
        "minimumRingSize" => minimum_ring_size: Option<i64> [range(0.0, f64::INFINITY)],
    }
}

object! {
    /// TODO.
    LocalityLoadBalancer {
        "distribute" => distribute: Vec<LocalityDistribute>,
        "enabled" => enabled: Option<bool> [nullable],
        "failover" => failover: Vec<LocalityFailover>,
        "failoverPriority" => failover_priority: Vec<String>,
    }
}

object! {
    /// TODO.
    LocalityDistribute {
        "from" => from: Option<String>,
        "to" => to: BTreeMap<String, u32>,
    }
}

object! {
    /// TODO.
    LocalityFailover {
        "from" => from: Option<String>,
        "to" => to: Option<String>,
    }
}

object! {
    /// TODO.
    Warmup {
        "aggression" => aggression: Option<f64> [nullable, range(0.0, f64::INFINITY)],
        "duration" => duration: Option<Duration> [required, duration_min_1ms],
        "minimumPercent" => minimum_percent: Option<f64> [nullable, range(0.0, 100.0)],
    }
}

object! {
    /// TODO.
    ZoneAwareLoadBalancer {
        "enabled" => enabled: Option<bool> [nullable],
        "failover" => failover: Vec<LocalityFailover>,
        "failoverPriority" => failover_priority: Vec<String>,
        "minClusterSize" => min_cluster_size: Option<u32> [nullable, range(1.0, 4_294_967_295.0)],
    }
}

choice! {
    /// TODO.
    SimpleLoadBalancer {
        "UNSPECIFIED" => Unspecified,
        "LEAST_CONN" => LeastConn,
        "RANDOM" => Random,
        "PASSTHROUGH" => Passthrough,
        "ROUND_ROBIN" => RoundRobin,
        "LEAST_REQUEST" => LeastRequest,
    }
}
