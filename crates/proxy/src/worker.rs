//! One thread of a proxy: what its connections share without locks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use heddle_http::drain::LocalDrain;
use heddle_http::pool::Keeper;
use heddle_net::socket::SocketFactory;
use heddle_tls::Identity;
use tokio::time::Instant;

use crate::configuration::Configuration;
use crate::record::Recorder;
use crate::upstream::{EndpointKey, UpstreamEndpoint};

/// What is given to each thread of a proxy.
#[derive(Clone)]
pub struct WorkerParts {
    /// The configuration.
    pub configuration: Configuration,
    /// The workload's identity.
    pub identity: Arc<Identity>,
    /// Where sockets to other workloads come from.
    pub sockets: SocketFactory,
    /// Where sockets to the workload itself come from: not marked as the proxy's where it needs not be.
    pub local_sockets: SocketFactory,
    /// Takes note of what was done.
    pub recorder: Arc<dyn Recorder>,
    /// When the proxy's clock began.
    pub epoch: Instant,
    /// Spreads what is drawn at random; another one for each thread.
    pub seed: u64,
}

/// One thread of a proxy.
pub struct Worker {
    pub(crate) parts: WorkerParts,
    pub(crate) keeper: Rc<Keeper>,
    pub(crate) drain: Rc<LocalDrain>,
    pub(crate) endpoints: RefCell<HashMap<EndpointKey, Rc<UpstreamEndpoint>>>,
    random: Cell<u64>,
}

impl Worker {
    /// A thread without connections.
    pub fn new(parts: WorkerParts) -> Rc<Self> {
        Rc::new(Self {
            random: Cell::new(parts.seed),
            parts,
            keeper: Keeper::new(),
            drain: LocalDrain::new(),
            endpoints: RefCell::default(),
        })
    }

    /// The thread's own work besides connections: watching idle ones, and letting go of endpoints that are not
    /// configured any more. Never ends.
    pub async fn run(self: Rc<Self>) {
        let mut changes = self.parts.configuration.changes();
        let evict = async {
            while changes.changed().await.is_ok() {
                self.evict_endpoints();
            }
            std::future::pending::<()>().await;
        };
        tokio::join!(self.keeper.clone().run(), evict);
    }

    /// The connections of the thread.
    pub fn drain(&self) -> &Rc<LocalDrain> {
        &self.drain
    }

    /// Milliseconds of the proxy's clock.
    pub(crate) fn now_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.parts.epoch).as_millis())
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
        let generation = self.parts.identity.generation();
        self.endpoints.borrow_mut().retain(|_, endpoint| endpoint.keep_or_evict(generation));
    }
}
