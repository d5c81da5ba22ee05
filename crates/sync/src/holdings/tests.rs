use std::sync::Arc;
use std::time::Duration;

use heddle_diag::Origin;
use heddle_ident::Host;
use heddle_ir::destination::{
    ClientTls, ConnectionPool, Destination, DestinationId, LoadBalancing, LocalityPolicy,
};
use heddle_ir::endpoint::{EndpointSet, EndpointSetKey};
use heddle_ir::http_route::{RouteTable, RuleOrder};
use heddle_ir::outbound::{Outbound, OutboundKey, ScopeId};
use heddle_ir::protocol::Protocol;

use super::*;

fn built_in() -> Origin {
    Origin::built_in("test")
}

fn key(host: &str) -> EndpointSetKey {
    EndpointSetKey { host: Host::parse(host).unwrap(), port: 80 }
}

fn endpoints(host: &str) -> ResourceName {
    ResourceName::Endpoints(key(host))
}

fn endpoint_set(host: &str) -> Update {
    let set = EndpointSet { key: key(host), endpoints: Vec::new() };
    Update { name: endpoints(host), resource: Some(Resource::Endpoints(Arc::new(set))) }
}

fn absent(name: ResourceName) -> Update {
    Update { name, resource: None }
}

fn outbound_name() -> ResourceName {
    ResourceName::Outbound(outbound_key())
}

fn outbound_key() -> OutboundKey {
    OutboundKey { scope: ScopeId("s".into()), host: "a".into(), port: 80 }
}

fn destination(host: &str) -> Arc<Destination> {
    Arc::new(Destination {
        id: DestinationId { host: Host::parse(host).unwrap(), port: 80, subset: "".into() },
        service_namespace: "".into(),
        service_name: "".into(),
        protocol: Protocol::Tcp,
        endpoints: EndpointSource::Set(key(host)),
        subset_labels: Vec::new(),
        load_balancing: LoadBalancing::Random,
        connection_pool: ConnectionPool {
            connections_max: 1,
            connect_timeout: Duration::from_secs(1),
            keepalive: None,
            pending_requests_max: 1,
            requests_max: 1,
            requests_per_connection_max: 0,
            retries_max: 1,
            http_idle_timeout: None,
            tcp_idle_timeout: None,
            connection_duration_max: None,
            concurrent_streams_max: 1,
            upgrade_to_http2: false,
            origin: built_in(),
            use_client_protocol: false,
            http2_keepalive: None,
        },
        outlier_detection: None,
        tls: ClientTls::Auto,
        subject_alt_names: Vec::new(),
        origin: built_in(),
        locality: LocalityPolicy::Ignore,
        warmup: None,
        failure_accrual: None,
        retry_budget: None,
        tunnel: None,
        proxy_protocol: None,
        mesh_server_name: None,
    })
}

fn outbound(hosts: &[&str]) -> Update {
    let outbound = Outbound {
        key: outbound_key(),
        protocol: Protocol::Tcp,
        host: None,
        http: RouteTable { order: RuleOrder::Written, rules: Vec::new(), tiers: Vec::new() },
        tls: Vec::new(),
        tcp: Vec::new(),
        destinations: hosts.iter().map(|host| destination(host)).collect(),
    };
    Update { name: outbound_name(), resource: Some(Resource::Outbound(Arc::new(outbound))) }
}

fn set_names(effects: &Effects) -> Vec<String> {
    let text = |effect: &Effect| match effect {
        Effect::Set(name, _) => format!("set {name}"),
        Effect::Unset(name) => format!("unset {name}"),
    };
    effects.effects.iter().map(text).collect()
}

#[test]
fn a_resource_waits_for_what_it_refers_to() {
    let mut holdings = Holdings::new();
    assert_eq!(holdings.want(&outbound_name()).want, [outbound_name()]);
    let effects = holdings.apply(vec![outbound(&["a", "b"])]);
    assert_eq!(effects.want, [endpoints("a"), endpoints("b")]);
    assert!(effects.effects.is_empty());
    assert!(!holdings.is_absent(&outbound_name()));
    assert_eq!(set_names(&holdings.apply(vec![endpoint_set("a")])), ["set endpoints a:80"]);
    // That a set does not exist is known too.
    let effects = holdings.apply(vec![absent(endpoints("b"))]);
    assert_eq!(set_names(&effects), ["set outbound a:80 (s)"]);
    assert!(holdings.effective(&outbound_name()).is_some());
}

#[test]
fn the_old_one_stays_until_the_new_one_has_all_it_refers_to() {
    let mut holdings = Holdings::new();
    holdings.want(&outbound_name());
    holdings.apply(vec![outbound(&["a"])]);
    holdings.apply(vec![endpoint_set("a")]);
    let old = holdings.effective(&outbound_name()).cloned();
    let effects = holdings.apply(vec![outbound(&["b"])]);
    assert_eq!((effects.want, effects.unwant), (vec![endpoints("b")], vec![]));
    assert_eq!(holdings.effective(&outbound_name()).cloned(), old);
    let effects = holdings.apply(vec![endpoint_set("b")]);
    assert_eq!(
        set_names(&effects),
        ["set endpoints b:80", "set outbound a:80 (s)", "unset endpoints a:80"]
    );
    assert_eq!(effects.unwant, [endpoints("a")]);
}

#[test]
fn a_change_that_was_overtaken_lets_go_of_what_only_it_referred_to() {
    let mut holdings = Holdings::new();
    holdings.want(&outbound_name());
    holdings.apply(vec![outbound(&["a"]), endpoint_set("a")]);
    holdings.apply(vec![endpoint_set("a")]);
    holdings.apply(vec![outbound(&["b"])]);
    let effects = holdings.apply(vec![outbound(&["a"])]);
    assert_eq!(effects.unwant, [endpoints("b")]);
    assert_eq!(set_names(&effects), ["set outbound a:80 (s)"]);
}

#[test]
fn what_nobody_wants_is_let_go_with_what_it_referred_to() {
    let mut holdings = Holdings::new();
    holdings.want(&outbound_name());
    holdings.want(&endpoints("b"));
    holdings.apply(vec![outbound(&["a", "b"]), endpoint_set("b")]);
    holdings.apply(vec![endpoint_set("a")]);
    let effects = holdings.unwant(&outbound_name());
    // Another wants `b` for itself.
    assert_eq!(effects.unwant, [endpoints("a"), outbound_name()]);
    assert_eq!(set_names(&effects), ["unset outbound a:80 (s)", "unset endpoints a:80"]);
    assert_eq!(holdings.iter().count(), 1);
}

#[test]
fn a_resource_that_is_removed_and_comes_back_takes_effect_again() {
    let mut holdings = Holdings::new();
    holdings.want(&endpoints("a"));
    assert!(!holdings.is_absent(&endpoints("a")));
    holdings.apply(vec![endpoint_set("a")]);
    assert_eq!(set_names(&holdings.apply(vec![absent(endpoints("a"))])), ["unset endpoints a:80"]);
    assert!(holdings.is_absent(&endpoints("a")));
    assert_eq!(set_names(&holdings.apply(vec![endpoint_set("a")])), ["set endpoints a:80"]);
}

#[test]
fn what_is_not_wanted_is_ignored() {
    let mut holdings = Holdings::new();
    assert_eq!(holdings.apply(vec![endpoint_set("a")]), Effects::default());
    assert_eq!(holdings.iter().count(), 0);
}
