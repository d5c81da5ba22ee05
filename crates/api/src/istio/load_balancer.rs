//! How an endpoint is picked, of DestinationRule and the mesh.

use std::collections::BTreeMap;

use crate::value::Duration;

object! {
    /// How an endpoint is picked.
    LoadBalancerSettings {
        /// By the load that endpoints report.
        "backendUtilization" => backend_utilization: Option<BackendUtilization>,
        /// By a hash of the request, for soft affinity.
        "consistentHash" => consistent_hash: Option<ConsistentHash>,
        /// Preference of near endpoints.
        "localityLbSetting" => locality_lb_setting: Option<LocalityLoadBalancer>,
        /// By one of the simple ways.
        "simple" => simple: Option<SimpleLoadBalancer>,
        /// Gives new endpoints less at first.
        "warmup" => warmup: Option<Warmup>,
        /// The former form of `warmup`.
        "warmupDurationSecs" => warmup_duration_secs: Option<Duration> [duration_min_1ms],
        /// Preference of the own zone.
        "zoneAwareLbSetting" => zone_aware_lb_setting: Option<ZoneAwareLoadBalancer>,
    }
    at_most_one ["simple", "consistentHash", "backendUtilization"]
}

object! {
    /// Weights by the load that endpoints report.
    BackendUtilization {
        /// How errors weigh.
        "errorUtilizationPenaltyPercent" => error_utilization_penalty_percent: Option<u32>,
        /// Which reported figures count.
        "metricNamesForComputingUtilization" => metric_names_for_computing_utilization: Vec<String>,
        /// When a report is too old.
        "weightExpirationPeriod" => weight_expiration_period: Option<Duration>,
        /// Time before reports count.
        "weightStabilizationPeriod" => weight_stabilization_period: Option<Duration>,
        /// Time between updates.
        "weightUpdatePeriod" => weight_update_period: Option<Duration>,
    }
}

object! {
    /// What is hashed, and how.
    ConsistentHash {
        /// A cookie.
        "httpCookie" => http_cookie: Option<HttpCookie>,
        /// A header.
        "httpHeaderName" => http_header_name: Option<String>,
        /// A query parameter.
        "httpQueryParameterName" => http_query_parameter_name: Option<String>,
        /// By Maglev's table.
        "maglev" => maglev: Option<Maglev>,
        /// The former form of `ringHash`.
        "minimumRingSize" => minimum_ring_size: Option<i64> [range(0.0, f64::INFINITY)],
        /// By a ring; the default.
        "ringHash" => ring_hash: Option<RingHash>,
        /// The client's address.
        "useSourceIp" => use_source_ip: Option<bool>,
    }
}

object! {
    /// A cookie to hash.
    HttpCookie {
        /// Attributes of a generated cookie.
        "attributes" => attributes: Vec<CookieAttribute>,
        /// Its name.
        "name" => name: String [required],
        /// Its path.
        "path" => path: Option<String>,
        /// Its life; when set, a missing cookie is generated, 0 for the session.
        "ttl" => ttl: Option<Duration>,
    }
}

object! {
    /// An attribute of a cookie.
    CookieAttribute {
        /// Its name.
        "name" => name: String [required],
        /// Its value.
        "value" => value: Option<String>,
    }
}

object! {
    /// Maglev's table.
    Maglev {
        /// Its size, a prime; absent means 65537.
        "tableSize" => table_size: Option<i64> [range(0.0, f64::INFINITY)],
    }
}

object! {
    /// A ring.
    RingHash {
        /// Its least size; absent means 1024.
        "minimumRingSize" => minimum_ring_size: Option<i64> [range(0.0, f64::INFINITY)],
    }
}

object! {
    /// Preference of near endpoints.
    LocalityLoadBalancer {
        /// Shares by locality of client and endpoint.
        "distribute" => distribute: Vec<LocalityDistribute>,
        /// Whether it is on; absent means what the mesh says.
        "enabled" => enabled: Option<bool> [nullable],
        /// Where traffic of a region goes when it fails.
        "failover" => failover: Vec<LocalityFailover>,
        /// Labels by which endpoints are preferred.
        "failoverPriority" => failover_priority: Vec<String>,
    }
}

object! {
    /// Shares of traffic from one locality.
    LocalityDistribute {
        /// `region/zone/subzone` of the client.
        "from" => from: Option<String>,
        /// Shares by locality, of 100 together.
        "to" => to: BTreeMap<String, u32>,
    }
}

object! {
    /// Where traffic of a region goes.
    LocalityFailover {
        /// The region.
        "from" => from: Option<String>,
        /// The other region.
        "to" => to: Option<String>,
    }
}

object! {
    /// Gives new endpoints less at first.
    Warmup {
        /// How the share grows; absent means 1, linearly.
        "aggression" => aggression: Option<f64> [nullable, range(0.0, f64::INFINITY)],
        /// How long.
        "duration" => duration: Option<Duration> [required, duration_min_1ms],
        /// The share to begin with; absent means 10.
        "minimumPercent" => minimum_percent: Option<f64> [nullable, range(0.0, 100.0)],
    }
}

object! {
    /// Preference of the own zone.
    ZoneAwareLoadBalancer {
        /// Whether it is on.
        "enabled" => enabled: Option<bool> [nullable],
        /// Where traffic of a region goes when it fails.
        "failover" => failover: Vec<LocalityFailover>,
        /// Labels by which endpoints are preferred.
        "failoverPriority" => failover_priority: Vec<String>,
        /// Least number of endpoints; absent means 6.
        "minClusterSize" => min_cluster_size: Option<u32> [nullable, range(1.0, 4_294_967_295.0)],
    }
}

choice! {
    /// Simple ways to pick an endpoint.
    SimpleLoadBalancer {
        /// As `LEAST_REQUEST`.
        "UNSPECIFIED" => Unspecified,
        /// The former name of `LEAST_REQUEST`.
        "LEAST_CONN" => LeastConn,
        /// Any.
        "RANDOM" => Random,
        /// The address the client chose.
        "PASSTHROUGH" => Passthrough,
        /// One after the other.
        "ROUND_ROBIN" => RoundRobin,
        /// Of two picked at random, the one with fewer requests under way.
        "LEAST_REQUEST" => LeastRequest,
    }
}
