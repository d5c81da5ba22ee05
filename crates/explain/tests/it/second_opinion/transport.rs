//! PeerAuthentication (API.md 3.1).

use std::cell::Cell;

use heddle_explain::{Query, Verdict};
use serde_json::{Value, json};

use super::{Random, text_of, try_all};
use crate::shared::world;

fn base() -> Vec<Value> {
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns1"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "ns1"},
            "spec": {"selector": {"app": "b"}, "ports": [
                {"name": "http-one", "port": 80, "targetPort": 8080}, {"name": "http-two", "port": 8080, "targetPort": 9090}]}}),
    ];
    for name in ["a", "b"] {
        objects.push(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "ns1"},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name, "tier": "x"}},
                "spec": {"serviceAccountName": name, "containers": [
                    {"name": "c", "command": ["x"], "ports": [{"containerPort": 8080}, {"containerPort": 9090}]}]}}}}));
    }
    objects
}

fn policy(random: &mut Random, place: usize, day: usize) -> Value {
    let modes = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT", "STRICT"];
    let mut spec = json!({});
    if random.chance(80) {
        spec["mtls"] =
            if random.chance(90) { json!({"mode": random.pick(&modes)}) } else { json!({}) };
    }
    match random.below(5) {
        0 => spec["selector"] = json!({"matchLabels": {"app": "b"}}),
        1 => spec["selector"] = json!({"matchLabels": {"tier": "x"}}),
        2 => spec["selector"] = json!({"matchLabels": {"app": "a"}}),
        _ => {}
    }
    if spec.get("selector").is_some() && random.chance(60) {
        let mut ports = json!({});
        for port in ["8080", "9090", "80"] {
            if random.chance(40) {
                ports[port] = json!({"mode": random.pick(&modes)});
            }
        }
        if ports != json!({}) {
            spec["portLevelMtls"] = ports;
        }
    }
    json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": format!("p{place}"), "namespace": random.pick(&["ns1", "ns1", "istio-system", "other"]),
            "creationTimestamp": format!("2024-01-{:02}T00:00:00Z", day + 1)},
        "spec": spec})
}

/// What is written of a mode; none: it is inherited.
fn written(mtls: &Value) -> Option<&str> {
    mtls["mode"].as_str().filter(|mode| *mode != "UNSET")
}

fn mode<'a>(policies: &'a [Value], port: &str) -> &'a str {
    let mut sorted: Vec<&Value> = policies.iter().collect();
    sorted.sort_by_key(|own| own["metadata"]["creationTimestamp"].as_str().unwrap().to_owned());
    let labels = json!({"app": "b", "tier": "x"});
    let oldest = |namespace: &str, with_selector: bool| {
        sorted.iter().copied().find(|own| {
            let selector = own["spec"]["selector"]["matchLabels"].as_object();
            let matches = selector.into_iter().flatten().all(|(key, value)| labels[key] == *value);
            own["metadata"]["namespace"] == namespace
                && selector.is_some() == with_selector
                && matches
        })
    };
    let workload = oldest("ns1", true);
    let by_port = workload.and_then(|own| written(&own["spec"]["portLevelMtls"][port]));
    by_port
        .or_else(|| workload.and_then(|own| written(&own["spec"]["mtls"])))
        .or_else(|| oldest("ns1", false).and_then(|own| written(&own["spec"]["mtls"])))
        .or_else(|| oldest("istio-system", false).and_then(|own| written(&own["spec"]["mtls"])))
        .unwrap_or("PERMISSIVE")
}

#[test]
fn generated_peer_authentications_decide_as_istio_documents_them() {
    let outcomes = [Cell::new(0), Cell::new(0)];
    try_all(|random| {
        let mut days: Vec<usize> = (0..8).collect();
        let policies: Vec<Value> = (0..=random.below(5))
            .map(|place| {
                let day = days.remove(random.below(days.len()));
                policy(random, place, day)
            })
            .collect();
        let text = text_of(&policies);
        let world = world(&[("base.yaml", &text_of(&base())), ("policies.yaml", &text)]);
        let mut different = Vec::new();
        for (service, port) in [(80, "8080"), (8080, "9090")] {
            let expected = mode(&policies, port);
            let outcome = &outcomes[usize::from(expected == "STRICT")];
            outcome.set(outcome.get() + 1);
            for from in ["outside", "ns1/a"] {
                let query = Query {
                    from: from.to_owned(),
                    to: format!("b.ns1:{service}"),
                    ..Query::default()
                };
                let answer = world.explain(&query).unwrap();
                let verdict = if from == "outside" && expected == "STRICT" {
                    Verdict::Deny
                } else {
                    Verdict::Forward
                };
                let transport = if expected == "DISABLE" || from == "outside" {
                    "plaintext"
                } else {
                    "mutual-tls"
                };
                if answer.verdict != verdict || answer.transport.as_str() != transport {
                    different.push(format!(
                        "{query:?}\n{text}\n{:?} over {}, not {verdict:?} over {transport} as {expected}: {}",
                        answer.verdict, answer.transport.as_str(), answer.reason
                    ));
                }
            }
        }
        different
    });
    let [others, strict] = outcomes.map(Cell::into_inner);
    assert!(others > 50 && strict > 50, "{others} {strict}");
}
