//! Copies of requests, sessions that choose the backend, and exact shares.

use heddle_ir::http_route::{
    BackendTarget, DirectResponse, HttpAction, HttpRule, Mirror, WeightedBackend,
};

use super::support::{Request, backend, compiled, evenly, origin, outbound, rule};
use crate::RouteAction;

const DRAWS: u64 = 1_000_000;

fn mirror(destination: usize, share_ppm: u32) -> Mirror {
    Mirror {
        origin: origin("mirror"),
        target: BackendTarget::Destination(destination),
        share_ppm,
        authority_suffix: "-shadow".into(),
    }
}

fn splitting(mirrors: Vec<Mirror>) -> HttpRule {
    let action = HttpAction::Forward(vec![backend(0, 90), backend(1, 10)]);
    HttpRule { mirrors, action, ..rule("r", Vec::new()) }
}

#[test]
fn weights_are_exact_over_a_million_requests() {
    for weights in [vec![90, 10], vec![1, 2, 97], vec![0, 1, 1], vec![999_999, 1], vec![33, 33, 34]]
    {
        let backends: Vec<WeightedBackend> =
            weights.iter().enumerate().map(|(place, weight)| backend(place, *weight)).collect();
        let routes = compiled(outbound(vec![HttpRule {
            action: HttpAction::Forward(backends),
            ..rule("r", Vec::new())
        }]));
        let mut counts = [0_u64; 3];
        for draw in 0..DRAWS {
            let decision = routes.decide(&Request::get("/"), evenly(draw, DRAWS)).unwrap();
            let RouteAction::Forward { destination_index, .. } = decision.action else { panic!() };
            counts[destination_index] += 1;
        }
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        for (count, weight) in counts.iter().zip(&weights) {
            assert!(
                count.abs_diff(u64::from(*weight) * DRAWS / total) <= 1,
                "{weights:?} {counts:?}"
            );
        }
    }
}

#[test]
fn copies_come_by_their_shares_independently_of_each_other_and_of_the_backend() {
    let routes = compiled(outbound(vec![splitting(vec![mirror(1, 200_000), mirror(2, 500_000)])]));
    let (mut first, mut second, mut both, mut of_minority) = (0_u64, 0_u64, 0_u64, 0_u64);
    for draw in 0..DRAWS {
        let decision = routes.decide(&Request::get("/"), evenly(draw, DRAWS)).unwrap();
        let copies: Vec<usize> = decision.copies().map(|copy| copy.destination_index).collect();
        let (one, two) = (copies.contains(&1), copies.contains(&2));
        first += u64::from(one);
        second += u64::from(two);
        both += u64::from(one && two);
        let RouteAction::Forward { destination_index, .. } = decision.action else { panic!() };
        of_minority += u64::from(one && destination_index == 1);
    }
    let is_near = |count: u64, ideal: u64| count.abs_diff(ideal) < 2_000;
    assert!(is_near(first, 200_000) && is_near(second, 500_000), "{first} {second}");
    assert!(is_near(both, 100_000) && is_near(of_minority, 20_000), "{both} {of_minority}");
}

#[test]
fn nothing_and_everything_are_certain_and_what_is_not_valid_is_left_out() {
    let invalid = BackendTarget::Invalid { status: 500, reason: "no such service".into() };
    let mirrors = vec![
        mirror(0, 0),
        mirror(1, 1_000_000),
        Mirror { target: invalid, ..mirror(0, 1_000_000) },
        mirror(99, 1_000_000),
        mirror(2, 1_000_000),
    ];
    let routes = compiled(outbound(vec![splitting(mirrors)]));
    for draw in 0..1000 {
        let decision = routes.decide(&Request::get("/"), evenly(draw, 1000)).unwrap();
        let copies: Vec<usize> = decision.copies().map(|copy| copy.destination_index).collect();
        assert_eq!(copies, [1, 2]);
    }
}

#[test]
fn what_is_answered_here_is_not_copied() {
    let response = DirectResponse { status: 200, body: (*b"").into() };
    let action = HttpAction::Respond(response);
    let routes =
        compiled(outbound(vec![HttpRule { action, ..splitting(vec![mirror(1, 1_000_000)]) }]));
    let decision = routes.decide(&Request::get("/"), 0).unwrap();
    assert_eq!(decision.copies().count(), 0);
}

#[test]
fn a_session_counts_before_weights() {
    let routes = compiled(outbound(vec![splitting(Vec::new())]));
    let mut decision = routes.decide(&Request::get("/"), 0).unwrap();
    let chosen = |action: RouteAction<'_>| match action {
        RouteAction::Forward { destination_index, .. } => destination_index,
        _ => panic!(),
    };
    assert_eq!(chosen(decision.action), 0);
    assert!(decision.turn_to(|destination| &*destination.id.subset == "v2"));
    assert_eq!(chosen(decision.action), 1);
    // It is not a backend of the rule.
    assert!(!decision.turn_to(|destination| &*destination.id.subset == "v3"));
    assert_eq!(chosen(decision.action), 1);
}
