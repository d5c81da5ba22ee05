//! Destinations that no object configures: what is passed through, workloads at their own address, and the
//! proxy's own application.

use std::sync::Arc;
use std::time::Duration;

use heddle_balance::Balancer;
use heddle_diag::Origin;
use heddle_ident::Host;
use heddle_ir::destination::{
    ClientTls, ConnectionPool, Destination, DestinationId, EndpointSource, LoadBalancing,
    LocalityPolicy,
};
use heddle_ir::protocol::Protocol;

use crate::snapshot::DestinationState;

/// Limits where nobody set any (API.md section 2.2).
pub(crate) fn connection_pool() -> ConnectionPool {
    ConnectionPool {
        connections_max: u32::MAX,
        connect_timeout: Duration::from_secs(10),
        keepalive: None,
        pending_requests_max: u32::MAX,
        requests_max: u32::MAX,
        requests_per_connection_max: 0,
        retries_max: u32::MAX,
        http_idle_timeout: Some(Duration::from_hours(1)),
        tcp_idle_timeout: Some(Duration::from_hours(1)),
        connection_duration_max: None,
        concurrent_streams_max: 1024,
        upgrade_to_http2: false,
        origin: Origin::built_in("connection pool"),
        use_client_protocol: false,
        http2_keepalive: None,
    }
}

/// The destination that an address itself stands for.
pub(crate) fn destination(
    name: &str,
    host: Host,
    port: u16,
    protocol: Protocol,
    tls: ClientTls,
    pool: ConnectionPool,
) -> Arc<DestinationState> {
    let destination = Destination {
        id: DestinationId { host, port, subset: Arc::default() },
        service_namespace: Arc::default(),
        service_name: name.into(),
        protocol,
        endpoints: EndpointSource::OriginalDestination,
        subset_labels: Vec::new(),
        load_balancing: LoadBalancing::Passthrough,
        connection_pool: pool,
        outlier_detection: None,
        tls,
        subject_alt_names: Vec::new(),
        origin: Origin::built_in(name),
        locality: LocalityPolicy::Ignore,
        warmup: None,
        failure_accrual: None,
        retry_budget: None,
        tunnel: None,
        proxy_protocol: None,
        mesh_server_name: None,
    };
    let balancer = Balancer::new(&destination, &[], None, None, 0, 0);
    Arc::new(DestinationState {
        destination: Arc::new(destination),
        balancer,
        limits: Arc::default(),
        credentials: Arc::default(),
    })
}
