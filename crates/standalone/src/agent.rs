//! A machine outside that is part of a mesh: it joins with a token, keeps its identity, and carries what its supervisor and
//! its workload's proxy say to the control plane.
//!
//! The agent lives in the host's namespaces, beside the broker. Its own key proves the machine to the control plane; the
//! proxy makes another one for the mesh's traffic, which never comes here. Bytes of both are moved and not read. What the
//! machine runs is its owner's to say ([`crate::options::LocalWorkload`]): the control plane gives policy and addresses.

mod connect;
mod identity;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use heddle_diag::error_chain;
use heddle_ident::{Cidr, SpiffeId, WorkloadId};
use heddle_net::broker::Refusal;
use heddle_proto::certificate::{JoinRequest, Machine, RefreshRequest};
use heddle_rpc::Peer;
use heddle_rpc::client::Connection;
use heddle_tls::{CONTROL_PROTOCOL, CryptoProvider, JoinTrust, RELAY_PROTOCOL};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use identity::{Held, Joined};

/// How often the control plane is asked whom it trusts now. A rotation of the root waits for the answer.
const REFRESH_PERIOD: Duration = Duration::from_secs(10);
/// For one call.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Connections of the supervisor and of proxies at a time.
const CONNECTIONS_MAX: usize = 64;
/// For the line with which such a connection begins.
const PREAMBLE_MAX: Duration = Duration::from_secs(5);

/// How a machine joins.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Host or address, and port, of the control plane.
    pub control_plane: String,
    /// Namespace and service account that the machine is.
    pub account: (String, String),
    /// The WorkloadGroup that it is an instance of, or the WorkloadEntry that it is.
    pub object: MachineObject,
    /// The address at which the mesh reaches it; none: that of its WorkloadEntry.
    pub address: Option<IpAddr>,
    /// What is known of the mesh beforehand; none is enough for a machine that has joined before.
    pub trust: Option<JoinTrust>,
    /// The token; none is enough for a machine that has joined before.
    pub token: Option<String>,
    /// Where the identity is kept, so that a restart needs no other token: a file of mode 0600.
    pub identity_file: PathBuf,
}

/// The object that says what a machine is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MachineObject {
    /// A WorkloadGroup.
    Group(String),
    /// A WorkloadEntry.
    Entry(String),
}

/// The machine is not part of the mesh.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The control plane is not reached, or is not who it should be.
    #[error("cannot reach the control plane at {address}")]
    Connect {
        /// As it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The identity cannot be kept, or read again.
    #[error("cannot use the identity file {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither a token nor an identity from before.
    #[error("this machine has not joined yet, or its certificate has expired: it needs {0}")]
    Missing(&'static str),
    /// The control plane refuses.
    #[error("the control plane at {address} refuses: {why}")]
    Refused {
        /// As it was given.
        address: String,
        /// In its words.
        why: String,
    },
    /// What it answers cannot be used.
    #[error("the control plane's answer cannot be used: {0}")]
    Answer(String),
}

impl AgentError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect { .. } => Some(
                "the mesh is started with `heddle up --join-listen ADDRESS:PORT`, and --ca-sha256 or --ca-file is what `heddle certs token create` said",
            ),
            Self::Missing(_) | Self::Refused { .. } => Some(
                "`heddle certs token create --for NAMESPACE/SERVICE-ACCOUNT` on the mesh makes a token; `heddle certs` there shows what became of it",
            ),
            Self::Answer(_) => Some("both ends should be of the same version"),
            Self::File { .. } => None,
        }
    }
}

/// A machine that has joined.
pub struct Agent {
    control_plane: String,
    identity_file: PathBuf,
    held: Mutex<Held>,
    workload: WorkloadId,
    address: IpAddr,
    ranges: Vec<Cidr>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("workload", &self.workload).finish_non_exhaustive()
    }
}

impl Agent {
    /// Comes back with the identity of before; none: this machine has to join. Starts no event loop.
    pub fn known(
        options: &AgentOptions,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<Self>>, AgentError> {
        let file = &options.identity_file;
        let failed = |source| AgentError::File { path: file.clone(), source };
        let known = identity::read(file, provider, SystemTime::now()).map_err(failed)?;
        // Another machine than the one of before, or another token, is a reason to join anew.
        let known = known.filter(|(joined, _)| joined.is_of(options));
        let Some((joined, held)) = known else { return Ok(None) };
        Self::of(options, joined, held).map(Some)
    }

    /// Joins with a token, and keeps the identity for [`Agent::known`].
    pub async fn join(
        options: &AgentOptions,
        provider: Arc<CryptoProvider>,
    ) -> Result<(), AgentError> {
        let (joined, held) = Self::join_with_token(options, provider).await?;
        let path = options.identity_file.clone();
        identity::write(&path, &joined, &held)
            .map_err(|source| AgentError::File { path, source })?;
        Self::of(options, joined, held).map(drop)
    }

    fn of(options: &AgentOptions, joined: Joined, held: Held) -> Result<Arc<Self>, AgentError> {
        let address = joined
            .address
            .parse()
            .map_err(|_| AgentError::Answer(format!("{:?} is not an address", joined.address)))?;
        let ranges = joined.ranges.iter().map(|text| Cidr::parse(text)).collect::<Result<_, _>>();
        let ranges = ranges.map_err(|error| AgentError::Answer(error.to_string()))?;
        Ok(Arc::new(Self {
            control_plane: options.control_plane.clone(),
            identity_file: options.identity_file.clone(),
            held: Mutex::new(held),
            workload: WorkloadId::new(joined.workload),
            address,
            ranges,
        }))
    }

    async fn join_with_token(
        options: &AgentOptions,
        provider: Arc<CryptoProvider>,
    ) -> Result<(Joined, Held), AgentError> {
        let address = || options.control_plane.clone();
        let trust = options.trust.clone().ok_or(AgentError::Missing("--ca-file or --ca-sha256"))?;
        let token = options.token.clone().ok_or(AgentError::Missing("a token (--token-file)"))?;
        let refused = |why: String| AgentError::Refused { address: address(), why };
        let not_reached = |source| AgentError::Connect { address: address(), source };
        let (tls, domain) = connect::as_guest(&options.control_plane, provider.clone(), trust)
            .await
            .map_err(not_reached)?;
        let (namespace, account) = &options.account;
        let id = SpiffeId::for_service_account(&domain, namespace, account)
            .map_err(|error| refused(error.to_string()))?;
        let mut held = Held::new(id, provider);
        let csr = held.first_request().map_err(AgentError::Answer)?;
        let (group, entry) = match &options.object {
            MachineObject::Group(name) => (name.clone(), String::new()),
            MachineObject::Entry(name) => (String::new(), name.clone()),
        };
        let machine = Machine {
            workload_group: group,
            workload_entry: entry,
            address: options.address.map(|address| address.to_string()).unwrap_or_default(),
        };
        let request = JoinRequest { token, csr, machine: Some(machine) };
        let call = async {
            let connection =
                Connection::over(tls).await.map_err(|error| refused(error_chain(&error)))?;
            connection.join(request).await.map_err(|status| refused(status.message().to_owned()))
        };
        let answer = tokio::time::timeout(CALL_MAX, call).await;
        let answer = answer.map_err(|_| refused(format!("no answer within {CALL_MAX:?}")))??;
        held.take(&answer).map_err(AgentError::Answer)?;
        Ok((Joined::new(options, &answer), held))
    }

    /// Who the machine is.
    pub fn identity(&self) -> SpiffeId {
        self.held().id().clone()
    }

    /// The workload that it is.
    pub fn workload(&self) -> &WorkloadId {
        &self.workload
    }

    /// The address at which the mesh reaches it.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Keeps the identity, and carries what comes in on the socket, until dropped.
    pub async fn run(self: Arc<Self>, listener: UnixListener) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().keep());
        tasks.spawn(self.serve(listener));
        while tasks.join_next().await.is_some() {}
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the control plane again and again whom it trusts, and for the next certificate when that is due.
    async fn keep(self: Arc<Self>) {
        let mut connection: Option<Connection> = None;
        loop {
            let outcome = tokio::time::timeout(CALL_MAX, self.refresh(&mut connection)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {CALL_MAX:?}")));
            if let Err(why) = outcome {
                connection = None;
                let left = self.held().left(SystemTime::now());
                let hint = if left.is_zero() {
                    "its certificate has expired: start it again with another token"
                } else {
                    "tried again by itself; what is held stays in effect"
                };
                tracing::warn!(why, ?left, hint, "the control plane does not answer this machine");
            }
            tokio::time::sleep(REFRESH_PERIOD).await;
        }
    }

    async fn refresh(&self, connection: &mut Option<Connection>) -> Result<(), String> {
        let current = if let Some(current) = connection {
            current
        } else {
            let tls = self.connect(CONTROL_PROTOCOL).await.map_err(|error| error_chain(&error))?;
            let opened = Connection::over(tls).await.map_err(|error| error_chain(&error))?;
            connection.insert(opened)
        };
        let request: RefreshRequest = self.held().request(SystemTime::now());
        let asked = !request.csr.is_empty();
        let answer = current.refresh(request).await;
        let mut held = self.held();
        let answer = answer.map_err(|status| {
            held.failed(SystemTime::now(), status.message());
            status.message().to_owned()
        })?;
        if held.take(&answer)? || asked {
            let id = held.id().to_string();
            tracing::info!(
                identity = id,
                generation = answer.generation,
                "this machine's certificate or roots are new"
            );
            let kept = identity::update(&self.identity_file, &held);
            if let Err(error) = kept {
                let hint = "after a restart the machine may need another token";
                tracing::error!(%error, hint, "the identity of this machine cannot be kept");
            }
        }
        Ok(())
    }

    async fn connect(&self, protocol: &'static [u8]) -> io::Result<connect::Stream> {
        let (config, name) =
            self.held().client(&self.workload, protocol).map_err(io::Error::other)?;
        connect::with(&self.control_plane, config, name).await
    }

    /// Carries connections of the supervisor and of the proxy to the control plane.
    async fn serve(self: Arc<Self>, listener: UnixListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let agent = self.clone();
            connections.spawn(async move {
                if let Err(error) = agent.carry(stream).await {
                    tracing::debug!(%error, "a connection to the control plane ended");
                }
                drop(slot);
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn carry(&self, mut stream: UnixStream) -> io::Result<()> {
        let peer = tokio::time::timeout(PREAMBLE_MAX, Peer::read_preamble(&mut stream)).await;
        let peer = peer.map_err(|_| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?;
        let is_own = match &peer {
            Peer::Node(_) => true,
            Peer::Workload(workload) => *workload == self.workload,
            Peer::Guest | Peer::Machine(_) => false,
        };
        if !is_own {
            return Err(io::Error::other(format!("{peer} is not of this machine")));
        }
        let mut tls = self.connect(CONTROL_PROTOCOL).await?;
        tokio::io::copy_bidirectional(&mut stream, &mut tls).await?;
        Ok(())
    }

    /// Whether an address is inside of the mesh, and so reached through the control plane's port only.
    pub(crate) fn carries(&self, address: SocketAddr) -> bool {
        let address = address.ip().to_canonical();
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// A connection to a workload inside of the mesh.
    pub(crate) async fn connect_inside(&self, address: SocketAddr) -> Result<OwnedFd, Refusal> {
        let tls = self.connect(RELAY_PROTOCOL).await.map_err(Refusal::from)?;
        connect::carried(tls, address).await
    }
}
