//! What the data plane reads.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use heddle_authz::CompiledAuthorization;
use heddle_balance::{Balancer, Breakers};
use heddle_ident::NetworkName;
use heddle_ir::destination::Destination;
use heddle_ir::endpoint::{EndpointSet, EndpointSetKey};
use heddle_ir::index::Index;
use heddle_ir::proxy::ProxySettings;
use heddle_ir::trust::TrustBundle;
use heddle_ir::workload::Workload;
use heddle_route::CompiledRoutes;

/// Everything a proxy holds, at one moment. Never changes; the next one shares what stayed the same.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(super) generation: u64,
    pub(super) settings: Option<Arc<ProxySettings>>,
    pub(super) index: Option<Arc<Index>>,
    pub(super) inbound: Option<Arc<CompiledAuthorization>>,
    pub(super) trust: Option<Arc<TrustBundle>>,
    pub(super) outbounds: HashMap<Arc<str>, Vec<(u16, Entry<CompiledOutbound>)>>,
    pub(super) endpoints: HashMap<EndpointSetKey, Entry<EndpointSet>>,
    pub(super) workloads: HashMap<IpAddr, Vec<(NetworkName, Entry<Workload>)>>,
    /// Nothing is asked for: what is not here does not exist.
    pub(super) is_closed: bool,
}

/// A resource that is held, or known not to exist.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) value: Option<Arc<T>>,
    pub(super) used: Arc<Used>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), used: self.used.clone() }
    }
}

/// Whether something was looked up since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Used(AtomicBool);

impl Used {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(true))
    }

    fn mark(&self) {
        // Read first: a line that is only read is shared by all threads.
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// What is known about a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup<T> {
    /// The control plane says that it does not exist.
    Absent,
    /// It is held.
    Held(T),
    /// It was never asked for, or has not come yet.
    Unknown,
}

impl<T> Lookup<&Arc<T>> {
    /// The same with an owner.
    pub fn cloned(self) -> Lookup<Arc<T>> {
        match self {
            Self::Absent => Lookup::Absent,
            Self::Held(value) => Lookup::Held(value.clone()),
            Self::Unknown => Lookup::Unknown,
        }
    }
}

impl Snapshot {
    /// Grows with every change; permits carry it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Who the proxy is; none until the control plane has said so.
    pub fn settings(&self) -> Option<&Arc<ProxySettings>> {
        self.settings.as_ref()
    }

    /// Names and addresses of the mesh.
    pub fn index(&self) -> Option<&Arc<Index>> {
        self.index.as_ref()
    }

    /// Policy of the own workload. None: nothing may come in.
    pub fn inbound(&self) -> Option<&Arc<CompiledAuthorization>> {
        self.inbound.as_ref()
    }

    /// The roots.
    pub fn trust(&self) -> Option<&Arc<TrustBundle>> {
        self.trust.as_ref()
    }

    /// Whether everything that a proxy always needs is here, but for the certificate.
    pub fn is_complete(&self) -> bool {
        self.settings.is_some()
            && self.index.is_some()
            && self.inbound.is_some()
            && self.trust.is_some()
    }

    /// Routes and destinations of a host and port. Counts as use.
    pub fn outbound(&self, host: &str, port: u16) -> Lookup<&Arc<CompiledOutbound>> {
        let entries = self.outbounds.get(host).map(Vec::as_slice).unwrap_or_default();
        self.look(entries.iter().find_map(|(own, entry)| (*own == port).then_some(entry)))
    }

    /// The endpoints of a service port. Counts as use.
    pub fn endpoints(&self, key: &EndpointSetKey) -> Lookup<&Arc<EndpointSet>> {
        self.look(self.endpoints.get(key))
    }

    /// Who is at an address. Counts as use.
    pub fn workload(&self, network: &NetworkName, address: IpAddr) -> Lookup<&Arc<Workload>> {
        let entries = self.workloads.get(&address).map(Vec::as_slice).unwrap_or_default();
        self.look(entries.iter().find_map(|(own, entry)| (own == network).then_some(entry)))
    }

    /// How many destinations are held.
    pub fn outbound_count(&self) -> usize {
        self.outbounds.values().map(Vec::len).sum()
    }

    fn look<'a, T>(&self, entry: Option<&'a Entry<T>>) -> Lookup<&'a Arc<T>> {
        let Some(entry) = entry else {
            return if self.is_closed { Lookup::Absent } else { Lookup::Unknown };
        };
        entry.used.mark();
        entry.value.as_ref().map_or(Lookup::Absent, Lookup::Held)
    }

    /// The same, with everything else known not to exist.
    pub(super) fn complete(mut self) -> Self {
        self.is_closed = true;
        self
    }
}

/// Routes of one host and port, and the destinations they lead to.
#[derive(Debug)]
pub struct CompiledOutbound {
    /// The routes; [`CompiledRoutes::outbound`] is what they were compiled from.
    pub routes: CompiledRoutes,
    /// In the order of [`heddle_ir::outbound::Outbound::destinations`].
    pub destinations: Box<[Arc<DestinationState>]>,
}

/// A destination as the process knows it. Lives on while its policy and its endpoints change.
#[derive(Debug)]
pub struct DestinationState {
    /// What is under way towards it.
    pub breakers: Breakers,
    prepared: ArcSwap<Prepared>,
}

/// The policy and the endpoints of a destination, at one moment.
#[derive(Debug)]
pub struct Prepared {
    /// The policy.
    pub policy: Arc<Destination>,
    /// The endpoints.
    pub balancer: Balancer,
}

impl DestinationState {
    pub(super) fn new(prepared: Prepared) -> Self {
        Self { breakers: Breakers::default(), prepared: ArcSwap::from_pointee(prepared) }
    }

    pub(super) fn replace(&self, prepared: Prepared) {
        self.prepared.store(Arc::new(prepared));
    }

    /// Policy and endpoints as of now. One attempt must read one only.
    pub fn prepared(&self) -> Guard<Arc<Prepared>> {
        self.prepared.load()
    }
}
