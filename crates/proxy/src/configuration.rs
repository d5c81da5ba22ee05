//! How the pipelines come by configuration: the present snapshot, and asking for what is not held.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use heddle_ir::resource::ResourceName;
use tokio::sync::watch;

use crate::snapshot::Snapshot;

/// Takes note that a resource is wanted. Called for what is not held only; must not block.
pub trait Demand: Send + Sync + 'static {
    /// Asks for it, so that a later snapshot holds it or says that it does not exist.
    fn want(&self, name: ResourceName);
}

/// The configuration as all threads of a proxy share it.
#[derive(Clone)]
pub struct Configuration {
    current: Arc<ArcSwap<Snapshot>>,
    changes: watch::Receiver<u64>,
    demand: Arc<dyn Demand>,
}

/// The end that puts snapshots in place.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    changes: watch::Sender<u64>,
}

impl Publisher {
    /// Puts a snapshot in place: requests that begin from now on see it.
    pub fn publish(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.current.store(Arc::new(snapshot));
        self.changes.send_replace(generation);
    }

    /// What was published last.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

impl Configuration {
    /// A configuration that begins with this snapshot.
    pub fn new(first: Snapshot, demand: Arc<dyn Demand>) -> (Self, Publisher) {
        let (sender, changes) = watch::channel(first.generation);
        let current = Arc::new(ArcSwap::from_pointee(first));
        (Self { current: current.clone(), changes, demand }, Publisher { current, changes: sender })
    }

    /// The present snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Tells when another snapshot has been put in place.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Asks for a resource and does not wait.
    pub fn want(&self, name: ResourceName) {
        self.demand.want(name);
    }

    /// Asks for `name` and waits until a snapshot holds it, as `find` tells, or says that it does not exist.
    /// None when it does not exist or has not come within `wait_max`.
    pub async fn wait_for<T>(
        &self,
        name: ResourceName,
        wait_max: Duration,
        find: impl Fn(&Arc<Snapshot>) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.changes.clone();
        self.demand.want(name.clone());
        let found = async {
            loop {
                let snapshot = {
                    changes.mark_unchanged();
                    self.snapshot()
                };
                if let Some(found) = find(&snapshot) {
                    return Some(found);
                }
                if snapshot.absent.contains(&name) || changes.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(wait_max, found).await.ok().flatten()
    }
}
