use heddle_diag::Origin;
use heddle_ir::destination::LoadBalancing;
use heddle_ir::endpoint::Endpoint;
use proptest::prelude::*;

use super::*;
use crate::balancer::tests::{destination, endpoint, endpoints};

const SECOND: u64 = 1000;

/// Istio's defaults, but that all may be ejected: five errors, looked at every 10 s, 30 s out.
fn policy() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 5,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        interval: Duration::from_secs(10),
        ejection_time_base: Duration::from_secs(30),
        ejection_percent_max: 100,
        health_percent_min: 0,
        error_statuses: Vec::new(),
        origin: Origin::built_in("outlier"),
    }
}

fn watching(policy: &OutlierDetection, count: u16) -> Balancer {
    replaced(policy, &endpoints(0..count), None, 0)
}

fn replaced(
    policy: &OutlierDetection,
    endpoints: &[Arc<Endpoint>],
    previous: Option<&Balancer>,
    now_ms: u64,
) -> Balancer {
    let mut destination = destination(LoadBalancing::RoundRobin);
    destination.outlier_detection = Some(policy.clone());
    Balancer::new(&destination, endpoints, None, previous, 0, now_ms)
}

fn record(balancer: &Balancer, index: usize, observation: Observation, now_ms: u64) -> bool {
    balancer.record(&balancer.slots()[index].state.clone(), observation, now_ms)
}

/// Records these of endpoint 0, and which of them ejected it.
fn ejecting(policy: &OutlierDetection, observations: &[Observation]) -> Option<usize> {
    let balancer = watching(policy, 3);
    observations.iter().position(|observation| record(&balancer, 0, *observation, 0))
}

fn statuses(statuses: &[u16]) -> Vec<Observation> {
    statuses.iter().map(|status| Observation::Response(*status)).collect()
}

#[test]
fn errors_in_a_row_eject_and_a_success_starts_the_count_anew() {
    let policy = policy();
    assert_eq!(ejecting(&policy, &statuses(&[500; 5])), Some(4));
    assert_eq!(ejecting(&policy, &statuses(&[500, 502, 503, 599, 501])), Some(4));
    assert_eq!(ejecting(&policy, &statuses(&[500; 4])), None);
    assert_eq!(ejecting(&policy, &statuses(&[500, 500, 500, 500, 200, 500, 500, 500, 500])), None);
    assert_eq!(ejecting(&policy, &statuses(&[404; 20])), None);
    assert_eq!(ejecting(&policy, &statuses(&[600; 20])), None);
    let off = OutlierDetection { consecutive_5xx: 0, ..policy };
    assert_eq!(ejecting(&off, &statuses(&[500; 50])), None);
}

#[test]
fn gateway_errors_are_counted_apart() {
    let policy = OutlierDetection { consecutive_gateway_errors: 3, ..policy() };
    assert_eq!(ejecting(&policy, &statuses(&[502, 503, 504])), Some(2));
    // Another server error breaks their row, but counts towards the other limit.
    assert_eq!(ejecting(&policy, &statuses(&[502, 503, 500, 502, 503])), Some(4));
    assert_eq!(ejecting(&policy, &statuses(&[502, 503, 200, 502, 503])), None);
    let alone = OutlierDetection { consecutive_5xx: 0, ..policy };
    assert_eq!(ejecting(&alone, &statuses(&[500; 20])), None);
    assert_eq!(ejecting(&alone, &statuses(&[504; 3])), Some(2));
}

#[test]
fn listed_statuses_count_instead_of_5xx() {
    let policy = OutlierDetection { error_statuses: vec![429, 503], ..policy() };
    assert_eq!(ejecting(&policy, &statuses(&[429, 503, 429, 503, 429])), Some(4));
    assert_eq!(ejecting(&policy, &statuses(&[429, 429, 429, 429, 500, 429, 429, 429, 429])), None);
}

#[test]
fn local_failures_count_as_server_errors_unless_split() {
    use Observation::{ConnectFailure, Connected, Opened, Response, Timeout};
    let joined = OutlierDetection { consecutive_gateway_errors: 4, ..policy() };
    let mixed = [ConnectFailure, Timeout, Response(503), ConnectFailure];
    assert_eq!(ejecting(&joined, &mixed), Some(3));
    // That a connection was made says nothing about the request to come; an opened stream is all there is.
    let policy = policy();
    let connected =
        [ConnectFailure, Connected, ConnectFailure, Timeout, Connected, Timeout, Timeout];
    assert_eq!(ejecting(&policy, &connected), Some(6));
    let opened =
        [ConnectFailure, ConnectFailure, ConnectFailure, ConnectFailure, Opened, ConnectFailure];
    assert_eq!(ejecting(&policy, &opened), None);
    let split = OutlierDetection { consecutive_local_failures: 2, ..policy };
    assert_eq!(ejecting(&split, &[ConnectFailure, Timeout]), Some(1));
    assert_eq!(ejecting(&split, &[ConnectFailure, Connected, Timeout]), None);
    // Answers and local failures do not mix.
    let mixed = [Response(500), Response(500), Response(500), Response(500), ConnectFailure];
    assert_eq!(ejecting(&split, &mixed), None);
    assert_eq!(ejecting(&split, &[ConnectFailure, Response(200), ConnectFailure]), Some(2));
}

#[test]
fn grpc_statuses_count_as_their_http_statuses() {
    let errors: Vec<u8> = (0..=16).filter(|status| grpc_as_http_status(*status) >= 500).collect();
    // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    assert_eq!(errors, [2, 4, 12, 13, 14, 15]);
}

fn fail(balancer: &Balancer, index: usize, now_ms: u64) -> bool {
    (0..5).any(|_| record(balancer, index, Observation::Response(500), now_ms))
}

fn ejected(balancer: &Balancer, now_ms: u64) -> Vec<usize> {
    balancer.look_at_ejected(now_ms);
    let slots = balancer.slots().iter().enumerate();
    slots.filter(|(_, slot)| slot.state.is_ejected()).map(|(index, _)| index).collect()
}

#[test]
fn one_may_always_be_ejected_and_more_up_to_the_percentage() {
    for (percent, count, expected) in [
        (10, 3, 1),
        (10, 10, 1),
        (10, 20, 2),
        (0, 3, 1),
        (50, 3, 1),
        (67, 3, 2),
        (100, 3, 3),
        (99, 3, 2),
    ] {
        let balancer =
            watching(&OutlierDetection { ejection_percent_max: percent, ..policy() }, count);
        for index in 0..usize::from(count) {
            fail(&balancer, index, 0);
        }
        assert_eq!(ejected(&balancer, 0).len(), expected, "{percent} of {count}");
    }
}

#[test]
fn an_endpoint_that_may_not_be_ejected_must_fail_as_often_again() {
    let balancer = watching(&OutlierDetection { ejection_percent_max: 10, ..policy() }, 3);
    assert!(fail(&balancer, 0, 0));
    assert!(!fail(&balancer, 1, 0));
    // 30 s later endpoint 0 is back, and there is room.
    let errors =
        |count| (0..count).any(|_| record(&balancer, 1, Observation::Response(500), 31 * SECOND));
    balancer.look_at_ejected(30 * SECOND);
    assert!(!errors(4));
    assert!(errors(1));
}

#[test]
fn ejections_end_at_the_first_look_after_their_time_and_grow() {
    let balancer = watching(&policy(), 3);
    // Looks are at 10, 20, 30 …; out at 5 for 30 s, so until the look at 40.
    assert!(fail(&balancer, 0, 5 * SECOND));
    assert_eq!(ejected(&balancer, 35 * SECOND), [0]);
    assert_eq!(ejected(&balancer, 40 * SECOND - 1), [0]);
    assert_eq!(ejected(&balancer, 40 * SECOND), Vec::<usize>::new());
    // The second time, before a healthy interval, for 60 s: out at 41 until 101, so until the look at 110.
    assert!(fail(&balancer, 0, 41 * SECOND));
    assert_eq!(ejected(&balancer, 109 * SECOND), [0]);
    assert_eq!(ejected(&balancer, 110 * SECOND), Vec::<usize>::new());
    // Two healthy looks later, the count is down to nothing: 30 s again.
    balancer.look_at_ejected(130 * SECOND);
    assert!(fail(&balancer, 0, 130 * SECOND));
    assert_eq!(ejected(&balancer, 160 * SECOND), Vec::<usize>::new());
}

#[test]
fn no_ejection_is_longer_than_five_minutes_unless_the_base_is() {
    let balancer = watching(&policy(), 2);
    balancer.slots()[0].state.ejections.store(50, Ordering::Relaxed);
    assert!(fail(&balancer, 0, 0));
    assert_eq!(ejected(&balancer, 299 * SECOND), [0]);
    assert_eq!(ejected(&balancer, 300 * SECOND), Vec::<usize>::new());
    let long = OutlierDetection { ejection_time_base: Duration::from_mins(10), ..policy() };
    let balancer = watching(&long, 2);
    balancer.slots()[0].state.ejections.store(50, Ordering::Relaxed);
    assert!(fail(&balancer, 0, 0));
    assert_eq!(ejected(&balancer, 599 * SECOND), [0]);
    assert_eq!(ejected(&balancer, 600 * SECOND), Vec::<usize>::new());
}

#[test]
fn failures_while_out_are_forgotten_when_taken_back() {
    let balancer = watching(&policy(), 2);
    assert!(fail(&balancer, 0, 0));
    for _ in 0..20 {
        assert!(!record(&balancer, 0, Observation::Response(500), SECOND));
    }
    balancer.look_at_ejected(30 * SECOND);
    for _ in 0..4 {
        assert!(!record(&balancer, 0, Observation::Response(500), 30 * SECOND));
    }
    assert!(record(&balancer, 0, Observation::Response(500), 30 * SECOND));
}

#[test]
fn ejections_and_counts_go_on_when_endpoints_change() {
    let before = watching(&policy(), 3);
    assert!(fail(&before, 0, 0));
    assert!(!(0..4).any(|_| record(&before, 1, Observation::Response(500), 0)));
    let after = replaced(&policy(), &endpoints([5, 1, 0]), Some(&before), 5 * SECOND);
    assert_eq!(ejected(&after, 6 * SECOND), [2]);
    assert!(record(&after, 1, Observation::Response(500), 6 * SECOND));
    // A response that comes late, of an endpoint that is gone, ejects nobody and counts for nobody.
    let gone = before.slots()[2].state.clone();
    assert!(!(0..9).any(|_| after.record(&gone, Observation::Response(500), 6 * SECOND)));
    // An ejected endpoint that goes takes its place in the percentage with it.
    let fewer = replaced(&policy(), &endpoints([5, 7]), Some(&after), 7 * SECOND);
    assert_eq!(ejected(&fewer, 7 * SECOND), Vec::<usize>::new());
    // The clock of looks goes on too: out at 0, looked at every 10 s since then.
    let back = replaced(&policy(), &endpoints([5, 1]), Some(&after), 8 * SECOND);
    assert_eq!(ejected(&back, 39 * SECOND), [1]);
    assert_eq!(ejected(&back, 40 * SECOND), Vec::<usize>::new());
}

#[test]
fn without_policy_nobody_is_out() {
    let before = watching(&policy(), 2);
    assert!(fail(&before, 0, 0));
    let destination = destination(LoadBalancing::RoundRobin);
    let after = Balancer::new(&destination, &endpoints(0..2), None, Some(&before), 0, 0);
    let pick = crate::Pick { hash: None, random: 1, now_ms: 1, ..crate::Pick::default() };
    let picked: Vec<_> = (0..4).map(|_| after.pick(&pick)).collect();
    assert!(picked.contains(&Some(crate::Picked::Endpoint(0))));
    assert!(!after.record(&after.slots()[1].state, Observation::Response(500), 1));
}

#[test]
fn an_ejected_endpoint_is_not_picked_until_it_is_back() {
    let balancer = watching(&policy(), 2);
    assert!(fail(&balancer, 0, 0));
    let picked = |now_ms| {
        let pick = crate::Pick { hash: None, random: 1, now_ms, ..crate::Pick::default() };
        let picked = [balancer.pick(&pick), balancer.pick(&pick)];
        picked.contains(&Some(crate::Picked::Endpoint(0)))
    };
    assert!(!picked(29 * SECOND));
    assert!(picked(30 * SECOND));
    assert!(fail(&balancer, 0, 31 * SECOND) && fail(&balancer, 1, 31 * SECOND));
    let pick = crate::Pick { hash: None, random: 1, now_ms: 32 * SECOND, ..crate::Pick::default() };
    assert_eq!(balancer.pick(&pick), None);
}

/// The same machine with a timer that fires at every interval, and nothing clever.
struct Model {
    policy: OutlierDetection,
    /// Per endpoint: errors in a row, gateway errors in a row, local failures in a row, ejected at, ejections.
    endpoints: Vec<(u32, u32, u32, Option<u64>, u32)>,
    next_tick_ms: u64,
}

impl Model {
    fn tick_until(&mut self, now_ms: u64) {
        while self.next_tick_ms <= now_ms {
            for endpoint in &mut self.endpoints {
                let base = u64::try_from(self.policy.ejection_time_base.as_millis()).unwrap();
                match endpoint.3 {
                    Some(at) => {
                        let out = (base * u64::from(endpoint.4)).min(base.max(300_000));
                        if self.next_tick_ms >= at + out {
                            *endpoint = (0, 0, 0, None, endpoint.4);
                        }
                    }
                    None => endpoint.4 = endpoint.4.saturating_sub(1),
                }
            }
            self.next_tick_ms += u64::try_from(self.policy.interval.as_millis()).unwrap();
        }
    }

    /// Whether the endpoint was ejected.
    fn record(&mut self, index: usize, observation: Observation, now_ms: u64) -> bool {
        self.tick_until(now_ms);
        let split = self.policy.consecutive_local_failures > 0;
        let status = match observation {
            Observation::Response(status) if self.policy.error_statuses.is_empty() => status,
            Observation::Response(status) => {
                if self.policy.error_statuses.contains(&status) {
                    500
                } else {
                    200
                }
            }
            Observation::ConnectFailure | Observation::Timeout if split => {
                self.endpoints[index].2 += 1;
                return self.endpoints[index].2 == self.policy.consecutive_local_failures
                    && self.eject(index, now_ms, |endpoint| endpoint.2 = 0);
            }
            Observation::Connected | Observation::Opened if split => {
                self.endpoints[index].2 = 0;
                return false;
            }
            Observation::Connected => return false,
            Observation::Opened => 200,
            Observation::ConnectFailure => 503,
            Observation::Timeout => 504,
        };
        if !(500..600).contains(&status) {
            self.endpoints[index].0 = 0;
            self.endpoints[index].1 = 0;
            return false;
        }
        let mut ejected = false;
        if (502..=504).contains(&status) {
            self.endpoints[index].1 += 1;
            if self.endpoints[index].1 == self.policy.consecutive_gateway_errors {
                ejected |= self.eject(index, now_ms, |endpoint| endpoint.1 = 0);
            }
        } else {
            self.endpoints[index].1 = 0;
        }
        self.endpoints[index].0 += 1;
        if self.endpoints[index].0 == self.policy.consecutive_5xx {
            ejected |= self.eject(index, now_ms, |endpoint| endpoint.0 = 0);
        }
        ejected
    }

    fn eject(
        &mut self,
        index: usize,
        now_ms: u64,
        reset: impl Fn(&mut (u32, u32, u32, Option<u64>, u32)),
    ) -> bool {
        if self.endpoints[index].3.is_some() {
            return false;
        }
        reset(&mut self.endpoints[index]);
        let out = self.endpoints.iter().filter(|endpoint| endpoint.3.is_some()).count();
        let percent = usize::from(self.policy.ejection_percent_max);
        let may = out == 0 || (out + 1) * 100 <= self.endpoints.len() * percent;
        if may {
            self.endpoints[index].3 = Some(now_ms);
            self.endpoints[index].4 += 1;
        }
        may
    }
}

fn any_observation() -> impl Strategy<Value = Observation> {
    proptest::sample::select(vec![
        Observation::ConnectFailure,
        Observation::Connected,
        Observation::Opened,
        Observation::Response(200),
        Observation::Response(429),
        Observation::Response(500),
        Observation::Response(500),
        Observation::Response(503),
        Observation::Timeout,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whoever looks late comes to the same as a timer that is always on time.
    #[test]
    fn it_behaves_as_the_model_with_a_timer(
        limits in (0..4_u32, 0..4_u32, 0..3_u32),
        percent in 0..=100_u8,
        times in (1..20_u64, 1..200_u64),
        listed in any::<bool>(),
        count in 1..6_u16,
        steps in proptest::collection::vec((0..6_usize, any_observation(), 0..40_000_u64, any::<bool>()), 1..120),
    ) {
        let policy = OutlierDetection {
            consecutive_5xx: limits.0,
            consecutive_gateway_errors: limits.1,
            consecutive_local_failures: limits.2,
            interval: Duration::from_secs(times.0),
            ejection_time_base: Duration::from_secs(times.1),
            ejection_percent_max: percent,
            error_statuses: if listed { vec![429, 503] } else { Vec::new() },
            ..policy()
        };
        let balancer = watching(&policy, count);
        let interval_ms = times.0 * SECOND;
        let endpoints = vec![(0, 0, 0, None, 0); usize::from(count)];
        let mut model = Model { policy, endpoints, next_tick_ms: interval_ms };
        let mut now_ms = 0;
        for (index, observation, pause_ms, pauses) in steps {
            now_ms += if pauses { pause_ms } else { 0 };
            let index = index % usize::from(count);
            let ejected = record(&balancer, index, observation, now_ms);
            prop_assert_eq!(ejected, model.record(index, observation, now_ms));
            for (slot, endpoint) in balancer.slots().iter().zip(&model.endpoints) {
                prop_assert_eq!(slot.state.ejected_at_ms(), endpoint.3);
                prop_assert_eq!(slot.state.ejections.load(Ordering::Relaxed), endpoint.4);
            }
        }
    }
}

/// Unhealthy endpoints may be ejected, but do not count twice against the panic threshold.
#[test]
fn an_unhealthy_endpoint_that_is_ejected_is_not_missed_twice() {
    let mut all = vec![endpoint(0, 1), endpoint(1, 1)];
    all[0].health = heddle_ir::endpoint::EndpointHealth::Unhealthy;
    let all: Vec<_> = all.into_iter().map(Arc::new).collect();
    let policy = OutlierDetection { health_percent_min: 50, ..policy() };
    let balancer = replaced(&policy, &all, None, 0);
    assert!(fail(&balancer, 0, 0));
    let pick = crate::Pick { hash: None, random: 1, now_ms: 1, ..crate::Pick::default() };
    assert!((0..4).all(|_| balancer.pick(&pick) == Some(crate::Picked::Endpoint(1))));
}

#[test]
fn threads_together_do_not_eject_more_than_allowed() {
    let policy = OutlierDetection { ejection_percent_max: 30, ..policy() };
    let balancer = watching(&policy, 10);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let balancer = &balancer;
            scope.spawn(move || {
                for step in 0..4000_usize {
                    record(balancer, (step + thread) % 10, Observation::Response(500), 0);
                }
            });
        }
    });
    assert_eq!(ejected(&balancer, 0).len(), 3);
}
