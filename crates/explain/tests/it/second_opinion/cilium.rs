//! CiliumNetworkPolicy, its clusterwide form and NetworkPolicy, in both directions (API.md section 8).

use std::cell::Cell;

use heddle_explain::{Query, Verdict};
use serde_json::{Value, json};

use super::{Random, is_within, text_of, texts, try_all};
use crate::shared::world;

/// Namespace, name and labels of every workload.
type Labels = &'static [(&'static str, &'static str)];
const PODS: [(&str, &str, Labels); 4] = [
    ("test", "server", &[("app", "server"), ("tier", "back")]),
    ("test", "a", &[("app", "a"), ("tier", "front")]),
    ("test", "b", &[("app", "b"), ("tier", "front")]),
    ("other", "a", &[("app", "a"), ("tier", "front")]),
];

fn base() -> Vec<Value> {
    let mut objects = Vec::new();
    for namespace in ["test", "other"] {
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"team": namespace}}}));
    }
    for (namespace, name, labels) in PODS {
        let labels: Value =
            labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}));
        objects.push(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                "spec": {"serviceAccountName": name, "containers": [{"name": "c", "command": ["x"],
                    "ports": [{"name": "web", "containerPort": 8080}, {"name": "raw", "containerPort": 9090}]}]}}}}));
    }
    objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server", "namespace": "test"},
        "spec": {"selector": {"app": "server"}, "ports": [
            {"name": "http", "port": 80, "targetPort": 8080}, {"name": "tcp", "port": 90, "targetPort": 9090}]}}));
    objects
}

/// Somebody asks the server.
struct Asked {
    /// The place in [`PODS`]; none: somebody outside.
    from: Option<usize>,
    source: &'static str,
    http: bool,
    method: &'static str,
    path: &'static str,
}

fn asked(random: &mut Random) -> Asked {
    Asked {
        from: random.pick(&[None, Some(1), Some(2), Some(3)]),
        source: random.pick(&["203.0.113.7", "198.51.100.9"]),
        http: random.chance(75),
        method: random.pick(&["GET", "PUT"]),
        path: random.pick(&["/", "/a", "/a/b", "/a?b=c", "/public/x"]),
    }
}

// ── the policies ──

fn selector(random: &mut Random) -> Value {
    match random.below(9) {
        0 => json!({}),
        1 => json!({"matchLabels": {"app": "a"}}),
        2 => json!({"matchLabels": {"k8s:app": "b"}}),
        3 => json!({"matchLabels": {"any:tier": "front"}}),
        4 => json!({"matchLabels": {"app": "a", "k8s:io.kubernetes.pod.namespace": "other"}}),
        5 => json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "other"}}),
        6 => json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}),
        7 => {
            json!({"matchExpressions": [{"key": "k8s:io.kubernetes.pod.namespace", "operator": "Exists"}]})
        }
        _ => {
            json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "nothing", "operator": "DoesNotExist"}]})
        }
    }
}

fn peers(random: &mut Random, entry: &mut Value, ingress: bool) {
    let way = if ingress { "from" } else { "to" };
    let field = |name: &str| format!("{way}{name}");
    match random.below(10) {
        0..=4 => {
            let count = random.below(3);
            let list: Value = (0..count).map(|_| selector(random)).collect();
            entry[field("Endpoints")] = list;
        }
        5 | 6 => {
            let known = ["all", "world", "cluster", "world-ipv4", "world-ipv6", "none"];
            entry[field("Entities")] = random.some(&known, 2);
        }
        7 if ingress => {
            entry["fromCIDR"] = random.some(&["203.0.113.0/24", "0.0.0.0/0", "10.0.0.0/8"], 2);
        }
        8 if ingress => {
            entry["fromCIDRSet"] = json!([{"cidr": "0.0.0.0/0", "except": [random.pick(&["203.0.113.0/24", "198.51.100.9/32"])]}]);
        }
        _ => {}
    }
}

fn ports(random: &mut Random, entry: &mut Value, with_rules: bool) {
    if random.chance(40) {
        return;
    }
    let list: Value = (0..=random.below(2)).map(|_| one_port(random, with_rules)).collect();
    entry["toPorts"] = list;
}

fn one_port(random: &mut Random, with_rules: bool) -> Value {
    let port = match random.below(7) {
        0 => json!({"port": "8080", "protocol": "TCP"}),
        1 => json!({"port": "web"}),
        2 => json!({"port": "9090", "protocol": "ANY"}),
        3 => json!({"port": "8000", "endPort": 9000, "protocol": "TCP"}),
        4 => json!({"port": "8080", "protocol": "UDP"}),
        5 => json!({"port": "0", "protocol": "TCP"}),
        _ => json!({"port": "80", "protocol": "TCP"}),
    };
    let mut one = json!({"ports": [port]});
    let may = one["ports"][0]["port"] != "0"
        && one["ports"][0]["protocol"] != "UDP"
        && one["ports"][0]["endPort"].is_null();
    if with_rules && may && random.chance(60) {
        let mut rule = json!({});
        if random.chance(60) {
            rule["method"] = random.pick(&["GET", "GET|PUT", "P.*"]).into();
        }
        if random.chance(70) {
            rule["path"] = random.pick(&["/a", "/a.*", "/public/.*", "/"]).into();
        }
        let mut list = vec![rule];
        if random.chance(20) {
            list.push(json!({"path": "/public/x", "method": "PUT"}));
        }
        one["rules"] = json!({"http": list});
    }
    one
}

fn section(random: &mut Random, ingress: bool, allow: bool) -> Value {
    let entry = |random: &mut Random| {
        let mut entry = json!({});
        if random.chance(85) {
            peers(random, &mut entry, ingress);
        }
        ports(random, &mut entry, allow);
        entry
    };
    (0..=random.below(2)).map(|_| entry(random)).collect()
}

fn cilium(random: &mut Random, place: usize) -> Value {
    let clusterwide = random.chance(25);
    let namespace = random.pick(&["test", "test", "test", "other"]);
    // Who it is for; on the way out the clients.
    let own = match random.below(6) {
        0 => json!({}),
        1 => json!({"matchLabels": {"app": "a"}}),
        2 => json!({"matchLabels": {"tier": "front"}}),
        _ => json!({"matchLabels": {"app": "server"}}),
    };
    let mut spec = json!({"endpointSelector": own});
    for (field, ingress, allow, percent) in [
        ("ingress", true, true, 60),
        ("egress", false, true, 25),
        ("ingressDeny", true, false, 25),
        ("egressDeny", false, false, 12),
    ] {
        if random.chance(percent) {
            spec[field] = section(random, ingress, allow);
        }
    }
    if spec.as_object().unwrap().len() == 1 {
        spec["ingress"] = json!([{}]);
    }
    let has_rules = spec.to_string().contains("\"rules\"");
    if random.chance(15) && !has_rules {
        spec["enableDefaultDeny"] =
            json!({"ingress": random.chance(50), "egress": random.chance(50)});
    }
    let (kind, metadata) = if clusterwide {
        ("CiliumClusterwideNetworkPolicy", json!({"name": format!("p{place}")}))
    } else {
        ("CiliumNetworkPolicy", json!({"name": format!("p{place}"), "namespace": namespace}))
    };
    json!({"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec})
}

fn kubernetes(random: &mut Random, place: usize) -> Value {
    let mut entry = json!({});
    if random.chance(70) {
        let peer = match random.below(5) {
            0 => json!({"podSelector": {"matchLabels": {"app": "a"}}}),
            1 => json!({"podSelector": {}}),
            2 => json!({"namespaceSelector": {"matchLabels": {"team": "other"}}}),
            3 => {
                json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"tier": "front"}}})
            }
            _ => json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}}),
        };
        entry["from"] = json!([peer]);
    }
    if random.chance(50) {
        entry["ports"] = match random.below(3) {
            0 => json!([{"port": 8080}]),
            1 => json!([{"port": "raw", "protocol": "TCP"}]),
            _ => json!([{"port": 8000, "endPort": 8500}]),
        };
    }
    let mut spec = json!({"podSelector": random.pick(&[true, false]).then(|| json!({"matchLabels": {"app": "server"}})).unwrap_or(json!({}))});
    spec["policyTypes"] = json!(["Ingress"]);
    if random.chance(85) {
        spec["ingress"] = json!([entry]);
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": format!("p{place}"), "namespace": "test"}, "spec": spec})
}

// ── the second opinion ──

#[derive(Clone, Copy)]
struct Pod {
    namespace: &'static str,
    labels: Labels,
}

fn pod(place: usize) -> Pod {
    let (namespace, _, labels) = PODS[place];
    Pod { namespace, labels }
}

const NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";

fn label_of(pod: Pod, key: &str) -> Option<&'static str> {
    let key = key.trim_start_matches("k8s:").trim_start_matches("any:");
    if key == NAMESPACE_LABEL {
        return Some(pod.namespace);
    }
    pod.labels.iter().find(|(own, _)| *own == key).map(|(_, value)| *value)
}

fn selector_holds(selector: &Value, pod: Pod) -> bool {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    labels.into_iter().all(|(key, value)| label_of(pod, key) == value.as_str())
        && expressions.into_iter().all(|own| {
            let value = label_of(pod, own["key"].as_str().unwrap());
            let is_listed =
                value.is_some_and(|value| texts(&own["values"]).any(|own| own == value));
            match own["operator"].as_str().unwrap() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}

fn names_namespace(selector: &Value) -> bool {
    selector.to_string().contains(NAMESPACE_LABEL)
}

/// A selector of peers within a policy of this namespace; none: of the whole cluster.
fn peer_selected(selector: &Value, pod: Pod, namespace: Option<&str>) -> bool {
    let in_scope = namespace.is_none_or(|own| names_namespace(selector) || own == pod.namespace);
    in_scope && selector_holds(selector, pod)
}

fn peers_hold(
    entry: &Value,
    way: &str,
    peer: Option<Pod>,
    source: &str,
    namespace: Option<&str>,
) -> Option<bool> {
    let field = |name: &str| &entry[format!("{way}{name}")];
    let (endpoints, entities, cidr, sets) =
        (field("Endpoints"), field("Entities"), field("CIDR"), field("CIDRSet"));
    if [endpoints, entities, cidr, sets].iter().all(|own| own.is_null()) {
        return None;
    }
    let by_endpoint = endpoints
        .as_array()
        .into_iter()
        .flatten()
        .any(|own| peer.is_some_and(|pod| peer_selected(own, pod, namespace)));
    let by_entity = texts(entities).any(|own| match own {
        "all" => true,
        "world" | "world-ipv4" => peer.is_none(),
        "cluster" => peer.is_some(),
        _ => false,
    });
    let by_range = peer.is_none()
        && (texts(cidr).any(|range| is_within(range, source))
            || sets.as_array().into_iter().flatten().any(|own| {
                is_within(own["cidr"].as_str().unwrap(), source)
                    && !texts(&own["except"]).any(|range| is_within(range, source))
            }));
    Some(by_endpoint || by_entity || by_range)
}

fn port_of(asked: &Asked) -> (u16, &'static str) {
    if asked.http { (8080, "web") } else { (9090, "raw") }
}

/// A full match of one of the few expressions that are generated.
fn expression_holds(expression: &str, text: &str) -> bool {
    expression.split('|').any(|one| match one.strip_suffix(".*") {
        Some(prefix) => text.starts_with(prefix),
        None => one == text,
    })
}

fn ports_hold(entry: &Value, asked: &Asked) -> Option<bool> {
    let list = entry["toPorts"].as_array()?;
    let (number, name) = port_of(asked);
    Some(list.iter().any(|one| {
        let port = one["ports"].as_array().unwrap().iter().any(|own| {
            let is_tcp = matches!(own["protocol"].as_str().unwrap_or("ANY"), "TCP" | "ANY");
            let text = own["port"].as_str().unwrap();
            let by_number = text.parse::<u16>().ok().is_some_and(|first| {
                let last =
                    own["endPort"].as_u64().map_or(first, |last| u16::try_from(last).unwrap());
                first == 0 || (first..=last).contains(&number)
            });
            is_tcp && (by_number || text == name)
        });
        let rules = one["rules"]["http"].as_array();
        let said = rules.is_none_or(|rules| {
            asked.http
                && rules.iter().any(|rule| {
                    rule["method"].as_str().is_none_or(|own| expression_holds(own, asked.method))
                        && rule["path"].as_str().is_none_or(|own| expression_holds(own, asked.path))
                })
        });
        port && said
    }))
}

/// Whether an entry of a section holds; one that says nothing at all selects nobody.
fn entry_holds(
    entry: &Value,
    way: &str,
    peer: Option<Pod>,
    asked: &Asked,
    namespace: Option<&str>,
) -> bool {
    let peers = peers_hold(entry, way, peer, asked.source, namespace);
    let ports = ports_hold(entry, asked);
    match (peers, ports) {
        (None, None) => false,
        (peers, ports) => peers.unwrap_or(true) && ports.unwrap_or(true),
    }
}

/// What the policies say of one direction: `subject` is whom they are for, `peer` the other end.
fn direction_allows(
    policies: &[Value],
    ingress: bool,
    subject: Pod,
    peer: Option<Pod>,
    asked: &Asked,
) -> bool {
    let (allow_field, deny_field, way) =
        if ingress { ("ingress", "ingressDeny", "from") } else { ("egress", "egressDeny", "to") };
    let (mut closed, mut allowed) = (false, false);
    for policy in policies {
        let spec = &policy["spec"];
        let namespace = policy["metadata"]["namespace"].as_str();
        if policy["kind"] == "NetworkPolicy" {
            if ingress
                && subject.namespace == "test"
                && selector_holds(&spec["podSelector"], subject)
            {
                closed = true;
                let entries = spec["ingress"].as_array().into_iter().flatten();
                allowed |= entries.into_iter().any(|entry| kubernetes_holds(entry, peer, asked));
            }
            continue;
        }
        let selected = namespace.is_none_or(|own| own == subject.namespace)
            && selector_holds(&spec["endpointSelector"], subject);
        if !selected {
            continue;
        }
        let list = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
        let (allow, deny) = (list(allow_field), list(deny_field));
        let default = spec["enableDefaultDeny"][allow_field].as_bool().unwrap_or(true);
        closed |= default && !(allow.is_empty() && deny.is_empty());
        let holds = |entry: &Value| entry_holds(entry, way, peer, asked, namespace);
        // An entry that says nothing at all denies everything, as whoever wrote it means, and allows nothing.
        if deny.iter().any(|entry| entry == &json!({}) || holds(entry)) {
            return false;
        }
        allowed |= allow.iter().any(holds);
    }
    allowed || !closed
}

fn kubernetes_holds(entry: &Value, peer: Option<Pod>, asked: &Asked) -> bool {
    let from = entry["from"].as_array().is_none_or(|list| {
        list.iter().any(|own| {
            if let Some(range) = own["ipBlock"]["cidr"].as_str() {
                // Whatever has the address, unlike Cilium's ranges; pods have none of those that are generated.
                let source = if peer.is_some() { "10.244.0.10" } else { asked.source };
                return is_within(range, source)
                    && !texts(&own["ipBlock"]["except"]).any(|range| is_within(range, source));
            }
            let Some(pod) = peer else { return false };
            let by_namespace = match &own["namespaceSelector"] {
                Value::Null => pod.namespace == "test",
                selector => selector["matchLabels"]["team"]
                    .as_str()
                    .is_none_or(|team| team == pod.namespace),
            };
            by_namespace
                && (own["podSelector"].is_null() || selector_holds(&own["podSelector"], pod))
        })
    });
    let (number, name) = port_of(asked);
    let ports = entry["ports"].as_array().is_none_or(|list| {
        list.iter().any(|own| match &own["port"] {
            Value::String(text) => text == name,
            first => {
                let first = first.as_u64().unwrap();
                (first..=own["endPort"].as_u64().unwrap_or(first)).contains(&u64::from(number))
            }
        })
    });
    from && ports
}

#[test]
fn generated_network_policies_decide_as_cilium_and_kubernetes_document_them() {
    let outcomes = [Cell::new(0), Cell::new(0)];
    try_all(|random| {
        let policies: Vec<Value> =
            (0..=random.below(3))
                .map(|place| {
                    if random.chance(20) {
                        kubernetes(random, place)
                    } else {
                        cilium(random, place)
                    }
                })
                .collect();
        let text = text_of(&policies);
        let world = world(&[("base.yaml", &text_of(&base())), ("policies.yaml", &text)]);
        let mut different = Vec::new();
        for _ in 0..20 {
            let asked = asked(random);
            let from = asked.from.map_or("outside".to_owned(), |place| {
                format!("{}/{}", PODS[place].0, PODS[place].1)
            });
            let mut query = Query {
                from,
                to: format!("server.test:{}", if asked.http { 80 } else { 90 }),
                protocol: Some(if asked.http { "http1" } else { "tcp" }.to_owned()),
                ..Query::default()
            };
            if asked.http {
                query.method = Some(asked.method.to_owned());
                query.path = Some(asked.path.to_owned());
            }
            if asked.from.is_none() {
                query.source_ip = Some(asked.source.parse().unwrap());
            }
            let answer = world.explain(&query).unwrap();
            let (server, client) = (pod(0), asked.from.map(pod));
            let goes_out = client.is_none_or(|client| {
                direction_allows(&policies, false, client, Some(server), &asked)
            });
            let comes_in = direction_allows(&policies, true, server, client, &asked);
            let expected = goes_out && comes_in;
            let outcome = &outcomes[usize::from(expected)];
            outcome.set(outcome.get() + 1);
            let got = match answer.verdict {
                Verdict::Forward => Some(true),
                Verdict::Deny => Some(false),
                _ => None,
            };
            if got != Some(expected) {
                different.push(format!(
                    "{query:?}\n{text}\n{:?}, not out {goes_out} in {comes_in}: {}",
                    answer.verdict, answer.reason
                ));
            }
        }
        different
    });
    let [denied, allowed] = outcomes.map(Cell::into_inner);
    assert!(denied > 100 && allowed > 100, "{denied} {allowed}");
}
