//! Destination policy and endpoints.

use heddle_ir::destination::{
    ClientTls, ConnectionPool, Destination, DestinationId, EndpointSource, FailoverLabel,
    FailureAccrual, HashAlgorithm, HashKey, Http2Keepalive, LoadBalancing, LocalityPattern,
    LocalityPolicy, LocalityShares, OutlierDetection, ProxyProtocolVersion, RetryBudget,
    TcpKeepalive, TlsOrigination, Tunnel, TunnelMethod, Warmup,
};
use heddle_ir::endpoint::{
    Endpoint, EndpointAddress, EndpointHealth, EndpointSet, EndpointSetKey, HealthCheck,
    HealthProbe,
};

use crate::wire::{choice, codes, message};

message!(DestinationId { 1 host, 2 port, 3 subset });
// 17 was a health check of all endpoints.
message!(Destination {
    1 id, 2 service_namespace, 3 service_name, 4 protocol, 5 endpoints, 6 subset_labels,
    7 load_balancing, 8 connection_pool, 9 outlier_detection, 10 tls, 11 subject_alt_names,
    12 origin, 13 locality, 14 warmup, 15 failure_accrual, 16 retry_budget, 18 tunnel, 19 proxy_protocol, 20 mesh_server_name,
});
message!(Warmup { 1 duration, 2 share_percent_min, 3 aggression_thousandths });
message!(FailureAccrual { 1 origin, 2 failures_max, 3 pause_min, 4 pause_max, 5 jitter_percent });
choice!(RetryBudget {
    1 Concurrency { 2 share_ppm, 3 retries_min, 4 window },
    2 Rate { 2 share_ppm, 5 retries_per_second_min, 4 window },
});
message!(HealthCheck {
    1 origin, 2 probe, 3 interval, 4 timeout, 5 healthy_threshold, 6 unhealthy_threshold, 7 port,
});
choice!(HealthProbe { 1 Grpc { 2 service }, 2 Http { 3 host, 4 path, 5 headers }, 3 Tcp });
message!(Tunnel { 1 method, 2 host, 3 port });
codes!(TunnelMethod { 1 Connect, 2 Post });
codes!(ProxyProtocolVersion { 1 V1, 2 V2 });
choice!(LocalityPolicy, absent Ignore {
    1 Ignore, 2 Distribute(2 shares), 3 Failover { 3 priority, 4 regions },
    4 ZoneAware { 5 endpoints_min, 3 priority, 4 regions },
});
message!(LocalityShares { 1 from, 2 to });
message!(LocalityPattern { 1 region, 2 zone, 3 subzone });
message!(FailoverLabel { 1 name, 2 value });
choice!(EndpointSource { 1 OriginalDestination, 2 Set(2 key), 3 RequestedName { 3 port } });
choice!(LoadBalancing {
    1 ConsistentHash { 2 key, 3 algorithm },
    2 LeastRequest, 3 Passthrough, 4 Random, 5 RoundRobin, 6 PeakEwma { 4 decay },
});
choice!(HashKey {
    1 Cookie { 2 name, 3 path, 4 ttl, 6 attributes }, 2 Header(5 name), 3 Query(5 name), 4 SourceAddress,
});
choice!(HashAlgorithm { 1 Maglev { 2 table_size }, 2 Ring { 3 size_min } });
message!(ConnectionPool {
    1 connections_max, 2 connect_timeout, 3 keepalive, 4 pending_requests_max, 5 requests_max,
    6 requests_per_connection_max, 7 retries_max, 8 http_idle_timeout, 9 tcp_idle_timeout,
    10 connection_duration_max, 11 concurrent_streams_max, 12 upgrade_to_http2, 13 origin,
    14 use_client_protocol, 15 http2_keepalive,
});
message!(Http2Keepalive { 1 interval, 2 timeout });
message!(TcpKeepalive { 1 probes, 2 time, 3 interval });
message!(OutlierDetection {
    1 consecutive_5xx, 2 consecutive_gateway_errors, 3 consecutive_local_failures, 4 interval,
    5 ejection_time_base, 6 ejection_percent_max, 7 health_percent_min, 8 error_statuses, 9 origin,
});
choice!(ClientTls { 1 Auto, 2 Disable, 3 Mesh, 4 Originate(2 origination) });
message!(TlsOrigination {
    1 server_name, 2 ca_certificates_path, 3 client_certificate_paths, 4 subject_alt_names,
    5 insecure_skip_verify, 6 credential, 7 ca_certificates, 8 revocations_path,
});

message!(EndpointSetKey { 1 host, 2 port });
message!(EndpointSet { 1 key, 2 endpoints });
codes!(EndpointHealth { 1 Draining, 2 Healthy, 3 Unhealthy });
message!(Endpoint {
    1 workload, 2 address, 3 weight, 4 health, 5 labels, 6 identity, 7 transport, 8 locality,
    9 network, 10 namespace, 11 workload_name, 12 canonical_name, 13 canonical_revision,
    14 hostname, 15 health_check,
});
choice!(EndpointAddress { 1 Address(2 address), 2 Name(3 host, 4 port) });
