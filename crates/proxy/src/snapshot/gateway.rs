//! What a gateway serves, as part of a snapshot: its servers and tables compiled, its destinations, and the secrets that
//! they refer to. What a server has for TLS goes on from one snapshot to the next while neither it nor a secret of it
//! changes, so that sessions and what was read of certificates do.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use heddle_ir::gateway::{
    AuthoritySource, CertificateSource, Gateway, Server, ServerTls, TlsTermination,
};
use heddle_ir::secret::{Secret, SecretKey};
use heddle_route::{CompiledGateway, CompiledRoutes, FoundServer};

use super::{DestinationState, OutboundState, Problems};
use crate::gateway::tls::Acceptor;
use crate::rate_limits::CompiledLimits;

/// A gateway's listeners, ready to serve.
#[derive(Debug)]
pub struct GatewayState {
    /// Who answers, and by which routes.
    pub compiled: Arc<CompiledGateway>,
    /// The destinations, in the order of [`Gateway::destinations`].
    pub destinations: Arc<[Arc<DestinationState>]>,
    /// By [`FoundServer::place`].
    servers: Box<[Arc<ServerState>]>,
    /// By the address of the compiled table, which lives as long as `compiled`.
    tables: HashMap<usize, Arc<OutboundState>>,
}

/// What a server has besides its routes.
#[derive(Debug)]
pub struct ServerState {
    /// How many requests it takes; none: as many as come.
    pub limits: Option<Arc<CompiledLimits>>,
    /// How it takes TLS off; none: it does not.
    pub tls: Option<Arc<ServerTlsState>>,
}

/// How a server takes TLS off.
#[derive(Debug)]
pub struct ServerTlsState {
    /// As it is configured.
    pub termination: TlsTermination,
    /// The secrets that it refers to and that exist.
    pub secrets: HashMap<SecretKey, Arc<Secret>>,
    /// Made when the first connection comes; the error is a sentence for the operator.
    pub(crate) acceptor: OnceLock<Result<Acceptor, String>>,
}

impl GatewayState {
    /// The table of routes as the outbound phases take it.
    pub(crate) fn outbound(&self, routes: &Arc<CompiledRoutes>) -> Option<&Arc<OutboundState>> {
        self.tables.get(&Arc::as_ptr(routes).addr())
    }

    /// What a server has besides its routes.
    pub(crate) fn server(&self, found: &FoundServer<'_>) -> Option<&Arc<ServerState>> {
        self.servers.get(found.place())
    }

    /// The secrets with certificates that servers present.
    pub(crate) fn presented(&self) -> impl Iterator<Item = &Arc<Secret>> {
        let states = self.servers.iter().filter_map(|server| server.tls.as_deref());
        states.flat_map(|state| {
            let sources = state.termination.certificates.iter();
            sources.filter_map(|source| match source {
                CertificateSource::Secret(key) => state.secrets.get(key),
                CertificateSource::Files { .. } | CertificateSource::Mesh => None,
            })
        })
    }

    pub(super) fn new(
        compiled: Arc<CompiledGateway>,
        destinations: Arc<[Arc<DestinationState>]>,
        secrets: &HashMap<SecretKey, Arc<Secret>>,
        previous: Option<&Self>,
        problems: &mut Problems,
    ) -> Self {
        let tables = compiled.tables().map(|routes| {
            let state = OutboundState {
                routes: routes.clone(),
                destinations: destinations.clone(),
                used_at_ms: Arc::default(),
            };
            (Arc::as_ptr(routes).addr(), Arc::new(state))
        });
        let tables = tables.collect();
        let gateway: &Gateway = compiled.gateway();
        let servers = gateway.listeners.iter().flat_map(|listener| &listener.servers);
        let servers = servers
            .enumerate()
            .map(|(place, server)| {
                let before = previous.and_then(|previous| previous.servers.get(place));
                let limits = before.and_then(|before| before.limits.as_deref());
                Arc::new(ServerState {
                    limits: CompiledLimits::compile(&server.rate_limits, limits, problems),
                    tls: tls_state(server, secrets, previous),
                })
            })
            .collect();
        Self { compiled, destinations, servers, tables }
    }

    /// Whether a secret is one that servers present or that vouches for their clients.
    pub(super) fn refers_to(&self, secret: &SecretKey) -> bool {
        let listeners = self.compiled.gateway().listeners.iter();
        listeners
            .flat_map(|listener| &listener.servers)
            .filter_map(termination)
            .any(|termination| secrets_of(termination).any(|own| own == secret))
    }
}

fn termination(server: &Server) -> Option<&TlsTermination> {
    match &server.tls {
        Some(ServerTls::Terminate(termination)) => Some(termination),
        Some(ServerTls::AutoPassthrough | ServerTls::Passthrough) | None => None,
    }
}

fn secrets_of(termination: &TlsTermination) -> impl Iterator<Item = &SecretKey> {
    let certificates = termination.certificates.iter().filter_map(|source| match source {
        CertificateSource::Secret(key) => Some(key),
        CertificateSource::Files { .. } | CertificateSource::Mesh => None,
    });
    let authorities = match &termination.client_authority {
        Some(AuthoritySource::Secrets(keys)) => keys.as_slice(),
        Some(AuthoritySource::File(_) | AuthoritySource::Mesh) | None => &[],
    };
    certificates.chain(authorities)
}

fn tls_state(
    server: &Server,
    secrets: &HashMap<SecretKey, Arc<Secret>>,
    previous: Option<&GatewayState>,
) -> Option<Arc<ServerTlsState>> {
    let termination = termination(server)?;
    let own = secrets_of(termination)
        .filter_map(|key| Some((key.clone(), secrets.get(key)?.clone())))
        .collect();
    let mut known = previous.into_iter().flat_map(|previous| &previous.servers);
    let same = known.find_map(|known| {
        let tls = known.tls.as_ref()?;
        (tls.termination == *termination && tls.secrets == own).then_some(tls)
    });
    Some(same.cloned().unwrap_or_else(|| {
        let (termination, acceptor) = (termination.clone(), OnceLock::new());
        Arc::new(ServerTlsState { termination, secrets: own, acceptor })
    }))
}
