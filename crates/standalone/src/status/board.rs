//! The one place where the state of everything is kept while the supervisor runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{MeshStatus, WorkloadStatus};

/// The state of everything, and a counter that changes with it.
pub(crate) struct Board {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

struct Inner {
    mesh: MeshStatus,
    /// By id. `MeshStatus::workloads` stays empty in here.
    workloads: BTreeMap<String, WorkloadStatus>,
}

impl Board {
    pub(crate) fn new(mesh: MeshStatus) -> Self {
        let inner = Inner { mesh, workloads: BTreeMap::new() };
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(0) }
    }

    /// Changes what concerns the mesh as a whole.
    pub(crate) fn update_mesh(&self, change: impl FnOnce(&mut MeshStatus)) {
        change(&mut self.lock().mesh);
        self.tell();
    }

    /// Takes note of the desired state that was received last.
    pub(crate) fn update_version(&self, version: &str) {
        let mut inner = self.lock();
        if inner.mesh.desired_version == version {
            return;
        }
        version.clone_into(&mut inner.mesh.desired_version);
        drop(inner);
        self.tell();
    }

    /// Enters a workload, or replaces the one with the same id.
    pub(crate) fn enter(&self, status: WorkloadStatus) {
        self.lock().workloads.insert(status.id.clone(), status);
        self.tell();
    }

    /// Changes a workload; nothing happens when it is not, or no longer, the one with that uid.
    pub(crate) fn update(&self, id: &str, uid: &str, change: impl FnOnce(&mut WorkloadStatus)) {
        let mut inner = self.lock();
        let Some(status) = inner.workloads.get_mut(id).filter(|status| status.uid == uid) else {
            return;
        };
        let before = status.clone();
        change(status);
        let same = *status == before;
        drop(inner);
        if !same {
            self.tell();
        }
    }

    /// Forgets a workload.
    pub(crate) fn leave(&self, id: &str, uid: &str) {
        let mut inner = self.lock();
        if inner.workloads.get(id).is_some_and(|status| status.uid == uid) {
            inner.workloads.remove(id);
        }
        drop(inner);
        self.tell();
    }

    /// One workload.
    pub(crate) fn workload(&self, id: &str) -> Option<WorkloadStatus> {
        self.lock().workloads.get(id).cloned()
    }

    /// Everything.
    pub(crate) fn snapshot(&self) -> MeshStatus {
        let inner = self.lock();
        MeshStatus { workloads: inner.workloads.values().cloned().collect(), ..inner.mesh.clone() }
    }

    /// Changes whenever something here does.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
