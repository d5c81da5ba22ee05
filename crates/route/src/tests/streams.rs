//! Routes of streams.

use heddle_ident::{Cidr, HostPattern};
use heddle_ir::outbound::{TcpBackend, TcpRule, TlsRule};

use super::support::{compiled, evenly, origin, outbound};
use crate::{CompiledRoutes, StreamOutcome};

fn backends(backends: &[(Option<usize>, u32)]) -> Vec<TcpBackend> {
    let backend = |(destination, weight): &(Option<usize>, u32)| TcpBackend {
        origin: origin("backend"),
        destination: *destination,
        weight: *weight,
    };
    backends.iter().map(backend).collect()
}

fn tls(name: &str, server_names: &[&str], ranges: &[&str]) -> TlsRule {
    TlsRule {
        origin: origin(name),
        server_names: server_names.iter().map(|name| HostPattern::parse(name).unwrap()).collect(),
        destination_ranges: ranges.iter().map(|range| Cidr::parse(range).unwrap()).collect(),
        backends: backends(&[(Some(0), 1)]),
    }
}

fn tcp(name: &str, ranges: &[&str], to: &[(Option<usize>, u32)]) -> TcpRule {
    TcpRule {
        origin: origin(name),
        destination_ranges: ranges.iter().map(|range| Cidr::parse(range).unwrap()).collect(),
        backends: backends(to),
    }
}

fn routes(tls: Vec<TlsRule>, tcp: Vec<TcpRule>) -> CompiledRoutes {
    let mut table = outbound(Vec::new());
    table.tls = tls;
    table.tcp = tcp;
    compiled(table)
}

#[test]
fn server_names_decide_in_order_and_the_rest_falls_to_tcp() {
    let routes = routes(
        vec![
            tls("narrow", &["a.example.com"], &["10.0.0.0/8"]),
            tls("wide", &["*.example.com", "example.org"], &[]),
        ],
        vec![tcp("tcp", &[], &[(Some(1), 1)])],
    );
    let decided = |name: Option<&str>, address: &str| {
        let decision = routes.decide_tls(name, address.parse().unwrap(), 0).unwrap();
        decision.origin.name.to_string()
    };
    assert_eq!(decided(Some("a.example.com"), "10.1.1.1"), "narrow");
    assert_eq!(decided(Some("a.example.com"), "11.1.1.1"), "wide");
    assert_eq!(decided(Some("A.Example.COM."), "10.1.1.1"), "narrow");
    assert_eq!(decided(Some("b.c.example.com"), "10.1.1.1"), "wide");
    assert_eq!(decided(Some("example.com"), "10.1.1.1"), "tcp");
    assert_eq!(decided(Some("example.org"), "10.1.1.1"), "wide");
    assert_eq!(decided(Some(&"a".repeat(300)), "10.1.1.1"), "tcp");
    assert_eq!(decided(None, "10.1.1.1"), "tcp");
    let outcomes: Vec<StreamOutcome> = routes
        .explain_stream(true, Some("b.example.com"), "10.1.1.1".parse().unwrap())
        .iter()
        .map(|considered| considered.outcome)
        .collect();
    assert_eq!(outcomes, [StreamOutcome::Fails, StreamOutcome::Decides, StreamOutcome::Shadowed]);
}

#[test]
fn addresses_decide_in_order_and_nothing_is_refused() {
    let routes = routes(
        Vec::new(),
        vec![
            tcp("v4", &["10.0.0.0/8"], &[(Some(0), 1)]),
            tcp("v6", &["fd00::/8"], &[(Some(1), 1)]),
        ],
    );
    let decided = |address: &str| {
        let decision = routes.decide_tcp(address.parse().unwrap(), 0);
        decision.map(|decision| decision.origin.name.to_string())
    };
    assert_eq!(decided("10.1.1.1").as_deref(), Some("v4"));
    assert_eq!(decided("::ffff:10.1.1.1").as_deref(), Some("v4"));
    assert_eq!(decided("fd00::1").as_deref(), Some("v6"));
    assert_eq!(decided("11.1.1.1"), None);
    let considered = routes.explain_stream(false, None, "fd00::1".parse().unwrap());
    assert_eq!(considered[0].outcome, StreamOutcome::Fails);
    assert_eq!(considered[1].outcome, StreamOutcome::Decides);
}

#[test]
fn weights_hold_for_connections_and_invalid_backends_keep_their_share() {
    let routes =
        routes(Vec::new(), vec![tcp("r", &[], &[(Some(2), 75), (None, 25), (Some(9), 0)])]);
    let mut counts = [0; 3];
    for i in 0..100_000_u64 {
        let address = "10.0.0.1".parse().unwrap();
        let decision = routes.decide_tcp(address, evenly(i, 100_000)).unwrap();
        match decision.destination {
            Some((2, _)) => counts[0] += 1,
            None if decision.backend.is_some() => counts[1] += 1,
            _ => counts[2] += 1,
        }
    }
    assert_eq!(counts, [75_000, 25_000, 0]);
    let all = routes.decide_stream_all(false, None, "10.0.0.1".parse().unwrap());
    let all: Vec<_> = all
        .iter()
        .map(|(weight, decision)| (*weight, decision.destination.map(|(place, _)| place)))
        .collect();
    assert_eq!(all, [(75, Some(2)), (25, None)]);
}

#[test]
fn without_weight_there_is_no_backend() {
    let routes = routes(Vec::new(), vec![tcp("r", &[], &[(Some(0), 0)])]);
    let decision = routes.decide_tcp("10.0.0.1".parse().unwrap(), 5).unwrap();
    assert_eq!((decision.backend, decision.destination), (None, None));
}
