//! Which share of the requests each tier of endpoints gets as their health goes: Envoy's priority levels (its
//! documentation, "Priority levels"), with its overprovisioning factor of 1.4 and its panic thresholds.
//!
//! A tier that is at least 1/1.4 healthy takes all that is left to it; what it cannot take goes to the next. Shares are
//! whole percents, rounded as Envoy rounds, so that both meshes shift the same request rates.

/// Healthy endpoints count this many percent of themselves.
const OVERPROVISIONING_PERCENT: u64 = 140;

/// The endpoints of a tier, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TierHealth {
    /// Those that may be picked.
    pub healthy: u32,
    /// All that are not leaving.
    pub total: u32,
}

/// What a tier gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TierLoad {
    /// Of the requests; all tiers together have 100, but for no tiers at all.
    pub percent: u8,
    /// Too few of it are healthy: its share goes to all of its endpoints, healthy or not.
    pub ignores_health: bool,
}

/// Distributes the load over tiers, the first being preferred. `health_percent_min` is the panic threshold; 0: never.
pub fn tier_loads(tiers: &[TierHealth], health_percent_min: u8) -> Vec<TierLoad> {
    let health: Vec<u64> = tiers.iter().copied().map(health_percent).collect();
    let healthy_sum = health.iter().sum::<u64>().min(100);
    let in_panic = |tier: &TierHealth| {
        healthy_sum < 100
            && u64::from(tier.healthy) * 100 < u64::from(tier.total) * u64::from(health_percent_min)
    };
    let ignoring: Vec<bool> = tiers.iter().map(in_panic).collect();
    let has_any = tiers.iter().any(|tier| tier.total > 0);
    let in_total_panic =
        has_any && tiers.iter().zip(&ignoring).all(|(tier, ignores)| *ignores || tier.total == 0);
    let shares = if in_total_panic {
        let total: u64 = tiers.iter().map(|tier| u64::from(tier.total)).sum();
        let wanted = tiers.iter().map(|tier| 100 * u64::from(tier.total) / total).collect();
        spread(wanted, |place| tiers[place].total > 0)
    } else if healthy_sum == 0 {
        // Nothing can be picked; the first tier is where the answer comes from.
        spread(vec![0; tiers.len()], |_| true)
    } else {
        let wanted = health.iter().map(|percent| percent * 100 / healthy_sum).collect();
        spread(wanted, |place| health[place] > 0)
    };
    let load = |(percent, ignores_health): (u64, bool)| TierLoad {
        percent: u8::try_from(percent).unwrap_or(100),
        ignores_health,
    };
    shares.into_iter().zip(ignoring).map(load).collect()
}

fn health_percent(tier: TierHealth) -> u64 {
    let healthy = u64::from(tier.healthy) * OVERPROVISIONING_PERCENT;
    healthy.checked_div(u64::from(tier.total)).unwrap_or_default().min(100)
}

/// Gives each what it wants as long as there is something left; the first that `takes_rest` accepts takes what is over.
fn spread(mut wanted: Vec<u64>, takes_rest: impl Fn(usize) -> bool) -> Vec<u64> {
    let mut left = 100;
    for share in &mut wanted {
        *share = left.min(*share);
        left -= *share;
    }
    if let Some(place) = (0..wanted.len()).find(|place| takes_rest(*place)) {
        wanted[place] += left;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percents(tiers: &[(u32, u32)], health_percent_min: u8) -> Vec<(u8, bool)> {
        let tiers: Vec<TierHealth> = tiers
            .iter()
            .map(|(healthy, total)| TierHealth { healthy: *healthy, total: *total })
            .collect();
        let loads = tier_loads(&tiers, health_percent_min);
        loads.iter().map(|load| (load.percent, load.ignores_health)).collect()
    }

    /// The table of Envoy's documentation, "Priority levels", for two and three levels.
    #[test]
    fn load_goes_over_as_envoy_says() {
        let two = |first| {
            percents(&[(first, 100), (100, 100)], 0).iter().map(|l| l.0).collect::<Vec<_>>()
        };
        assert_eq!(two(100), [100, 0]);
        assert_eq!(two(72), [100, 0]);
        assert_eq!(two(71), [99, 1]);
        assert_eq!(two(50), [70, 30]);
        assert_eq!(two(25), [35, 65]);
        assert_eq!(two(0), [0, 100]);
        // The sum of both is below 100 percent: what there is, is scaled up.
        assert_eq!(percents(&[(25, 100), (25, 100)], 0), [(50, false), (50, false)]);
        assert_eq!(
            percents(&[(5, 100), (0, 100), (15, 100)], 0),
            [(25, false), (0, false), (75, false)]
        );
        assert_eq!(
            percents(&[(20, 100), (20, 100), (20, 100)], 0),
            [(34, false), (33, false), (33, false)]
        );
    }

    #[test]
    fn panic_ignores_health_only_while_all_tiers_together_are_short() {
        assert_eq!(percents(&[(0, 100), (100, 100)], 50), [(0, false), (100, false)]);
        assert_eq!(percents(&[(2, 5)], 50), [(100, true)]);
        assert_eq!(percents(&[(3, 5)], 50), [(100, false)]);
        assert_eq!(percents(&[(0, 5)], 0), [(100, false)]);
        // All tiers in panic: by their size.
        assert_eq!(percents(&[(0, 25), (0, 75)], 50), [(25, true), (75, true)]);
        assert_eq!(percents(&[(1, 3), (0, 0), (1, 3)], 50), [(50, true), (0, false), (50, true)]);
    }

    #[test]
    fn no_tiers_and_empty_tiers() {
        assert_eq!(percents(&[], 50), []);
        assert_eq!(percents(&[(0, 0)], 0), [(100, false)]);
        assert_eq!(percents(&[(0, 0), (3, 3)], 0), [(0, false), (100, false)]);
    }

    proptest! {
        #[test]
        fn everything_is_given_out_and_nothing_to_who_has_nothing(
            tiers in proptest::collection::vec((0..50_u32, 0..50_u32), 1..6),
            health_percent_min in 0..=100_u8,
        ) {
            let tiers: Vec<TierHealth> = tiers
                .iter()
                .map(|(healthy, more)| TierHealth { healthy: *healthy, total: healthy + more })
                .collect();
            let loads = tier_loads(&tiers, health_percent_min);
            prop_assert_eq!(loads.iter().map(|load| u32::from(load.percent)).sum::<u32>(), 100);
            let any_healthy = tiers.iter().any(|tier| tier.healthy > 0);
            for (tier, load) in tiers.iter().zip(&loads) {
                let serves = tier.healthy > 0 || load.ignores_health;
                prop_assert!(load.percent == 0 || serves || !any_healthy, "{:?} {:?}", tiers, loads);
            }
            // A first tier that is healthy enough has everything.
            if tiers[0].healthy > 0 && u64::from(tiers[0].healthy) * 140 >= u64::from(tiers[0].total) * 100 {
                prop_assert_eq!(loads[0], TierLoad { percent: 100, ignores_health: false });
            }
        }
    }
}
