//! Traffic policies of DestinationRules: which blocks count for a destination, and what they mean (API.md 2.2).

use std::sync::Arc;
use std::time::Duration;

use heddle_api::istio::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, H2UpgradePolicy,
    LoadBalancerSettings, OutlierDetection as WrittenOutlier, PortTrafficPolicy, TrafficPolicy,
};
use heddle_api::{At, Object};
use heddle_diag::Origin;
use heddle_ir::destination::{
    ClientTls, ConnectionPool, LoadBalancing, OutlierDetection, TcpKeepalive, TlsOrigination,
};

use crate::codes;
use crate::istio::load_balancer;
use crate::mesh::Mesh;
use crate::options::Profile;
use crate::report::Report;

pub(crate) type Rule = Arc<Object<DestinationRule>>;

/// A block with the object it stands in and the mapping it is a field of.
struct Block<'a, T> {
    rule: &'a Rule,
    parent: At,
    value: &'a T,
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
    load_balancer: Option<Block<'a, LoadBalancerSettings>>,
    connection_pool: Option<Block<'a, ConnectionPoolSettings>>,
    outlier: Option<Block<'a, WrittenOutlier>>,
    tls: Option<Block<'a, ClientTlsSettings>>,
    /// They are the settings of a single port.
    of_port: bool,
}

impl<'a> Policies<'a> {
    /// A subset's blocks replace those of the rule, one by one. Settings for the port replace all four at either level:
    /// what they leave out is at its default then, not at the level above (API.md hazard 10).
    pub(crate) fn merge(
        top: Option<(&'a Rule, &'a TrafficPolicy)>,
        subset: Option<(&'a Rule, &'a TrafficPolicy)>,
        port: u16,
    ) -> Self {
        let mut merged = Self::default();
        for (rule, policy) in [top, subset].into_iter().flatten() {
            merged.replace_some(rule, policy);
            let of_port = policy.port_level_settings.iter().find(|settings| {
                settings.port.as_ref().and_then(|selector| selector.number) == Some(port)
            });
            if let Some(settings) = of_port {
                merged = Self::of_port(rule, settings);
            }
        }
        merged
    }

    fn replace_some(&mut self, rule: &'a Rule, policy: &'a TrafficPolicy) {
        let parent = policy.at;
        if let Some(value) = &policy.load_balancer {
            self.load_balancer = Some(Block { rule, parent, value });
        }
        if let Some(value) = &policy.connection_pool {
            self.connection_pool = Some(Block { rule, parent, value });
        }
        if let Some(value) = &policy.outlier_detection {
            self.outlier = Some(Block { rule, parent, value });
        }
        if let Some(value) = &policy.tls {
            self.tls = Some(Block { rule, parent, value });
        }
    }

    pub(crate) fn of_port(rule: &'a Rule, settings: &'a PortTrafficPolicy) -> Self {
        let parent = settings.at;
        Self {
            load_balancer: settings.load_balancer.as_ref().map(|value| Block {
                rule,
                parent,
                value,
            }),
            connection_pool: settings.connection_pool.as_ref().map(|value| Block {
                rule,
                parent,
                value,
            }),
            outlier: settings.outlier_detection.as_ref().map(|value| Block { rule, parent, value }),
            tls: settings.tls.as_ref().map(|value| Block { rule, parent, value }),
            of_port: settings.port.is_some(),
        }
    }

    pub(crate) fn load_balancing(&self, report: &mut Report) -> LoadBalancing {
        self.load_balancer.map_or(LoadBalancing::LeastRequest, |block| {
            load_balancer::translate(block.rule, block.value, report)
        })
    }

    pub(crate) fn connection_pool(&self, mesh: &Mesh, report: &mut Report) -> ConnectionPool {
        self.connection_pool
            .map_or_else(|| default_pool(mesh), |block| pool(block.rule, block.value, mesh, report))
    }

    pub(crate) fn outlier_detection(
        &self,
        profile: Profile,
        report: &mut Report,
    ) -> Option<OutlierDetection> {
        self.outlier.map(|block| outlier(block.rule, block.value, profile, report))
    }

    /// Transport security, and the names that a peer's certificate may have. A block that cannot be read means mutual
    /// TLS with the mesh's identities: never plaintext by mistake.
    pub(crate) fn tls(&self, mesh: &Mesh, report: &mut Report) -> (ClientTls, Vec<Arc<str>>) {
        let Some(Block { rule, parent, value }) = self.tls else {
            let tls = if mesh.auto_mtls { ClientTls::Auto } else { ClientTls::Disable };
            return (tls, Vec::new());
        };
        let names = || value.subject_alt_names.iter().map(|name| name.as_str().into()).collect();
        if rule.is_field_broken(parent, "tls") {
            return (ClientTls::Mesh, Vec::new());
        }
        let code = if self.of_port { codes::NO_CA_OF_PORT } else { codes::NO_CA };
        check_tls(rule, value, code, report);
        // The mode is an enum whose first value is DISABLE, which is what an absent one means.
        match value.mode.unwrap_or(ClientTlsMode::Disable) {
            ClientTlsMode::Disable => (ClientTls::Disable, Vec::new()),
            ClientTlsMode::IstioMutual => (ClientTls::Mesh, names()),
            mode @ (ClientTlsMode::Simple | ClientTlsMode::Mutual) => {
                let text = |text: &Option<String>| {
                    text.as_deref().filter(|text| !text.is_empty()).map(Arc::from)
                };
                let certificate = (mode == ClientTlsMode::Mutual)
                    .then(|| text(&value.client_certificate).zip(text(&value.private_key)))
                    .flatten();
                let origination = TlsOrigination {
                    server_name: text(&value.sni).unwrap_or_default(),
                    ca_certificates_path: text(&value.ca_certificates),
                    client_certificate_paths: certificate,
                    subject_alt_names: names(),
                    insecure_skip_verify: value.insecure_skip_verify.unwrap_or(false),
                    credential: None,
                    ca_certificates: Vec::new(),
                    revocations_path: None,
                };
                (ClientTls::Originate(origination), Vec::new())
            }
        }
    }
}

/// Istio's rules for TLS settings.
fn check_tls(
    rule: &Rule,
    value: &ClientTlsSettings,
    no_authority: &'static heddle_diag::Code,
    report: &mut Report,
) {
    let of = |field: &str| rule.origin_of(value.at, field);
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if value.insecure_skip_verify == Some(true) {
        if set(&value.ca_certificates) {
            report.rejected(
                of("caCertificates"),
                "`insecureSkipVerify` leaves nothing to verify with it",
            );
        }
        if value.mode == Some(ClientTlsMode::Simple) && set(&value.credential_name) {
            report.rejected(
                of("credentialName"),
                "`insecureSkipVerify` leaves nothing to verify with it",
            );
        }
        if !value.subject_alt_names.is_empty() {
            report.rejected(
                of("subjectAltNames"),
                "`insecureSkipVerify` leaves nothing to verify with it",
            );
        }
    }
    let by_secret = set(&value.credential_name);
    let originates = matches!(value.mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual));
    // Sidecars read Secrets only for a rule that selects its clients.
    let authority =
        set(&value.ca_certificates) || by_secret && rule.spec.workload_selector.is_some();
    if originates && !authority && value.insecure_skip_verify != Some(true) {
        let message = "no `caCertificates`: the roots of the operating system are trusted";
        report.warning(no_authority, of("mode"), message);
    }
    match value.mode.unwrap_or(ClientTlsMode::Disable) {
        ClientTlsMode::IstioMutual => {
            for (field, set) in [
                ("clientCertificate", set(&value.client_certificate)),
                ("privateKey", set(&value.private_key)),
                ("caCertificates", set(&value.ca_certificates)),
                ("credentialName", by_secret),
            ] {
                if set {
                    report
                        .rejected(of(field), "with ISTIO_MUTUAL the mesh's certificates are used");
                }
            }
        }
        ClientTlsMode::Mutual if by_secret => {
            for (field, set) in [
                ("clientCertificate", set(&value.client_certificate)),
                ("privateKey", set(&value.private_key)),
            ] {
                if set {
                    report.rejected(of(field), "`credentialName` excludes files");
                }
            }
        }
        ClientTlsMode::Mutual => {
            for (field, set) in [
                ("clientCertificate", set(&value.client_certificate)),
                ("privateKey", set(&value.private_key)),
            ] {
                if !set {
                    report
                        .rejected(of(field), format!("MUTUAL needs `{field}` or `credentialName`"));
                }
            }
        }
        ClientTlsMode::Simple | ClientTlsMode::Disable => {}
    }
    if by_secret {
        let why = "certificates out of Secrets come with the gateway issue; connections are refused by the peer";
        report.unsupported(of("credentialName"), why);
    }
    if set(&value.ca_crl) {
        report.unsupported(of("caCrl"), "revocation lists are not read yet");
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
    rule: &Rule,
    at: At,
    field: &str,
    value: Option<i32>,
    unlimited: u32,
    report: &mut Report,
) -> u32 {
    match value {
        None | Some(0) => unlimited,
        Some(value) => u32::try_from(value).unwrap_or_else(|_| {
            report.rejected(rule.origin_of(at, field), format!("`{field}` cannot be negative"));
            1
        }),
    }
}

pub(crate) fn pool(
    rule: &Rule,
    written: &ConnectionPoolSettings,
    mesh: &Mesh,
    report: &mut Report,
) -> ConnectionPool {
    let mut pool = ConnectionPool { origin: rule.origin_at(written.at), ..default_pool(mesh) };
    if let Some(tcp) = &written.tcp {
        let of = |field: &str| rule.origin_of(tcp.at, field);
        report.precise(tcp.connect_timeout, || of("connectTimeout"));
        report.precise(tcp.max_connection_duration, || of("maxConnectionDuration"));
        pool.connections_max =
            limit(rule, tcp.at, "maxConnections", tcp.max_connections, u32::MAX, report);
        if let Some(timeout) = tcp.connect_timeout {
            pool.connect_timeout = timeout.as_std();
        }
        pool.connection_duration_max =
            tcp.max_connection_duration.map(heddle_api::Duration::as_std);
        if let Some(timeout) = tcp.idle_timeout {
            if timeout.as_nanos() < 0 {
                report.rejected(
                    rule.origin_of(tcp.at, "idleTimeout"),
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
        report.precise(http.idle_timeout, || rule.origin_of(http.at, "idleTimeout"));
        let mut of =
            |field, value, unlimited| limit(rule, http.at, field, value, unlimited, report);
        pool.pending_requests_max =
            of("http1MaxPendingRequests", http.http1_max_pending_requests, u32::MAX);
        pool.requests_max = of("http2MaxRequests", http.http2_max_requests, u32::MAX);
        pool.requests_per_connection_max =
            of("maxRequestsPerConnection", http.max_requests_per_connection, 0);
        pool.retries_max = of("maxRetries", http.max_retries, u32::MAX);
        pool.concurrent_streams_max =
            of("maxConcurrentStreams", http.max_concurrent_streams, CONCURRENT_STREAMS_MAX);
        if let Some(timeout) = http.idle_timeout {
            pool.http_idle_timeout = Some(timeout.as_std());
        }
        pool.upgrade_to_http2 = match http.h2_upgrade_policy {
            Some(H2UpgradePolicy::Upgrade) => true,
            Some(H2UpgradePolicy::DoNotUpgrade) => false,
            Some(H2UpgradePolicy::Default) | None => mesh.upgrade_to_http2,
        };
        if http.use_client_protocol == Some(true) {
            if http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) {
                let message =
                    "`useClientProtocol` and `h2UpgradePolicy: UPGRADE` contradict each other";
                report.rejected(rule.origin_of(http.at, "useClientProtocol"), message);
            }
            pool.upgrade_to_http2 = false;
        }
        if let Some(keepalive) = &http.http2_keep_alive
            && (keepalive.interval.is_none() || keepalive.timeout.is_none())
        {
            let message = "`http2KeepAlive` needs `interval` and `timeout`";
            report.rejected(rule.origin_of(http.at, "http2KeepAlive"), message);
        }
    }
    if written.tcp.is_none() && written.http.is_none() {
        report.rejected(rule.origin_at(written.at), "a connection pool needs `tcp` or `http`");
    }
    pool
}

pub(crate) fn outlier(
    rule: &Rule,
    written: &WrittenOutlier,
    profile: Profile,
    report: &mut Report,
) -> OutlierDetection {
    const CONSECUTIVE_DEFAULT: u32 = 5;
    let of = |field: &str| rule.origin_of(written.at, field);
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
            (Profile::IstioSidecar, ..) => "Istio reads it and does nothing",
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
        origin: rule.origin_at(written.at),
    }
}
