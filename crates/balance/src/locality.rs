//! Which endpoints are near: Istio's tiers of failover, distribution by locality and zone-aware spreading (API.md 2.2),
//! over plain values. [`crate::Balancer`] applies the outcome; [`crate::priority`] says what overflows.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_ident::{ClusterName, Locality, NetworkName};
use heddle_ir::destination::{FailoverLabel, LocalityPattern, LocalityShares};
use heddle_ir::endpoint::Endpoint;
use heddle_ir::workload::Workload;

/// Where something runs and what it is labelled with.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Region, zone, subzone.
    pub locality: &'a Locality,
    /// The network of its addresses.
    pub network: &'a NetworkName,
    /// The cluster; none: not known.
    pub cluster: Option<&'a ClusterName>,
    /// Its labels.
    pub labels: &'a BTreeMap<Arc<str>, Arc<str>>,
}

/// How near an endpoint's locality is to the caller's: 0 the same subzone, 1 the same zone, 2 the same region, 3 elsewhere.
/// Regions are equal when both are unknown, as in Istio.
pub fn distance(own: &Locality, other: &Locality) -> u32 {
    if own.region != other.region {
        3
    } else if own.zone != other.zone {
        2
    } else {
        u32::from(own.subzone != other.subzone)
    }
}

/// The tier of an endpoint by locality alone: [`distance`], and 4 for a region that a failover rule for the caller's region
/// does not name. `failover` pairs a caller's region with the region that it fails over to; the first for a region counts.
pub fn failover_tier(own: &Locality, other: &Locality, failover: &[(Arc<str>, Arc<str>)]) -> u32 {
    let distance = distance(own, other);
    let rule = failover.iter().find(|(from, _)| *from == own.region);
    match rule {
        Some((_, to)) if distance == 3 && *to != other.region => 4,
        _ => distance,
    }
}

/// The tier of an endpoint by labels: how many of `keys` are left from the first that does not match on. Values that neither
/// side has are equal.
pub fn label_tier(own: &Placed<'_>, other: &Placed<'_>, keys: &[FailoverLabel]) -> u32 {
    let matches = |key: &&FailoverLabel| {
        let wanted = key.value.as_deref().unwrap_or_else(|| own.value(&key.name));
        other.value(&key.name) == wanted
    };
    let matched = keys.iter().take_while(matches).count();
    u32::try_from(keys.len() - matched).unwrap_or(u32::MAX)
}

impl<'a> Placed<'a> {
    /// Where a workload is.
    pub fn of_workload(workload: &'a Workload) -> Self {
        Self {
            locality: &workload.locality,
            network: &workload.network,
            cluster: Some(&workload.cluster),
            labels: &workload.labels,
        }
    }

    /// Where an endpoint is.
    pub fn of_endpoint(endpoint: &'a Endpoint) -> Self {
        Self {
            locality: &endpoint.locality,
            network: &endpoint.network,
            cluster: None,
            labels: &endpoint.labels,
        }
    }

    /// The value of a label, of which some are known without being written; empty: it has none.
    fn value(&self, name: &str) -> &str {
        let labelled = || self.labels.get(name).map(|value| &**value).unwrap_or_default();
        let known = match name {
            "topology.istio.io/network" => self.network.as_str(),
            "topology.istio.io/cluster" => {
                self.cluster.map(ClusterName::as_str).unwrap_or_default()
            }
            "topology.istio.io/subzone" => &self.locality.subzone,
            "topology.kubernetes.io/region" => &self.locality.region,
            "topology.kubernetes.io/zone" => &self.locality.zone,
            _ => "",
        };
        if known.is_empty() { labelled() } else { known }
    }
}

/// Whether a locality is one that a pattern takes.
pub fn is_taken_by(pattern: &LocalityPattern, locality: &Locality) -> bool {
    let parts = [
        (&pattern.region, &locality.region),
        (&pattern.zone, &locality.zone),
        (&pattern.subzone, &locality.subzone),
    ];
    let said = parts.into_iter().take_while(|(wanted, _)| !is_any(wanted));
    said.into_iter().all(|(wanted, own)| wanted == own)
}

fn is_any(part: &str) -> bool {
    matches!(part, "" | "*")
}

/// The weight that each endpoint's locality gets by the rule for the caller's locality; none where no rule is for it. An
/// endpoint without weight gets nothing.
///
/// A share whose pattern takes several localities is split between them by the weights of their endpoints, rounded up as
/// Istio rounds. A locality belongs to the most exact pattern that takes it.
pub fn distribute<'e>(
    own: &Locality,
    endpoints: impl Iterator<Item = (&'e Locality, u32)> + Clone,
    rules: &[LocalityShares],
) -> Option<BTreeMap<&'e Locality, u32>> {
    let rule = rules.iter().find(|rule| is_taken_by(&rule.from, own))?;
    let mut found: BTreeMap<&Locality, u64> = BTreeMap::new();
    for (locality, weight) in endpoints {
        *found.entry(locality).or_default() += u64::from(weight.max(1));
    }
    let mut by_exactness: Vec<&(LocalityPattern, u32)> = rule.to.iter().collect();
    by_exactness.sort_by_key(|(pattern, _)| std::cmp::Reverse(exactness(pattern)));
    let mut weights = BTreeMap::new();
    for (pattern, share) in by_exactness {
        let taken: Vec<(&Locality, u64)> = found
            .iter()
            .filter(|(locality, _)| !weights.contains_key(*locality))
            .filter(|(locality, _)| is_taken_by(pattern, locality))
            .map(|(locality, weight)| (*locality, *weight))
            .collect();
        let sum: u64 = taken.iter().map(|(_, weight)| weight).sum();
        for (locality, weight) in taken {
            let part = (weight * u64::from(*share)).div_ceil(sum.max(1));
            weights.insert(locality, u32::try_from(part).unwrap_or(u32::MAX));
        }
    }
    weights.retain(|_, weight| *weight > 0);
    Some(weights)
}

/// How many parts a pattern says.
fn exactness(pattern: &LocalityPattern) -> usize {
    let parts = [&pattern.region, &pattern.zone, &pattern.subzone];
    parts.into_iter().take_while(|part| !is_any(part)).count()
}

/// Shares of the zones of one region, in parts per 10,000, so that a caller keeps to its own zone as far as each zone can
/// take what its callers send: Envoy's zone-aware routing. `endpoints` counts healthy endpoints by zone. Callers are taken to
/// be spread evenly over the zones that have endpoints, and the caller's own.
///
/// None: there is nothing to keep to: one zone only, or no endpoint in the caller's.
pub fn zone_shares<'e>(
    own: &str,
    endpoints: &BTreeMap<&'e str, u32>,
) -> Option<BTreeMap<&'e str, u32>> {
    const WHOLE: u64 = 10_000;
    let total: u64 = endpoints.values().map(|count| u64::from(*count)).sum();
    let (own, own_count) = endpoints.get_key_value(own).filter(|(_, count)| **count > 0)?;
    if endpoints.len() < 2 {
        return None;
    }
    let callers = WHOLE / endpoints.len() as u64;
    let share = |count: u32| u64::from(count) * WHOLE / total;
    let own_share = share(*own_count);
    let narrow = |share: u64| u32::try_from(share).unwrap_or(u32::MAX);
    if own_share >= callers {
        return Some(BTreeMap::from([(*own, narrow(WHOLE))]));
    }
    let local = own_share * WHOLE / callers;
    let spare = |count: u32| share(count).saturating_sub(callers);
    let spare_sum: u64 = endpoints.values().map(|count| spare(*count)).sum();
    if spare_sum == 0 {
        return Some(BTreeMap::from([(*own, narrow(WHOLE))]));
    }
    let shares = endpoints.iter().map(|(zone, count)| {
        let share = if zone == own { local } else { (WHOLE - local) * spare(*count) / spare_sum };
        (*zone, narrow(share))
    });
    Some(shares.filter(|(_, share)| *share > 0).collect())
}

#[cfg(test)]
mod tests;
