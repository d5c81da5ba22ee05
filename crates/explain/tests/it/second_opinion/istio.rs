//! AuthorizationPolicy (API.md 3.3).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_explain::{Head, Query, TokenVerdict, Tokens, Verdict};
use heddle_ir::authentication::JwtRule;
use heddle_ir::request::{ClaimValue, RequestHead, TokenFacts};
use serde_json::{Value, json};

use super::{Random, is_within, text_of, texts, try_all};
use crate::shared::world;

const BASE: &str = r#"
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns1"}}
---
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns2"}}
---
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "ns1"},
 "spec": {"selector": {"app": "b"}, "ports": [{"name": "http", "port": 80, "targetPort": 18080},
  {"name": "grpc", "port": 70, "targetPort": 17070}, {"name": "tcp", "port": 90, "targetPort": 19090}]}}
---
{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "b", "namespace": "ns1"},
 "spec": {"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b", "tier": "back"}},
  "spec": {"serviceAccountName": "b", "containers": [{"name": "c", "command": ["x"]}]}}}}
---
{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "ns1"},
 "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}},
  "spec": {"serviceAccountName": "a", "containers": [{"name": "c", "command": ["x"]}]}}}}
---
{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "ns2"},
 "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}},
  "spec": {"serviceAccountName": "a", "containers": [{"name": "c", "command": ["x"]}]}}}}
---
{"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": {"name": "tokens", "namespace": "ns1"},
 "spec": {"jwtRules": [{"issuer": "https://issuer.example/a", "jwks": "{\"keys\":[]}", "forwardOriginalToken": true}]}}
"#;

/// Tokens by their names; whoever asks is believed.
struct Named;

fn token(name: &str) -> TokenFacts {
    let text = |text: &str| ClaimValue::Text(text.to_owned());
    let mut claims = BTreeMap::from([
        ("role".to_owned(), text("admin")),
        ("groups".to_owned(), ClaimValue::List(vec![text("dev"), text("ops")])),
        ("age".to_owned(), ClaimValue::Number("7".to_owned())),
        ("deep".to_owned(), ClaimValue::Map(BTreeMap::from([("er".to_owned(), text("yes"))]))),
    ]);
    let issuer = "https://issuer.example/a".to_owned();
    if name == "full" {
        return TokenFacts {
            issuer,
            subject: "alice".to_owned(),
            audiences: vec!["shop".to_owned(), "bank".to_owned()],
            presenter: Some("front".to_owned()),
            claims,
        };
    }
    claims.insert("role".to_owned(), text(""));
    claims.remove("deep");
    TokenFacts { issuer, subject: "bob".to_owned(), claims, ..TokenFacts::default() }
}

impl Tokens for Named {
    fn verify(&self, _: &[Arc<JwtRule>], head: &Head) -> TokenVerdict {
        let name = head
            .header("authorization")
            .map(|value| String::from_utf8(value.into_owned()).unwrap());
        let facts = name.and_then(|name| Some(token(name.strip_prefix("Bearer ")?)));
        TokenVerdict::Accepted { facts, edits: Vec::new(), depends_on: Vec::new() }
    }
}

/// Somebody asks.
struct Asked {
    from: &'static str,
    protocol: &'static str,
    method: &'static str,
    path: &'static str,
    authority: &'static str,
    source: &'static str,
    header: Option<&'static str>,
    token: Option<&'static str>,
}

impl Asked {
    fn is_http(&self) -> bool {
        self.protocol != "tcp"
    }

    fn port(&self) -> &'static str {
        match self.protocol {
            "tcp" => "19090",
            "grpc" => "17070",
            _ => "18080",
        }
    }

    fn identity(&self) -> Option<(&'static str, &'static str)> {
        self.from.split_once('/')
    }

    fn query(&self) -> Query {
        let service = match self.protocol {
            "tcp" => 90,
            "grpc" => 70,
            _ => 80,
        };
        let mut query = Query {
            from: self.from.to_owned(),
            to: format!("b.ns1:{service}"),
            protocol: Some(self.protocol.to_owned()),
            source_ip: Some(self.source.parse().unwrap()),
            ..Query::default()
        };
        if self.is_http() {
            query.method = Some(self.method.to_owned());
            query.path = Some(self.path.to_owned());
            query.authority = Some(self.authority.to_owned());
            query.headers.extend(self.header.map(|value| ("x-token".to_owned(), value.to_owned())));
            query.jwt = self.token.map(str::to_owned);
        }
        query
    }
}

const PATHS: [&str; 9] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c",
    "/admin/x.html",
    "/a?b=/admin",
    "/pkg.Svc/Get",
    "/info/y/edit",
];

fn asked(random: &mut Random) -> Asked {
    let protocol = random.pick(&["http1", "http1", "http2", "grpc", "tcp"]);
    let is_grpc = protocol == "grpc";
    let header = random.pick(&[None, Some("abc"), Some("xbc"), Some("")]);
    Asked {
        from: random.pick(&["ns1/a", "ns2/a", "outside"]),
        protocol,
        method: if is_grpc { "POST" } else { random.pick(&["GET", "PUT", "POST"]) },
        path: if is_grpc { "/pkg.Svc/Get" } else { random.pick(&PATHS) },
        authority: random.pick(&["b.ns1", "B.NS1", "shop.example.com", "example.com"]),
        source: random.pick(&["203.0.113.7", "198.51.100.9"]),
        header,
        token: random.pick(&[None, Some("full"), Some("bare")]),
    }
}

// ── the policies ──

const PRINCIPALS: [&str; 8] = [
    "cluster.local/ns/ns1/sa/a",
    "cluster.local/ns/ns2/sa/a",
    "cluster.local/ns/ns1/*",
    "*/sa/a",
    "*",
    "other.example/ns/ns1/sa/a",
    "cluster.local/*",
    "spiffe://cluster.local/ns/ns1/sa/a",
];
const NAMESPACES: [&str; 6] = ["ns1", "ns2", "ns*", "*1", "n*2", "*"];
const ACCOUNTS: [&str; 4] = ["ns1/a", "ns2/a", "a", "ns1/b"];
const DOMAINS: [&str; 4] = ["cluster.local", "other.example", "cluster*", "*"];
const REQUEST_PRINCIPALS: [&str; 7] = [
    "https://issuer.example/a/alice",
    "*",
    "https://issuer.example/a/*",
    "*/alice",
    "*/bob",
    "https://issuer.example/*",
    "https://issuer.example/b/alice",
];
const BLOCKS: [&str; 5] =
    ["203.0.113.0/24", "203.0.113.7", "198.51.100.0/25", "0.0.0.0/0", "192.0.2.1"];
const HOSTS: [&str; 7] =
    ["b.ns1", "B.ns1", "*.example.com", "example.com", "*.Example.COM", "b*", "*"];
const PORTS: [&str; 4] = ["18080", "19090", "17070", "80"];
const METHODS: [&str; 4] = ["GET", "P*", "*T", "*"];
const PATTERNS: [&str; 12] = [
    "/a",
    "/a/*",
    "*.html",
    "*",
    "/admin*",
    "/A",
    "/a/{*}",
    "/a/{**}",
    "/info/{*}/edit",
    "/{**}",
    "/pkg.Svc/*",
    "/{*}/b",
];

fn pair(random: &mut Random, object: &mut Value, field: &str, values: &[&str]) {
    let mut capital = field.to_owned();
    capital[..1].make_ascii_uppercase();
    match random.below(12) {
        0..=6 => object[field] = random.some(values, 2),
        7..=9 => object[format!("not{capital}")] = random.some(values, 2),
        _ => {
            object[field] = random.some(values, 2);
            object[format!("not{capital}")] = random.some(values, 2);
        }
    }
}

fn source(random: &mut Random) -> Value {
    let mut source = json!({});
    for _ in 0..=random.below(2) {
        match random.below(7) {
            0 if source.get("serviceAccounts").is_none()
                && source.get("notServiceAccounts").is_none() =>
            {
                pair(random, &mut source, "principals", &PRINCIPALS);
            }
            1 if source.get("serviceAccounts").is_none()
                && source.get("notServiceAccounts").is_none() =>
            {
                pair(random, &mut source, "namespaces", &NAMESPACES);
            }
            2 if ["principals", "notPrincipals", "namespaces", "notNamespaces"]
                .iter()
                .all(|field| source.get(field).is_none()) =>
            {
                pair(random, &mut source, "serviceAccounts", &ACCOUNTS);
            }
            3 => pair(random, &mut source, "trustDomains", &DOMAINS),
            4 => pair(random, &mut source, "requestPrincipals", &REQUEST_PRINCIPALS),
            5 => pair(random, &mut source, "remoteIpBlocks", &BLOCKS),
            _ => pair(random, &mut source, "ipBlocks", &BLOCKS),
        }
    }
    source
}

fn operation(random: &mut Random) -> Value {
    let mut operation = json!({});
    for _ in 0..=random.below(2) {
        match random.below(4) {
            0 => pair(random, &mut operation, "hosts", &HOSTS),
            1 => pair(random, &mut operation, "ports", &PORTS),
            2 => pair(random, &mut operation, "methods", &METHODS),
            _ => pair(random, &mut operation, "paths", &PATTERNS),
        }
    }
    operation
}

const KEYS: [(&str, &[&str]); 18] = [
    ("request.headers[x-token]", &["abc", "*bc", "a*", "*"]),
    ("request.headers[X-Token]", &["abc", "*"]),
    ("request.headers[:authority]", &["b.ns1", "example.com"]),
    ("request.headers[:path]", &["/a", "/a?b*", "*", "*/admin"]),
    ("source.ip", &BLOCKS),
    ("remote.ip", &BLOCKS),
    ("source.namespace", &NAMESPACES),
    ("source.principal", &PRINCIPALS),
    ("source.serviceAccount", &ACCOUNTS),
    ("source.trustDomain", &DOMAINS),
    ("request.auth.principal", &REQUEST_PRINCIPALS),
    ("request.auth.audiences", &["shop", "b*", "none", "*"]),
    ("request.auth.presenter", &["front", "*nt", "other", "*"]),
    ("request.auth.claims[groups]", &["dev", "o*", "none", "*"]),
    ("request.auth.claims[role]", &["admin", "*", "a*"]),
    ("request.auth.claims[deep][er]", &["yes", "no", "*"]),
    ("request.auth.claims[age]", &["7", "*"]),
    ("destination.port", &PORTS),
];

fn condition(random: &mut Random) -> Value {
    let (key, values) = random.pick(&KEYS);
    let mut condition = json!({"key": key});
    match random.below(4) {
        0 => condition["notValues"] = random.some(values, 2),
        1 => {
            condition["values"] = random.some(values, 2);
            condition["notValues"] = random.some(values, 2);
        }
        _ => condition["values"] = random.some(values, 2),
    }
    condition
}

fn rule(random: &mut Random) -> Value {
    let mut rule = json!({});
    if random.chance(50) {
        let list: Value =
            (0..=random.below(2)).map(|_| json!({"source": source(random)})).collect();
        rule["from"] = list;
    }
    if random.chance(50) {
        let list: Value =
            (0..=random.below(2)).map(|_| json!({"operation": operation(random)})).collect();
        rule["to"] = list;
    }
    if random.chance(40) {
        let list: Value = (0..=random.below(2)).map(|_| condition(random)).collect();
        rule["when"] = list;
    }
    rule
}

fn policy(random: &mut Random, place: usize) -> Value {
    let action = random.pick(&["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"]);
    let namespace = random.pick(&["ns1", "ns1", "istio-system", "ns2"]);
    let mut spec = json!({"action": action});
    if action == "ALLOW" && random.chance(30) {
        spec.as_object_mut().unwrap().remove("action");
    }
    match random.below(6) {
        0 => spec["selector"] = json!({"matchLabels": {"app": "b"}}),
        1 => spec["selector"] = json!({"matchLabels": {"app": "b", "tier": "back"}}),
        2 => spec["selector"] = json!({"matchLabels": {"app": "a"}}),
        _ => {}
    }
    let count = if action == "ALLOW" { random.below(4) } else { 1 + random.below(2) };
    if count > 0 {
        let rules: Value = (0..count).map(|_| rule(random)).collect();
        spec["rules"] = rules;
    }
    let mut metadata = json!({"name": format!("p{place}"), "namespace": namespace});
    if action != "AUDIT" && random.chance(10) {
        metadata["annotations"] = json!({"istio.io/dry-run": "true"});
    }
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec})
}

// ── the second opinion ──

fn text_holds(value: &str, text: &str) -> bool {
    if value == "*" {
        return !text.is_empty();
    }
    if let Some(suffix) = value.strip_prefix('*') {
        return text.ends_with(suffix);
    }
    if let Some(prefix) = value.strip_suffix('*') {
        return text.starts_with(prefix);
    }
    value == text
}

/// A glob within a namespace.
fn glob_holds(value: &str, text: &str) -> bool {
    match value.split_once('*') {
        None => value == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

fn template_holds(template: &str, path: &str) -> bool {
    fn go(template: &[&str], path: &[&str]) -> bool {
        match template {
            [] => path.is_empty(),
            // Any text at all, if only there is a slash before it.
            ["{**}"] => !path.is_empty(),
            ["{*}", rest @ ..] => {
                path.split_first().is_some_and(|(first, more)| !first.is_empty() && go(rest, more))
            }
            [literal, rest @ ..] => {
                path.split_first().is_some_and(|(first, more)| first == literal && go(rest, more))
            }
        }
    }
    let template: Vec<&str> = template.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    go(&template, &path)
}

/// What of a request is looked at: several values where any one is enough.
fn request_principals(value: &str, facts: &TokenFacts) -> bool {
    let (issuer, subject) = (&facts.issuer, &facts.subject);
    if issuer.is_empty() || subject.is_empty() {
        return false;
    }
    match value.rsplit_once('/') {
        None => value == "*" || text_holds(value, &format!("{issuer}/{subject}")),
        Some((own_issuer, own_subject)) => {
            text_holds(own_issuer, issuer) && text_holds(own_subject, subject)
        }
    }
}

/// Whether one value of a field matches; the fields have the names of `from` and `to`.
fn value_holds(field: &str, value: &str, asked: &Asked, namespace: &str) -> bool {
    let identity = asked.identity();
    match field {
        "principals" => identity
            .is_some_and(|(ns, sa)| text_holds(value, &format!("cluster.local/ns/{ns}/sa/{sa}"))),
        "namespaces" => identity.is_some_and(|(ns, _)| glob_holds(value, ns)),
        "serviceAccounts" => identity.is_some_and(|(ns, sa)| match value.split_once('/') {
            Some(own) => own == (ns, sa),
            None => (namespace, value) == (ns, sa),
        }),
        "trustDomains" => identity.is_some() && text_holds(value, "cluster.local"),
        "ipBlocks" | "remoteIpBlocks" => is_within(value, asked.source),
        "requestPrincipals" => {
            asked.token.is_some_and(|name| request_principals(value, &token(name)))
        }
        "hosts" => text_holds(&value.to_lowercase(), &asked.authority.to_lowercase()),
        "ports" => value == asked.port(),
        "methods" => text_holds(value, asked.method),
        "paths" => {
            let path = asked.path.split('?').next().unwrap();
            if value.contains('{') { template_holds(value, path) } else { text_holds(value, path) }
        }
        other => panic!("{other}"),
    }
}

fn is_http_field(field: &str) -> bool {
    matches!(field, "hosts" | "methods" | "paths" | "requestPrincipals" | "remoteIpBlocks")
}

fn base_of(field: &str) -> (String, bool) {
    match field.strip_prefix("not") {
        Some(rest) => {
            let mut base = rest.to_owned();
            base[..1].make_ascii_lowercase();
            (base, true)
        }
        None => (field.to_owned(), false),
    }
}

fn fields_hold(object: &Value, asked: &Asked, namespace: &str) -> bool {
    object.as_object().unwrap().iter().all(|(field, values)| {
        let (base, negate) = base_of(field);
        if is_http_field(&base) && !asked.is_http() {
            return true;
        }
        texts(values).any(|value| value_holds(&base, value, asked, namespace)) != negate
    })
}

fn condition_value_holds(key: &str, value: &str, asked: &Asked, namespace: &str) -> bool {
    let facts = asked.token.map(token);
    match key {
        "request.headers[x-token]" | "request.headers[X-Token]" => {
            asked.header.is_some_and(|own| text_holds(value, own))
        }
        "request.headers[:authority]" => value_holds("hosts", value, asked, namespace),
        "request.headers[:path]" => text_holds(value, asked.path),
        "source.ip" => value_holds("ipBlocks", value, asked, namespace),
        "remote.ip" => value_holds("remoteIpBlocks", value, asked, namespace),
        "source.namespace" => value_holds("namespaces", value, asked, namespace),
        "source.principal" => value_holds("principals", value, asked, namespace),
        "source.serviceAccount" => value_holds("serviceAccounts", value, asked, namespace),
        "source.trustDomain" => value_holds("trustDomains", value, asked, namespace),
        "destination.port" => value_holds("ports", value, asked, namespace),
        "request.auth.principal" => value_holds("requestPrincipals", value, asked, namespace),
        "request.auth.audiences" => {
            facts.is_some_and(|facts| facts.audiences.iter().any(|own| text_holds(value, own)))
        }
        "request.auth.presenter" => {
            facts.is_some_and(|facts| facts.presenter.is_some_and(|own| text_holds(value, &own)))
        }
        claim => {
            let path = claim.strip_prefix("request.auth.claims").unwrap();
            let mut names = path.trim_matches(['[', ']']).split("][");
            let Some(facts) = facts else { return false };
            let mut found = facts.claims.get(names.next().unwrap());
            for name in names {
                found = match found {
                    Some(ClaimValue::Map(inside)) => inside.get(name),
                    _ => None,
                };
            }
            let is =
                |own: &ClaimValue| matches!(own, ClaimValue::Text(own) if text_holds(value, own));
            match found {
                Some(ClaimValue::List(list)) => list.iter().any(is),
                Some(one) => is(one),
                None => false,
            }
        }
    }
}

fn rule_holds(rule: &Value, action: &str, asked: &Asked, namespace: &str) -> bool {
    let alternatives = |clause: &str, inner: &str| -> Vec<Value> {
        let list = rule[clause].as_array().cloned().unwrap_or_default();
        list.into_iter().map(|entry| entry[inner].clone()).collect()
    };
    let (sources, operations) = (alternatives("from", "source"), alternatives("to", "operation"));
    let conditions = rule["when"].as_array().cloned().unwrap_or_default();
    let is_http_key = |key: &str| key.starts_with("request.") || key == "remote.ip";
    if !asked.is_http() && action == "ALLOW" {
        let in_fields = sources.iter().chain(&operations).any(|object| {
            object.as_object().unwrap().keys().any(|field| is_http_field(&base_of(field).0))
        });
        let in_keys = conditions.iter().any(|own| is_http_key(own["key"].as_str().unwrap()));
        if in_fields || in_keys {
            return false;
        }
    }
    let any = |list: &[Value]| {
        list.is_empty() || list.iter().any(|object| fields_hold(object, asked, namespace))
    };
    let when = conditions.iter().all(|own| {
        let key = own["key"].as_str().unwrap();
        if is_http_key(key) && !asked.is_http() {
            return true;
        }
        let matches = |field: &str| {
            texts(&own[field]).any(|value| condition_value_holds(key, value, asked, namespace))
        };
        (own["values"].is_null() || matches("values"))
            && (own["notValues"].is_null() || !matches("notValues"))
    });
    any(&sources) && any(&operations) && when
}

/// Whether somebody may, and by which policy not.
fn may(policies: &[Value], asked: &Asked) -> Result<(), String> {
    let labels = BTreeMap::from([("app", "b"), ("tier", "back")]);
    let counts = |policy: &&Value| {
        let namespace = policy["metadata"]["namespace"].as_str().unwrap();
        let selector = policy["spec"]["selector"]["matchLabels"].as_object();
        let selected = selector
            .into_iter()
            .flatten()
            .all(|(key, value)| labels.get(key.as_str()).is_some_and(|own| value == own));
        let on_trial = policy["metadata"]["annotations"]["istio.io/dry-run"] == "true";
        matches!(namespace, "ns1" | "istio-system") && selected && !on_trial
    };
    let of = |action: &'static str| {
        let is =
            move |policy: &&Value| policy["spec"]["action"].as_str().unwrap_or("ALLOW") == action;
        policies.iter().filter(counts).filter(is).collect::<Vec<_>>()
    };
    let holds = |policy: &Value, action: &str| {
        let namespace = policy["metadata"]["namespace"].as_str().unwrap();
        let rules = policy["spec"]["rules"].as_array().into_iter().flatten();
        rules.into_iter().any(|rule| rule_holds(rule, action, asked, namespace))
    };
    if let Some(policy) = of("DENY").into_iter().find(|policy| holds(policy, "DENY")) {
        return Err(format!("DENY {}", policy["metadata"]["name"]));
    }
    let allowing = of("ALLOW");
    if allowing.is_empty() || allowing.iter().any(|policy| holds(policy, "ALLOW")) {
        return Ok(());
    }
    Err("no ALLOW".to_owned())
}

#[test]
fn generated_authorization_policies_decide_as_istio_documents_them() {
    let outcomes = [Cell::new(0), Cell::new(0)];
    try_all(|random| {
        let policies: Vec<Value> =
            (0..=random.below(4)).map(|place| policy(random, place)).collect();
        let text = text_of(&policies);
        let world =
            world(&[("base.yaml", BASE), ("policies.yaml", &text)]).with_tokens(Box::new(Named));
        let mut different = Vec::new();
        for _ in 0..25 {
            let asked = asked(random);
            let query = asked.query();
            let answer = world.explain(&query).unwrap();
            let expected = may(&policies, &asked);
            let outcome = &outcomes[usize::from(expected.is_ok())];
            outcome.set(outcome.get() + 1);
            let agree = match &expected {
                Ok(()) => answer.verdict == Verdict::Forward,
                Err(_) => answer.verdict == Verdict::Deny,
            };
            if !agree {
                let verdict = answer.verdict.as_str();
                different.push(format!(
                    "{query:?}\n{text}\n{verdict}, not {expected:?}: {}",
                    answer.reason
                ));
            }
        }
        different
    });
    // Neither is so rare that nothing is shown.
    let [denied, allowed] = outcomes.map(Cell::into_inner);
    assert!(denied > 100 && allowed > 100, "{denied} {allowed}");
}
