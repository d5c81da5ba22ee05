//! A hash ring (ketama).
//!
//! As Envoy's, points lie at XXH64 of `address_number`. Unlike there, how many points an endpoint has does not depend on
//! how many endpoints there are (but for a bound on all of them): otherwise every new endpoint would take points from all
//! others, and far more than its share of the keys would move.

use crate::hash::xxh64;

/// So many points at most, unless the policy asks for more.
const POINTS_MAX: u64 = 32_768;

/// Points in the order of their hashes, and whose they are.
#[derive(Debug)]
pub(crate) struct Ring {
    hashes: Box<[u64]>,
    owners: Box<[u32]>,
}

impl Ring {
    /// A ring of endpoints given by address and weight. Four endpoints of equal weight have `size_min` points together.
    pub(crate) fn new(endpoints: &[(String, u32)], size_min: u32) -> Self {
        let weight_min = endpoints.iter().map(|(_, weight)| (*weight).max(1)).min().unwrap_or(1);
        let weight_sum: u64 = endpoints.iter().map(|(_, weight)| u64::from((*weight).max(1))).sum();
        let points_max = POINTS_MAX.max(u64::from(size_min));
        let mut points_per_weight = (u64::from(size_min) / 4).max(1).next_power_of_two();
        while points_per_weight > 1
            && points_per_weight * weight_sum / u64::from(weight_min) > points_max
        {
            points_per_weight /= 2;
        }
        // Weights so far apart that one point for the lightest is too many: the heavier ones are cut.
        let per_endpoint_max = (points_max / (endpoints.len().max(1) as u64)).max(1);
        let mut points = Vec::new();
        for ((address, weight), owner) in endpoints.iter().zip(0_u32..) {
            let wanted = points_per_weight * u64::from((*weight).max(1)) / u64::from(weight_min);
            let fits = points_per_weight * weight_sum / u64::from(weight_min) <= points_max;
            let count = if fits { wanted } else { wanted.min(per_endpoint_max) };
            for number in 0..count {
                points.push((xxh64(format!("{address}_{number}").as_bytes(), 0), owner));
            }
        }
        // Equal hashes are ordered by address, so that every proxy has the same ring whatever the order of endpoints.
        points.sort_unstable_by(|(a_hash, a), (b_hash, b)| {
            let address = |owner: u32| endpoints.get(owner as usize).map(|(address, _)| address);
            a_hash.cmp(b_hash).then_with(|| address(*a).cmp(&address(*b)))
        });
        Self {
            hashes: points.iter().map(|(hash, _)| *hash).collect(),
            owners: points.iter().map(|(_, owner)| *owner).collect(),
        }
    }

    /// How many points there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }

    /// The owner of the first point from `hash` on that `allowed` takes; none when it takes none at all.
    pub(crate) fn pick(&self, hash: u64, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.hashes.partition_point(|point| *point < hash);
        let (before, after) = self.owners.split_at(start);
        let mut owners = after.iter().chain(before).map(|owner| *owner as usize);
        owners.find(|owner| allowed(*owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_belongs_to_the_first_point_at_or_after_it() {
        let ring = Ring::new(&[("a:1".into(), 1), ("b:1".into(), 2)], 16);
        assert_eq!(ring.len(), 12);
        for (place, hash) in ring.hashes.iter().enumerate() {
            assert_eq!(ring.pick(*hash, |_| true), Some(ring.owners[place] as usize));
            let next = ring.owners[(place + 1) % ring.len()] as usize;
            assert_eq!(ring.pick(hash + 1, |_| true), Some(next));
        }
    }
}
