//! Who a proxy is, and what holds for all of its traffic.

use std::sync::Arc;
use std::time::Duration;

use heddle_ident::TrustDomain;

use crate::authorization::Authorization;
use crate::outbound::ScopeId;
use crate::workload::Workload;

/// What a proxy learns first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxySettings {
    /// The workload it stands before.
    pub workload: Arc<Workload>,
    /// What it is.
    pub role: ProxyRole,
    /// The scope its outbound configuration is found under.
    pub scope: ScopeId,
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Other names of the same trust domain; peers from them are accepted.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// Bounds on what peers may use.
    pub limits: Limits,
    /// How long a draining proxy waits for requests under way.
    pub drain_duration: Duration,
    /// How long the proxy looks for a protocol on an undeclared port before it relays bytes as they are.
    pub detection_timeout: Duration,
    /// Which access log is written.
    pub access_log: AccessLog,
    /// The file that it goes to; empty: the proxy's standard output.
    pub access_log_path: Arc<str>,
    /// Its lines in Envoy's operators: a text under an empty key, or the texts under the keys of a JSON object. Empty:
    /// Istio's default.
    pub access_log_format: Vec<(Arc<str>, Arc<str>)>,
    /// What the workload may do to others, besides what the index says; none: everything.
    pub egress: Option<Arc<Authorization>>,
}

/// What a proxy is to the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ProxyRole {
    /// Stands at an edge: takes connections on listeners of its own. It has a [`crate::gateway::Gateway`].
    Gateway,
    /// Stands before one workload.
    #[default]
    Sidecar,
}

/// The access log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AccessLog {
    /// One JSON object per request.
    Json,
    /// None.
    #[default]
    Off,
    /// Envoy's default text format as Istio sets it.
    Text,
}

/// Bounds on what peers may use of a proxy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// Connections accepted at a time; further ones wait in the listen queue.
    pub connections_max: u32,
    /// Bytes of a request or response head; beyond: 431.
    pub head_bytes_max: u32,
    /// Headers in a head; beyond: 431.
    pub headers_max: u32,
    /// Bytes of a body kept for a retry; a longer body is not retried.
    pub retry_body_bytes_max: u32,
    /// A connection without request is closed after this.
    pub idle_timeout: Duration,
    /// From the first byte of a request head to its last; beyond: 408.
    pub head_timeout: Duration,
    /// Streams on one HTTP/2 connection.
    pub concurrent_streams_max: u32,
    /// How long a request waits for the policy of its destination; beyond: 503.
    pub config_wait_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            head_bytes_max: 60 * 1024,
            headers_max: 100,
            retry_body_bytes_max: 64 * 1024,
            idle_timeout: Duration::from_hours(1),
            head_timeout: Duration::from_mins(1),
            concurrent_streams_max: 1024,
            config_wait_max: Duration::from_secs(2),
        }
    }
}
