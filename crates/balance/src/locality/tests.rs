use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Locality {
    Locality::parse(text)
}

fn pattern(text: &str) -> LocalityPattern {
    let Locality { region, zone, subzone } = at(text);
    LocalityPattern { region, zone, subzone }
}

fn shares(from: &str, to: &[(&str, u32)]) -> LocalityShares {
    let to = to.iter().map(|(name, share)| (pattern(name), *share)).collect();
    LocalityShares { from: pattern(from), to }
}

fn key(text: &str) -> FailoverLabel {
    let (name, value) =
        text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    FailoverLabel { name: name.into(), value: value.map(Arc::from) }
}

#[test]
fn nearness_is_by_region_then_zone_then_subzone() {
    let own = at("us/a/1");
    for (other, tier) in [("us/a/1", 0), ("us/a/2", 1), ("us/b/1", 2), ("eu/a/1", 3), ("", 3)] {
        assert_eq!(distance(&own, &at(other)), tier, "{other}");
    }
    assert_eq!(distance(&at(""), &at("")), 0);
    assert_eq!(distance(&at("us/a"), &at("us/a/1")), 1);
}

#[test]
fn a_failover_rule_prefers_the_region_that_it_names_and_only_for_its_own() {
    let rules =
        [("us".into(), "eu".into()), ("us".into(), "asia".into()), ("eu".into(), "us".into())];
    let tier = |own: &str, other: &str| failover_tier(&at(own), &at(other), &rules);
    assert_eq!(tier("us/a", "us/a"), 0);
    assert_eq!(tier("us/a", "us/b"), 2);
    assert_eq!(tier("us/a", "eu/a"), 3);
    assert_eq!(tier("us/a", "asia/a"), 4);
    assert_eq!(tier("asia/a", "us/a"), 3);
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<Arc<str>, Arc<str>> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

#[test]
fn labels_count_only_as_long_as_all_before_them_match() {
    let keys = ["topology.istio.io/network", "version=v1", "team"].map(key);
    let network = [NetworkName::new("n1"), NetworkName::new("n2")];
    let nowhere = Locality::default();
    let own_labels = labels(&[("team", "blue")]);
    let tier = |number: usize, pairs: &[(&str, &str)]| {
        let labels = labels(pairs);
        let placed =
            |network, labels| Placed { locality: &nowhere, network, cluster: None, labels };
        let own = placed(&network[0], &own_labels);
        label_tier(&own, &placed(&network[number], &labels), &keys)
    };
    assert_eq!(tier(0, &[("version", "v1"), ("team", "blue")]), 0);
    assert_eq!(tier(0, &[("version", "v1"), ("team", "red")]), 1);
    assert_eq!(tier(0, &[("version", "v1")]), 1);
    assert_eq!(tier(0, &[("version", "v2"), ("team", "blue")]), 2);
    assert_eq!(tier(1, &[("version", "v1"), ("team", "blue")]), 3);
}

#[test]
fn special_keys_are_known_without_labels() {
    let (here, there) = (at("us/a/1"), at("us/b/1"));
    let network = NetworkName::new("");
    let cluster = [ClusterName::new("c1"), ClusterName::new("c2")];
    let none = BTreeMap::new();
    let host = labels(&[("kubernetes.io/hostname", "node1")]);
    let own =
        Placed { locality: &here, network: &network, cluster: Some(&cluster[0]), labels: &host };
    let other =
        Placed { locality: &there, network: &network, cluster: Some(&cluster[1]), labels: &none };
    let tier = |text: &str| label_tier(&own, &other, &[key(text)]);
    assert_eq!(tier("topology.kubernetes.io/region"), 0);
    assert_eq!(tier("topology.kubernetes.io/zone"), 1);
    assert_eq!(tier("topology.istio.io/subzone"), 0);
    assert_eq!(tier("topology.istio.io/network"), 0, "neither is known");
    assert_eq!(tier("topology.istio.io/cluster"), 1);
    assert_eq!(tier("topology.istio.io/cluster=c2"), 0);
    assert_eq!(tier("kubernetes.io/hostname"), 1);
    assert_eq!(tier("absent"), 0);
    assert_eq!(tier("absent=value"), 1);
}

#[test]
fn names_of_localities_end_where_they_say_no_more() {
    let place = at("us/a/1");
    for name in ["us", "us/*", "us/a", "us/a/*", "us/a/1", "*", ""] {
        assert!(is_taken_by(&pattern(name), &place), "{name}");
    }
    for name in ["eu", "us/b", "us/a/2", "us/b/*", "u"] {
        assert!(!is_taken_by(&pattern(name), &place), "{name}");
    }
    assert!(!is_taken_by(&pattern("us/a"), &at("us")));
}

#[test]
fn distribution_gives_what_is_written_and_nothing_to_the_rest() {
    let places = ["us/a", "us/b", "eu/a", "asia/a"].map(at);
    let endpoints = || places.iter().map(|place| (place, 1));
    let rules = [
        shares("us/b/*", &[("eu/a", 100)]),
        shares("us/a/*", &[("us/a/*", 70), ("us/b/*", 20), ("eu/*", 10)]),
    ];
    let weights = distribute(&places[0], endpoints(), &rules).unwrap();
    assert_eq!(weights, BTreeMap::from([(&places[0], 70), (&places[1], 20), (&places[2], 10)]));
    let weights = distribute(&places[1], endpoints(), &rules).unwrap();
    assert_eq!(weights, BTreeMap::from([(&places[2], 100)]));
    assert_eq!(distribute(&places[3], endpoints(), &rules), None);
}

#[test]
fn a_share_of_several_localities_is_split_by_their_endpoints() {
    let places = ["us/a", "us/b", "eu/a"].map(at);
    let endpoints = [(&places[0], 1), (&places[0], 2), (&places[1], 1), (&places[2], 1)];
    let rules = [shares("*", &[("*", 20), ("us/*", 80)])];
    let weights = distribute(&places[2], endpoints.into_iter(), &rules).unwrap();
    // The exact name first: what it takes is not taken by `*` again.
    assert_eq!(weights, BTreeMap::from([(&places[0], 60), (&places[1], 20), (&places[2], 20)]));
}

#[test]
fn zones_keep_what_they_can_take() {
    let counts =
        |counts: &[(&'static str, u32)]| counts.iter().copied().collect::<BTreeMap<_, _>>();
    // Even zones: everybody stays.
    assert_eq!(zone_shares("a", &counts(&[("a", 2), ("b", 2)])), Some(counts(&[("a", 10_000)])));
    // A larger zone: stays.
    assert_eq!(zone_shares("a", &counts(&[("a", 3), ("b", 1)])), Some(counts(&[("a", 10_000)])));
    // A smaller one takes half of what its callers send, the rest goes where there is room.
    assert_eq!(
        zone_shares("b", &counts(&[("a", 3), ("b", 1)])),
        Some(counts(&[("a", 5_000), ("b", 5_000)]))
    );
    assert_eq!(zone_shares("a", &counts(&[("a", 3)])), None);
    assert_eq!(zone_shares("c", &counts(&[("a", 3), ("b", 3)])), None);
    assert_eq!(zone_shares("c", &counts(&[("a", 3), ("b", 3), ("c", 0)])), None);
}

proptest! {
    /// Every endpoint gets as many requests as the others, whatever the zones, if callers are spread evenly.
    #[test]
    fn zone_shares_level_the_endpoints(counts in proptest::collection::vec(1..20_u32, 2..5)) {
        let names = ["a", "b", "c", "d", "e"];
        let zones: BTreeMap<&str, u32> = names.into_iter().zip(counts.iter().copied()).collect();
        let mut received: BTreeMap<&str, f64> = BTreeMap::new();
        for own in zones.keys() {
            for (zone, share) in zone_shares(own, &zones).unwrap() {
                *received.entry(zone).or_default() += f64::from(share);
            }
        }
        let per_endpoint: Vec<f64> =
            zones.iter().map(|(zone, count)| received.get(zone).copied().unwrap_or(0.0) / f64::from(*count)).collect();
        let mean = per_endpoint.iter().sum::<f64>() / f64::from(u32::try_from(per_endpoint.len()).unwrap());
        for load in &per_endpoint {
            prop_assert!((load - mean).abs() / mean < 0.1 , "{:?} {:?}", zones, per_endpoint);
        }
    }
}
