//! What depends on time: slow start, latency, failure accrual, health checks; and sessions.

use heddle_ir::destination::{FailureAccrual, Warmup};

use super::*;

fn picks(balancer: &Balancer, now_ms: u64) -> Vec<u64> {
    let mut counts = vec![0; balancer.slots().len()];
    for random in 0..10_000 {
        let pick = Pick { random: mix(random), now_ms, ..Pick::default() };
        let Some(Picked::Endpoint(index)) = balancer.pick(&pick) else { continue };
        counts[index] += 1;
    }
    counts
}

#[test]
fn a_new_endpoint_gets_its_share_little_by_little() {
    let warmup = Warmup {
        duration: Duration::from_secs(10),
        share_percent_min: 10,
        aggression_thousandths: 1000,
    };
    for algorithm in [LoadBalancing::RoundRobin, LoadBalancing::LeastRequest] {
        let destination = Destination { warmup: Some(warmup.clone()), ..destination(algorithm) };
        let old = Balancer::new(&destination, &endpoints(0..2), None, None, 3, 0);
        // All are as new as each other.
        assert!(picks(&old, 0).iter().all(|count| count.abs_diff(5000) < 200));
        let with_new = Balancer::new(&destination, &endpoints(0..3), None, Some(&old), 3, 60_000);
        for (age_ms, share) in [(0, 0.1), (5000, 0.5), (9000, 0.9), (10_000, 1.0)] {
            let counts = picks(&with_new, 60_000 + age_ms);
            let ideal = 10_000.0 * share / (2.0 + share);
            let got = f64::from(u32::try_from(counts[2]).unwrap());
            assert!((got - ideal).abs() < 150.0, "{age_ms}: {counts:?}");
            assert!(counts[0].abs_diff(counts[1]) < 300, "{counts:?}");
        }
    }
    // Other algorithms take no notice.
    let destination = Destination { warmup: Some(warmup), ..destination(LoadBalancing::Random) };
    let old = Balancer::new(&destination, &endpoints(0..2), None, None, 3, 0);
    let with_new = Balancer::new(&destination, &endpoints(0..3), None, Some(&old), 3, 60_000);
    assert!(picks(&with_new, 60_000).iter().all(|count| count.abs_diff(3333) < 250));
}

#[test]
fn the_quicker_of_two_is_taken_and_waiting_counts() {
    let decay = Duration::from_secs(10);
    let balancer = balancer(LoadBalancing::PeakEwma { decay }, &endpoints(0..2));
    assert!(balancer.wants_latency());
    let states: Vec<_> = balancer.slots().iter().map(|slot| slot.state.clone()).collect();
    balancer.record_latency(&states[0], Duration::from_millis(500), 0);
    balancer.record_latency(&states[1], Duration::from_millis(100), 0);
    assert_eq!(picks(&balancer, 0), [0, 10_000]);
    // Six wait at the quick one: 100 ms times seven is more than 500 ms.
    let _waiting: Vec<_> = (0..6).map(|_| states[1].begin()).collect();
    assert_eq!(picks(&balancer, 0), [10_000, 0]);
}

fn accruing() -> Destination {
    let policy = FailureAccrual {
        origin: Origin::built_in("accrual"),
        failures_max: 3,
        pause_min: Duration::from_secs(1),
        pause_max: Duration::from_mins(1),
        jitter_percent: 0,
    };
    Destination { failure_accrual: Some(policy), ..destination(LoadBalancing::RoundRobin) }
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_out_until_one_request_succeeds() {
    let balancer = Balancer::new(&accruing(), &endpoints(0..2), None, None, 0, 0);
    let state = balancer.slots()[0].state.clone();
    assert!(!balancer.record(&state, Observation::Response(503), 0));
    assert!(!balancer.record(&state, Observation::ConnectFailure, 0));
    assert!(balancer.record(&state, Observation::Timeout, 0));
    assert_eq!(picks(&balancer, 999), [0, 10_000]);
    // One on probation, and no other before it has ended.
    assert_eq!(picks(&balancer, 1000)[0], 1);
    assert!(!balancer.record(&state, Observation::Response(200), 1100));
    assert!(picks(&balancer, 1100)[0] > 4000);
}

#[test]
fn with_all_endpoints_out_nothing_is_picked() {
    let balancer = Balancer::new(&accruing(), &endpoints(0..2), None, None, 0, 0);
    for slot in balancer.slots() {
        let outcomes =
            [0; 3].map(|now| balancer.record(&slot.state, Observation::Response(500), now));
        assert_eq!(outcomes, [false, false, true]);
    }
    assert_eq!(picks(&balancer, 500), [0, 0]);
    assert_eq!(picks(&balancer, 1000), [1, 1]);
}

#[test]
fn what_the_proxys_own_check_says_is_heeded_and_comes_back_as_new() {
    let warmup = Warmup {
        duration: Duration::from_secs(10),
        share_percent_min: 10,
        aggression_thousandths: 1000,
    };
    let destination =
        Destination { warmup: Some(warmup), ..destination(LoadBalancing::RoundRobin) };
    let balancer = Balancer::new(&destination, &endpoints(0..2), None, None, 0, 0);
    let state = balancer.slots()[0].state.clone();
    balancer.set_checked(&state, false, 20_000);
    assert_eq!(picks(&balancer, 20_000), [0, 10_000]);
    balancer.set_checked(&state, true, 30_000);
    let share = picks(&balancer, 30_000)[0];
    assert!(share.abs_diff(909) < 100, "a tenth of the other's: {share}");
    assert!(picks(&balancer, 40_000)[0].abs_diff(5000) < 100);
}

#[test]
fn a_session_stays_where_it_is_as_long_as_that_is_there() {
    let balancer = balancer(LoadBalancing::RoundRobin, &endpoints(0..3));
    let session = balancer.slots()[1].session;
    let at = |balancer: &Balancer, tried: &[Arc<EndpointState>], random| {
        balancer.pick(&Pick { session: Some(session), random, tried, ..Pick::default() })
    };
    assert!((0..20).all(|random| at(&balancer, &[], random) == Some(Picked::Endpoint(1))));
    let tried = [balancer.slots()[1].state.clone()];
    assert!((0..20).all(|random| at(&balancer, &tried, random) != Some(Picked::Endpoint(1))));
    let gone = Balancer::new(
        &destination(LoadBalancing::RoundRobin),
        &endpoints([0, 2]),
        None,
        Some(&balancer),
        0,
        0,
    );
    assert!(at(&gone, &[], 1).is_some());
    // Another proxy knows it by the same name.
    let other = self::balancer(LoadBalancing::Random, &endpoints([1, 5]));
    assert_eq!(other.slots()[0].session, session);
}
