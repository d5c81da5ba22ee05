//! What is held, and the snapshots that follow from it.

use heddle_ident::SpiffeId;
use heddle_ir::resource::ResourceName;
use heddle_sync::{Effects, Holdings, Update};
use tracing::warn;

use crate::configuration::Publisher;

pub(super) struct Held {
    publisher: Publisher,
    holdings: Holdings,
    seed: u64,
}

impl Held {
    pub(super) fn new(publisher: Publisher, seed: u64) -> Self {
        Self { publisher, holdings: Holdings::new(), seed }
    }

    /// Who the workload is.
    pub(super) fn identity(&self) -> Option<SpiffeId> {
        let snapshot = self.publisher.current();
        snapshot.settings.as_ref().map(|settings| settings.workload.identity.clone())
    }

    /// When an on-demand resource was last used, in milliseconds of the proxy's clock; 0 where uses are not noted.
    pub(super) fn used_at_ms(&self, name: &ResourceName) -> u64 {
        let ResourceName::Outbound(key) = name else { return 0 };
        let snapshot = self.publisher.current();
        let outbound = snapshot.outbounds.get(key);
        outbound.map_or(0, |state| state.used_at_ms.load(std::sync::atomic::Ordering::Relaxed))
    }

    pub(super) fn want(&mut self, name: &ResourceName, now_ms: u64) -> Effects {
        let effects = self.holdings.want(name);
        self.publish(effects, &[], now_ms)
    }

    pub(super) fn unwant(&mut self, name: &ResourceName, now_ms: u64) -> Effects {
        let effects = self.holdings.unwant(name);
        self.publish(effects, std::slice::from_ref(name), now_ms)
    }

    /// Takes in what the control plane said and publishes what follows.
    pub(super) fn apply(&mut self, updates: Vec<Update>, now_ms: u64) -> Effects {
        let names: Vec<_> = updates.iter().map(|update| update.name.clone()).collect();
        let effects = self.holdings.apply(updates);
        self.publish(effects, &names, now_ms)
    }

    /// Puts effects into a new snapshot; gives back what they ask of the stream. `touched` are the names of which it
    /// may have changed whether they exist.
    fn publish(&mut self, mut effects: Effects, touched: &[ResourceName], now_ms: u64) -> Effects {
        let current = self.publisher.current();
        let is_absent = |name: &&ResourceName| self.holdings.is_absent(name);
        let absence_changes =
            touched.iter().any(|name| is_absent(&name) != current.absent.contains(name));
        if effects.effects.is_empty() && !absence_changes {
            return effects;
        }
        let (mut next, problems) = current.with(&effects.effects, self.seed, now_ms);
        for problem in problems {
            warn!(problem, "something cannot be compiled; it keeps its safe meaning");
        }
        for name in touched {
            if is_absent(&name) {
                next.absent.insert(name.clone());
            } else {
                next.absent.remove(name);
            }
        }
        effects.effects.clear();
        self.publisher.publish(next);
        effects
    }
}
