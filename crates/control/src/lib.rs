//! The control plane of a standalone mesh: objects in, configuration, certificates and desired state out. Layer 7.
//!
//! Three front doors, one state behind one lock:
//! - the object API (`api`), HTTP and JSON on a Unix socket, for the command line;
//! - the config stream and certificates, gRPC on another, for proxies, each under the identity of its workload;
//! - the node API on the same, for the supervisor.
//!
//! Everything that must survive is in the store before anybody is told of it, so that the process can be killed at any
//! moment. Nothing here decides about traffic: `translate` derives, `sync` exchanges, `cert` rotates.

#![forbid(unsafe_code)]

mod api;
mod authority;
mod catalog;
pub mod certificates;
mod data_key;
mod desired;
mod digest;
pub mod explain;
mod facts;
mod handler;
mod limits;
mod machines;
mod objects;
mod plan;
mod sessions;
mod state;
mod timestamp;

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use heddle_store::StoreError;
use heddle_tls::CryptoProvider;
use tokio::sync::watch;

pub use authority::plugged::{PluggedFolderError, check_folder};
pub use authority::{CertificateAuthorityError, Lifetimes};
pub use objects::File;
pub use state::{Action, Applied, ObjectResult};

use state::State;

/// What a control plane is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store's file; made when it is not there.
    pub store: PathBuf,
    /// The socket of the object API.
    pub api_socket: PathBuf,
    /// The socket for proxies and the supervisor.
    pub stream_socket: PathBuf,
    /// A folder with an authority that others made (`ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`, `root-cert.pem`); none:
    /// the mesh makes its own, unless a Secret `cacerts` holds one.
    pub authority_folder: Option<PathBuf>,
    /// The port at which machines join and are served, listening already; none: there is no such port.
    pub machines: Option<Arc<std::net::TcpListener>>,
    /// Lifetimes of certificates.
    pub lifetimes: Lifetimes,
    /// What is fixed for translation.
    pub translation: heddle_translate::Options,
}

impl Options {
    /// A control plane with these files and every default.
    pub fn new(
        store: impl Into<PathBuf>,
        api_socket: impl Into<PathBuf>,
        stream_socket: impl Into<PathBuf>,
    ) -> Self {
        Self {
            store: store.into(),
            api_socket: api_socket.into(),
            stream_socket: stream_socket.into(),
            authority_folder: None,
            machines: None,
            lifetimes: Lifetimes::default(),
            translation: heddle_translate::Options::default(),
        }
    }
}

/// The control plane cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The authority failed.
    #[error("the certificate authority cannot be opened")]
    Authority(#[from] CertificateAuthorityError),
    /// The authority's folder cannot be used.
    #[error(transparent)]
    Plugged(#[from] PluggedFolderError),
    /// A stored document cannot be read.
    #[error("a stored document cannot be read")]
    Document(#[source] serde_json::Error),
    /// A socket cannot be opened.
    #[error("cannot listen on {path}", path = path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A server ended.
    #[error("the server on {path} ended", path = path.display())]
    Serve {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ControlError {
    /// What the operator can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) | Self::Authority(CertificateAuthorityError::Store(error)) => {
                Some(error.hint())
            }
            Self::Serve { .. }
            | Self::Authority(
                CertificateAuthorityError::Authority(_) | CertificateAuthorityError::PluggedIn,
            ) => None,
            Self::Authority(_) | Self::Document(_) => Some(
                "the store was damaged or changed by hand; move it away and apply your files again",
            ),
            Self::Listen { .. } => Some("is another control plane running in this directory?"),
            Self::Plugged(_) => Some(
                "the folder of --ca holds ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem, as Istio's cacerts",
            ),
        }
    }
}

/// The state as everything shares it. The lock is never held across an await.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) limits: Arc<limits::Limits>,
    progress: watch::Receiver<u64>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held is a bug that is reported where it happened; the others go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a control plane until `shutdown` ends. `ready` is called once both sockets accept.
pub async fn serve(
    options: Options,
    provider: Arc<CryptoProvider>,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ControlError> {
    let state = State::open(&options, &provider, SystemTime::now())?;
    let (progress, limits) = (state.progress(), state.limits());
    let shared = Arc::new(Shared { state: Mutex::new(state), limits, progress });
    let api_listener = listen(&options.api_socket)?;
    let stream_listener = listen(&options.stream_socket)?;
    ready();
    tracing::info!(revision = shared.state().revision(), "control plane runs");
    let streams = heddle_rpc::server::serve(
        handler::Handler::new(shared.clone()),
        stream_listener,
        heddle_rpc::server::Limits::default(),
        std::future::pending(),
    );
    let machines = match &options.machines {
        Some(port) => Some(machines_port(port)?),
        None => None,
    };
    let machines = async {
        match machines {
            Some(listener) => machines::serve(shared.clone(), listener).await,
            None => std::future::pending().await,
        }
    };
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |source| ControlError::Serve { path, source }
    };
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        outcome = api::serve(shared.clone(), api_listener) => {
            outcome.map_err(|e| failed(&options.api_socket)(e.into()))
        }
        outcome = machines => outcome.map_err(failed(&PathBuf::from("the port for machines"))),
        outcome = streams => outcome.map_err(|e| failed(&options.stream_socket)(e.into())),
        () = tick(&shared) => Ok(()),
    };
    for socket in [&options.api_socket, &options.stream_socket] {
        // Left behind otherwise; the next start would remove it.
        let _ = std::fs::remove_file(socket);
    }
    outcome
}

fn machines_port(port: &std::net::TcpListener) -> Result<tokio::net::TcpListener, ControlError> {
    let listener = port.try_clone().and_then(|listener| {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    });
    listener.map_err(|source| ControlError::Listen { path: "the port for machines".into(), source })
}

fn listen(path: &std::path::Path) -> Result<tokio::net::UnixListener, ControlError> {
    heddle_net::socket::listen_unix(path)
        .and_then(|listener| {
            listener.set_nonblocking(true)?;
            tokio::net::UnixListener::from_std(listener)
        })
        .map_err(|source| ControlError::Listen { path: path.to_owned(), source })
}

/// Goes on with whatever time alone moves: drains, rotations, the age of roots.
async fn tick(shared: &Shared) {
    /// Roots grow old slowly.
    const REST: Duration = Duration::from_hours(1);
    let mut progress = shared.progress.clone();
    loop {
        let now = SystemTime::now();
        let next = shared.state().tick(now);
        let rest = next.map_or(REST, |next| {
            Duration::from_millis(next.saturating_sub(timestamp::millis(now)))
        });
        // A change may have begun a drain; what follows from acknowledgements is done where they come in.
        tokio::select! {
            () = tokio::time::sleep(rest.max(Duration::from_millis(10))) => {}
            changed = progress.changed() => if changed.is_err() { return },
        }
    }
}
