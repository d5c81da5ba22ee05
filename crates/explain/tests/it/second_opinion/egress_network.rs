//! EgressNetwork (API.md 7.12).

use std::cell::Cell;

use heddle_explain::{Query, Verdict};
use serde_json::{Value, json};

use super::{Random, is_within, text_of, texts, try_all};
use crate::shared::world;

fn base() -> Vec<Value> {
    ["shop", "other"]
        .into_iter()
        .flat_map(|namespace| {
            [
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "caller", "namespace": namespace},
                    "spec": {"selector": {"matchLabels": {"app": "caller"}}, "template": {"metadata": {"labels": {"app": "caller"}},
                        "spec": {"serviceAccountName": "caller", "containers": [{"name": "c", "command": ["x"]}]}}}}),
            ]
        })
        .collect()
}

fn network(random: &mut Random, place: usize, day: usize) -> Value {
    let mut spec = json!({"trafficPolicy": random.pick(&["Allow", "Deny"])});
    if random.chance(75) {
        let ranges =
            ["203.0.113.0/24", "203.0.0.0/16", "0.0.0.0/0", "198.51.100.9/32", "198.51.100.0/24"];
        let list: Value = (0..=random.below(2))
            .map(|_| {
                let mut one = json!({"cidr": random.pick(&ranges)});
                if random.chance(25) && one["cidr"] == "0.0.0.0/0" {
                    one["except"] = json!(["203.0.113.0/24"]);
                }
                one
            })
            .collect();
        spec["networks"] = list;
    }
    json!({"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "EgressNetwork",
        "metadata": {"name": format!("n{place}"), "namespace": random.pick(&["shop", "other", "linkerd-egress"]),
            "creationTimestamp": format!("2024-01-{:02}T00:00:00Z", day + 1)},
        "spec": spec})
}

/// The bits of the narrowest range that takes the address; none: none does.
fn width(network: &Value, address: &str) -> Option<u32> {
    let bits = |range: &str| range.split_once('/').unwrap().1.parse::<u32>().unwrap();
    match network["spec"]["networks"].as_array() {
        // Everything outside of the cluster, where these addresses are.
        None => Some(0),
        Some(list) => list
            .iter()
            .filter(|own| {
                is_within(own["cidr"].as_str().unwrap(), address)
                    && !texts(&own["except"]).any(|range| is_within(range, address))
            })
            .map(|own| bits(own["cidr"].as_str().unwrap()))
            .max(),
    }
}

fn may(networks: &[Value], namespace: &str, address: &str) -> bool {
    let of = |wanted: &str| -> Vec<&Value> {
        networks.iter().filter(|own| own["metadata"]["namespace"] == wanted).collect()
    };
    let own = of(namespace);
    let counted = if own.is_empty() { of("linkerd-egress") } else { own };
    let mut matching: Vec<(u32, &Value)> =
        counted.into_iter().filter_map(|own| Some((width(own, address)?, own))).collect();
    matching.sort_by_key(|(bits, own)| {
        (
            std::cmp::Reverse(*bits),
            own["metadata"]["creationTimestamp"].as_str().unwrap().to_owned(),
        )
    });
    matching.first().is_none_or(|(_, own)| own["spec"]["trafficPolicy"] == "Allow")
}

#[test]
fn generated_egress_networks_decide_as_linkerd_documents_them() {
    let outcomes = [Cell::new(0), Cell::new(0)];
    try_all(|random| {
        let mut days: Vec<usize> = (0..8).collect();
        let networks: Vec<Value> = (0..random.below(5))
            .map(|place| {
                let day = days.remove(random.below(days.len()));
                network(random, place, day)
            })
            .collect();
        let text = text_of(&networks);
        let world = world(&[("base.yaml", &text_of(&base())), ("networks.yaml", &text)]);
        let mut different = Vec::new();
        for namespace in ["shop", "other"] {
            for address in ["203.0.113.9", "203.0.9.9", "198.51.100.9", "8.8.8.8"] {
                for protocol in ["http1", "tcp"] {
                    let query = Query {
                        from: format!("{namespace}/caller"),
                        to: format!("{address}:8000"),
                        protocol: Some(protocol.to_owned()),
                        ..Query::default()
                    };
                    let answer = world.explain(&query).unwrap();
                    let expected = may(&networks, namespace, address);
                    let outcome = &outcomes[usize::from(expected)];
                    outcome.set(outcome.get() + 1);
                    let passes = matches!(answer.verdict, Verdict::Forward | Verdict::Passthrough);
                    if passes != expected || (!passes && answer.verdict != Verdict::Deny) {
                        different.push(format!(
                            "{query:?}\n{text}\n{:?}, not {expected}: {}",
                            answer.verdict, answer.reason
                        ));
                    }
                }
            }
        }
        different
    });
    let [denied, allowed] = outcomes.map(Cell::into_inner);
    assert!(denied > 100 && allowed > 100, "{denied} {allowed}");
}
