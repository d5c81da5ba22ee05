//! The identity a proxy works with now, and the TLS configurations made of it.
//!
//! [`Identity`] is the holder that new connections read; the renewal task replaces what is in it. A
//! [`MeshIdentity`] is one generation: a certificate and a bundle that never change. Established connections
//! keep the generation they began with. Sessions are resumed within a generation only, since ticket keys and
//! session stores belong to it; [`MeshServer::peer`] and [`MeshClient::peer`] ask validity again even so.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, CommonState, ServerConfig, version};
use rustls_pki_types::CertificateDer;

use heddle_cert::{Serial, Svid, TrustBundle};

use crate::clock::{Clock, RustlsClock};
use crate::keys::WorkloadKey;
use crate::provider::new_ticketer;
use crate::sessions::EndpointSessions;
use crate::verify::{
    ClientSide, Expected, Peer, PeerVerificationError, PeerVerifier, ServerSide, Usage,
};
use crate::{TlsError, alpn, machine};

/// Tickets a server sends after a handshake. One replaces the one that a resumption used up; more would cost
/// a kilobyte each on every connection.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// The hot-swappable holder of a workload's present identity.
#[derive(Debug)]
pub struct Identity {
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<MeshIdentity>,
    generations: AtomicU64,
}

impl Identity {
    /// A holder with nothing in it: no mesh connection is possible until [`Identity::install`].
    pub fn new(provider: Arc<CryptoProvider>, clock: Arc<dyn Clock>) -> Self {
        let (current, generations) = (ArcSwapOption::empty(), AtomicU64::new(0));
        Self { provider, clock, current, generations }
    }

    /// Puts a certificate and a bundle in place for new connections and returns the new generation, or the
    /// present one when nothing changed. On an error what was there stays.
    pub fn install(
        &self,
        svid: Arc<Svid<WorkloadKey>>,
        bundle: &TrustBundle,
    ) -> Result<u64, TlsError> {
        if let Some(current) = self.current.load().as_ref()
            && Arc::ptr_eq(&current.svid, &svid)
            && current.bundle_generation() == bundle.generation()
        {
            return Ok(current.generation);
        }
        // Numbers begin at 1: a pool may use 0 for "none".
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let (provider, clock) = (self.provider.clone(), self.clock.clone());
        let identity = MeshIdentity::new(provider, clock, svid, bundle, generation)?;
        self.current.store(Some(Arc::new(identity)));
        Ok(generation)
    }

    /// Takes the identity away, for example when it has expired and no new one came.
    pub fn clear(&self) {
        self.current.store(None);
    }

    /// The present generation; none when there is no certificate or it is not valid now.
    pub fn current(&self) -> Option<Arc<MeshIdentity>> {
        let current = self.current.load_full()?;
        current.svid.validity.contains(self.clock.now()).then_some(current)
    }

    /// Number of the present generation, 0 for none; cheap, for pools that ask whether a connection is of today.
    pub fn generation(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |current| current.generation)
    }

    /// Whether a peer that was accepted before is not acceptable any more: its certificate was revoked since.
    pub fn revokes(&self, serial: Serial) -> bool {
        self.current.load().as_ref().is_some_and(|current| current.verifier.revokes(serial))
    }

    /// The clock that decides about validity.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

/// One generation of a workload's identity: its certificate, its bundle, and the configurations of both.
pub struct MeshIdentity {
    svid: Arc<Svid<WorkloadKey>>,
    generation: u64,
    clock: Arc<dyn Clock>,
    verifier: Arc<PeerVerifier>,
    certified: Arc<SingleCertAndKey>,
    sidecar: MeshServer,
    hbone: MeshServer,
}

impl fmt::Debug for MeshIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshIdentity")
            .field("svid", &self.svid)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl MeshIdentity {
    fn new(
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
        svid: Arc<Svid<WorkloadKey>>,
        bundle: &TrustBundle,
        generation: u64,
    ) -> Result<Self, TlsError> {
        let verifier = Arc::new(PeerVerifier::new(provider, bundle)?);
        let chain = svid.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let certified = CertifiedKey::new(chain, svid.key.signing());
        certified.keys_match()?;
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let ticketer = new_ticketer()?;
        let server =
            |protocols| MeshServer::new(&verifier, &certified, &ticketer, clock.clone(), protocols);
        let (sidecar, hbone) = (server(alpn::SIDECAR_SERVER)?, server(alpn::HBONE)?);
        Ok(Self { svid, generation, clock, verifier, certified, sidecar, hbone })
    }

    /// The certificate and whom it names.
    pub fn svid(&self) -> &Arc<Svid<WorkloadKey>> {
        &self.svid
    }

    /// Number of this generation, counted from 1 per holder.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Generation of the bundle that peers are verified with.
    pub fn bundle_generation(&self) -> u64 {
        self.verifier.generation()
    }

    /// Accepts connections as a sidecar does.
    pub fn sidecar_server(&self) -> &MeshServer {
        &self.sidecar
    }

    /// Accepts connections on the tunnel port.
    pub fn hbone_server(&self) -> &MeshServer {
        &self.hbone
    }

    /// Accepts machines at the control plane's port: those with a certificate, and guests without one. `root` is shown
    /// beside the chain, for those who know its hash only. Make it once per generation.
    pub fn machine_server(&self, root: &[u8]) -> Result<MeshServer, TlsError> {
        let shown = self.svid.chain.iter().map(|der| &**der).chain([root]);
        let chain = shown.map(|der| CertificateDer::from(der.to_vec())).collect();
        let certified = CertifiedKey::new(chain, self.svid.key.signing());
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let side = ServerSide { verifier: self.verifier.clone(), admits_guests: true };
        let provider = self.verifier.provider().clone();
        let mut config = ServerConfig::builder_with_details(provider, time(&self.clock))
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(Arc::new(side))
            .with_cert_resolver(certified);
        config.alpn_protocols = owned(&[machine::CONTROL_PROTOCOL, machine::RELAY_PROTOCOL]);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let (verifier, clock) = (self.verifier.clone(), self.clock.clone());
        Ok(MeshServer { config: Arc::new(config), verifier, clock })
    }

    /// Connects to peers that `expected` accepts, offering `protocols` (see [`alpn`]). Cheap, but not free:
    /// make it once per destination and generation, and one [`MeshClient::for_endpoint`] per endpoint.
    pub fn client(
        &self,
        protocols: &[&[u8]],
        expected: Expected,
    ) -> Result<MeshClient, rustls::Error> {
        let provider = self.verifier.provider().clone();
        let side = ClientSide { verifier: self.verifier.clone(), expected: expected.clone() };
        let mut config = ClientConfig::builder_with_details(provider, time(&self.clock))
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(side))
            .with_client_cert_resolver(self.certified.clone());
        config.alpn_protocols = owned(protocols);
        config.resumption = Resumption::store(Arc::new(EndpointSessions::default()));
        Ok(MeshClient {
            config: Arc::new(config),
            verifier: self.verifier.clone(),
            clock: self.clock.clone(),
            expected,
            generation: self.generation,
        })
    }
}

/// The accepting side of mesh connections.
#[derive(Debug)]
pub struct MeshServer {
    config: Arc<ServerConfig>,
    verifier: Arc<PeerVerifier>,
    clock: Arc<dyn Clock>,
}

impl MeshServer {
    fn new(
        verifier: &Arc<PeerVerifier>,
        certified: &Arc<SingleCertAndKey>,
        ticketer: &Arc<dyn ProducesTickets>,
        clock: Arc<dyn Clock>,
        protocols: &[&[u8]],
    ) -> Result<Self, rustls::Error> {
        let provider = verifier.provider().clone();
        let side = ServerSide { verifier: verifier.clone(), admits_guests: false };
        let mut config = ServerConfig::builder_with_details(provider, time(&clock))
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(Arc::new(side))
            .with_cert_resolver(certified.clone());
        config.alpn_protocols = owned(protocols);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ticketer.clone();
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        Ok(Self { config: Arc::new(config), verifier: verifier.clone(), clock })
    }

    /// The configuration to accept with.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Who the peer of a finished handshake is; every kind of rustls connection dereferences to its state. Must be
    /// asked before anything the peer sends is used: for a resumed session rustls does not verify again, this does.
    pub fn peer(&self, connection: &CommonState) -> Result<Peer, PeerVerificationError> {
        let now = self.clock.now();
        peer(&self.verifier, connection, now, Usage::Client, &Expected::AnyTrusted)
    }
}

/// The connecting side of mesh connections to one destination.
#[derive(Debug, Clone)]
pub struct MeshClient {
    config: Arc<ClientConfig>,
    verifier: Arc<PeerVerifier>,
    clock: Arc<dyn Clock>,
    expected: Expected,
    generation: u64,
}

impl MeshClient {
    /// The configuration to connect with.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// The same with a session store of its own, for one endpoint of the destination.
    #[must_use]
    pub fn for_endpoint(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::store(Arc::new(EndpointSessions::default()));
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Whom it accepts.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The generation it was made of.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Who the peer of a finished handshake is. Must be asked before the connection is used: for a resumed
    /// session rustls does not verify again, this does.
    pub fn peer(&self, connection: &CommonState) -> Result<Peer, PeerVerificationError> {
        peer(&self.verifier, connection, self.clock.now(), Usage::Server, &self.expected)
    }
}

fn peer(
    verifier: &PeerVerifier,
    connection: &CommonState,
    now: SystemTime,
    usage: Usage,
    expected: &Expected,
) -> Result<Peer, PeerVerificationError> {
    let certificates = connection.peer_certificates().unwrap_or_default();
    let Some((leaf, intermediates)) = certificates.split_first() else {
        return Err(PeerVerificationError::NoCertificate);
    };
    verifier.verify(leaf, intermediates, now, usage, expected)
}

fn owned(protocols: &[&[u8]]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.to_vec()).collect()
}

fn time(clock: &Arc<dyn Clock>) -> Arc<dyn TimeProvider> {
    Arc::new(RustlsClock(clock.clone()))
}

#[cfg(test)]
mod tests;
