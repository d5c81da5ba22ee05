//! One state of a proxy's configuration, ready to decide by. Immutable: a change makes the next one, which shares
//! what did not change. A request takes one snapshot and sees no other.
//!
//! Compiled here and nowhere else: routes, authorisation, balancers and the lookup tables of the index. What is
//! known of endpoints and what circuit breakers count goes on from one snapshot to the next. This module does not
//! know where resources come from.

mod gateway;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_authz::{CompiledAuthorization, CompiledEgress};
use heddle_balance::budget::Budget;
use heddle_balance::{Balancer, Breakers};
use heddle_ir::destination::{ClientTls, Destination, DestinationId, EndpointSource, TunnelMethod};
use heddle_ir::endpoint::{EndpointSet, EndpointSetKey};
use heddle_ir::gateway::Gateway;
use heddle_ir::index::Index;
use heddle_ir::outbound::{Outbound, OutboundKey};
use heddle_ir::proxy::{ProxyRole, ProxySettings};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::secret::{Secret, SecretKey};
use heddle_ir::workload::Workload;
use heddle_route::{CompiledGateway, CompiledRoutes, TargetIndex};
use heddle_sync::Effect;
use tokio::sync::Notify;

pub use gateway::{GatewayState, ServerState, ServerTlsState};

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
    /// What the workload may do to others; none: what the index says is all.
    pub egress: Option<Arc<CompiledEgress>>,
    /// How many requests the workload takes; none: as many as come.
    pub inbound_limits: Option<Arc<CompiledLimits>>,
    /// Routes and destinations that are held.
    pub outbounds: HashMap<OutboundKey, Arc<OutboundState>>,
    /// Workloads that are held, by address.
    pub workloads: HashMap<IpAddr, Arc<Workload>>,
    /// What was asked for and does not exist.
    pub absent: HashSet<ResourceName>,
    /// What it serves on listeners of its own; none: it is no gateway.
    pub gateway: Option<Arc<GatewayState>>,
    secrets: HashMap<SecretKey, Arc<Secret>>,
    endpoints: HashMap<EndpointSetKey, Arc<EndpointSet>>,
    compiled_inbound: Option<Arc<heddle_ir::inbound::Inbound>>,
}

/// The routes of one host and port and what they lead to.
#[derive(Debug)]
pub struct OutboundState {
    /// The routes; a change of endpoints does not touch them.
    pub routes: Arc<CompiledRoutes>,
    /// The destinations, in the order of [`Outbound::destinations`].
    pub destinations: Arc<[Arc<DestinationState>]>,
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
    /// The secrets that its TLS refers to and that exist.
    pub credentials: Arc<[Arc<Secret>]>,
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
                    next.set(name, resource, &mut changed);
                }
                Effect::Unset(name) => next.unset(name, &mut changed),
            }
        }
        next.rebuild(&changed, seed, now_ms, &mut problems);
        if changed.settings {
            let egress = next.settings.as_ref().and_then(|settings| settings.egress.clone());
            next.egress = egress.map(|egress| {
                let (compiled, found) = CompiledEgress::compile(egress);
                problems.extend(found.iter().map(ToString::to_string));
                Arc::new(compiled)
            });
        }
        if changed.inbound || next.is_at_edge() != self.is_at_edge() {
            next.inbound_limits = next.compiled_inbound.as_ref().and_then(|inbound| {
                let previous = self.inbound_limits.as_deref();
                CompiledLimits::compile(&inbound.rate_limits, previous, &mut problems)
            });
            // A permit names the generation that granted it, so that every change of policy is a new one.
            next.inbound = next.compiled_inbound.clone().map(|inbound| {
                let at_edge = next.is_at_edge().then(|| Arc::new(inbound.at_edge()));
                let inbound = at_edge.unwrap_or(inbound);
                let (compiled, found) = CompiledAuthorization::compile(inbound, next.generation);
                problems.extend(found.iter().map(ToString::to_string));
                Arc::new(compiled)
            });
        }
        (next, problems)
    }

    fn set(&mut self, name: &ResourceName, resource: &Resource, changed: &mut Changed) {
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
            Resource::Proxy(settings) => {
                self.settings = Some(settings.clone());
                changed.settings = true;
            }
            Resource::Gateway(gateway) => changed.gateway = GatewayChange::Set(gateway.clone()),
            Resource::Secret(secret) => {
                self.secrets.insert(secret.key.clone(), secret.clone());
                changed.secrets.insert(secret.key.clone());
            }
            // Taken by the identity's holder.
            Resource::TrustBundle(_) => {}
            Resource::Workload(workload) => {
                // By the address that it was asked for under, so that it goes when that is let go.
                if let ResourceName::Workload(_, address) = name {
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
            ResourceName::Proxy(_) => {
                self.settings = None;
                changed.settings = true;
            }
            ResourceName::Gateway(_) => changed.gateway = GatewayChange::Unset,
            ResourceName::Secret(key) => {
                self.secrets.remove(key);
                changed.secrets.insert(key.clone());
            }
            ResourceName::TrustBundle => {}
            ResourceName::Workload(_, address) => {
                self.workloads.remove(address);
            }
        }
    }

    /// Endpoints that are held: those of every destination of a held outbound, and those asked for by name.
    pub fn endpoints(&self, key: &EndpointSetKey) -> Option<&Arc<EndpointSet>> {
        self.endpoints.get(key)
    }

    /// Whether the proxy takes connections on listeners of its own.
    fn is_at_edge(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.role == ProxyRole::Gateway)
    }

    /// Marks what the control plane has said does not exist.
    pub fn mark_absent(&mut self, names: impl IntoIterator<Item = ResourceName>) {
        self.absent.extend(names);
    }

    fn rebuild(&mut self, changed: &Changed, seed: u64, now_ms: u64, problems: &mut Problems) {
        let known: HashMap<DestinationId, Arc<DestinationState>> = self
            .outbounds
            .values()
            .flat_map(|outbound| outbound.destinations.iter())
            .chain(self.gateway.iter().flat_map(|gateway| gateway.destinations.iter()))
            .map(|state| (state.destination.id.clone(), state.clone()))
            .collect();
        let touched: Vec<OutboundKey> = self
            .outbounds
            .iter()
            .filter(|(key, state)| {
                !changed.outbounds.contains_key(key) && changed.touches(&state.destinations)
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
            let destinations = builder.destinations(&outbound.destinations);
            let routes = Arc::new(routes);
            built.push((key.clone(), OutboundState { routes, destinations, used_at_ms }));
        }
        for key in touched {
            let Some(previous) = builder.snapshot.outbounds.get(&key) else { continue };
            let (routes, used_at_ms) = (previous.routes.clone(), previous.used_at_ms.clone());
            let destinations = builder.destinations(&routes.outbound().destinations);
            built.push((key, OutboundState { routes, destinations, used_at_ms }));
        }
        let gateway = builder.gateway(problems);
        let is_unset = matches!(changed.gateway, GatewayChange::Unset);
        self.outbounds.extend(built.into_iter().map(|(key, state)| (key, Arc::new(state))));
        if gateway.is_some() || is_unset {
            self.gateway = gateway.map(Arc::new);
        }
    }
}

/// What a destination asks for that this proxy does not do, said rather than passed over.
fn not_supported(destination: &Destination) -> impl Iterator<Item = String> {
    let tunnel = destination.tunnel.as_ref();
    let post = tunnel.filter(|tunnel| tunnel.method == TunnelMethod::Post);
    let origin = &destination.origin;
    post.into_iter()
        .map(move |_| format!("{origin}: tunnels by `POST` are not supported; streams are closed"))
}

/// What a set of changes touches.
#[derive(Debug, Default)]
struct Changed {
    outbounds: HashMap<OutboundKey, Arc<Outbound>>,
    endpoints: HashSet<EndpointSetKey>,
    inbound: bool,
    settings: bool,
    gateway: GatewayChange,
    secrets: HashSet<SecretKey>,
}

/// What becomes of what is served.
#[derive(Debug, Default)]
enum GatewayChange {
    #[default]
    None,
    Set(Arc<Gateway>),
    Unset,
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
    fn destinations(&mut self, all: &[Arc<Destination>]) -> Arc<[Arc<DestinationState>]> {
        all.iter().map(|destination| self.destination(destination)).collect()
    }

    /// The secrets that a destination refers to; the same value while they are the same.
    fn credentials(
        &self,
        destination: &Destination,
        previous: Option<&Arc<DestinationState>>,
    ) -> Arc<[Arc<Secret>]> {
        let known = |key: &SecretKey| self.snapshot.secrets.get(key).cloned();
        let now: Vec<Arc<Secret>> = secrets_of(destination).filter_map(known).collect();
        match previous {
            Some(previous) if *previous.credentials == *now => previous.credentials.clone(),
            _ => now.into(),
        }
    }

    /// What is served now, where that has changed and anything is.
    fn gateway(&mut self, problems: &mut Problems) -> Option<GatewayState> {
        let previous = self.snapshot.gateway.clone();
        let compiled = match (&self.changed.gateway, &previous) {
            (GatewayChange::Set(gateway), _) => {
                let (compiled, found) = CompiledGateway::compile(gateway.clone());
                problems.extend(found.iter().map(ToString::to_string));
                problems.extend(gateway.destinations.iter().flat_map(|own| not_supported(own)));
                Arc::new(compiled)
            }
            (GatewayChange::None, Some(previous)) => {
                let secrets = &self.changed.secrets;
                let is_touched = self.changed.touches(&previous.destinations)
                    || secrets.iter().any(|secret| previous.refers_to(secret));
                if !is_touched {
                    return None;
                }
                previous.compiled.clone()
            }
            (GatewayChange::None, None) | (GatewayChange::Unset, _) => return None,
        };
        let destinations = self.destinations(&compiled.gateway().destinations);
        let secrets = &self.snapshot.secrets;
        let previous = previous.as_deref();
        Some(GatewayState::new(compiled, destinations, secrets, previous, problems))
    }

    fn destination(&mut self, destination: &Arc<Destination>) -> Arc<DestinationState> {
        if let Some(fresh) = self.fresh.get(&destination.id)
            && fresh.destination == *destination
        {
            return fresh.clone();
        }
        let previous = self.known.get(&destination.id);
        if let Some(previous) = previous
            && !self.changed.touches_one(destination)
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
            credentials: self.credentials(destination, previous),
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
}

impl Changed {
    /// Whether endpoints or secrets of one of these have changed.
    fn touches(&self, destinations: &[Arc<DestinationState>]) -> bool {
        let is_empty = self.endpoints.is_empty() && self.secrets.is_empty();
        !is_empty && destinations.iter().any(|state| self.touches_one(&state.destination))
    }

    fn touches_one(&self, destination: &Destination) -> bool {
        let set = match &destination.endpoints {
            EndpointSource::OriginalDestination | EndpointSource::RequestedName { .. } => false,
            EndpointSource::Set(key) => self.endpoints.contains(key),
        };
        set || secrets_of(destination).any(|key| self.secrets.contains(key))
    }
}

/// The secrets that a destination's TLS refers to.
fn secrets_of(destination: &Destination) -> impl Iterator<Item = &SecretKey> {
    let settings = match &destination.tls {
        ClientTls::Originate(settings) => Some(settings),
        ClientTls::Auto | ClientTls::Disable | ClientTls::Mesh => None,
    };
    settings
        .into_iter()
        .flat_map(|settings| settings.credential.iter().chain(&settings.ca_certificates))
}
