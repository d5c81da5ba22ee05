//! One thread of a proxy: what its connections share without locks.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use heddle_http::drain::LocalDrain;
use heddle_http::pool::Keeper;
use heddle_ir::http_route::RetryPolicy;
use heddle_net::broker;
use heddle_net::socket::SocketFactory;
use heddle_telemetry::audit::AuditLog;
use heddle_telemetry::istio::StandardMetrics;
use heddle_telemetry::mesh::MeshMetrics;
use heddle_tls::Identity;
use tokio::time::Instant;

use crate::changes::LocalChanges;
use crate::configuration::Configuration;
use crate::detect::Remembered;
use crate::events::Events;
use crate::kept::Kept;
use crate::names::LearnedNames;
use crate::record::Recorders;
use crate::upstream::{EndpointKey, UpstreamEndpoint};

/// What all threads of a proxy share.
#[derive(Clone)]
pub struct Shared {
    /// The configuration.
    pub configuration: Configuration,
    /// The workload's identity.
    pub identity: Arc<Identity>,
    /// Where sockets to others come from, and listeners.
    pub sockets: SocketFactory,
    /// Where sockets to the own application come from: interception must not send them back to this proxy.
    pub application_sockets: SocketFactory,
    /// Who connects to addresses outside of the mesh in the proxy's place; none: the proxy itself.
    pub outside: Option<broker::Client>,
    /// Whether workloads of the mesh, too, are reached through them alone.
    pub is_outside: bool,
    /// Where requests and streams are counted; none: nowhere.
    pub metrics: Option<StandardMetrics>,
    /// Where failures are counted; none: nowhere.
    pub mesh_metrics: Option<MeshMetrics>,
    /// Names that the workload has found addresses under.
    pub names: Arc<LearnedNames>,
    /// Where decisions are written that somebody may have to account for.
    pub audit: AuditLog,
    /// What tokens of requests are checked with.
    pub token_keys: Arc<crate::tokens::TokenKeys>,
    /// Who is asked beside the configuration.
    pub control_plane: crate::rate_limits::ControlPlane,
    /// Where the proxy's clock begins.
    pub started: Instant,
    /// What stands in for interception, where there is none.
    pub overrides: Overrides,
}

/// What is known without interception: for benches and tests, and where another component says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Overrides {
    /// Outbound connections count as made to this address; none: the address that they were made to before they were
    /// redirected.
    pub outbound_destination: Option<SocketAddr>,
    /// Inbound connections count as made to this address.
    pub inbound_destination: Option<SocketAddr>,
    /// The application is reached at this address and the port that was connected to; none: at the address that was
    /// connected to.
    pub application: Option<IpAddr>,
}

/// One thread of a proxy. It lives on the thread that made it, and its connections are tasks of that thread's
/// [`tokio::task::LocalSet`].
pub struct Worker {
    pub(crate) shared: Shared,
    pub(crate) keeper: Rc<Keeper>,
    pub(crate) drain: Rc<LocalDrain>,
    pub(crate) endpoints: RefCell<Kept<EndpointKey, Rc<UpstreamEndpoint>>>,
    pub(crate) recorders: Recorders,
    pub(crate) events: Events,
    pub(crate) applications: crate::inbound::Applications,
    /// Destinations that no table of routes speaks for.
    pub(crate) direct: crate::find::DirectDestinations,
    /// Undeclared ports that the workload connects to, and those of the workload itself.
    pub(crate) outbound_ports: Remembered,
    pub(crate) inbound_ports: Remembered,
    /// Callers that were silent while a hello of theirs was waited for, and those whose hello was late.
    pub(crate) hellos: Remembered,
    /// Where the proxy's own requests go.
    pub(crate) asked: crate::ask::Known,
    pub(crate) no_retries: RetryPolicy,
    pub(crate) access_log: crate::access_log::Held,
    /// Changes of what is enforced for the workload.
    pub(crate) policy_changes: Rc<LocalChanges>,
    /// Copies of requests that are under way.
    pub(crate) copies: Cell<usize>,
    random: Cell<u64>,
}

impl Worker {
    /// A thread without connections. `seed` spreads what is drawn at random; another one for each thread.
    pub fn new(shared: Shared, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            recorders: Recorders::new(shared.metrics.clone()),
            events: Events::new(shared.mesh_metrics.clone()),
            random: Cell::new(seed),
            copies: Cell::new(0),
            shared,
            keeper: Keeper::new(),
            drain: LocalDrain::new(),
            endpoints: RefCell::default(),
            applications: crate::inbound::Applications::default(),
            direct: crate::find::DirectDestinations::default(),
            outbound_ports: Remembered::default(),
            inbound_ports: Remembered::default(),
            hellos: Remembered::default(),
            asked: crate::ask::Known::default(),
            no_retries: RetryPolicy::never(),
            access_log: crate::access_log::Held::default(),
            policy_changes: Rc::default(),
        })
    }

    /// The thread's own work besides connections: watching idle ones, letting go of endpoints that are not configured any
    /// more, and telling what is under way of changes of policy. Never ends.
    pub async fn run(self: Rc<Self>) {
        let mut changes = self.shared.configuration.changes();
        crate::tokens::follow(&self);
        let evict = async {
            let policy = || self.shared.configuration.snapshot().inbound.clone();
            let mut known = policy();
            let mut identity = self.shared.identity.generation();
            while changes.changed().await.is_ok() {
                self.evict_endpoints();
                let present = policy();
                let same = match (&known, &present) {
                    (Some(known), Some(present)) => Arc::ptr_eq(known, present),
                    (known, present) => known.is_none() && present.is_none(),
                };
                // Revocations come with the identity.
                let generation = self.shared.identity.generation();
                if !same || identity != generation {
                    (known, identity) = (present, generation);
                    self.policy_changes.note();
                }
                crate::tokens::follow(&self);
            }
            std::future::pending::<()>().await;
        };
        tokio::join!(self.keeper.clone().run(), evict);
    }

    /// The connections of the thread, to be drained.
    pub fn drain(&self) -> &Rc<LocalDrain> {
        &self.drain
    }

    /// Milliseconds of the proxy's clock.
    pub(crate) fn now_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.shared.started).as_millis())
            .unwrap_or(u64::MAX)
    }

    /// A number spread evenly over `u64` (SplitMix64): for load balancing, not for secrets.
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Closes idle connections to endpoints that no configuration names any longer, and of generations of the
    /// identity that are not the present one.
    fn evict_endpoints(&self) {
        let generation = self.shared.identity.generation();
        self.endpoints.borrow_mut().retain(|endpoint| endpoint.keep_or_evict(generation));
    }
}
