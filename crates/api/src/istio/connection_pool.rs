//! Limits on connections and requests, of DestinationRule and Sidecar.

use crate::value::Duration;

object! {
    /// Limits on connections and requests.
    ConnectionPoolSettings {
        /// Of HTTP.
        "http" => http: Option<HttpSettings>,
        /// Of TCP connections, also those below HTTP.
        "tcp" => tcp: Option<TcpSettings>,
    }
}

object! {
    /// Limits on HTTP.
    HttpSettings {
        /// Whether HTTP/1.1 is turned into HTTP/2.
        "h2UpgradePolicy" => h2_upgrade_policy: Option<H2UpgradePolicy>,
        /// Requests waiting for a connection; absent means no limit.
        "http1MaxPendingRequests" => http1_max_pending_requests: Option<i32>,
        /// Pings on HTTP/2 connections.
        "http2KeepAlive" => http2_keep_alive: Option<Http2KeepAlive>,
        /// Requests under way, of any HTTP version; absent means no limit.
        "http2MaxRequests" => http2_max_requests: Option<i32>,
        /// Time without requests after which a connection is closed; absent means 1 h.
        "idleTimeout" => idle_timeout: Option<Duration> [duration_min_1ms],
        /// Streams of one HTTP/2 connection.
        "maxConcurrentStreams" => max_concurrent_streams: Option<i32>,
        /// Requests of one connection; 1 turns keep-alive off, 0 means no limit.
        "maxRequestsPerConnection" => max_requests_per_connection: Option<i32>,
        /// Retries under way; absent means no limit.
        "maxRetries" => max_retries: Option<i32>,
        /// Whether the client's HTTP version is kept.
        "useClientProtocol" => use_client_protocol: Option<bool>,
    }
}

object! {
    /// Pings on HTTP/2 connections.
    Http2KeepAlive {
        /// Time between pings.
        "interval" => interval: Option<Duration> [duration_min_1ms],
        /// Time for the answer.
        "timeout" => timeout: Option<Duration> [duration_min_1ms],
    }
}

object! {
    /// Limits on connections.
    TcpSettings {
        /// Time to connect; absent means 10 s.
        "connectTimeout" => connect_timeout: Option<Duration> [duration_min_1ms],
        /// Time without bytes after which a connection is closed; absent means 1 h, 0 never.
        "idleTimeout" => idle_timeout: Option<Duration>,
        /// Time after which a connection is closed.
        "maxConnectionDuration" => max_connection_duration: Option<Duration> [duration_min_1ms],
        /// Connections to the host; absent means no limit.
        "maxConnections" => max_connections: Option<i32>,
        /// Keep-alive of the kernel.
        "tcpKeepalive" => tcp_keepalive: Option<TcpKeepalive>,
    }
}

object! {
    /// Keep-alive of the kernel.
    TcpKeepalive {
        /// Time between probes.
        "interval" => interval: Option<Duration> [duration_min_1ms],
        /// Probes without answer after which the connection is dead.
        "probes" => probes: Option<u32>,
        /// Idle time before the first probe.
        "time" => time: Option<Duration> [duration_min_1ms],
    }
}

choice! {
    /// Whether HTTP/1.1 is turned into HTTP/2.
    H2UpgradePolicy {
        "DEFAULT" => Default,
        "DO_NOT_UPGRADE" => DoNotUpgrade,
        "UPGRADE" => Upgrade,
    }
}
