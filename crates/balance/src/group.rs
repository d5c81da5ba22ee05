//! Groups of endpoints: one where localities do not matter, else one per tier, or per locality of a tier that has a share.
//!
//! Which group a request goes to is drawn by shares that are counted anew when the health of an endpoint changes, never by
//! a pick.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use heddle_ident::Locality;
use heddle_ir::destination::{Destination, HashAlgorithm, LoadBalancing, LocalityPolicy};
use heddle_ir::endpoint::EndpointAddress;
use heddle_ir::workload::Workload;

use crate::balancer::Slot;
use crate::hash::scale;
use crate::locality::{self, Placed};
use crate::maglev::Maglev;
use crate::priority::{TierHealth, TierLoad, tier_loads};
use crate::ring::Ring;
use crate::spread::{Turn, Weights};

/// The whole of what groups share, per tier: parts per million.
const WHOLE: u64 = 1_000_000;
/// As [`crate::priority`]: healthy endpoints of a locality count this many percent of themselves.
const OVERPROVISIONING_PERCENT: u64 = 140;

/// Endpoints among which one is picked by the algorithm.
#[derive(Debug)]
pub(crate) struct Group {
    /// Which of the slots; none: all of them.
    members: Option<Box<[u32]>>,
    pub(crate) weights: Weights,
    pub(crate) turn: Turn,
    pub(crate) algorithm: Algorithm,
    /// From 0, without gaps.
    tier: usize,
    within: Within,
    /// Its share of the requests, in parts of what all groups have together.
    share: AtomicU32,
    ignores_health: AtomicBool,
}

/// What a group gets of its tier.
#[derive(Debug)]
enum Within {
    /// All of it, or what is written.
    Weight(u32),
    /// What zone-aware spreading says about this zone; the caller's own or not.
    Zone(Arc<str>),
}

#[derive(Debug)]
pub(crate) enum Algorithm {
    LeastRequest,
    Maglev(Maglev),
    PeakEwma,
    Random,
    Ring(Ring),
    RoundRobin,
}

/// The groups of a balancer.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) groups: Box<[Group]>,
    /// Of the caller, for zone-aware spreading.
    own_zone: Arc<str>,
}

/// A group that is being planned.
struct Plan {
    tier: u32,
    within: Within,
    members: Vec<u32>,
}

impl Groups {
    /// Groups the slots for a caller; without one, localities do not matter.
    pub(crate) fn new(
        destination: &Destination,
        slots: &[Slot],
        caller: Option<&Workload>,
        previous: Option<&Self>,
        seed: u64,
    ) -> Self {
        let plans = match caller {
            Some(caller) if !slots.is_empty() => plan(&destination.locality, slots, caller),
            _ => None,
        };
        let turn_of = |place: usize| {
            let known = previous.and_then(|previous| previous.groups.get(place));
            known.map_or_else(|| Turn::new(seed), |group| group.turn.clone())
        };
        let group = |place, members: Option<Box<[u32]>>, tier, within| {
            let of_group: Vec<&Slot> = match &members {
                Some(members) => members.iter().filter_map(|m| slots.get(*m as usize)).collect(),
                None => slots.iter().collect(),
            };
            let weights: Vec<u32> = of_group.iter().map(|slot| slot.endpoint.weight).collect();
            Group {
                weights: Weights::new(&weights),
                turn: turn_of(place),
                algorithm: Algorithm::new(destination, &of_group),
                members,
                tier,
                within,
                share: AtomicU32::new(0),
                ignores_health: AtomicBool::new(false),
            }
        };
        let groups = match plans {
            None => [group(0, None, 0, Within::Weight(1))].into(),
            Some(plans) => {
                let mut tiers: Vec<u32> = plans.iter().map(|plan| plan.tier).collect();
                tiers.sort_unstable();
                tiers.dedup();
                let planned = plans.into_iter().enumerate().map(|(place, plan)| {
                    let tier = tiers.binary_search(&plan.tier).unwrap_or_default();
                    group(place, Some(plan.members.into()), tier, plan.within)
                });
                planned.collect()
            }
        };
        let own_zone = caller.map(|caller| caller.locality.zone.clone()).unwrap_or_default();
        Self { groups, own_zone }
    }

    /// The group that `random` falls on.
    pub(crate) fn draw(&self, random: u64) -> usize {
        let share = |group: &Group| u64::from(group.share.load(Ordering::Relaxed));
        if self.groups.len() < 2 {
            return 0;
        }
        let total: u64 = self.groups.iter().map(share).sum();
        let mut point = scale(random, total);
        let drawn = self.groups.iter().position(|group| {
            let share = share(group);
            let falls = point < share;
            point = point.saturating_sub(share);
            falls
        });
        drawn.unwrap_or_default()
    }

    /// Counts anew what each group gets. `is_healthy` says of a slot whether it may be picked; none: it is leaving.
    pub(crate) fn recount(
        &self,
        count: usize,
        health_percent_min: u8,
        is_healthy: impl Fn(usize) -> Option<bool>,
    ) {
        let health: Vec<TierHealth> =
            self.groups.iter().map(|group| group.health(count, &is_healthy)).collect();
        let tiers = self.groups.iter().map(|group| group.tier + 1).max().unwrap_or_default();
        let mut of_tier = vec![TierHealth::default(); tiers];
        for (group, health) in self.groups.iter().zip(&health) {
            of_tier[group.tier].healthy += health.healthy;
            of_tier[group.tier].total += health.total;
        }
        let loads = tier_loads(&of_tier, health_percent_min);
        for (tier, load) in loads.iter().enumerate() {
            self.share_tier(tier, *load, &health);
        }
    }

    fn share_tier(&self, tier: usize, load: TierLoad, health: &[TierHealth]) {
        let members = || self.groups.iter().zip(health).filter(|(group, _)| group.tier == tier);
        let zones: BTreeMap<&str, u32> = members()
            .filter_map(|(group, health)| match &group.within {
                Within::Zone(zone) => Some((&**zone, health.healthy)),
                Within::Weight(_) => None,
            })
            .collect();
        let by_zone = locality::zone_shares(&self.own_zone, &zones);
        let weight = |(group, health): &(&Group, &TierHealth)| {
            let usable = if load.ignores_health { health.total } else { health.healthy };
            match (&group.within, &by_zone) {
                // As Envoy weighs localities: less only when less than 1/1.4 of it is healthy.
                (Within::Weight(weight), _) => {
                    let available = u64::from(usable) * OVERPROVISIONING_PERCENT * 1000;
                    let available = available.checked_div(u64::from(health.total) * 100);
                    u64::from(*weight) * available.unwrap_or_default().min(1000)
                }
                (Within::Zone(zone), Some(shares)) => {
                    shares.get(&**zone).copied().unwrap_or_default().into()
                }
                (Within::Zone(_), None) => usable.into(),
            }
        };
        let sum: u64 = members().map(|member| weight(&member)).sum();
        for member in members() {
            let whole = u64::from(load.percent) * WHOLE / 100;
            let share = (whole * weight(&member)).checked_div(sum).unwrap_or_default();
            member.0.share.store(u32::try_from(share).unwrap_or(u32::MAX), Ordering::Relaxed);
            member.0.ignores_health.store(load.ignores_health, Ordering::Relaxed);
        }
    }
}

impl Group {
    /// The slot of a member.
    pub(crate) fn slot(&self, member: usize) -> usize {
        match &self.members {
            None => member,
            Some(members) => members.get(member).map_or(usize::MAX, |slot| *slot as usize),
        }
    }

    pub(crate) fn members(&self) -> usize {
        self.weights.count()
    }

    /// Whether so few of its tier are left that health is ignored (`health_percent_min`, Envoy's panic threshold).
    pub(crate) fn ignores_health(&self) -> bool {
        self.ignores_health.load(Ordering::Relaxed)
    }

    fn health(&self, count: usize, is_healthy: impl Fn(usize) -> Option<bool>) -> TierHealth {
        let members = if self.members.is_some() { self.members() } else { count };
        let mut health = TierHealth::default();
        for healthy in (0..members).filter_map(|member| is_healthy(self.slot(member))) {
            health.total += 1;
            health.healthy += u32::from(healthy);
        }
        health
    }
}

impl Algorithm {
    fn new(destination: &Destination, slots: &[&Slot]) -> Self {
        let addresses = || -> Vec<(String, u32)> {
            let of_slot =
                |slot: &&Slot| (address_text(&slot.endpoint.address), slot.endpoint.weight);
            slots.iter().map(of_slot).collect()
        };
        match &destination.load_balancing {
            LoadBalancing::ConsistentHash { algorithm, .. } => match algorithm {
                HashAlgorithm::Maglev { table_size } => {
                    Self::Maglev(Maglev::new(&addresses(), *table_size))
                }
                HashAlgorithm::Ring { size_min } => Self::Ring(Ring::new(&addresses(), *size_min)),
            },
            LoadBalancing::LeastRequest => Self::LeastRequest,
            LoadBalancing::PeakEwma { .. } => Self::PeakEwma,
            // That one picks no endpoint.
            LoadBalancing::Passthrough | LoadBalancing::Random => Self::Random,
            LoadBalancing::RoundRobin => Self::RoundRobin,
        }
    }
}

/// The address as every proxy writes it, for hashing.
pub(crate) fn address_text(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Address(address) => address.to_string(),
        EndpointAddress::Name(host, port) => format!("{host}:{port}"),
    }
}

/// The groups that a policy makes; none where it makes one of all.
fn plan<'s>(policy: &LocalityPolicy, slots: &'s [Slot], caller: &Workload) -> Option<Vec<Plan>> {
    let own = Placed::of_workload(caller);
    match policy {
        LocalityPolicy::Ignore => None,
        LocalityPolicy::Distribute(rules) => {
            let endpoints =
                slots.iter().map(|slot| (&slot.endpoint.locality, slot.endpoint.weight));
            let weights = locality::distribute(own.locality, endpoints, rules)?;
            let place = |slot: &Slot| {
                let (locality, weight) = weights.get_key_value(&slot.endpoint.locality)?;
                Some(((0, Some(*locality)), Within::Weight(*weight)))
            };
            Some(collect(slots, place))
        }
        LocalityPolicy::Failover { priority, regions } => {
            let place = |slot: &'s Slot| {
                let placed = Placed::of_endpoint(&slot.endpoint);
                let by_labels = locality::label_tier(&own, &placed, priority);
                let by_region = locality::failover_tier(own.locality, placed.locality, regions);
                // Labels alone unless regions are named too; then localities decide among equals, of which there are five.
                let tier = if priority.is_empty() || !regions.is_empty() {
                    by_labels.saturating_mul(5).saturating_add(by_region)
                } else {
                    by_labels
                };
                Some(((tier, None), Within::Weight(1)))
            };
            Some(collect(slots, place))
        }
        LocalityPolicy::ZoneAware { endpoints_min, priority, regions } => {
            let is_large = slots.len() as u64 >= u64::from(*endpoints_min);
            let place = |slot: &'s Slot| {
                let placed = Placed::of_endpoint(&slot.endpoint);
                let by_labels = locality::label_tier(&own, &placed, priority);
                let by_region = locality::failover_tier(own.locality, placed.locality, regions);
                // The own region is one tier, whatever the zone.
                let by_region = if by_region < 3 { 0 } else { by_region };
                let tier = by_labels.saturating_mul(5).saturating_add(by_region);
                let is_zoned = is_large && by_region == 0;
                let zone = is_zoned.then_some(&slot.endpoint.locality);
                let within = match zone {
                    Some(locality) => Within::Zone(locality.zone.clone()),
                    None => Within::Weight(1),
                };
                Some(((tier, zone), within))
            };
            Some(collect(slots, place))
        }
    }
}

/// Puts slots with the same place together, places in order; a slot without place is left out.
fn collect<'s>(
    slots: &'s [Slot],
    place: impl Fn(&'s Slot) -> Option<((u32, Option<&'s Locality>), Within)>,
) -> Vec<Plan> {
    let mut plans: BTreeMap<(u32, [&str; 3]), Plan> = BTreeMap::new();
    for (slot, number) in slots.iter().zip(0_u32..) {
        let Some(((tier, locality), within)) = place(slot) else { continue };
        let key = match (locality, &within) {
            (None, _) => [""; 3],
            (Some(locality), Within::Zone(_)) => ["", &locality.zone, ""],
            (Some(locality), Within::Weight(_)) => {
                [&*locality.region, &*locality.zone, &*locality.subzone]
            }
        };
        let plan =
            plans.entry((tier, key)).or_insert_with(|| Plan { tier, within, members: Vec::new() });
        plan.members.push(number);
    }
    plans.into_values().collect()
}
