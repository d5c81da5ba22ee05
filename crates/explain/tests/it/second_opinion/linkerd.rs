//! Servers and what may be asked of them (API.md section 7).

use std::cell::Cell;

use heddle_explain::{Query, Verdict};
use serde_json::{Value, json};

use super::{Random, is_within, text_of, texts, try_all};
use crate::shared::world;

const POLICIES: [&str; 6] = [
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "deny",
    "audit",
];
const GROUP: &str = "policy.linkerd.io";

/// Somebody asks.
struct Asked {
    from: &'static str,
    source: &'static str,
    method: &'static str,
    path: &'static str,
}

fn asked(random: &mut Random) -> Asked {
    Asked {
        from: random.pick(&["shop/caller", "shop/next", "other/caller", "outside"]),
        source: random.pick(&["10.1.2.3", "203.0.113.9"]),
        method: random.pick(&["GET", "POST"]),
        path: random.pick(&["/", "/admin", "/admin/x", "/administrator", "/shop/y"]),
    }
}

fn base(default: Option<&str>) -> Vec<Value> {
    let annotations = default
        .map_or(json!({}), |value| json!({"config.linkerd.io/default-inbound-policy": value}));
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "annotations": annotations}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
    ];
    for (namespace, name) in
        [("shop", "web"), ("shop", "next"), ("shop", "caller"), ("other", "caller")]
    {
        objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}));
        objects.push(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
                "spec": {"serviceAccountName": name, "containers": [
                    {"name": "c", "command": ["x"], "ports": [{"name": "http", "containerPort": 8080}]}]}}}}));
    }
    objects
}

fn mesh_tls(random: &mut Random) -> Value {
    let identity = |account: &str, namespace: &str| {
        format!("{account}.{namespace}.serviceaccount.identity.linkerd.cluster.local")
    };
    match random.below(6) {
        0 => json!({"identities": ["*"]}),
        1 => json!({"identities": ["*.shop.serviceaccount.identity.linkerd.cluster.local"]}),
        2 => json!({"identities": [identity("caller", "shop"), identity("caller", "elsewhere")]}),
        3 => {
            json!({"identityRefs": [{"kind": "ServiceAccount", "name": "caller", "namespace": "other"}]})
        }
        4 => json!({"identityRefs": [{"kind": "ServiceAccount", "name": "next"}]}),
        _ => json!({"identityRefs": [{"kind": "Namespace", "name": "other"}]}),
    }
}

fn networks(random: &mut Random) -> Value {
    match random.below(3) {
        0 => json!([{"cidr": "10.0.0.0/8"}]),
        1 => json!([{"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}]),
        _ => json!([{"cidr": "203.0.113.9/32"}, {"cidr": "192.0.2.0/24"}]),
    }
}

fn object(kind: &str, version: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/{version}"), "kind": kind,
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn client(random: &mut Random) -> Value {
    let mut client = match random.below(4) {
        0 => json!({"unauthenticated": true}),
        1 => json!({"meshTLS": {"unauthenticatedTLS": true}}),
        2 => {
            json!({"meshTLS": {"identities": ["caller.shop.serviceaccount.identity.linkerd.cluster.local"]}})
        }
        _ => {
            json!({"meshTLS": {"serviceAccounts": [{"name": "caller", "namespace": "other"}, {"name": "next"}]}})
        }
    };
    if random.chance(40) {
        client["networks"] = networks(random);
    }
    client
}

fn policies(random: &mut Random) -> Vec<Value> {
    let mut objects = Vec::new();
    let has_server = random.chance(80);
    if has_server {
        let port = if random.chance(50) { json!("http") } else { json!(8080) };
        let selector = random.below(3);
        let selector = match selector {
            0 => json!({"matchLabels": {"app": "web"}}),
            1 => {
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "nothing"]}]})
            }
            _ => json!({}),
        };
        let mut spec = json!({"podSelector": selector, "port": port, "proxyProtocol": random.pick(&["HTTP/1", "unknown"])});
        if random.chance(40) {
            spec["accessPolicy"] = random.pick(&POLICIES).into();
        }
        let mut server = object("Server", "v1beta3", "web", &spec);
        server["metadata"]["labels"] = json!({"part": "web"});
        objects.push(server);
    }
    for (name, path) in [("admin", "/admin"), ("shop", "/shop"), ("rest", "/")] {
        if random.chance(25) {
            let mut matched = json!({"path": {"type": "PathPrefix", "value": path}});
            if random.chance(30) {
                matched["method"] = "GET".into();
            }
            let spec = json!({"parentRefs": [{"group": GROUP, "kind": "Server", "name": "web"}], "rules": [{"matches": [matched]}]});
            objects.push(object("HTTPRoute", "v1beta3", name, &spec));
        }
    }
    for name in ["m0", "m1"] {
        objects.push(object("MeshTLSAuthentication", "v1alpha1", name, &mesh_tls(random)));
    }
    for name in ["n0", "n1"] {
        objects.push(object(
            "NetworkAuthentication",
            "v1alpha1",
            name,
            &json!({"networks": networks(random)}),
        ));
    }
    for place in 0..random.below(4) {
        let target = match random.below(5) {
            0 => json!({"kind": "Namespace", "name": "shop"}),
            1 => {
                json!({"group": GROUP, "kind": "HTTPRoute", "name": random.pick(&["admin", "shop", "rest"])})
            }
            _ => json!({"group": GROUP, "kind": "Server", "name": "web"}),
        };
        let mut required = Vec::new();
        if random.chance(50) {
            required.push(json!({"group": GROUP, "kind": "MeshTLSAuthentication", "name": random.pick(&["m0", "m1", "missing"])}));
        } else if random.chance(30) {
            required.push(json!({"kind": "ServiceAccount", "name": "caller", "namespace": random.pick(&["shop", "other"])}));
        }
        if random.chance(40) {
            required.push(json!({"group": GROUP, "kind": "NetworkAuthentication", "name": random.pick(&["n0", "n1"])}));
        }
        let spec = json!({"targetRef": target, "requiredAuthenticationRefs": required});
        objects.push(object("AuthorizationPolicy", "v1alpha1", &format!("p{place}"), &spec));
    }
    if random.chance(30) {
        let server = if random.chance(50) {
            json!({"name": "web"})
        } else {
            json!({"selector": {"matchLabels": {"part": random.pick(&["web", "none"])}}})
        };
        let spec = json!({"server": server, "client": client(random)});
        objects.push(object("ServerAuthorization", "v1beta1", "legacy", &spec));
    }
    objects
}

// ── the second opinion ──

const CLUSTER: [&str; 4] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"];

struct Opinion<'a> {
    objects: &'a [Value],
    asked: &'a Asked,
}

impl Opinion<'_> {
    fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    fn named(&self, kind: &str, name: &Value) -> Option<&Value> {
        self.of(kind).find(|object| object["metadata"]["name"] == *name)
    }

    fn identity(&self) -> Option<(&str, &str)> {
        self.asked.from.split_once('/')
    }

    fn in_cluster(&self) -> bool {
        CLUSTER.iter().any(|range| is_within(range, self.asked.source))
    }

    fn by_name(&self, policy: &str) -> bool {
        match policy {
            "all-unauthenticated" | "audit" => true,
            "all-authenticated" => self.identity().is_some(),
            "cluster-unauthenticated" => self.in_cluster(),
            "cluster-authenticated" => self.identity().is_some() && self.in_cluster(),
            _ => false,
        }
    }

    fn is_identity(&self, text: &str) -> bool {
        let Some((namespace, account)) = self.identity() else { return false };
        let own = format!("{account}.{namespace}.serviceaccount.identity.linkerd.cluster.local");
        match text.strip_prefix('*') {
            Some(suffix) => own.ends_with(suffix),
            None => own == text,
        }
    }

    fn is_account(&self, reference: &Value) -> bool {
        let namespace = reference["namespace"].as_str().unwrap_or("shop");
        self.identity() == Some((namespace, reference["name"].as_str().unwrap()))
    }

    fn in_networks(&self, networks: &Value) -> bool {
        networks.as_array().unwrap().iter().any(|network| {
            is_within(network["cidr"].as_str().unwrap(), self.asked.source)
                && !texts(&network["except"]).any(|range| is_within(range, self.asked.source))
        })
    }

    fn meets(&self, reference: &Value) -> bool {
        let name = &reference["name"];
        match reference["kind"].as_str().unwrap() {
            "ServiceAccount" => self.is_account(reference),
            "NetworkAuthentication" => self
                .named("NetworkAuthentication", name)
                .is_some_and(|own| self.in_networks(&own["spec"]["networks"])),
            _ => self.named("MeshTLSAuthentication", name).is_some_and(|own| {
                let references = own["spec"]["identityRefs"].as_array().into_iter().flatten();
                texts(&own["spec"]["identities"]).any(|text| self.is_identity(text))
                    || references.into_iter().any(|own| match own["kind"].as_str() {
                        Some("Namespace") => {
                            self.identity().is_some_and(|(namespace, _)| own["name"] == namespace)
                        }
                        _ => self.is_account(own),
                    })
            }),
        }
    }

    /// Whether a policy on this target lets it pass.
    fn allowed_on(&self, kind: &str, name: &Value) -> bool {
        let on = |policy: &&Value| {
            let target = &policy["spec"]["targetRef"];
            target["kind"] == kind && target["name"] == *name
        };
        self.of("AuthorizationPolicy").filter(on).any(|policy| {
            policy["spec"]["requiredAuthenticationRefs"]
                .as_array()
                .unwrap()
                .iter()
                .all(|own| self.meets(own))
        })
    }

    fn allowed_by_legacy(&self, server: &Value) -> bool {
        self.of("ServerAuthorization").any(|own| {
            let (by, client) = (&own["spec"]["server"], &own["spec"]["client"]);
            let is_for = by["name"] == server["metadata"]["name"]
                || by["selector"]["matchLabels"]["part"] == server["metadata"]["labels"]["part"];
            let network = match &client["networks"] {
                Value::Null => self.in_cluster(),
                networks => self.in_networks(networks),
            };
            let tls = &client["meshTLS"];
            let accounts = tls["serviceAccounts"].as_array().into_iter().flatten();
            let proven = client["unauthenticated"] == true
                || (tls["unauthenticatedTLS"] == true && self.identity().is_some())
                || texts(&tls["identities"]).any(|text| self.is_identity(text))
                || accounts.into_iter().any(|own| self.is_account(own));
            is_for && network && proven
        })
    }

    /// The route that takes the request, where there are routes; an error: none of them does.
    fn route(&self) -> Result<Option<&Value>, ()> {
        let mut routes: Vec<&Value> = self.of("HTTPRoute").collect();
        if routes.is_empty() {
            return Ok(None);
        }
        let matched = |route: &Value| route["spec"]["rules"][0]["matches"][0].clone();
        let prefix = |route: &Value| matched(route)["path"]["value"].as_str().unwrap().to_owned();
        // The longest path goes first.
        routes.sort_by_key(|route| std::cmp::Reverse(prefix(route).len()));
        let takes = |route: &&Value| {
            let prefix = prefix(route);
            let rest = self.asked.path.strip_prefix(prefix.trim_end_matches('/'));
            let by_path = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            by_path && (matched(route)["method"].is_null() || self.asked.method == "GET")
        };
        routes.into_iter().find(takes).map(Some).ok_or(())
    }

    fn verdict(&self, default: &str) -> Verdict {
        let Some(server) = self.of("Server").next() else {
            return if self.by_name(default) { Verdict::Forward } else { Verdict::Deny };
        };
        let Ok(route) = self.route() else { return Verdict::NoRoute };
        let access = server["spec"]["accessPolicy"].as_str().unwrap_or("deny");
        let allowed = self.by_name(access)
            || self.allowed_on("Server", &server["metadata"]["name"])
            || self.allowed_on("Namespace", &json!("shop"))
            || route.is_some_and(|route| self.allowed_on("HTTPRoute", &route["metadata"]["name"]))
            || self.allowed_by_legacy(server);
        if allowed { Verdict::Forward } else { Verdict::Deny }
    }
}

#[test]
fn generated_servers_decide_as_linkerd_documents_them() {
    let outcomes = [Cell::new(0), Cell::new(0)];
    try_all(|random| {
        let default = random.chance(70).then(|| random.pick(&POLICIES));
        let policies = policies(random);
        let text = text_of(&policies);
        let world = world(&[("base.yaml", &text_of(&base(default))), ("policies.yaml", &text)]);
        let mut different = Vec::new();
        for _ in 0..20 {
            let asked = asked(random);
            let query = Query {
                from: asked.from.to_owned(),
                to: "web.shop:80".to_owned(),
                method: Some(asked.method.to_owned()),
                path: Some(asked.path.to_owned()),
                source_ip: Some(asked.source.parse().unwrap()),
                ..Query::default()
            };
            let answer = world.explain(&query).unwrap();
            let opinion = Opinion { objects: &policies, asked: &asked };
            let expected = opinion.verdict(default.unwrap_or("all-unauthenticated"));
            let outcome = &outcomes[usize::from(expected == Verdict::Forward)];
            outcome.set(outcome.get() + 1);
            if answer.verdict != expected {
                different.push(format!(
                    "{query:?}\ndefault {default:?}\n{text}\n{:?}, not {expected:?}: {}",
                    answer.verdict, answer.reason
                ));
            }
        }
        different
    });
    let [denied, allowed] = outcomes.map(Cell::into_inner);
    assert!(denied > 100 && allowed > 100, "{denied} {allowed}");
}
