//! Traffic policies of DestinationRules: which blocks count for a destination, and what they mean (API.md 2.2).

use std::sync::Arc;
use std::time::Duration;

use heddle_api::istio::{
    ClientTlsSettings, ConnectionPoolSettings, DestinationRule, H2UpgradePolicy,
    LoadBalancerSettings, OutlierDetection as WrittenOutlier, PortTrafficPolicy, ProxyProtocol,
    ProxyProtocolVersion as WrittenVersion, RetryBudget as WrittenBudget, TrafficPolicy,
    TunnelSettings,
};
use heddle_api::{At, Object, Written};
use heddle_diag::Origin;
use heddle_ident::Host;
use heddle_ir::destination::{
    ConnectionPool, Http2Keepalive, LoadBalancing, OutlierDetection, ProxyProtocolVersion,
    RetryBudget, TcpKeepalive, Tunnel, TunnelMethod,
};
use heddle_ir::protocol::Protocol;

use crate::codes;
use crate::istio::load_balancer;
use crate::mesh::Mesh;
use crate::options::Profile;
use crate::report::Report;

pub(crate) type Rule = Arc<Object<DestinationRule>>;

/// A block with the object it stands in and the mapping it is a field of.
pub(super) struct Block<'a, T> {
    pub(super) written: &'a Written,
    pub(super) parent: At,
    pub(super) value: &'a T,
}

impl<T> Clone for Block<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Block<'_, T> {}

/// The blocks that count for one destination.
#[derive(Default)]
pub(crate) struct Policies<'a> {
    pub(super) load_balancer: Option<Block<'a, LoadBalancerSettings>>,
    connection_pool: Option<Block<'a, ConnectionPoolSettings>>,
    outlier: Option<Block<'a, WrittenOutlier>>,
    pub(super) tls: Option<Block<'a, ClientTlsSettings>>,
    tunnel: Option<Block<'a, TunnelSettings>>,
    proxy_protocol: Option<Block<'a, ProxyProtocol>>,
    retry_budget: Option<Block<'a, WrittenBudget>>,
    /// TLS is that of the settings of a single port.
    pub(super) of_port: bool,
    /// The rule is for some clients only.
    pub(super) of_clients: bool,
}

impl<'a> Policies<'a> {
    /// A subset's blocks replace those of the rule, one by one. Settings for the port replace four of them at either
    /// level: what they leave out is at its default then, not at the level above (API.md hazard 10). The mesh's own
    /// limits and ejection stand where none are left.
    pub(crate) fn merge(
        mesh: &'a Mesh,
        top: Option<(&'a Rule, &'a TrafficPolicy)>,
        subset: Option<(&'a Rule, &'a TrafficPolicy)>,
        port: u16,
    ) -> Self {
        let mut merged = Self::default();
        for (rule, policy) in [top, subset].into_iter().flatten() {
            merged.of_clients |= rule.spec.workload_selector.is_some();
            merged.replace_some(&rule.written, policy);
            let of_port = policy.port_level_settings.iter().find(|settings| {
                settings.port.as_ref().and_then(|selector| selector.number) == Some(port)
            });
            if let Some(settings) = of_port {
                merged.replace_all(&rule.written, settings);
            }
        }
        if let Some((object, policy)) = mesh.default_traffic_policy() {
            let (written, parent) = (&object.written, policy.at);
            let pool = policy.connection_pool.as_ref();
            merged.connection_pool =
                merged.connection_pool.or(pool.map(|value| Block { written, parent, value }));
            let outlier = policy.outlier_detection.as_ref();
            merged.outlier =
                merged.outlier.or(outlier.map(|value| Block { written, parent, value }));
        }
        merged
    }

    fn replace_some(&mut self, written: &'a Written, policy: &'a TrafficPolicy) {
        let parent = policy.at;
        replace(&mut self.load_balancer, written, parent, policy.load_balancer.as_ref());
        replace(&mut self.connection_pool, written, parent, policy.connection_pool.as_ref());
        replace(&mut self.outlier, written, parent, policy.outlier_detection.as_ref());
        replace(&mut self.tls, written, parent, policy.tls.as_ref());
        replace(&mut self.tunnel, written, parent, policy.tunnel.as_ref());
        replace(&mut self.proxy_protocol, written, parent, policy.proxy_protocol.as_ref());
        replace(&mut self.retry_budget, written, parent, policy.retry_budget.as_ref());
    }

    fn replace_all(&mut self, written: &'a Written, settings: &'a PortTrafficPolicy) {
        let parent = settings.at;
        let balancer = settings.load_balancer.as_ref();
        self.load_balancer = balancer.map(|value| Block { written, parent, value });
        let pool = settings.connection_pool.as_ref();
        self.connection_pool = pool.map(|value| Block { written, parent, value });
        let outlier = settings.outlier_detection.as_ref();
        self.outlier = outlier.map(|value| Block { written, parent, value });
        self.tls = settings.tls.as_ref().map(|value| Block { written, parent, value });
        self.of_port = settings.port.is_some();
    }

    /// The blocks of settings as they are written, for a report.
    pub(crate) fn of_settings(rule: &'a Rule, settings: &'a PortTrafficPolicy) -> Self {
        let of_clients = rule.spec.workload_selector.is_some();
        let mut policies = Self { of_clients, ..Self::default() };
        policies.replace_all(&rule.written, settings);
        policies
    }

    /// The blocks of a policy as they are written, for a report.
    pub(crate) fn of_policy(rule: &'a Rule, policy: &'a TrafficPolicy) -> Self {
        let of_clients = rule.spec.workload_selector.is_some();
        let mut policies = Self { of_clients, ..Self::default() };
        policies.replace_some(&rule.written, policy);
        policies
    }

    /// Whether how endpoints are picked, and when they are left alone, is said at all.
    pub(crate) fn decided(&self) -> crate::linkerd::balancer::Decided {
        crate::linkerd::balancer::Decided {
            load_balancer: self.load_balancer.is_some(),
            outlier_detection: self.outlier.is_some(),
        }
    }

    pub(crate) fn load_balancing(&self, report: &mut Report) -> LoadBalancing {
        self.load_balancer.map_or(LoadBalancing::LeastRequest, |block| {
            load_balancer::translate(block.written, block.value, report)
        })
    }

    pub(crate) fn connection_pool(&self, mesh: &Mesh, report: &mut Report) -> ConnectionPool {
        self.connection_pool.map_or_else(
            || default_pool(mesh),
            |block| pool(block.written, block.value, mesh, report),
        )
    }

    /// As [`Self::connection_pool`], for a port of this protocol: the mesh's word on HTTP/2 counts where HTTP is declared
    /// only, as nobody knows what else is spoken. A rule's own word counts everywhere.
    pub(crate) fn connection_pool_of(&self, mesh: &Mesh, protocol: Protocol) -> ConnectionPool {
        // Findings on the rule are made by its own report.
        let mut pool = self.connection_pool(mesh, &mut Report::default());
        let own =
            self.connection_pool.and_then(|block| block.value.http.as_ref()?.h2_upgrade_policy);
        pool.upgrade_to_http2 &= protocol.is_http() || own == Some(H2UpgradePolicy::Upgrade);
        pool
    }

    pub(crate) fn outlier_detection(
        &self,
        profile: Profile,
        report: &mut Report,
    ) -> Option<OutlierDetection> {
        self.outlier.map(|block| outlier(block.written, block.value, profile, report))
    }

    pub(super) fn has_connection_pool(&self) -> bool {
        self.connection_pool.is_some()
    }

    /// Whether it is told that endpoints fail.
    pub(super) fn is_watched(&self) -> bool {
        self.outlier.is_some()
    }

    pub(crate) fn tunnel(&self, report: &mut Report) -> Option<Tunnel> {
        let Block { written, value, .. } = self.tunnel?;
        if written.is_broken(value.at) {
            return None;
        }
        let of = |field: &str| written.origin_of(value.at, field);
        if self.proxy_protocol.is_some() {
            report.rejected(of("targetHost"), "`tunnel` and `proxyProtocol` exclude each other");
        }
        let method = match value.protocol.as_deref().unwrap_or_default() {
            "" | "CONNECT" => TunnelMethod::Connect,
            "POST" => {
                let why = "tunnels are asked for by `CONNECT` only; streams are closed";
                report.unsupported(of("protocol"), why);
                TunnelMethod::Post
            }
            other => {
                let message =
                    format!("`{other}` is not a way to ask for a tunnel: CONNECT or POST");
                report.rejected(of("protocol"), message);
                return None;
            }
        };
        let host = value.target_host.as_str();
        if Host::parse(host).is_err() {
            report.rejected(of("targetHost"), format!("`{host}` is not a host"));
            return None;
        }
        if value.target_port == 0 {
            report.rejected(of("targetPort"), "0 is not a port");
            return None;
        }
        Some(Tunnel { method, host: host.into(), port: value.target_port })
    }

    pub(crate) fn proxy_protocol(&self) -> Option<ProxyProtocolVersion> {
        let Block { written, value, .. } = self.proxy_protocol?;
        // Connections that begin with what the peer does not expect fail, so nothing is guessed.
        if written.is_broken(value.at) {
            return None;
        }
        Some(match value.version {
            None | Some(WrittenVersion::V1) => ProxyProtocolVersion::V1,
            Some(WrittenVersion::V2) => ProxyProtocolVersion::V2,
        })
    }

    pub(crate) fn retry_budget(&self, profile: Profile) -> Option<RetryBudget> {
        let Some(Block { written, value, .. }) = self.retry_budget else {
            return default_budget(profile);
        };
        if written.is_broken(value.at) {
            return default_budget(profile);
        }
        let percent = value.percent.unwrap_or(20.0).clamp(0.0, 100.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the value is between 0 and 100"
        )]
        let share_ppm = (percent * 10_000.0).round() as u32;
        Some(RetryBudget::Concurrency {
            share_ppm,
            retries_min: value.min_retry_concurrency.unwrap_or(3),
            window: value.budget_interval.map_or(Duration::ZERO, heddle_api::Duration::as_std),
        })
    }
}

fn replace<'a, T>(
    own: &mut Option<Block<'a, T>>,
    written: &'a Written,
    parent: At,
    value: Option<&'a T>,
) {
    if let Some(value) = value {
        *own = Some(Block { written, parent, value });
    }
}

/// What bounds retries where nothing is said: half of what is under way, so that proxies behind each other do not
/// multiply them, and a few always. Istio has no bound.
fn default_budget(profile: Profile) -> Option<RetryBudget> {
    match profile {
        Profile::Heddle => Some(RetryBudget::Concurrency {
            share_ppm: 500_000,
            retries_min: 10,
            window: Duration::ZERO,
        }),
        Profile::IstioSidecar | Profile::Linkerd => None,
    }
}

/// What holds without a DestinationRule.
pub(crate) fn default_pool(mesh: &Mesh) -> ConnectionPool {
    ConnectionPool {
        connections_max: u32::MAX,
        connect_timeout: mesh.connect_timeout,
        keepalive: mesh.keepalive,
        pending_requests_max: u32::MAX,
        requests_max: u32::MAX,
        requests_per_connection_max: 0,
        retries_max: u32::MAX,
        http_idle_timeout: Some(IDLE_TIMEOUT),
        tcp_idle_timeout: Some(IDLE_TIMEOUT),
        connection_duration_max: None,
        concurrent_streams_max: CONCURRENT_STREAMS_MAX,
        upgrade_to_http2: mesh.upgrade_to_http2,
        origin: Origin::built_in("connection pool without limits"),
        use_client_protocol: false,
        http2_keepalive: None,
    }
}

const IDLE_TIMEOUT: Duration = Duration::from_hours(1);
const CONCURRENT_STREAMS_MAX: u32 = 0x7fff_ffff;

/// A limit; 0 and absent are one in Istio's encoding and mean no limit. A negative one is rejected, and the most
/// careful limit stands in.
fn limit(
    place: &Written,
    at: At,
    field: &str,
    value: Option<i32>,
    unlimited: u32,
    report: &mut Report,
) -> u32 {
    match value {
        None | Some(0) => unlimited,
        Some(value) => u32::try_from(value).unwrap_or_else(|_| {
            report.rejected(place.origin_of(at, field), format!("`{field}` cannot be negative"));
            1
        }),
    }
}

pub(crate) fn pool(
    place: &Written,
    written: &ConnectionPoolSettings,
    mesh: &Mesh,
    report: &mut Report,
) -> ConnectionPool {
    let mut pool = ConnectionPool { origin: place.origin_at(written.at), ..default_pool(mesh) };
    if let Some(tcp) = &written.tcp {
        let of = |field: &str| place.origin_of(tcp.at, field);
        report.precise(tcp.connect_timeout, || of("connectTimeout"));
        report.precise(tcp.max_connection_duration, || of("maxConnectionDuration"));
        pool.connections_max =
            limit(place, tcp.at, "maxConnections", tcp.max_connections, u32::MAX, report);
        if let Some(timeout) = tcp.connect_timeout {
            pool.connect_timeout = timeout.as_std();
        }
        pool.connection_duration_max =
            tcp.max_connection_duration.map(heddle_api::Duration::as_std);
        if let Some(timeout) = tcp.idle_timeout {
            if timeout.as_nanos() < 0 {
                report.rejected(
                    place.origin_of(tcp.at, "idleTimeout"),
                    "a timeout cannot be negative",
                );
            }
            pool.tcp_idle_timeout = Some(timeout.as_std()).filter(|timeout| !timeout.is_zero());
        }
        if let Some(keepalive) = &tcp.tcp_keepalive {
            pool.keepalive = Some(TcpKeepalive {
                probes: keepalive.probes.filter(|probes| *probes > 0),
                time: keepalive.time.map(heddle_api::Duration::as_std),
                interval: keepalive.interval.map(heddle_api::Duration::as_std),
            });
        }
    }
    if let Some(http) = &written.http {
        report.precise(http.idle_timeout, || place.origin_of(http.at, "idleTimeout"));
        let mut of =
            |field, value, unlimited| limit(place, http.at, field, value, unlimited, report);
        pool.pending_requests_max =
            of("http1MaxPendingRequests", http.http1_max_pending_requests, u32::MAX);
        pool.requests_max = of("http2MaxRequests", http.http2_max_requests, u32::MAX);
        pool.requests_per_connection_max =
            of("maxRequestsPerConnection", http.max_requests_per_connection, 0);
        pool.retries_max = of("maxRetries", http.max_retries, u32::MAX);
        pool.concurrent_streams_max =
            of("maxConcurrentStreams", http.max_concurrent_streams, CONCURRENT_STREAMS_MAX);
        if let Some(timeout) = http.idle_timeout {
            // As Envoy takes it: zero is no timeout.
            pool.http_idle_timeout = Some(timeout.as_std()).filter(|timeout| !timeout.is_zero());
        }
        pool.upgrade_to_http2 = match http.h2_upgrade_policy {
            Some(H2UpgradePolicy::Upgrade) => true,
            Some(H2UpgradePolicy::DoNotUpgrade) => false,
            Some(H2UpgradePolicy::Default) | None => mesh.upgrade_to_http2,
        };
        pool.use_client_protocol = http.use_client_protocol == Some(true);
        if http.use_client_protocol == Some(true) {
            if http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) {
                let message =
                    "`useClientProtocol` and `h2UpgradePolicy: UPGRADE` contradict each other";
                report.rejected(place.origin_of(http.at, "useClientProtocol"), message);
            }
            pool.upgrade_to_http2 = false;
        }
        if let Some(keepalive) = &http.http2_keep_alive {
            if let (Some(interval), Some(timeout)) = (keepalive.interval, keepalive.timeout) {
                let (interval, timeout) = (interval.as_std(), timeout.as_std());
                pool.http2_keepalive = Some(Http2Keepalive { interval, timeout });
            } else {
                let message = "`http2KeepAlive` needs `interval` and `timeout`";
                report.rejected(place.origin_of(http.at, "http2KeepAlive"), message);
            }
        }
    }
    if written.tcp.is_none() && written.http.is_none() {
        report.rejected(place.origin_at(written.at), "a connection pool needs `tcp` or `http`");
    }
    pool
}

pub(crate) fn outlier(
    place: &Written,
    written: &WrittenOutlier,
    profile: Profile,
    report: &mut Report,
) -> OutlierDetection {
    const CONSECUTIVE_DEFAULT: u32 = 5;
    let of = |field: &str| place.origin_of(written.at, field);
    report.precise(written.interval, || of("interval"));
    report.precise(written.base_ejection_time, || of("baseEjectionTime"));
    let mut consecutive_5xx = written.consecutive5xx_errors;
    if let Some(errors) = written.consecutive_errors {
        let named = match (profile, consecutive_5xx, u32::try_from(errors)) {
            (Profile::Heddle, None, Ok(errors)) => {
                consecutive_5xx = Some(errors);
                "means `consecutive5xxErrors` here; Istio reads it and does nothing"
            }
            (Profile::Heddle, Some(_), _) => "`consecutive5xxErrors` stands beside it and counts",
            (_, _, Err(_)) => "a negative count means nothing",
            (Profile::IstioSidecar | Profile::Linkerd, ..) => "Istio reads it and does nothing",
        };
        report.warning(
            codes::CONSECUTIVE_ERRORS,
            of("consecutiveErrors"),
            format!("`consecutiveErrors`: {named}"),
        );
        if profile == Profile::Heddle && written.consecutive5xx_errors.is_none() && errors >= 0 {
            report.translated(of("consecutiveErrors"), named);
        } else {
            report.ignored(of("consecutiveErrors"), named);
        }
    }
    let mut percent = |field: &str, value: Option<i32>, default: u8| {
        let value = value.unwrap_or_else(|| i32::from(default));
        match u8::try_from(value) {
            Ok(value) if value <= 100 => value,
            _ => {
                report.rejected(of(field), format!("`{field}` is 0 to 100"));
                default
            }
        }
    };
    // Zero and absent are one in Istio's encoding.
    let ejection_percent = written.max_ejection_percent.filter(|percent| *percent != 0);
    let ejection_percent_max = percent("maxEjectionPercent", ejection_percent, 10);
    let health_percent_min = percent("minHealthPercent", written.min_health_percent, 0);
    let split = written.split_external_local_origin_errors.unwrap_or(false);
    let local = written.consecutive_local_origin_failures;
    if local.is_some() && !split {
        let why = "counts only with `splitExternalLocalOriginErrors`";
        report.ignored(of("consecutiveLocalOriginFailures"), why);
    }
    OutlierDetection {
        consecutive_5xx: consecutive_5xx.unwrap_or(CONSECUTIVE_DEFAULT),
        consecutive_gateway_errors: written.consecutive_gateway_errors.unwrap_or(0),
        consecutive_local_failures: if split { local.unwrap_or(CONSECUTIVE_DEFAULT) } else { 0 },
        interval: written.interval.map_or(Duration::from_secs(10), heddle_api::Duration::as_std),
        ejection_time_base: written
            .base_ejection_time
            .map_or(Duration::from_secs(30), heddle_api::Duration::as_std),
        ejection_percent_max,
        health_percent_min,
        error_statuses: written
            .outlier_detection_http_error_codes
            .iter()
            .filter_map(|code| u16::try_from(*code).ok())
            .collect(),
        origin: place.origin_at(written.at),
    }
}
