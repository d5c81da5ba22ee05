use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::{Host, Locality, NetworkName};
use heddle_ir::destination::{
    ClientTls, ConnectionPool, DestinationId, HashAlgorithm, HashKey, LocalityPolicy,
    OutlierDetection,
};
use heddle_ir::endpoint::EndpointSetKey;
use heddle_ir::protocol::Protocol;
use heddle_ir::workload::MeshTransport;
use proptest::prelude::*;

use super::*;
use crate::Observation;

/// The endpoint 10.0.x.y:80 of this number.
pub(crate) fn endpoint(number: u16, weight: u32) -> Endpoint {
    let [high, low] = number.to_be_bytes();
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, high, low));
    Endpoint {
        workload: None,
        address: EndpointAddress::Address(SocketAddr::new(address, 80)),
        weight,
        health: EndpointHealth::Healthy,
        labels: Arc::default(),
        identity: None,
        transport: MeshTransport::None,
        locality: Locality::default(),
        network: NetworkName::new(""),
        namespace: Arc::default(),
        workload_name: Arc::default(),
        canonical_name: Arc::default(),
        canonical_revision: Arc::default(),
        hostname: Arc::default(),
        health_check: None,
    }
}

pub(crate) fn endpoints(numbers: impl IntoIterator<Item = u16>) -> Vec<Arc<Endpoint>> {
    numbers.into_iter().map(|number| Arc::new(endpoint(number, 1))).collect()
}

pub(crate) fn destination(load_balancing: LoadBalancing) -> Destination {
    let host = Host::parse("reviews").unwrap();
    Destination {
        id: DestinationId { host: host.clone(), port: 80, subset: Arc::default() },
        service_namespace: "default".into(),
        service_name: "reviews".into(),
        protocol: Protocol::Http1,
        endpoints: EndpointSource::Set(EndpointSetKey { host, port: 80 }),
        subset_labels: Vec::new(),
        load_balancing,
        connection_pool: ConnectionPool {
            connections_max: u32::MAX,
            connect_timeout: Duration::from_secs(10),
            keepalive: None,
            pending_requests_max: u32::MAX,
            requests_max: u32::MAX,
            requests_per_connection_max: 0,
            retries_max: u32::MAX,
            http_idle_timeout: None,
            tcp_idle_timeout: None,
            connection_duration_max: None,
            concurrent_streams_max: 100,
            upgrade_to_http2: false,
            origin: Origin::built_in("pool"),
            use_client_protocol: false,
            http2_keepalive: None,
        },
        outlier_detection: None,
        tls: ClientTls::Auto,
        subject_alt_names: Vec::new(),
        origin: Origin::built_in("destination"),
        locality: LocalityPolicy::Ignore,
        warmup: None,
        failure_accrual: None,
        retry_budget: None,
        tunnel: None,
        proxy_protocol: None,
        mesh_server_name: None,
    }
}

fn hashing(algorithm: HashAlgorithm) -> LoadBalancing {
    LoadBalancing::ConsistentHash { key: HashKey::SourceAddress, algorithm }
}

fn ring() -> LoadBalancing {
    hashing(HashAlgorithm::Ring { size_min: 1024 })
}

fn maglev() -> LoadBalancing {
    hashing(HashAlgorithm::Maglev { table_size: 65_537 })
}

fn everything() -> [LoadBalancing; 6] {
    [
        LoadBalancing::PeakEwma { decay: Duration::from_secs(10) },
        LoadBalancing::LeastRequest,
        LoadBalancing::Random,
        LoadBalancing::RoundRobin,
        ring(),
        maglev(),
    ]
}

fn balancer(load_balancing: LoadBalancing, endpoints: &[Arc<Endpoint>]) -> Balancer {
    Balancer::new(&destination(load_balancing), endpoints, None, None, 42, 0)
}

/// A pick with this random number, whose hash is derived from it.
fn pick(balancer: &Balancer, random: u64, tried: &[Arc<EndpointState>]) -> Option<usize> {
    let random = mix(random);
    let pick = Pick { hash: Some(mix(!random)), random, now_ms: 0, tried, ..Pick::default() };
    match balancer.pick(&pick)? {
        Picked::Endpoint(index) => Some(index),
        Picked::OriginalDestination => panic!("no endpoint was picked"),
    }
}

fn counts(balancer: &Balancer, picks: u64) -> Vec<u64> {
    let mut counts = vec![0; balancer.slots().len()];
    for random in 0..picks {
        counts[pick(balancer, random, &[]).unwrap()] += 1;
    }
    counts
}

mod placed;
mod timed;

#[test]
fn nothing_is_picked_from_nothing() {
    for load_balancing in everything() {
        assert_eq!(pick(&balancer(load_balancing, &[]), 1, &[]), None);
    }
}

#[test]
fn passthrough_goes_where_the_client_connected_to() {
    let none = Pick { hash: None, random: 0, now_ms: 0, ..Pick::default() };
    let passthrough = balancer(LoadBalancing::Passthrough, &endpoints(0..2));
    assert_eq!(passthrough.pick(&none), Some(Picked::OriginalDestination));
    let mut original = destination(LoadBalancing::RoundRobin);
    original.endpoints = EndpointSource::OriginalDestination;
    let original = Balancer::new(&original, &[], None, None, 1, 0);
    assert_eq!(original.pick(&none), Some(Picked::OriginalDestination));
}

#[test]
fn turns_are_taken_one_after_the_other() {
    let balancer = balancer(LoadBalancing::RoundRobin, &endpoints(0..3));
    let picked: Vec<usize> = (0..9).map(|i| pick(&balancer, i, &[]).unwrap()).collect();
    for window in picked.windows(3) {
        let mut window = window.to_vec();
        window.sort_unstable();
        assert_eq!(window, [0, 1, 2], "{picked:?}");
    }
}

#[test]
fn turns_by_weight_stay_close_to_the_weights_at_every_moment() {
    for weights in [vec![90, 10], vec![1, 2, 3, 4], vec![1, 1000], vec![5, 5, 1]] {
        let endpoints: Vec<_> = (0..)
            .zip(&weights)
            .map(|(number, weight)| Arc::new(endpoint(number, *weight)))
            .collect();
        let balancer = balancer(LoadBalancing::RoundRobin, &endpoints);
        let total: u32 = weights.iter().sum();
        let mut counts = vec![0_u32; weights.len()];
        for done in 1..=5000_u32 {
            counts[pick(&balancer, done.into(), &[]).unwrap()] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                let ideal = f64::from(done) * f64::from(*weight) / f64::from(total);
                assert!((f64::from(*count) - ideal).abs() < 4.0, "{weights:?} {counts:?} {done}");
            }
        }
    }
}

#[test]
fn chance_keeps_to_the_weights() {
    let endpoints = [1, 2, 7].map(|weight| Arc::new(endpoint(weight, weight.into())));
    let counts = counts(&balancer(LoadBalancing::Random, &endpoints), 100_000);
    for (count, ideal) in counts.iter().zip([10_000_u64, 20_000, 70_000]) {
        assert!(count.abs_diff(ideal) < 900, "{counts:?}");
    }
}

/// The same number may have drawn the backend before.
#[test]
fn a_number_that_comes_from_a_part_of_the_range_only_spreads_all_the_same() {
    for load_balancing in [LoadBalancing::Random, LoadBalancing::LeastRequest, ring(), maglev()] {
        let balancer = balancer(load_balancing, &endpoints(0..4));
        let mut counts = [0_u32; 4];
        for step in 0..10_000 {
            let pick = Pick {
                hash: None,
                random: u64::MAX / 100_000 * step,
                now_ms: 0,
                ..Pick::default()
            };
            let Some(Picked::Endpoint(index)) = balancer.pick(&pick) else { panic!() };
            counts[index] += 1;
        }
        assert!(counts.iter().all(|count| *count > 2000), "{counts:?}");
    }
}

#[test]
fn without_load_least_request_keeps_to_the_weights() {
    let endpoints = [1, 2, 7].map(|weight| Arc::new(endpoint(weight, weight.into())));
    let counts = counts(&balancer(LoadBalancing::LeastRequest, &endpoints), 100_000);
    for (count, ideal) in counts.iter().zip([10_000_u64, 20_000, 70_000]) {
        assert!(count.abs_diff(ideal) < 900, "{counts:?}");
    }
}

#[test]
fn the_less_busy_of_two_is_taken() {
    let balancer = balancer(LoadBalancing::LeastRequest, &endpoints(0..2));
    let busy = balancer.slots()[0].state.begin();
    assert_eq!(counts(&balancer, 1000), [0, 1000]);
    drop(busy);
    assert!(counts(&balancer, 1000).iter().all(|count| *count > 400));
    // Load is relative to weight.
    let weighted = [endpoint(0, 10), endpoint(1, 1)].map(Arc::new);
    let weighted =
        Balancer::new(&destination(LoadBalancing::LeastRequest), &weighted, None, None, 1, 0);
    let _busy: Vec<_> = (0..5).map(|_| weighted.slots()[0].state.begin()).collect();
    let _one = weighted.slots()[1].state.begin();
    assert_eq!(counts(&weighted, 100), [100, 0]);
}

/// With requests that stay, power of two choices keeps endpoints level where chance does not.
#[test]
fn least_request_levels_load() {
    let balancer = balancer(LoadBalancing::LeastRequest, &endpoints(0..10));
    let mut active = Vec::new();
    for random in 0..1000 {
        let index = pick(&balancer, random, &[]).unwrap();
        active.push(balancer.slots()[index].state.begin());
    }
    for slot in balancer.slots() {
        assert!(slot.state.active().abs_diff(100) <= 3, "{}", slot.state.active());
    }
    active.clear();
    assert!(balancer.slots().iter().all(|slot| slot.state.active() == 0));
}

#[test]
fn a_hash_stays_with_its_endpoint_whatever_the_order_of_endpoints() {
    for load_balancing in [ring(), maglev()] {
        let forth = balancer(load_balancing.clone(), &endpoints(0..10));
        let back = balancer(load_balancing, &endpoints((0..10).rev()));
        for key in 0..1000 {
            let address = |balancer: &Balancer| {
                let index = pick(balancer, key, &[]).unwrap();
                balancer.slots()[index].endpoint.address.clone()
            };
            assert_eq!(address(&forth), address(&back));
            assert_eq!(pick(&forth, key, &[]), pick(&forth, key, &[]));
        }
    }
}

#[test]
fn without_hash_a_hashing_balancer_spreads() {
    for load_balancing in [ring(), maglev()] {
        let balancer = balancer(load_balancing, &endpoints(0..4));
        let mut seen = [false; 4];
        for random in 0..100 {
            let pick = Pick { hash: None, random: mix(random), now_ms: 0, ..Pick::default() };
            let Some(Picked::Endpoint(index)) = balancer.pick(&pick) else { panic!() };
            seen[index] = true;
        }
        assert_eq!(seen, [true; 4]);
    }
}

#[test]
fn hashes_are_spread_by_weight() {
    let endpoints: Vec<_> =
        (0..10).map(|number| Arc::new(endpoint(number, if number < 5 { 1 } else { 3 }))).collect();
    for (load_balancing, tolerance) in [(ring(), 0.3), (maglev(), 0.05)] {
        let counts = counts(&balancer(load_balancing.clone(), &endpoints), 100_000);
        for (count, slot) in counts.iter().zip(&endpoints) {
            let ideal = 5_000.0 * f64::from(slot.weight);
            let error = (f64::from(u32::try_from(*count).unwrap()) - ideal).abs() / ideal;
            assert!(error < tolerance, "{load_balancing:?} {counts:?}");
        }
    }
}

/// The keys whose endpoint changes between two sets of endpoints, out of 20,000.
fn moved(load_balancing: &LoadBalancing, before: &[Arc<Endpoint>], after: &[Arc<Endpoint>]) -> u64 {
    let before = balancer(load_balancing.clone(), before);
    let after = balancer(load_balancing.clone(), after);
    let address = |balancer: &Balancer, key| {
        let index = pick(balancer, key, &[]).unwrap();
        balancer.slots()[index].endpoint.address.clone()
    };
    (0..20_000).map(|key| u64::from(address(&before, key) != address(&after, key))).sum()
}

#[test]
fn one_endpoint_more_or_less_moves_little_more_than_its_share() {
    for count in [2_u16, 3, 5, 10, 33, 100] {
        let all = endpoints(0..count);
        // Maglev trades some of it for evenness (Eisenbud et al., section 5.3); more the more endpoints there are.
        for (load_balancing, tenths) in [(ring(), 12), (maglev(), if count < 50 { 12 } else { 17 })]
        {
            let mut total = 0;
            let removed = [0, count / 2, count - 1];
            for remove in removed {
                let fewer = endpoints((0..count).filter(|number| *number != remove));
                let moves = moved(&load_balancing, &all, &fewer);
                assert_eq!(moves, moved(&load_balancing, &fewer, &all));
                total += moves;
            }
            // A single endpoint's share varies; the mean of three must be within the bound.
            let bound = 20_000 * tenths / 10 / u64::from(count);
            let mean = total / removed.len() as u64;
            assert!(mean <= bound, "{count} {load_balancing:?}: {mean} > {bound}");
        }
    }
}

#[test]
fn an_ejected_or_tried_endpoint_of_a_hash_moves_only_its_own_keys() {
    for load_balancing in [ring(), maglev()] {
        let balancer = balancer(load_balancing, &endpoints(0..5));
        let tried = [balancer.slots()[2].state.clone()];
        for key in 0..2000 {
            let usual = pick(&balancer, key, &[]).unwrap();
            let other = pick(&balancer, key, &tried).unwrap();
            assert!(if usual == 2 { other != 2 } else { other == usual });
        }
    }
}

#[test]
fn strange_sizes_of_tables_and_rings_do_no_harm() {
    let algorithms = [
        HashAlgorithm::Maglev { table_size: 0 },
        HashAlgorithm::Maglev { table_size: 4 },
        HashAlgorithm::Maglev { table_size: 2 },
        HashAlgorithm::Ring { size_min: 0 },
        HashAlgorithm::Ring { size_min: 1 },
    ];
    let uneven = [endpoint(0, 1), endpoint(1, u32::MAX), endpoint(2, 0)].map(Arc::new);
    for algorithm in algorithms {
        for endpoints in [&endpoints(0..7)[..], &uneven[..]] {
            let balancer = balancer(hashing(algorithm), endpoints);
            assert!((0..100).all(|key| pick(&balancer, key, &[]).is_some()));
        }
    }
}

#[test]
fn a_ring_is_bounded() {
    let many = balancer(ring(), &endpoints(0..2000));
    let Algorithm::Ring(ring) = &many.groups.groups[0].algorithm else { panic!() };
    assert!(ring.len() <= 32_768, "{}", ring.len());
    let four = balancer(self::ring(), &endpoints(0..4));
    let Algorithm::Ring(ring) = &four.groups.groups[0].algorithm else { panic!() };
    assert_eq!(ring.len(), 1024);
}

#[test]
fn a_subset_has_the_endpoints_with_all_its_labels() {
    let labelled = |number, labels: &[(&str, &str)]| {
        let labels: BTreeMap<Arc<str>, Arc<str>> =
            labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Arc::new(Endpoint { labels: Arc::new(labels), ..endpoint(number, 1) })
    };
    let endpoints = [
        labelled(0, &[("version", "v1"), ("zone", "a")]),
        labelled(1, &[("version", "v2"), ("zone", "a")]),
        labelled(2, &[("version", "v2")]),
    ];
    let mut destination = destination(LoadBalancing::RoundRobin);
    destination.subset_labels = vec![("version".into(), "v2".into())];
    let balancer = Balancer::new(&destination, &endpoints, None, None, 0, 0);
    assert_eq!(balancer.slots().len(), 2);
    destination.subset_labels.push(("zone".into(), "a".into()));
    let balancer = Balancer::new(&destination, &endpoints, None, Some(&balancer), 0, 0);
    assert_eq!(balancer.slots().len(), 1);
    assert_eq!(balancer.slots()[0].endpoint, endpoints[1]);
}

#[test]
fn states_stay_with_their_addresses_and_turns_go_on() {
    let before = balancer(LoadBalancing::RoundRobin, &endpoints(0..3));
    let active = before.slots()[1].state.begin();
    let destination = destination(LoadBalancing::LeastRequest);
    let after = Balancer::new(&destination, &endpoints([7, 1]), None, Some(&before), 0, 0);
    assert!(Arc::ptr_eq(&after.slots()[1].state, active.state()));
    assert_eq!(after.slots()[1].state.active(), 1);
    assert_eq!(after.slots()[0].state.active(), 0);
    drop(active);
    assert_eq!(after.slots()[1].state.active(), 0);
}

#[test]
fn draining_and_unhealthy_endpoints_are_passed_over() {
    for load_balancing in everything() {
        let mut all = vec![endpoint(0, 1), endpoint(1, 1), endpoint(2, 1)];
        all[0].health = EndpointHealth::Draining;
        all[1].health = EndpointHealth::Unhealthy;
        let all: Vec<_> = all.into_iter().map(Arc::new).collect();
        let balancer = Balancer::new(&destination(load_balancing), &all, None, None, 0, 0);
        assert!((0..200).all(|random| pick(&balancer, random, &[]) == Some(2)));
        let out = Balancer::new(&destination(LoadBalancing::Random), &all[..2], None, None, 0, 0);
        assert_eq!(pick(&out, 0, &[]), None);
    }
}

/// Turns are fair among those that are left, too.
#[test]
fn turns_skip_what_is_out_without_favouring_the_next() {
    let mut all: Vec<_> = (0..4).map(|number| endpoint(number, 1)).collect();
    all[1].health = EndpointHealth::Unhealthy;
    let all: Vec<_> = all.into_iter().map(Arc::new).collect();
    let counts = counts(&balancer(LoadBalancing::RoundRobin, &all), 3000);
    assert_eq!(counts, [1000, 0, 1000, 1000]);
}

#[test]
fn with_too_few_healthy_endpoints_health_is_ignored_but_not_draining() {
    let policy = OutlierDetection {
        consecutive_5xx: 1,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        interval: Duration::from_secs(10),
        ejection_time_base: Duration::from_secs(30),
        ejection_percent_max: 100,
        health_percent_min: 50,
        error_statuses: Vec::new(),
        origin: Origin::built_in("outlier"),
    };
    let mut all: Vec<_> = (0..4).map(|number| endpoint(number, 1)).collect();
    all[3].health = EndpointHealth::Draining;
    let all: Vec<_> = all.into_iter().map(Arc::new).collect();
    let mut destination = destination(LoadBalancing::Random);
    destination.outlier_detection = Some(policy);
    let balancer = Balancer::new(&destination, &all, None, None, 0, 0);
    let seen = || -> Vec<bool> { counts(&balancer, 400).iter().map(|count| *count > 0).collect() };
    assert_eq!(seen(), [true, true, true, false]);
    // Two of four are left, which is half: still enough.
    assert!(balancer.record(&balancer.slots()[0].state, Observation::Response(500), 0));
    assert_eq!(seen(), [false, true, true, false]);
    assert!(balancer.record(&balancer.slots()[1].state, Observation::Response(500), 0));
    assert_eq!(seen(), [true, true, true, false]);
}

proptest! {
    /// Whatever is out or tried, something usable is found if there is any, and an untried one if there is any.
    #[test]
    fn what_can_be_picked_is_picked(
        health in proptest::collection::vec(0..4_u8, 1..40),
        weights in proptest::collection::vec(0..1000_u32, 40),
        tried in proptest::collection::vec(0..40_usize, 0..6),
        randoms in proptest::collection::vec(any::<u64>(), 20),
        kind in 0..6_usize,
    ) {
        let all: Vec<_> = (0..).zip(&health).zip(&weights).map(|((number, health), weight)| {
            let health = match health {
                0 => EndpointHealth::Healthy,
                1 => EndpointHealth::Draining,
                _ => EndpointHealth::Unhealthy,
            };
            Arc::new(Endpoint { health, ..endpoint(number, *weight) })
        }).collect();
        let balancer = balancer(everything()[kind].clone(), &all);
        let tried: Vec<usize> = tried.into_iter().filter(|index| *index < all.len()).collect();
        let states: Vec<_> = tried.iter().map(|index| balancer.slots()[*index].state.clone()).collect();
        let healthy: Vec<usize> =
            (0..all.len()).filter(|i| all[*i].health == EndpointHealth::Healthy).collect();
        for random in randoms {
            match pick(&balancer, random, &states) {
                None => prop_assert!(healthy.is_empty()),
                Some(index) => {
                    prop_assert!(healthy.contains(&index));
                    let others = healthy.iter().any(|other| !tried.contains(other));
                    prop_assert!(!others || !tried.contains(&index));
                }
            }
        }
    }
}
