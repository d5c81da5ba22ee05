//! A Maglev table (Eisenbud et al., NSDI 2016, section 3.4), filled as Envoy fills it.

use crate::hash::{mix, xxh64};

/// Larger tables are refused when configuration is read (API.md 2.2: below 5000011); here they are cut.
const TABLE_SIZE_MAX: u32 = 5_000_011;
/// Places tried for a key whose endpoint is not allowed, before endpoints are searched one by one.
const PROBES_MAX: u64 = 16;

/// Owners of places. Keys fall on places evenly.
#[derive(Debug)]
pub(crate) enum Maglev {
    /// Fewer than 65,536 endpoints.
    Narrow(Box<[u16]>, usize),
    Wide(Box<[u32]>, usize),
}

/// The order in which an endpoint asks for places.
struct Permutation {
    offset: u64,
    skip: u64,
    /// How many places it has asked for.
    asked: u64,
    weight: u64,
    /// When the rounds times `weight` reach this, it is its turn.
    due: u64,
}

impl Maglev {
    /// A table of endpoints given by address and weight. `table_size` should be prime and far greater than the number
    /// of endpoints; what is not is made so.
    pub(crate) fn new(endpoints: &[(String, u32)], table_size: u32) -> Self {
        let size_min = u32::try_from(endpoints.len()).unwrap_or(TABLE_SIZE_MAX);
        let size = next_prime(table_size.max(size_min).clamp(2, TABLE_SIZE_MAX));
        let table = fill(endpoints, size);
        match table.iter().map(|owner| u16::try_from(*owner)).collect() {
            Ok(narrow) => Self::Narrow(narrow, endpoints.len()),
            Err(_) => Self::Wide(table, endpoints.len()),
        }
    }

    /// The owner of the key's place; of other places, the same for the same key, where `allowed` does not take it; none
    /// when it takes none at all.
    pub(crate) fn pick(&self, hash: u64, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let mut probes = (0..PROBES_MAX).map(|probe| match probe {
            0 => self.owner(hash),
            probe => self.owner(mix(hash.wrapping_add(probe))),
        });
        let probed = probes.find_map(|owner| owner.filter(|owner| allowed(*owner)));
        probed.or_else(|| {
            let (Self::Narrow(_, count) | Self::Wide(_, count)) = self;
            let start = usize::try_from(hash % (*count).max(1) as u64).unwrap_or_default();
            (start..*count).chain(0..start).find(|index| allowed(*index))
        })
    }

    fn owner(&self, hash: u64) -> Option<usize> {
        let place = |size: usize| usize::try_from(hash % size.max(1) as u64).unwrap_or_default();
        match self {
            Self::Narrow(table, _) => {
                table.get(place(table.len())).map(|owner| usize::from(*owner))
            }
            Self::Wide(table, _) => table.get(place(table.len())).map(|owner| *owner as usize),
        }
    }
}

fn fill(endpoints: &[(String, u32)], size: u32) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    if endpoints.is_empty() {
        return Box::default();
    }
    let size = u64::from(size);
    let weight_max =
        endpoints.iter().map(|(_, weight)| u64::from((*weight).max(1))).max().unwrap_or(1);
    let permutation = |(address, weight): &(String, u32)| Permutation {
        offset: xxh64(address.as_bytes(), 0) % size,
        skip: xxh64(address.as_bytes(), 1) % (size - 1) + 1,
        asked: 0,
        weight: u64::from((*weight).max(1)),
        due: 0,
    };
    // By address, so that every proxy has the same table whatever the order of endpoints.
    let mut order: Vec<(u32, Permutation)> = (0..).zip(endpoints.iter().map(permutation)).collect();
    order.sort_by(|(a, _), (b, _)| {
        let address = |owner: u32| endpoints.get(owner as usize).map(|(address, _)| address);
        address(*a).cmp(&address(*b))
    });
    let mut table = vec![FREE; usize::try_from(size).unwrap_or_default()];
    let mut free = table.len();
    let mut round = 0;
    loop {
        round += 1;
        for (owner, permutation) in &mut order {
            if round * permutation.weight < permutation.due {
                continue;
            }
            permutation.due += weight_max;
            // The size is prime, so that an endpoint asks for every place before it repeats one.
            let place = loop {
                let asked = permutation.offset + permutation.skip * permutation.asked;
                permutation.asked += 1;
                let place = usize::try_from(asked % size).unwrap_or_default();
                if table[place] == FREE {
                    break place;
                }
            };
            table[place] = *owner;
            free -= 1;
            if free == 0 {
                return table.into();
            }
        }
    }
}

fn next_prime(mut number: u32) -> u32 {
    let is_prime = |number: u32| {
        let divisors = (2..).take_while(|divisor| divisor * divisor <= number);
        number >= 2 && divisors.into_iter().all(|divisor| !number.is_multiple_of(divisor))
    };
    while !is_prime(number) {
        number += 1;
    }
    number
}
