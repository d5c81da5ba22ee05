//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    ConnectionPoolSettings {
        "http" => http: Option<HttpSettings>,
        "tcp" => tcp: Option<TcpSettings>,
    }
}

object! {
    /// TODO.
    HttpSettings {
        "h2UpgradePolicy" => h2_upgrade_policy: Option<H2UpgradePolicy>,
        "http1MaxPendingRequests" => http1_max_pending_requests: Option<i32>,
        "http2KeepAlive" => http2_keep_alive: Option<Http2KeepAlive>,
        "http2MaxRequests" => http2_max_requests: Option<i32>,
        "idleTimeout" => idle_timeout: Option<Duration> [duration_min_1ms],
        "maxConcurrentStreams" => max_concurrent_streams: Option<i32>,
        "maxRequestsPerConnection" => max_requests_per_connection: Option<i32>,
        "maxRetries" => max_retries: Option<i32>,
        "useClientProtocol" => use_client_protocol: Option<bool>,
    }
}

object! {
    /// TODO.
    Http2KeepAlive {
        "interval" => interval: Option<Duration> [duration_min_1ms],
        "timeout" => timeout: Option<Duration> [duration_min_1ms],
    }
}

object! {
    /// TODO.
    TcpSettings {
        "connectTimeout" => connect_timeout: Option<Duration> [duration_min_1ms],
        "idleTimeout" => idle_timeout: Option<Duration>,
        "maxConnectionDuration" => max_connection_duration: Option<Duration> [duration_min_1ms],
        "maxConnections" => max_connections: Option<i32>,
        "tcpKeepalive" => tcp_keepalive: Option<TcpKeepalive>,
    }
}

object! {
    /// TODO.
    TcpKeepalive {
        "interval" => interval: Option<Duration> [duration_min_1ms],
        "probes" => probes: Option<u32>,
        "time" => time: Option<Duration> [duration_min_1ms],
    }
}

choice! {
    /// TODO.
    H2UpgradePolicy {
        "DEFAULT" => Default,
        "DO_NOT_UPGRADE" => DoNotUpgrade,
        "UPGRADE" => Upgrade,
    }
}
