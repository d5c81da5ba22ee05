//! Destination policy and endpoints.

use heddle_ir::destination::{
    ClientTls, ConnectionPool, Destination, DestinationId, EndpointSource, HashAlgorithm, HashKey,
    LoadBalancing, OutlierDetection, TcpKeepalive, TlsOrigination,
};
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth, EndpointSet, EndpointSetKey};

use crate::wire::{choice, codes, message};

message!(DestinationId { 1 host, 2 port, 3 subset });
message!(Destination {
    1 id, 2 service_namespace, 3 service_name, 4 protocol, 5 endpoints, 6 subset_labels,
    7 load_balancing, 8 connection_pool, 9 outlier_detection, 10 tls, 11 subject_alt_names,
    12 origin,
});
choice!(EndpointSource { 1 OriginalDestination, 2 Set(2 key) });
choice!(LoadBalancing {
    1 ConsistentHash { 2 key, 3 algorithm },
    2 LeastRequest, 3 Passthrough, 4 Random, 5 RoundRobin,
});
choice!(HashKey {
    1 Cookie { 2 name, 3 path, 4 ttl }, 2 Header(5 name), 3 Query(5 name), 4 SourceAddress,
});
choice!(HashAlgorithm { 1 Maglev { 2 table_size }, 2 Ring { 3 size_min } });
message!(ConnectionPool {
    1 connections_max, 2 connect_timeout, 3 keepalive, 4 pending_requests_max, 5 requests_max,
    6 requests_per_connection_max, 7 retries_max, 8 http_idle_timeout, 9 tcp_idle_timeout,
    10 connection_duration_max, 11 concurrent_streams_max, 12 upgrade_to_http2, 13 origin,
});
message!(TcpKeepalive { 1 probes, 2 time, 3 interval });
message!(OutlierDetection {
    1 consecutive_5xx, 2 consecutive_gateway_errors, 3 consecutive_local_failures, 4 interval,
    5 ejection_time_base, 6 ejection_percent_max, 7 health_percent_min, 8 error_statuses, 9 origin,
});
choice!(ClientTls { 1 Auto, 2 Disable, 3 Mesh, 4 Originate(2 origination) });
message!(TlsOrigination {
    1 server_name, 2 ca_certificates_path, 3 client_certificate_paths, 4 subject_alt_names,
    5 insecure_skip_verify,
});

message!(EndpointSetKey { 1 host, 2 port });
message!(EndpointSet { 1 key, 2 endpoints });
codes!(EndpointHealth { 1 Draining, 2 Healthy, 3 Unhealthy });
message!(Endpoint {
    1 workload, 2 address, 3 weight, 4 health, 5 labels, 6 identity, 7 transport, 8 locality,
    9 network, 10 namespace, 11 workload_name, 12 canonical_name, 13 canonical_revision,
});
choice!(EndpointAddress { 1 Address(2 address), 2 Name(3 host, 4 port) });
