//! Picking an endpoint.

use std::collections::HashMap;
use std::sync::Arc;

use heddle_ir::destination::{Destination, EndpointSource, HashAlgorithm, LoadBalancing};
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth};

use crate::endpoint::EndpointState;
use crate::hash::mix;
use crate::maglev::Maglev;
use crate::outlier::Watch;
use crate::ring::Ring;
use crate::spread::{Turn, Weights};

/// The endpoints of one destination, ready to pick from.
#[derive(Debug)]
pub struct Balancer {
    pub(crate) slots: Box<[Slot]>,
    algorithm: Algorithm,
    weights: Weights,
    turn: Turn,
    /// Endpoints that may be picked when outlier detection has nothing against them.
    ready: usize,
    pub(crate) watch: Option<Watch>,
}

/// An endpoint and what is known of it.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What is known of it.
    pub state: Arc<EndpointState>,
}

/// What a pick depends on.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    /// The request's hash, from [`crate::HashedRequest`]; none: spread at random where a hash is asked for.
    pub hash: Option<u64>,
    /// A random number, spread evenly.
    pub random: u64,
    /// Milliseconds on a clock that does not go back.
    pub now_ms: u64,
    /// Endpoints to avoid as long as there are others: those that this request was sent to before.
    pub tried: &'a [Arc<EndpointState>],
}

/// Where a request goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Picked {
    /// To the endpoint with this index in [`Balancer::slots`].
    Endpoint(usize),
    /// To the address that the client connected to.
    OriginalDestination,
}

#[derive(Debug)]
enum Algorithm {
    LeastRequest,
    Maglev(Maglev),
    OriginalDestination,
    Random,
    Ring(Ring),
    RoundRobin,
}

impl Balancer {
    /// Prepares the endpoints of `destination`'s subset out of `endpoints`.
    ///
    /// `previous` is the balancer that this one replaces: states of endpoints with the same address, turns and ejections go
    /// on. `seed` makes proxies that start together begin at different endpoints.
    pub fn new(
        destination: &Destination,
        endpoints: &[Arc<Endpoint>],
        previous: Option<&Self>,
        seed: u64,
        now_ms: u64,
    ) -> Self {
        let known: HashMap<&EndpointAddress, &Arc<EndpointState>> = previous
            .into_iter()
            .flat_map(|previous| &previous.slots)
            .map(|slot| (&slot.endpoint.address, &slot.state))
            .collect();
        let labelled = |endpoint: &&Arc<Endpoint>| {
            let mut labels = destination.subset_labels.iter();
            labels.all(|(key, value)| endpoint.labels.get(key) == Some(value))
        };
        let slots: Box<[Slot]> = endpoints
            .iter()
            .filter(labelled)
            .map(|endpoint| Slot {
                endpoint: endpoint.clone(),
                state: known
                    .get(&endpoint.address)
                    .map_or_else(|| Arc::new(EndpointState::new()), |state| (*state).clone()),
            })
            .collect();
        let weights: Vec<u32> = slots.iter().map(|slot| slot.endpoint.weight).collect();
        let is_healthy = |slot: &&Slot| slot.endpoint.health == EndpointHealth::Healthy;
        let balancer = Self {
            algorithm: Algorithm::new(destination, &slots),
            weights: Weights::new(&weights),
            turn: previous.map_or_else(|| Turn::new(seed), |previous| previous.turn.clone()),
            ready: slots.iter().filter(is_healthy).count(),
            watch: destination.outlier_detection.as_ref().map(|policy| {
                Watch::new(policy, previous.and_then(|previous| previous.watch.as_ref()), now_ms)
            }),
            slots,
        };
        balancer.resume_watch();
        balancer
    }

    /// The endpoints, in the order of the set.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Picks where a request goes; none when there is no endpoint to send it to (503, flag UH).
    pub fn pick(&self, pick: &Pick<'_>) -> Option<Picked> {
        if matches!(self.algorithm, Algorithm::OriginalDestination) {
            return Some(Picked::OriginalDestination);
        }
        self.look_at_ejected(pick.now_ms);
        let ignore_health = self.ignores_health();
        let usable = |index: usize| self.is_usable(index, ignore_health);
        let is_tried = |index: usize| {
            let state = self.slots.get(index).map(|slot| &slot.state);
            pick.tried.iter().any(|tried| state.is_some_and(|state| Arc::ptr_eq(state, tried)))
        };
        let picked = if pick.tried.is_empty() {
            self.pick_among(pick, usable)
        } else {
            self.pick_among(pick, |index| usable(index) && !is_tried(index))
                .or_else(|| self.pick_among(pick, usable))
        };
        picked.map(Picked::Endpoint)
    }

    fn pick_among(&self, pick: &Pick<'_>, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        // Mixed, so that endpoints stay evenly spread when the same number has decided about the route: of backends that
        // share 90 to 10, the first would otherwise never see the upper tenth.
        let random = mix(pick.random);
        let hash = || pick.hash.unwrap_or(random);
        match &self.algorithm {
            Algorithm::LeastRequest => {
                self.weights.better_of_two(random, allowed, |a, b| self.is_less_busy(a, b))
            }
            Algorithm::Maglev(table) => table.pick(hash(), allowed),
            Algorithm::OriginalDestination => None,
            Algorithm::Random => self.weights.draw(random, allowed),
            Algorithm::Ring(ring) => ring.pick(hash(), allowed),
            Algorithm::RoundRobin => self.weights.next(&self.turn, allowed),
        }
    }

    /// Whether `a` has less to do for its weight than `b`.
    fn is_less_busy(&self, a: usize, b: usize) -> bool {
        let load = |index: usize, other: usize| {
            let active = self.slots.get(index).map_or(u32::MAX, |slot| slot.state.active());
            let weight = self.slots.get(other).map_or(1, |slot| slot.endpoint.weight.max(1));
            u64::from(active) * u64::from(weight)
        };
        load(a, b) < load(b, a)
    }

    /// Whether so few endpoints are left that health is ignored (`health_percent_min`, Envoy's panic threshold).
    fn ignores_health(&self) -> bool {
        let Some(watch) = &self.watch else { return false };
        let healthy = self.ready.saturating_sub(watch.ejected_count()) as u64;
        let total = self.slots.len() as u64;
        healthy * 100 < total * u64::from(watch.policy().health_percent_min)
    }

    /// Draining endpoints are never picked: they have asked for it themselves.
    fn is_usable(&self, index: usize, ignore_health: bool) -> bool {
        let Some(slot) = self.slots.get(index) else { return false };
        match slot.endpoint.health {
            EndpointHealth::Draining => false,
            EndpointHealth::Unhealthy => ignore_health,
            EndpointHealth::Healthy => {
                ignore_health || self.watch.is_none() || !slot.state.is_ejected()
            }
        }
    }
}

impl Algorithm {
    fn new(destination: &Destination, slots: &[Slot]) -> Self {
        if destination.endpoints == EndpointSource::OriginalDestination {
            return Self::OriginalDestination;
        }
        let addresses = || -> Vec<(String, u32)> {
            let of_slot =
                |slot: &Slot| (address_text(&slot.endpoint.address), slot.endpoint.weight);
            slots.iter().map(of_slot).collect()
        };
        match &destination.load_balancing {
            LoadBalancing::ConsistentHash { algorithm, .. } => match algorithm {
                HashAlgorithm::Maglev { table_size } => {
                    Self::Maglev(Maglev::new(&addresses(), *table_size))
                }
                HashAlgorithm::Ring { size_min } => Self::Ring(Ring::new(&addresses(), *size_min)),
            },
            // Without estimates of latency the two are the same.
            LoadBalancing::LeastRequest | LoadBalancing::PeakEwma { .. } => Self::LeastRequest,
            LoadBalancing::Passthrough => Self::OriginalDestination,
            LoadBalancing::Random => Self::Random,
            LoadBalancing::RoundRobin => Self::RoundRobin,
        }
    }
}

/// The address as every proxy writes it, for hashing.
fn address_text(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Address(address) => address.to_string(),
        EndpointAddress::Name(host, port) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
