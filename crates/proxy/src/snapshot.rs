//! One state of a proxy's configuration, ready to decide by. Immutable: a change makes the next one, which shares
//! what did not change. A request takes one snapshot and sees no other.
//!
//! Compiled here and nowhere else: routes, authorisation, balancers and the lookup tables of the index. What is
//! known of endpoints and what circuit breakers count goes on from one snapshot to the next. This module does not
//! know where resources come from.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_authz::CompiledAuthorization;
use heddle_balance::budget::Budget;
use heddle_balance::{Balancer, Breakers};
use heddle_ir::destination::{Destination, DestinationId, EndpointSource, TunnelMethod};
use heddle_ir::endpoint::{EndpointSet, EndpointSetKey};
use heddle_ir::index::Index;
use heddle_ir::outbound::{Outbound, OutboundKey};
use heddle_ir::proxy::ProxySettings;
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::workload::Workload;
use heddle_route::{CompiledRoutes, TargetIndex};
use heddle_sync::Effect;
use tokio::sync::Notify;

use crate::rate_limits::CompiledLimits;

/// The configuration of a proxy at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows by one with each change; 0: nothing has come yet.
    pub generation: u64,
    /// Who the proxy is and what holds for all its traffic.
    pub settings: Option<Arc<ProxySettings>>,
    /// What the workload can address.
    pub targets: Arc<TargetIndex>,
    /// What is enforced for the workload; none: nothing is accepted.
    pub inbound: Option<Arc<CompiledAuthorization>>,
    /// How many requests the workload takes; none: as many as come.
    pub inbound_limits: Option<Arc<CompiledLimits>>,
    /// Routes and destinations that are held.
    pub outbounds: HashMap<OutboundKey, Arc<OutboundState>>,
    /// Workloads that are held, by address.
    pub workloads: HashMap<IpAddr, Arc<Workload>>,
    /// What was asked for and does not exist.
    pub absent: HashSet<ResourceName>,
    endpoints: HashMap<EndpointSetKey, Arc<EndpointSet>>,
    compiled_inbound: Option<Arc<heddle_ir::inbound::Inbound>>,
}

/// The routes of one host and port and what they lead to.
#[derive(Debug)]
pub struct OutboundState {
    /// The routes; a change of endpoints does not touch them.
    pub routes: Arc<CompiledRoutes>,
    /// The destinations, in the order of [`Outbound::destinations`].
    pub destinations: Vec<Arc<DestinationState>>,
    /// When it was last used, in milliseconds of the proxy's clock; shared with the states before and after.
    pub used_at_ms: Arc<AtomicU64>,
}

/// A destination: its policy, its endpoints and what is under way.
#[derive(Debug)]
pub struct DestinationState {
    /// The policy.
    pub destination: Arc<Destination>,
    /// The endpoints.
    pub balancer: Balancer,
    /// What is limited; shared with the states before and after, and by all that lead to the same destination.
    pub limits: Arc<DestinationLimits>,
}

/// What is under way towards a destination, for the whole process and across configuration changes.
#[derive(Debug, Default)]
pub struct DestinationLimits {
    /// The counts.
    pub breakers: Breakers,
    /// What retries are paid from.
    pub budget: Budget,
    /// Woken when a connection becomes free; only requests that wait for one listen.
    pub freed: Notify,
}

/// What could not be compiled, in a sentence for the operator; the rest acts.
pub type Problems = Vec<String>;

impl Snapshot {
    /// The snapshot after these changes. `seed` makes proxies that start together spread their first requests;
    /// `now_ms` is the proxy's clock.
    pub fn with(&self, effects: &[Effect], seed: u64, now_ms: u64) -> (Self, Problems) {
        let mut next = self.clone();
        next.generation += 1;
        let mut problems = Vec::new();
        let mut changed = Changed::default();
        for effect in effects {
            match effect {
                Effect::Set(name, resource) => {
                    next.absent.remove(name);
                    next.set(resource, &mut changed);
                }
                Effect::Unset(name) => next.unset(name, &mut changed),
            }
        }
        next.rebuild(&changed, seed, now_ms, &mut problems);
        if changed.inbound {
            next.inbound_limits = next.compiled_inbound.as_ref().and_then(|inbound| {
                let previous = self.inbound_limits.as_deref();
                CompiledLimits::compile(&inbound.rate_limits, previous, &mut problems)
            });
            // A permit names the generation that granted it, so that every change of policy is a new one.
            next.inbound = next.compiled_inbound.clone().map(|inbound| {
                let (compiled, found) = CompiledAuthorization::compile(inbound, next.generation);
                problems.extend(found.iter().map(ToString::to_string));
                Arc::new(compiled)
            });
        }
        (next, problems)
    }

    fn set(&mut self, resource: &Resource, changed: &mut Changed) {
        match resource {
            Resource::Endpoints(set) => {
                self.endpoints.insert(set.key.clone(), set.clone());
                changed.endpoints.insert(set.key.clone());
            }
            Resource::Inbound(inbound) => {
                self.compiled_inbound = Some(inbound.clone());
                changed.inbound = true;
            }
            Resource::Index(index) => self.set_index(index),
            Resource::Outbound(outbound) => {
                changed.outbounds.insert(outbound.key.clone(), outbound.clone());
            }
            Resource::Proxy(settings) => self.settings = Some(settings.clone()),
            // Nothing listens on its own and nothing reads a secret yet; bundles are taken by the identity's holder.
            Resource::Gateway(_) | Resource::Secret(_) | Resource::TrustBundle(_) => {}
            Resource::Workload(workload) => {
                for address in &workload.addresses {
                    self.workloads.insert(*address, workload.clone());
                }
            }
        }
    }

    fn set_index(&mut self, index: &Arc<Index>) {
        self.targets = Arc::new(TargetIndex::new(index.clone()));
    }

    fn unset(&mut self, name: &ResourceName, changed: &mut Changed) {
        match name {
            ResourceName::Endpoints(key) => {
                self.endpoints.remove(key);
                changed.endpoints.insert(key.clone());
            }
            ResourceName::Inbound(_) => {
                self.compiled_inbound = None;
                changed.inbound = true;
            }
            ResourceName::Index(_) => self.targets = Arc::default(),
            ResourceName::Outbound(key) => {
                self.outbounds.remove(key);
                changed.outbounds.remove(key);
            }
            ResourceName::Proxy(_) => self.settings = None,
            ResourceName::Gateway(_) | ResourceName::Secret(_) | ResourceName::TrustBundle => {}
            ResourceName::Workload(_, address) => {
                self.workloads.remove(address);
            }
        }
    }

    /// Endpoints that are held: those of every destination of a held outbound, and those asked for by name.
    pub fn endpoints(&self, key: &EndpointSetKey) -> Option<&Arc<EndpointSet>> {
        self.endpoints.get(key)
    }

    /// Marks what the control plane has said does not exist.
    pub fn mark_absent(&mut self, names: impl IntoIterator<Item = ResourceName>) {
        self.absent.extend(names);
    }

    fn rebuild(&mut self, changed: &Changed, seed: u64, now_ms: u64, problems: &mut Problems) {
        let known: HashMap<DestinationId, Arc<DestinationState>> = self
            .outbounds
            .values()
            .flat_map(|outbound| &outbound.destinations)
            .map(|state| (state.destination.id.clone(), state.clone()))
            .collect();
        let touched: Vec<OutboundKey> = self
            .outbounds
            .iter()
            .filter(|(key, state)| {
                !changed.outbounds.contains_key(key) && state.uses_any(&changed.endpoints)
            })
            .map(|(key, _)| key.clone())
            .collect();
        let mut builder =
            Builder { snapshot: self, known, changed, seed, now_ms, fresh: HashMap::new() };
        let mut built = Vec::new();
        for (key, outbound) in &changed.outbounds {
            let (routes, found) = CompiledRoutes::compile(outbound.clone());
            problems.extend(found.iter().map(ToString::to_string));
            problems.extend(outbound.destinations.iter().flat_map(|own| not_supported(own)));
            let previous = builder.snapshot.outbounds.get(key);
            let used_at_ms = previous
                .map_or_else(|| Arc::new(AtomicU64::new(now_ms)), |state| state.used_at_ms.clone());
            let destinations = builder.destinations(outbound);
            let routes = Arc::new(routes);
            built.push((key.clone(), OutboundState { routes, destinations, used_at_ms }));
        }
        for key in touched {
            let Some(previous) = builder.snapshot.outbounds.get(&key) else { continue };
            let (routes, used_at_ms) = (previous.routes.clone(), previous.used_at_ms.clone());
            let destinations = builder.destinations(routes.outbound());
            built.push((key, OutboundState { routes, destinations, used_at_ms }));
        }
        self.outbounds.extend(built.into_iter().map(|(key, state)| (key, Arc::new(state))));
    }
}

/// What a destination asks for that this proxy does not do, said rather than passed over.
fn not_supported(destination: &Destination) -> impl Iterator<Item = String> {
    let asked = [
        (
            destination.tunnel.as_ref().is_some_and(|tunnel| tunnel.method == TunnelMethod::Post),
            "tunnels by `POST` are not supported; streams are closed",
        ),
        (
            destination.health_check.is_some(),
            "health checks of endpoints by the proxy are not supported; connections go without",
        ),
    ];
    let origin = &destination.origin;
    let said = asked.into_iter().filter(|(asked, _)| *asked);
    said.map(move |(_, what)| format!("{origin}: {what}"))
}

/// What a set of changes touches.
#[derive(Debug, Default)]
struct Changed {
    outbounds: HashMap<OutboundKey, Arc<Outbound>>,
    endpoints: HashSet<EndpointSetKey>,
    inbound: bool,
}

struct Builder<'a> {
    snapshot: &'a Snapshot,
    known: HashMap<DestinationId, Arc<DestinationState>>,
    changed: &'a Changed,
    seed: u64,
    now_ms: u64,
    /// Made in this change already: tables that lead to the same destination share its state.
    fresh: HashMap<DestinationId, Arc<DestinationState>>,
}

impl Builder<'_> {
    fn destinations(&mut self, outbound: &Outbound) -> Vec<Arc<DestinationState>> {
        outbound.destinations.iter().map(|destination| self.destination(destination)).collect()
    }

    fn destination(&mut self, destination: &Arc<Destination>) -> Arc<DestinationState> {
        if let Some(fresh) = self.fresh.get(&destination.id)
            && fresh.destination == *destination
        {
            return fresh.clone();
        }
        let previous = self.known.get(&destination.id);
        let set_changed = match &destination.endpoints {
            EndpointSource::OriginalDestination | EndpointSource::RequestedName { .. } => false,
            EndpointSource::Set(key) => self.changed.endpoints.contains(key),
        };
        if let Some(previous) = previous
            && !set_changed
            && previous.destination == *destination
        {
            return previous.clone();
        }
        let endpoints = match &destination.endpoints {
            EndpointSource::OriginalDestination | EndpointSource::RequestedName { .. } => &[][..],
            EndpointSource::Set(key) => {
                self.snapshot.endpoints.get(key).map_or(&[][..], |set| &set.endpoints)
            }
        };
        let state = Arc::new(DestinationState {
            destination: destination.clone(),
            balancer: Balancer::new(
                destination,
                endpoints,
                self.snapshot.settings.as_ref().map(|settings| &*settings.workload),
                previous.map(|previous| &previous.balancer),
                self.seed,
                self.now_ms,
            ),
            limits: previous.map_or_else(Arc::default, |previous| previous.limits.clone()),
        });
        self.fresh.insert(destination.id.clone(), state.clone());
        state
    }
}

impl OutboundState {
    /// Notes that it was used, so that it is held on to.
    pub fn touch(&self, now_ms: u64) {
        self.used_at_ms.store(now_ms, Ordering::Relaxed);
    }

    fn uses_any(&self, sets: &HashSet<EndpointSetKey>) -> bool {
        !sets.is_empty()
            && self.destinations.iter().any(|state| match &state.destination.endpoints {
                EndpointSource::OriginalDestination | EndpointSource::RequestedName { .. } => false,
                EndpointSource::Set(key) => sets.contains(key),
            })
    }
}
