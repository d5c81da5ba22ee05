//! Localities.

use heddle_ident::{ClusterName, SpiffeId, WorkloadId};
use heddle_ir::destination::{FailoverLabel, LocalityPattern, LocalityShares};
use heddle_ir::workload::Workload;

use super::*;

const PICKS: u64 = 20_000;

fn caller(locality: &str) -> Workload {
    Workload {
        id: WorkloadId::new("caller"),
        name: "caller".into(),
        namespace: "default".into(),
        cluster: ClusterName::new(""),
        network: NetworkName::new(""),
        addresses: Vec::new(),
        identity: SpiffeId::parse("spiffe://cluster.local/ns/default/sa/caller").unwrap(),
        labels: Arc::new(BTreeMap::from([("team".into(), "blue".into())])),
        workload_name: "caller".into(),
        canonical_name: "caller".into(),
        canonical_revision: "latest".into(),
        locality: Locality::parse(locality),
        transport: MeshTransport::MutualTls,
        is_gateway: false,
    }
}

fn at(number: u16, locality: &str) -> Endpoint {
    Endpoint { locality: Locality::parse(locality), ..endpoint(number, 1) }
}

fn failover() -> LocalityPolicy {
    LocalityPolicy::Failover { priority: Vec::new(), regions: Vec::new() }
}

/// Numbered in order, with health.
fn all(places: &[&str]) -> Vec<Arc<Endpoint>> {
    places.iter().zip(0..).map(|(place, number)| Arc::new(at(number, place))).collect()
}

fn out(endpoints: &[Arc<Endpoint>], ill: &[usize]) -> Vec<Arc<Endpoint>> {
    let mut endpoints = endpoints.to_vec();
    for number in ill {
        Arc::make_mut(&mut endpoints[*number]).health = EndpointHealth::Unhealthy;
    }
    endpoints
}

/// Percents of the picks that endpoints get.
fn percents(balancer: &Balancer) -> Vec<u64> {
    counts(balancer, PICKS).into_iter().map(|count| (count * 100 + PICKS / 2) / PICKS).collect()
}

fn made(policy: LocalityPolicy, algorithm: LoadBalancing, endpoints: &[Arc<Endpoint>]) -> Balancer {
    let destination = Destination { locality: policy, ..destination(algorithm) };
    Balancer::new(&destination, endpoints, Some(&caller("us/a/1")), None, 7, 0)
}

#[test]
fn the_nearest_get_everything_while_they_are_well() {
    let endpoints = all(&["us/a/1", "us/a/2", "us/b/1", "eu/a/1"]);
    for algorithm in everything() {
        let near = made(failover(), algorithm.clone(), &endpoints);
        assert_eq!(percents(&near), [100, 0, 0, 0], "{algorithm:?}");
        let without = Balancer::new(
            &Destination { locality: failover(), ..destination(algorithm) },
            &endpoints,
            None,
            None,
            7,
            0,
        );
        assert!(percents(&without).iter().all(|share| *share > 10), "no caller, no locality");
    }
    // One tier after the other is empty: tiers are compacted.
    let far = made(failover(), LoadBalancing::Random, &endpoints[2..]);
    assert_eq!(percents(&far), [100, 0]);
}

#[test]
fn what_a_tier_cannot_take_goes_to_the_next() {
    let endpoints = all(&["us/a/1", "us/a/1", "us/b/1", "eu/a/1"]);
    for algorithm in everything() {
        // One of two is left: 1.4 times a half.
        let half = made(failover(), algorithm.clone(), &out(&endpoints, &[0]));
        let shares = percents(&half);
        assert_eq!(shares[0], 0);
        assert!(
            shares[1].abs_diff(70) <= 2 && shares[2].abs_diff(30) <= 2,
            "{algorithm:?} {shares:?}"
        );
        assert_eq!(shares[3], 0);
        let none = made(failover(), algorithm.clone(), &out(&endpoints, &[0, 1]));
        assert_eq!(percents(&none), [0, 0, 100, 0]);
        let far = made(failover(), algorithm.clone(), &out(&endpoints, &[0, 1, 2]));
        assert_eq!(percents(&far), [0, 0, 0, 100]);
        let nothing = made(failover(), algorithm, &out(&endpoints, &[0, 1, 2, 3]));
        assert_eq!(pick(&nothing, 1, &[]), None);
    }
}

#[test]
fn ejections_move_the_load_and_move_it_back() {
    let policy = OutlierDetection {
        consecutive_5xx: 1,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        interval: Duration::from_secs(1),
        ejection_time_base: Duration::from_secs(30),
        ejection_percent_max: 100,
        health_percent_min: 0,
        error_statuses: Vec::new(),
        origin: Origin::built_in("outlier"),
    };
    let destination = Destination {
        locality: failover(),
        outlier_detection: Some(policy),
        ..destination(LoadBalancing::LeastRequest)
    };
    let endpoints = all(&["us/a/1", "us/b/1"]);
    let caller = caller("us/a/1");
    let before = Balancer::new(&destination, &endpoints, Some(&caller), None, 7, 0);
    let after = Balancer::new(&destination, &endpoints, Some(&caller), Some(&before), 7, 0);
    // Recorded by a request that began before the change.
    assert!(before.record(&before.slots()[0].state, Observation::Response(500), 0));
    assert_eq!(percents(&after), [0, 100]);
    assert_eq!(percents(&before), [0, 100]);
    let later = Pick { random: 5, now_ms: 31_000, ..Pick::default() };
    assert_eq!(after.pick(&later), Some(Picked::Endpoint(0)));
}

#[test]
fn regions_that_a_rule_names_come_first() {
    let policy = LocalityPolicy::Failover {
        priority: Vec::new(),
        regions: vec![("us".into(), "asia".into())],
    };
    let endpoints = all(&["eu/a", "asia/a", "us/b"]);
    let near = made(policy.clone(), LoadBalancing::Random, &endpoints);
    assert_eq!(percents(&near), [0, 0, 100]);
    let named = made(policy, LoadBalancing::Random, &out(&endpoints, &[2]));
    assert_eq!(percents(&named), [0, 100, 0]);
}

#[test]
fn labels_make_tiers_and_regions_divide_them() {
    let labelled = |number, team: &str, place| {
        let labels: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::from([("team".into(), team.into())]);
        Arc::new(Endpoint { labels: Arc::new(labels), ..at(number, place) })
    };
    let endpoints =
        [labelled(0, "red", "us/a/1"), labelled(1, "blue", "eu/a"), labelled(2, "blue", "us/b")];
    let priority = vec![FailoverLabel { name: "team".into(), value: None }];
    let labels = LocalityPolicy::Failover { priority: priority.clone(), regions: Vec::new() };
    assert_eq!(percents(&made(labels.clone(), LoadBalancing::RoundRobin, &endpoints)), [0, 50, 50]);
    let all_blue_out = out(&endpoints, &[1, 2]);
    assert_eq!(percents(&made(labels, LoadBalancing::RoundRobin, &all_blue_out)), [100, 0, 0]);
    let regions = vec![("us".into(), "eu".into())];
    let both = LocalityPolicy::Failover { priority, regions };
    assert_eq!(percents(&made(both, LoadBalancing::RoundRobin, &endpoints)), [0, 0, 100]);
}

fn pattern(text: &str) -> LocalityPattern {
    let Locality { region, zone, subzone } = Locality::parse(text);
    LocalityPattern { region, zone, subzone }
}

fn distribution(from: &str, to: &[(&str, u32)]) -> LocalityPolicy {
    let to = to.iter().map(|(name, share)| (pattern(name), *share)).collect();
    LocalityPolicy::Distribute(vec![LocalityShares { from: pattern(from), to }])
}

#[test]
fn shares_are_what_is_written_and_shrink_with_health() {
    let policy = distribution("us/a/*", &[("us/a/*", 80), ("us/b/*", 20)]);
    let endpoints = all(&["us/a/1", "us/a/2", "us/b/1", "eu/a"]);
    for algorithm in everything() {
        let shares = percents(&made(policy.clone(), algorithm.clone(), &endpoints));
        let expected = [40, 40, 20, 0];
        assert!(
            shares.iter().zip(expected).all(|(s, e)| s.abs_diff(e) <= 2),
            "{algorithm:?} {shares:?}"
        );
    }
    // Half of what is left of subzone 2 (0.7 of its 40) against 40 and 20.
    let ill = made(policy.clone(), LoadBalancing::Random, &out(&endpoints, &[1]));
    let shares = percents(&ill);
    assert!(
        shares[0].abs_diff(67) <= 2 && shares[2].abs_diff(33) <= 2 && shares[1] == 0,
        "{shares:?}"
    );
    // The rest is not taken even when there is nothing else.
    let none = made(policy, LoadBalancing::Random, &out(&endpoints, &[0, 1, 2]));
    assert_eq!(pick(&none, 1, &[]), None);
    let elsewhere = distribution("eu/*", &[("eu/*", 100)]);
    assert_eq!(percents(&made(elsewhere, LoadBalancing::RoundRobin, &endpoints)), [25; 4]);
}

#[test]
fn zones_keep_their_traffic_as_far_as_they_can_take_it() {
    let policy = |endpoints_min| LocalityPolicy::ZoneAware {
        endpoints_min,
        priority: Vec::new(),
        regions: Vec::new(),
    };
    let even = all(&["us/a/1", "us/b/1", "eu/a"]);
    assert_eq!(percents(&made(policy(2), LoadBalancing::Random, &even)), [100, 0, 0]);
    let small = percents(&made(policy(4), LoadBalancing::RoundRobin, &even));
    assert_eq!(small, [50, 50, 0], "too few endpoints for zones, not for regions");
    let uneven = all(&["us/a/1", "us/b/1", "us/b/2", "us/b/3"]);
    let shares = percents(&made(policy(2), LoadBalancing::Random, &uneven));
    assert!(shares[0].abs_diff(50) <= 2, "{shares:?}");
    assert!(shares[1..].iter().all(|share| share.abs_diff(17) <= 2), "{shares:?}");
    let ill = made(policy(2), LoadBalancing::Random, &out(&even, &[0]));
    let shares = percents(&ill);
    assert!(
        shares[0] == 0 && shares[1].abs_diff(70) <= 2,
        "half of the region is left: {shares:?}"
    );
}

#[test]
fn retries_leave_the_tier_only_when_they_may() {
    let balancer = made(failover(), LoadBalancing::Random, &all(&["us/a/1", "us/b/1"]));
    let tried = [balancer.slots()[0].state.clone()];
    let retry = Pick { random: 3, tried: &tried, ..Pick::default() };
    assert_eq!(balancer.pick(&retry), Some(Picked::Endpoint(0)));
    let retry = Pick { other_tiers: true, ..retry };
    assert_eq!(balancer.pick(&retry), Some(Picked::Endpoint(1)));
}

proptest! {
    /// Whatever localities there are, something is picked as long as something usable may be, and a key keeps its place.
    #[test]
    fn somebody_is_found_in_some_tier(
        places in proptest::collection::vec((0..3_u8, 0..3_u8, 0..3_u8, 0..3_u8), 1..30),
        zone_aware in any::<bool>(),
        kind in 0..6_usize,
        randoms in proptest::collection::vec(any::<u64>(), 20),
    ) {
        let endpoints: Vec<_> = (0..).zip(&places).map(|(number, (region, zone, subzone, health))| {
            let health = match health {
                0 => EndpointHealth::Draining,
                1 => EndpointHealth::Unhealthy,
                _ => EndpointHealth::Healthy,
            };
            let place = format!("r{region}/z{zone}/s{subzone}");
            Arc::new(Endpoint { health, ..at(number, &place) })
        }).collect();
        let policy = if zone_aware {
            LocalityPolicy::ZoneAware { endpoints_min: 6, priority: Vec::new(), regions: Vec::new() }
        } else {
            failover()
        };
        let destination = Destination { locality: policy, ..destination(everything()[kind].clone()) };
        let caller = caller("r0/z0/s0");
        let balancer = Balancer::new(&destination, &endpoints, Some(&caller), None, 1, 0);
        let any = endpoints.iter().any(|endpoint| endpoint.health == EndpointHealth::Healthy);
        for random in randoms {
            match pick(&balancer, random, &[]) {
                None => prop_assert!(!any),
                Some(index) => prop_assert_eq!(endpoints[index].health, EndpointHealth::Healthy),
            }
        }
    }
}
