//! Makes snapshots out of what takes effect.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use heddle_authz::CompiledAuthorization;
use heddle_balance::Balancer;
use heddle_ir::destination::{Destination, DestinationId, EndpointSource};
use heddle_ir::endpoint::{Endpoint, EndpointSetKey};
use heddle_ir::outbound::Outbound;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_route::CompiledRoutes;
use heddle_sync::Effect;

use super::snapshot::{CompiledOutbound, DestinationState, Entry, Prepared, Snapshot, Used};

/// Compiles, and keeps what lives longer than one snapshot: the states of destinations.
pub(super) struct Compiler {
    snapshot: Snapshot,
    destinations: HashMap<DestinationId, Weak<DestinationState>>,
    seed: u64,
    started: Instant,
}

impl Compiler {
    /// `started` is the origin of the balancers' clock.
    pub(super) fn new(seed: u64, started: Instant) -> Self {
        Self { snapshot: Snapshot::default(), destinations: HashMap::new(), seed, started }
    }

    /// The snapshot as of now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// Carries out effects in order.
    pub(super) fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Set(name, resource) => self.set(name, resource),
                Effect::Unset(name) => self.unset(name),
            }
        }
    }

    /// The resource is in effect.
    pub(super) fn set(&mut self, name: &ResourceName, resource: &Resource) {
        self.snapshot.generation += 1;
        match resource {
            Resource::Endpoints(set) => {
                put(self.snapshot.endpoints.entry(set.key.clone()).or_default(), set.clone());
                self.refresh(&set.key, &set.endpoints);
            }
            Resource::Inbound(inbound) => {
                let generation = self.snapshot.generation;
                let (compiled, problems) =
                    CompiledAuthorization::compile(inbound.clone(), generation);
                for problem in problems {
                    tracing::warn!(%problem, "policy could not be compiled in full");
                }
                self.snapshot.inbound = Some(Arc::new(compiled));
            }
            Resource::Index(index) => self.snapshot.index = Some(index.clone()),
            Resource::Outbound(outbound) => {
                // Late news of a scope that the proxy has left.
                if self.snapshot.settings.as_ref().is_some_and(|s| s.scope != outbound.key.scope) {
                    return;
                }
                let compiled = Arc::new(self.compile(outbound));
                let key = &outbound.key;
                put(self.outbound_entry(&key.host, key.port), compiled);
            }
            Resource::Proxy(settings) => self.set_settings(settings),
            Resource::TrustBundle(bundle) => self.snapshot.trust = Some(bundle.clone()),
            Resource::Workload(workload) => {
                if let ResourceName::Workload(network, address) = name {
                    let entry = self.workload_entry(network, *address);
                    put(entry, workload.clone());
                }
            }
        }
    }

    /// The resource does not exist any more, or was let go.
    fn unset(&mut self, name: &ResourceName) {
        self.snapshot.generation += 1;
        match name {
            ResourceName::Endpoints(key) => {
                self.snapshot.endpoints.remove(key);
                self.refresh(key, &[]);
            }
            ResourceName::Outbound(key) => self.remove_outbound(&key.host, key.port),
            ResourceName::Workload(network, address) => {
                if let Some(entries) = self.snapshot.workloads.get_mut(address) {
                    entries.retain(|(own, _)| own != network);
                }
                self.snapshot.workloads.retain(|_, entries| !entries.is_empty());
            }
            // What a proxy always needs stays until it is replaced: the workload is going, and its last requests
            // are served as they were.
            ResourceName::Inbound(_)
            | ResourceName::Index(_)
            | ResourceName::Proxy(_)
            | ResourceName::TrustBundle => {}
        }
    }

    /// The control plane says that something asked for does not exist.
    pub(super) fn set_absent(&mut self, name: &ResourceName) {
        self.snapshot.generation += 1;
        match name {
            ResourceName::Endpoints(key) => {
                self.snapshot.endpoints.entry(key.clone()).or_default().value = None;
            }
            ResourceName::Outbound(key) => self.outbound_entry(&key.host, key.port).value = None,
            ResourceName::Workload(network, address) => {
                self.workload_entry(network, *address).value = None;
            }
            ResourceName::Inbound(_)
            | ResourceName::Index(_)
            | ResourceName::Proxy(_)
            | ResourceName::TrustBundle => {}
        }
    }

    /// Forgets something that nobody used.
    pub(super) fn forget(&mut self, name: &ResourceName) {
        self.unset(name);
        self.destinations.retain(|_, state| state.strong_count() > 0);
    }

    /// Whether something was used since this was last asked.
    pub(super) fn take_used(&self, name: &ResourceName) -> bool {
        let used = match name {
            ResourceName::Endpoints(key) => self.snapshot.endpoints.get(key).map(|e| &e.used),
            ResourceName::Outbound(key) => {
                let mut entries = self.snapshot.outbounds.get(&key.host).into_iter().flatten();
                entries.find_map(|(port, entry)| (*port == key.port).then_some(&entry.used))
            }
            ResourceName::Workload(network, address) => {
                let mut entries = self.snapshot.workloads.get(address).into_iter().flatten();
                entries.find_map(|(own, entry)| (own == network).then_some(&entry.used))
            }
            ResourceName::Inbound(_)
            | ResourceName::Index(_)
            | ResourceName::Proxy(_)
            | ResourceName::TrustBundle => return true,
        };
        used.is_some_and(|used| used.take())
    }

    /// With another scope, every route is another; what was held for the old one is not looked up any more.
    fn set_settings(&mut self, settings: &Arc<heddle_ir::proxy::ProxySettings>) {
        let old = self.snapshot.settings.replace(settings.clone());
        if old.is_some_and(|old| old.scope != settings.scope) {
            self.snapshot.outbounds.clear();
        }
    }

    fn compile(&mut self, outbound: &Arc<Outbound>) -> CompiledOutbound {
        let destinations: Vec<_> =
            outbound.destinations.iter().map(|policy| self.destination(policy)).collect();
        let (routes, problems) = CompiledRoutes::compile(outbound.clone());
        for problem in problems {
            tracing::warn!(%problem, "routes could not be compiled in full");
        }
        CompiledOutbound { routes, destinations: destinations.into() }
    }

    /// The state of a destination, brought to this policy.
    fn destination(&mut self, policy: &Arc<Destination>) -> Arc<DestinationState> {
        let known = self.destinations.get(&policy.id).and_then(Weak::upgrade);
        if let Some(state) = known {
            if state.prepared().policy != *policy {
                let prepared = self.prepare(policy, &self.endpoints_of(policy), Some(&state));
                state.replace(prepared);
            }
            return state;
        }
        let prepared = self.prepare(policy, &self.endpoints_of(policy), None);
        let state = Arc::new(DestinationState::new(prepared));
        self.destinations.insert(policy.id.clone(), Arc::downgrade(&state));
        state
    }

    /// Brings every destination that takes its endpoints from this set up to date. Routes are not touched.
    fn refresh(&mut self, key: &EndpointSetKey, endpoints: &[Arc<Endpoint>]) {
        for state in self.destinations.values().filter_map(Weak::upgrade) {
            let policy = state.prepared().policy.clone();
            if matches!(&policy.endpoints, EndpointSource::Set(own) if own == key) {
                let prepared = self.prepare(&policy, endpoints, Some(&state));
                state.replace(prepared);
            }
        }
    }

    fn prepare(
        &self,
        policy: &Arc<Destination>,
        endpoints: &[Arc<Endpoint>],
        state: Option<&DestinationState>,
    ) -> Prepared {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let previous = state.map(DestinationState::prepared);
        let previous = previous.as_ref().map(|previous| &previous.balancer);
        let balancer = Balancer::new(policy, endpoints, previous, self.seed, now_ms);
        Prepared { policy: policy.clone(), balancer }
    }

    fn endpoints_of(&self, policy: &Destination) -> Vec<Arc<Endpoint>> {
        let EndpointSource::Set(key) = &policy.endpoints else { return Vec::new() };
        let set = self.snapshot.endpoints.get(key).and_then(|entry| entry.value.as_ref());
        set.map(|set| set.endpoints.clone()).unwrap_or_default()
    }

    fn outbound_entry(&mut self, host: &Arc<str>, port: u16) -> &mut Entry<CompiledOutbound> {
        let entries = self.snapshot.outbounds.entry(host.clone()).or_default();
        let index = entries.iter().position(|(own, _)| *own == port).unwrap_or_else(|| {
            entries.push((port, Entry::default()));
            entries.len() - 1
        });
        &mut entries[index].1
    }

    fn workload_entry(
        &mut self,
        network: &heddle_ident::NetworkName,
        address: std::net::IpAddr,
    ) -> &mut Entry<heddle_ir::workload::Workload> {
        let entries = self.snapshot.workloads.entry(address).or_default();
        let index = entries.iter().position(|(own, _)| own == network).unwrap_or_else(|| {
            entries.push((network.clone(), Entry::default()));
            entries.len() - 1
        });
        &mut entries[index].1
    }

    fn remove_outbound(&mut self, host: &Arc<str>, port: u16) {
        if let Some(entries) = self.snapshot.outbounds.get_mut(host) {
            entries.retain(|(own, _)| *own != port);
            if entries.is_empty() {
                self.snapshot.outbounds.remove(host);
            }
        }
    }
}

fn put<T>(entry: &mut Entry<T>, value: Arc<T>) {
    entry.value = Some(value);
}

impl<T> Default for Entry<T> {
    /// New entries count as used, since somebody has just asked for them.
    fn default() -> Self {
        Self { value: None, used: Arc::new(Used::new()) }
    }
}
