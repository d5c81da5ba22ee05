//! The mesh configuration: what holds for every proxy unless something nearer says otherwise.

use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::TrustDomain;
use heddle_ir::destination::TcpKeepalive;
use heddle_ir::http_route::RetryPolicy;
use heddle_ir::inbound::PathNormalization;
use heddle_ir::index::UnknownDestinations;
use heddle_ir::proxy::AccessLog;

use crate::engine::{Derivation, Reader};
use crate::istio::retry;

/// The settings of the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct MeshKey;

/// What holds for every proxy.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Mesh {
    pub(crate) origin: Origin,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) trust_domain_aliases: Vec<TrustDomain>,
    pub(crate) root_namespace: Arc<str>,
    pub(crate) auto_mtls: bool,
    pub(crate) unknown_destinations: UnknownDestinations,
    pub(crate) service_export: Vec<Arc<str>>,
    pub(crate) virtual_service_export: Vec<Arc<str>>,
    pub(crate) destination_rule_export: Vec<Arc<str>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Option<TcpKeepalive>,
    pub(crate) upgrade_to_http2: bool,
    pub(crate) outbound_retry: RetryPolicy,
    pub(crate) inbound_retry: RetryPolicy,
    pub(crate) path_normalization: PathNormalization,
    pub(crate) access_log: AccessLog,
    pub(crate) detection_timeout: Duration,
    pub(crate) drain_duration: Duration,
}

/// How long the proxy looks for a protocol where nothing is declared and nothing is said. Istio waits for ever, which
/// hangs protocols in which the server speaks first.
const DETECTION_TIMEOUT: Duration = Duration::from_millis(100);

impl Derivation for MeshKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<Mesh> {
        let options = reader.options();
        let all: Vec<Arc<str>> = vec!["*".into()];
        Arc::new(Mesh {
            origin: Origin::built_in("mesh configuration"),
            trust_domain: options.trust_domain.clone(),
            trust_domain_aliases: Vec::new(),
            root_namespace: options.root_namespace.clone(),
            auto_mtls: true,
            unknown_destinations: UnknownDestinations::PassThrough,
            service_export: all.clone(),
            virtual_service_export: all.clone(),
            destination_rule_export: all,
            connect_timeout: Duration::from_secs(10),
            keepalive: None,
            upgrade_to_http2: false,
            outbound_retry: retry::outbound_default(options.profile),
            inbound_retry: retry::inbound_default(),
            path_normalization: PathNormalization::Base,
            access_log: AccessLog::Off,
            detection_timeout: DETECTION_TIMEOUT,
            drain_duration: Duration::from_secs(45),
        })
    }
}
