//! Picking an endpoint.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use heddle_ir::destination::{Destination, EndpointSource, FailureAccrual, LoadBalancing};
use heddle_ir::endpoint::{Endpoint, EndpointAddress, EndpointHealth};
use heddle_ir::workload::Workload;

use crate::endpoint::EndpointState;
use crate::group::{Algorithm, Group, Groups, address_text};
use crate::hash::{mix, xxh64};
use crate::latency;
use crate::outlier::Watch;
use crate::slow_start::SlowStart;
use crate::spread::{Weights, draw_by};

/// Makes the draw of the second of two independent of the first, and that of the group of both.
const SECOND: u64 = 0x9E37_79B9_7F4A_7C15;
const GROUP: u64 = 0xD1B5_4A32_D192_ED03;
/// Endpoints on probation that are lost to another request before this one gives up.
const PROBATIONS_MAX: usize = 4;

/// The endpoints of one destination, ready to pick from.
#[derive(Debug)]
pub struct Balancer {
    pub(crate) slots: Box<[Slot]>,
    /// Nothing is picked from them: requests go to where the client connected to.
    passes_through: bool,
    groups: Groups,
    slow_start: Option<SlowStart>,
    /// From then on no endpoint is new any more.
    warm_at_ms: AtomicU64,
    /// How fast estimates of latency fade; none where nobody needs them.
    latency_decay: Option<Duration>,
    accrual: Option<FailureAccrual>,
    seed: u64,
    pub(crate) watch: Option<Watch>,
    /// Grows with every change of health; shared with the balancers before and after.
    changes: Arc<AtomicU32>,
    /// The change that shares were counted after.
    counted: AtomicU32,
}

/// An endpoint and what is known of it.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What is known of it.
    pub state: Arc<EndpointState>,
    /// Its name in sessions: a hash of its address, the same in every proxy.
    pub session: u64,
}

/// What a pick depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pick<'a> {
    /// The request's hash, from [`crate::HashedRequest`]; none: spread at random where a hash is asked for.
    pub hash: Option<u64>,
    /// A random number, spread evenly.
    pub random: u64,
    /// Milliseconds on a clock that does not go back.
    pub now_ms: u64,
    /// Endpoints to avoid as long as there are others: those that this request was sent to before.
    pub tried: &'a [Arc<EndpointState>],
    /// Others are sought in all tiers, not only in the one that was drawn.
    pub other_tiers: bool,
    /// The endpoint that the client's session is at ([`Slot::session`]): taken as long as it may be and was not tried.
    pub session: Option<u64>,
}

/// Where a request goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Picked {
    /// To the endpoint with this index in [`Balancer::slots`].
    Endpoint(usize),
    /// To the address that the client connected to.
    OriginalDestination,
}

impl Balancer {
    /// Prepares the endpoints of `destination`'s subset out of `endpoints`, for requests of `caller`; without one, localities
    /// do not matter.
    ///
    /// `previous` is the balancer that this one replaces: states of endpoints with the same address, turns and ejections go
    /// on. `seed` makes proxies that start together begin at different endpoints.
    pub fn new(
        destination: &Destination,
        endpoints: &[Arc<Endpoint>],
        caller: Option<&Workload>,
        previous: Option<&Self>,
        seed: u64,
        now_ms: u64,
    ) -> Self {
        let slots = slots(destination, endpoints, previous, now_ms);
        let slow_start = destination.warmup.as_ref().and_then(SlowStart::new);
        let passes_through = destination.endpoints == EndpointSource::OriginalDestination
            || destination.load_balancing == LoadBalancing::Passthrough;
        let balancer = Self {
            passes_through,
            groups: Groups::new(
                destination,
                &slots,
                caller,
                previous.map(|previous| &previous.groups),
                seed,
            ),
            slow_start,
            warm_at_ms: AtomicU64::new(0),
            latency_decay: match destination.load_balancing {
                LoadBalancing::PeakEwma { decay } => Some(decay),
                _ => None,
            },
            accrual: destination.failure_accrual.clone().filter(|policy| policy.failures_max > 0),
            seed,
            watch: destination.outlier_detection.as_ref().map(|policy| {
                Watch::new(policy, previous.and_then(|previous| previous.watch.as_ref()), now_ms)
            }),
            changes: previous.map_or_else(Arc::default, |previous| previous.changes.clone()),
            counted: AtomicU32::new(0),
            slots,
        };
        balancer.recount();
        balancer
    }

    /// The endpoints, in the order of the set.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Picks where a request goes; none when there is no endpoint to send it to (503, flag UH).
    pub fn pick(&self, pick: &Pick<'_>) -> Option<Picked> {
        if self.passes_through {
            return Some(Picked::OriginalDestination);
        }
        self.look_at_ejected(pick.now_ms);
        if self.changes.load(Ordering::Relaxed) != self.counted.load(Ordering::Relaxed) {
            self.recount();
        }
        let Some(accrual) = &self.accrual else {
            return self.pick_endpoint(pick).map(Picked::Endpoint);
        };
        for attempt in 0..PROBATIONS_MAX {
            let random = pick.random.wrapping_add(attempt as u64);
            let index = self.pick_endpoint(&Pick { random, ..*pick })?;
            let slot = self.slots.get(index)?;
            if slot.state.accrual.take(accrual, mix(random), pick.now_ms) {
                return Some(Picked::Endpoint(index));
            }
        }
        None
    }

    fn pick_endpoint(&self, pick: &Pick<'_>) -> Option<usize> {
        if let Some(index) = self.pick_session(pick) {
            return Some(index);
        }
        // Mixed, so that endpoints stay evenly spread when the same number has decided about the route: of backends that
        // share 90 to 10, the first would otherwise never see the upper tenth.
        let random = mix(pick.random);
        // The same key goes to the same tier.
        let drawn = self.groups.draw(mix(pick.hash.unwrap_or(random) ^ GROUP));
        let group = self.groups.groups.get(drawn)?;
        let first = || self.pick_in(group, pick, random, |_| true);
        let others = |allowed: &dyn Fn(usize) -> bool| {
            let others = self.groups.groups.iter().enumerate().filter(|(place, _)| *place != drawn);
            others.into_iter().find_map(|(_, other)| self.pick_in(other, pick, random, allowed))
        };
        if pick.tried.is_empty() {
            return first().or_else(|| others(&|_| true));
        }
        let untried = |index: usize| !self.is_tried(index, pick);
        self.pick_in(group, pick, random, untried)
            .or_else(|| if pick.other_tiers { others(&untried) } else { None })
            .or_else(first)
            .or_else(|| others(&untried))
            .or_else(|| others(&|_| true))
    }

    fn pick_session(&self, pick: &Pick<'_>) -> Option<usize> {
        let session = pick.session?;
        let index = self.slots.iter().position(|slot| slot.session == session)?;
        let ignore_health = self.groups.groups.iter().all(Group::ignores_health);
        let usable = self.is_usable(index, ignore_health, pick.now_ms);
        (usable && !self.is_tried(index, pick)).then_some(index)
    }

    fn is_tried(&self, index: usize, pick: &Pick<'_>) -> bool {
        let state = self.slots.get(index).map(|slot| &slot.state);
        pick.tried.iter().any(|tried| state.is_some_and(|state| Arc::ptr_eq(state, tried)))
    }

    fn pick_in(
        &self,
        group: &Group,
        pick: &Pick<'_>,
        random: u64,
        allowed: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let ignore_health = group.ignores_health();
        let usable = |member: usize| {
            let index = group.slot(member);
            self.is_usable(index, ignore_health, pick.now_ms) && allowed(index)
        };
        let hash = || pick.hash.unwrap_or(random);
        let is_warming = self.is_warming(pick.now_ms);
        let member = match &group.algorithm {
            Algorithm::Maglev(table) => table.pick(hash(), usable),
            Algorithm::Ring(ring) => ring.pick(hash(), usable),
            Algorithm::Random => group.weights.draw(random, usable),
            Algorithm::RoundRobin if is_warming => {
                self.draw_warming(group, Weights::next_point(&group.turn), pick.now_ms, usable)
            }
            Algorithm::RoundRobin => group.weights.next(&group.turn, usable),
            Algorithm::LeastRequest if is_warming => {
                let first = self.draw_warming(group, random, pick.now_ms, usable)?;
                let other = |member: usize| member != first && usable(member);
                let second = self.draw_warming(group, mix(random ^ SECOND), pick.now_ms, other);
                Some(
                    second
                        .filter(|second| self.is_less_busy(group, *second, first, pick.now_ms))
                        .unwrap_or(first),
                )
            }
            Algorithm::LeastRequest => group
                .weights
                .better_of_two(random, usable, |a, b| self.is_less_busy(group, a, b, pick.now_ms)),
            Algorithm::PeakEwma => group.weights.better_of_two(random, usable, |a, b| {
                self.cost(group, a, pick.now_ms) < self.cost(group, b, pick.now_ms)
            }),
        };
        member.map(|member| group.slot(member))
    }

    /// Draws by weight times the share that new endpoints have at this time.
    fn draw_warming(
        &self,
        group: &Group,
        random: u64,
        now_ms: u64,
        allowed: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let weight = |member: usize| {
            if allowed(member) { self.weight(group.slot(member), now_ms) } else { 0 }
        };
        draw_by(random, group.members(), weight)
    }

    /// Whether any endpoint is new.
    fn is_warming(&self, now_ms: u64) -> bool {
        now_ms < self.warm_at_ms.load(Ordering::Relaxed)
    }

    /// The weight of an endpoint, less while it is new.
    fn weight(&self, index: usize, now_ms: u64) -> u64 {
        let Some(slot) = self.slots.get(index) else { return 0 };
        let weight = u64::from(slot.endpoint.weight.max(1));
        match &self.slow_start {
            Some(slow_start) if self.is_warming(now_ms) => {
                weight * u64::from(slow_start.share(slot.state.began_at_ms(), now_ms))
            }
            _ => weight,
        }
    }

    /// Whether `a` has less to do for its weight than `b`.
    fn is_less_busy(&self, group: &Group, a: usize, b: usize, now_ms: u64) -> bool {
        let load = |member: usize, other: usize| {
            let slot = self.slots.get(group.slot(member));
            let active = slot.map_or(u32::MAX, |slot| slot.state.active());
            u128::from(active) * u128::from(self.weight(group.slot(other), now_ms).max(1))
        };
        load(a, b) < load(b, a)
    }

    /// What a request would cost at an endpoint: how long it takes, times how many wait.
    #[expect(clippy::cast_precision_loss, reason = "a few digits suffice to compare")]
    fn cost(&self, group: &Group, member: usize, now_ms: u64) -> f32 {
        let Some(slot) = self.slots.get(group.slot(member)) else { return f32::INFINITY };
        let decay = self.latency_decay.unwrap_or(latency::DECAY);
        let estimate = slot.state.latency.estimate(decay, now_ms);
        estimate * (slot.state.active() as f32 + 1.0) / slot.endpoint.weight.max(1) as f32
    }

    /// Reports how long an endpoint took to answer. Only peak EWMA takes notice.
    pub fn record_latency(&self, state: &EndpointState, latency: Duration, now_ms: u64) {
        if let Some(decay) = self.latency_decay {
            state.latency.observe(latency, decay, now_ms);
        }
    }

    /// Whether [`Balancer::record_latency`] is of any use.
    pub fn wants_latency(&self) -> bool {
        self.latency_decay.is_some()
    }

    /// Reports what the proxy's own health check says of an endpoint.
    pub fn set_checked(&self, state: &EndpointState, is_healthy: bool, now_ms: u64) {
        if state.set_checked(is_healthy, now_ms) {
            self.note_change();
        }
    }

    /// Reports the outcome of a request for failure accrual. True when it puts the endpoint out.
    pub(crate) fn accrue(&self, state: &EndpointState, failed: bool, now_ms: u64) -> bool {
        let Some(policy) = &self.accrual else { return false };
        state.accrual.record(policy, failed, mix(self.seed ^ now_ms), now_ms)
    }

    /// Draining endpoints are never picked: they have asked for it themselves.
    fn is_usable(&self, index: usize, ignore_health: bool, now_ms: u64) -> bool {
        let Some(slot) = self.slots.get(index) else { return false };
        match slot.endpoint.health {
            EndpointHealth::Draining => false,
            EndpointHealth::Unhealthy => ignore_health,
            EndpointHealth::Healthy => {
                (ignore_health || self.is_well(slot))
                    && (self.accrual.is_none() || slot.state.accrual.is_open(now_ms))
            }
        }
    }

    /// Neither ejected nor found ill by the proxy's own checks.
    fn is_well(&self, slot: &Slot) -> bool {
        slot.state.is_checked_healthy() && (self.watch.is_none() || !slot.state.is_ejected())
    }

    /// The health of an endpoint has changed: shares are counted anew, here and in the balancers that share the endpoint.
    pub(crate) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn recount(&self) {
        // Read first: what changes meanwhile is counted the next time.
        let change = self.changes.load(Ordering::Relaxed);
        self.counted.store(change, Ordering::Relaxed);
        if let Some(slow_start) = &self.slow_start {
            let ends =
                self.slots.iter().map(|slot| slow_start.ends_at_ms(slot.state.began_at_ms()));
            self.warm_at_ms.store(ends.max().unwrap_or_default(), Ordering::Relaxed);
        }
        let health_percent_min =
            self.watch.as_ref().map_or(0, |watch| watch.policy().health_percent_min);
        self.groups.recount(self.slots.len(), health_percent_min, |index| {
            let slot = self.slots.get(index)?;
            match slot.endpoint.health {
                EndpointHealth::Draining => None,
                EndpointHealth::Unhealthy => Some(false),
                EndpointHealth::Healthy => Some(self.is_well(slot)),
            }
        });
    }
}

/// The endpoints with the subset's labels, each with what was known of it.
fn slots(
    destination: &Destination,
    endpoints: &[Arc<Endpoint>],
    previous: Option<&Balancer>,
    now_ms: u64,
) -> Box<[Slot]> {
    let known: HashMap<&EndpointAddress, &Slot> = previous
        .into_iter()
        .flat_map(|previous| &previous.slots)
        .map(|slot| (&slot.endpoint.address, slot))
        .collect();
    let labelled = |endpoint: &&Arc<Endpoint>| {
        let mut labels = destination.subset_labels.iter();
        labels.all(|(key, value)| endpoint.labels.get(key) == Some(value))
    };
    let slot = |endpoint: &Arc<Endpoint>| {
        let Some(known) = known.get(&endpoint.address) else {
            return Slot {
                endpoint: endpoint.clone(),
                state: Arc::new(EndpointState::new(now_ms)),
                session: xxh64(address_text(&endpoint.address).as_bytes(), 0),
            };
        };
        let recovers = known.endpoint.health == EndpointHealth::Unhealthy
            && endpoint.health == EndpointHealth::Healthy;
        if recovers {
            known.state.begin_anew(now_ms);
        }
        Slot { endpoint: endpoint.clone(), state: known.state.clone(), session: known.session }
    };
    endpoints.iter().filter(labelled).map(slot).collect()
}

#[cfg(test)]
pub(crate) mod tests;
