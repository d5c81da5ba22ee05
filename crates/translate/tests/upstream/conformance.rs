//! What the Gateway API's conformance suite asserts of statuses (`conformance-cases.json`).

use std::path::Path;

use heddle_api::Reader;
use heddle_diag::JsonWriter;
use heddle_translate::workloads::{Allocation, expand};
use heddle_translate::{Change, ObjectKey, Options, Translator};
use serde_json::Value;

use crate::shared::data;

const GROUP: &str = "gateway.networking.k8s.io";

/// Kinds that have a status.
const KINDS: [&str; 8] = [
    "HTTPRoute",
    "GRPCRoute",
    "TLSRoute",
    "TCPRoute",
    "UDPRoute",
    "Gateway",
    "ListenerSet",
    "BackendTLSPolicy",
];

/// Assertions that do not hold, by test and number among its assertions, and why. Changed by hand only.
const DIFFERENT: &[(&str, usize, &str)] = &[
    (
        "GatewayModifyListeners",
        3,
        "asserted after a listener has been added by the suite's program",
    ),
    ("GatewayNameMaximumLength", 0, "the name is an expression of the suite's program"),
    (
        "GatewayStaticAddresses",
        3,
        "asserted after the suite's program has put in addresses of its own",
    ),
    (
        "GatewayStaticAddresses",
        4,
        "asserted after the suite's program has put in addresses of its own",
    ),
    (
        "GatewayStaticAddresses",
        6,
        "asserted after the suite's program has put in addresses of its own",
    ),
    (
        "GatewayStaticAddresses",
        7,
        "asserted after the suite's program has put in addresses of its own",
    ),
    ("TCPRouteMultipleRoutesAttachment", 3, "the second route is made by the suite's program"),
    ("TCPRouteMultipleRoutesAttachment", 4, "the second route is made by the suite's program"),
    ("TCPRouteReferenceGrant", 2, "asserted after the grant has been taken away"),
];

/// What the case file could not resolve: the test, the number of the assertion, the arguments that are meant, and which
/// of the test's tables stands for the second.
type Meant = (&'static str, usize, &'static [(usize, &'static str)], Option<usize>);

/// The first object of a test stands for all of a loop, and the first table for all.
const MEANT: &[Meant] = &[
    ("GatewayFrontendInvalidDefaultClientCertificateValidation", 3, &[(1, "https")], Some(1)),
    (
        "GatewayListenerUnsupportedProtocol",
        4,
        &[(0, "gateway-conformance-infra/gateway-supported-and-unsupported-protocols")],
        None,
    ),
    (
        "GatewayListenerUnsupportedProtocol",
        5,
        &[(0, "gateway-conformance-infra/gateway-supported-and-unsupported-protocols")],
        None,
    ),
    (
        "GatewayInvalidRouteKind",
        1,
        &[(0, "gateway-conformance-infra/gateway-supported-and-invalid-route-kind")],
        Some(1),
    ),
    (
        "GatewayModifyListeners",
        8,
        &[(0, "gateway-conformance-infra/gateway-remove-listener")],
        Some(0),
    ),
    (
        "GatewayWithAttachedRoutesWithPort8080",
        1,
        &[(0, "gateway-conformance-infra/gateway-with-two-attached-routes")],
        Some(1),
    ),
    (
        "GatewayWithAttachedRoutesWithPort8080",
        2,
        &[(1, "gateway-conformance-infra/gateway-with-two-attached-routes")],
        None,
    ),
    (
        "GatewayWithAttachedRoutesWithPort8080",
        3,
        &[(0, "gateway-conformance-infra/unresolved-gateway-with-one-attached-unresolved-route")],
        Some(2),
    ),
    (
        "GatewayWithAttachedRoutesWithPort8080",
        4,
        &[(1, "gateway-conformance-infra/unresolved-gateway-with-one-attached-unresolved-route")],
        None,
    ),
];

/// The ListenerSets that the assertions of `ListenerSetHostnameConflict` mean, from their numbers on.
const SETS: &[(usize, &str)] = &[
    (17, "gateway-conformance-infra/listenerset-with-hostname-conflict-with-listener-set-2"),
    (13, "gateway-conformance-infra/listenerset-with-hostname-conflict-with-listener-set-1"),
    (10, "gateway-conformance-infra/listenerset-with-hostname-conflict-with-gateway-2"),
];

/// The arguments of an assertion as they are meant; several where it stands in a loop.
fn meant(test: &Value, index: usize, args: &[Value]) -> Vec<Vec<Value>> {
    let name = test["test"].as_str().unwrap();
    let tables = &test["tables"];
    let mut args = args.to_vec();
    if let Some((.., replaced, table)) = MEANT.iter().find(|one| one.0 == name && one.1 == index) {
        for (position, text) in *replaced {
            args[*position] = Value::from(*text);
        }
        if let Some(table) = table {
            let position = if args[1].is_string() { 2 } else { 1 };
            args[position] = tables[table]["rows"].clone();
        }
    }
    let rows = || tables[0]["rows"].as_array().unwrap().iter();
    match name {
        "ListenerSetHostnameConflict" => {
            if let Some((_, set)) = SETS.iter().find(|(from, _)| index >= *from) {
                args[0] = Value::from(*set);
            }
            vec![args]
        }
        "BackendTLSPolicyInvalidCACertificateRef" if index >= 2 => {
            rows().map(|row| [vec![row.clone()], args.clone()].concat()).collect()
        }
        "GatewayInvalidTLSBackendConfiguration" => {
            let of_row = |row: &Value| {
                let mut args = [vec![row["gatewayNamespacedName"].clone()], args.clone()].concat();
                if index == 1 {
                    args[1]["reason"] = row["resolveRefsReason"].clone();
                }
                args
            };
            rows().map(of_row).collect()
        }
        "GatewayFrontendClientCertificateValidation" if args.len() == 1 => {
            let routes = [
                "gateway-conformance-infra/client-certificate-validation-https-test",
                "gateway-conformance-infra/client-certificate-validation-https-test-no-hostname",
            ];
            routes.map(|route| vec![Value::from(route), args[0].clone()]).into()
        }
        // The first argument is the parent, of which an assertion before it makes a reference.
        _ if args.first().is_some_and(Value::is_object) && args.len() > 1 => {
            let mut assertions = test["assertions"].as_array().unwrap().iter();
            let parent = assertions.find(|one| one["assert"] == "NewResourceRef").unwrap();
            args[0] = parent["args"][1].clone();
            vec![args]
        }
        _ => vec![args],
    }
}

/// Names of assertions that are not about a status: what waits, what reads Secrets, what sends.
const ELSEWHERE: &[&str] = &[
    "GetConfigMapData",
    "GetTLSSecret",
    "NamespacesMustBeReady",
    "NewResourceRef",
    "WaitForGatewayAddress",
    "tcp.EchoSendOnce",
    "tls.MakeTLSRequestAndExpectEventuallyConsistentResponse",
    "udp.ExpectEchoResponse",
    "weight.NewFunctionBasedSender",
    "weight.TestWeightedDistribution",
];

/// Secrets and ConfigMaps that the suite's program makes: certificates as far as anybody looks at them here.
fn made() -> String {
    let block = |label: &str| {
        format!("|\n    -----BEGIN {label}-----\n    MAMCAQE=\n    -----END {label}-----\n")
    };
    let mut yaml = String::new();
    for (namespace, name) in [
        ("gateway-conformance-infra", "tls-validity-checks-certificate"),
        ("gateway-conformance-infra", "tls-validity-checks-client-certificate"),
        ("gateway-conformance-infra", "tls-passthrough-checks-certificate"),
        ("gateway-conformance-infra", "tls-terminate-checks-certificate"),
        ("gateway-conformance-infra", "tls-checks-certificate"),
        ("gateway-conformance-web-backend", "certificate"),
    ] {
        yaml.push_str(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: kubernetes.io/tls\n\
             stringData:\n  tls.crt: {}  tls.key: {}---\n",
            block("CERTIFICATE"),
            block("PRIVATE KEY")
        ));
    }
    for name in [
        "tls-checks-ca-certificate",
        "tls-validity-checks-ca-certificate",
        "tls-validity-checks-per-port-ca-certificate",
        "mismatch-ca-certificate",
    ] {
        yaml.push_str(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: gateway-conformance-infra}}\n\
             data:\n  ca.crt: {}---\n",
            block("CERTIFICATE")
        ));
    }
    yaml
}

/// A mesh with the suite's base and a manifest.
pub(crate) fn translated(folder: &Path, manifests: &[&str]) -> Translator {
    let mut objects = Reader::default().read_file("made.yaml", made().as_bytes()).resources;
    for path in ["conformance/base/manifests.yaml"].iter().chain(manifests) {
        let text = std::fs::read_to_string(folder.join(path)).unwrap();
        let text = text.replace("{GATEWAY_CLASS_NAME}", "heddle");
        objects.extend(Reader::default().read_file(path, text.as_bytes()).resources);
    }
    let mut translator = Translator::new(Options::default());
    let objects = expand(objects, Allocation::default(), true).objects;
    translator.apply(objects.into_iter().map(Change::Upsert));
    translator
}

/// The status of an object in its own form, null where it has none.
pub(crate) fn status(translator: &Translator, kind: &str, name: &str) -> Value {
    let Some((namespace, name)) = name.split_once('/') else { return Value::Null };
    let key = ObjectKey::new(GROUP, kind, namespace, name);
    let Some(status) = translator.status(&key).and_then(|status| status.gateway_api) else {
        return Value::Null;
    };
    let mut json = JsonWriter::new();
    status.write_json(1, "2026-01-01T00:00:00Z", &mut json);
    serde_json::from_str(&json.finish()).unwrap()
}

/// Whether a list of conditions has one like the wanted; an empty reason stands for any.
fn has(conditions: &Value, wanted: &Value) -> bool {
    let plain = |field: &str| {
        let text = wanted[field].as_str().unwrap_or_default();
        let text = text.rsplit("Condition").next().unwrap_or(text);
        text.rsplit("SetReason").next().unwrap_or(text).to_owned()
    };
    let (kind, reason) = (plain("type"), plain("reason"));
    conditions.as_array().into_iter().flatten().any(|condition| {
        condition["type"] == *kind
            && condition["status"] == wanted["status"]
            && (reason.is_empty() || condition["reason"] == *reason)
    })
}

fn all(conditions: &Value, wanted: &Value) -> bool {
    if wanted["$call"] == "generateAcceptedListenerConditions" {
        let accepted = ["Accepted", "Programmed", "ResolvedRefs"];
        let accepted = accepted.map(|kind| serde_json::json!({"type": kind, "status": "True"}));
        let free = serde_json::json!({"type": "Conflicted", "status": "False"});
        return accepted.iter().all(|one| has(conditions, one)) && has(conditions, &free);
    }
    wanted.as_array().into_iter().flatten().all(|one| has(conditions, one))
}

/// The conditions that a route has for a parent of that name; for every parent where none is named.
fn of_parent<'a>(status: &'a Value, parent: Option<&str>) -> Vec<&'a Value> {
    let name = parent.map(|parent| parent.rsplit('/').next().unwrap_or(parent));
    let parents = status["parents"].as_array().into_iter().flatten();
    let parents = parents.filter(|one| name.is_none_or(|name| one["parentRef"]["name"] == *name));
    parents.map(|one| &one["conditions"]).collect()
}

fn listener<'a>(status: &'a Value, name: &Value) -> &'a Value {
    let mut listeners = status["listeners"].as_array().into_iter().flatten();
    listeners.find(|listener| listener["name"] == *name).unwrap_or(&Value::Null)
}

fn listeners(status: &Value, wanted: &Value) -> bool {
    wanted.as_array().into_iter().flatten().all(|wanted| {
        let is = listener(status, &wanted["name"]);
        let kinds = |value: &Value| {
            let kind = |one: &Value| match one["kind"].as_str() {
                Some(kind) => kind.to_owned(),
                None => one["kind"]["args"][0].as_str().unwrap_or_default().to_owned(),
            };
            value.as_array().into_iter().flatten().map(kind).collect::<Vec<_>>()
        };
        let (own, of_suite) = (kinds(&is["supportedKinds"]), kinds(&wanted["supportedKinds"]));
        // The suite lists what it wants at least, except where it wants none.
        let kinds = if of_suite.is_empty() && wanted["supportedKinds"].is_array() {
            own.is_empty()
        } else {
            of_suite.iter().all(|kind| own.contains(kind))
        };
        kinds
            && is["attachedRoutes"] == wanted["attachedRoutes"]
            && all(&is["conditions"], &wanted["conditions"])
    })
}

/// The text of an argument, or of its first item: some name a listener beside the Gateway.
fn text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value[0].as_str())
}

/// Whether an assertion holds; none where it does not say of what.
fn holds(translator: &Translator, name: &str, args: &[Value]) -> Option<bool> {
    let accepted = serde_json::json!({"type": "Accepted", "status": "True"});
    let resolved = serde_json::json!({"type": "ResolvedRefs", "status": "True"});
    let (kind, rest) = name.split_once("Must")?;
    let object = args.first().and_then(text)?;
    let of = |kind: &str| status(translator, kind, object);
    let every = |conditions: &[&Value], wanted: &Value| {
        !conditions.is_empty() && conditions.iter().all(|one| has(one, wanted))
    };
    Some(match (kind, rest) {
        (kind, "HaveCondition") if kind.ends_with("Route") => {
            let (parent, wanted) = (text(args.get(1)?)?, args.get(2)?);
            every(&of_parent(&of(kind), Some(parent)), wanted)
        }
        ("HTTPRoute", "HaveResolvedRefsConditionsTrue") => {
            every(&of_parent(&of(kind), Some(text(args.get(1)?)?)), &resolved)
        }
        (kind, "HaveNoAcceptedParents") => {
            !of_parent(&of(kind), None).iter().any(|one| has(one, &accepted))
        }
        ("BackendTLSPolicy", "HaveCondition") => {
            let ancestors = of(kind)["ancestors"].as_array().cloned().unwrap_or_default();
            let wanted = args.get(2)?;
            !ancestors.is_empty() && ancestors.iter().all(|one| has(&one["conditions"], wanted))
        }
        ("Gateway" | "ListenerSet", "HaveCondition") => has(&of(kind)["conditions"], args.get(1)?),
        ("Gateway", "HaveLatestConditions") => of(kind)["conditions"].is_array(),
        ("GatewayStatus" | "ListenerSetStatus", "HaveListeners") => {
            listeners(&of(kind.trim_end_matches("Status")), args.get(1)?)
        }
        ("GatewayListener", "HaveConditions") => {
            all(&listener(&of("Gateway"), args.get(1)?)["conditions"], args.get(2)?)
        }
        ("GatewayListeners", "HaveConditions") => {
            all(&listener(&of("Gateway"), args.get(2)?)["conditions"], args.get(1)?)
        }
        ("ListenerSetListeners", "HaveConditions") => {
            all(&listener(&of("ListenerSet"), args.get(2)?)["conditions"], args.get(1)?)
        }
        ("Gateway", "HaveZeroRoutes") => {
            let status = of("Gateway");
            let mut listeners = status["listeners"].as_array()?.iter();
            listeners.all(|listener| listener["attachedRoutes"] == 0)
        }
        ("Gateway", "HaveAttachedListeners") => {
            of("Gateway")["attachedListenerSets"] == *args.get(1)?
        }
        (_, "BeAccepted") => {
            let routes = args.iter().skip(1);
            let routes =
                routes.flat_map(|one| one.as_array().cloned().unwrap_or(vec![one.clone()]));
            let routes: Vec<Value> = routes.filter(Value::is_string).collect();
            let status_of = |route: &Value| {
                let found = KINDS.map(|kind| status(translator, kind, route.as_str().unwrap()));
                found.into_iter().find(|status| !status.is_null()).unwrap_or_default()
            };
            !routes.is_empty()
                && routes
                    .iter()
                    .all(|route| every(&of_parent(&status_of(route), Some(object)), &accepted))
        }
        (_, "HaveParents") => every(&of_parent(&of("HTTPRoute"), None), &accepted),
        _ => return None,
    })
}

#[test]
fn statuses_say_what_the_suite_asserts() {
    let Some(path) = data("gateway-api/conformance-cases.json") else { return };
    let folder = path.parent().unwrap().to_owned();
    let cases: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let (mut different, mut seen, mut open) = (Vec::new(), 0, Vec::new());
    for test in cases["tests"].as_array().unwrap() {
        let name = test["test"].as_str().unwrap();
        let manifests = test["manifests"].as_array().unwrap();
        let manifests: Vec<&str> = manifests.iter().filter_map(Value::as_str).collect();
        let mut manifests = manifests;
        if name == "GatewayWithAttachedRoutesWithPort8080" {
            manifests.push("conformance/tests/gateway-with-attached-routes.yaml");
        }
        let translator = translated(&folder, &manifests);
        for (index, assertion) in test["assertions"].as_array().unwrap().iter().enumerate() {
            let kind = assertion["assert"].as_str().unwrap();
            if ELSEWHERE.contains(&kind) {
                continue;
            }
            for args in meant(test, index, assertion["args"].as_array().unwrap()) {
                let Some(holds) = holds(&translator, kind, &args) else {
                    open.push(format!("{name} {index} {kind}"));
                    continue;
                };
                seen += 1;
                let known = DIFFERENT.iter().any(|(test, at, _)| *test == name && *at == index);
                if holds == known {
                    let object = args.first().and_then(text).unwrap_or_default();
                    let statuses = KINDS.map(|kind| status(&translator, kind, object));
                    let is = statuses.into_iter().find(|status| !status.is_null());
                    let is = is.unwrap_or_default();
                    different.push(format!("{name} {index} {kind} {args:?}\n    {is}"));
                }
            }
        }
    }
    assert!(
        different.is_empty(),
        "{} of {seen}:\n{}\nopen: {open:#?}",
        different.len(),
        different.join("\n")
    );
    assert_eq!((seen, open.len()), (200, 0), "{open:#?}");
}

/// What a status says of what a line asks for, in the line's words.
fn told(status: &Value, part: Option<&str>, wanted: &[&str]) -> Vec<String> {
    let place = match part.and_then(|part| part.split_at_checked(1)) {
        Some(("@", name)) => listener(status, &Value::from(name)).clone(),
        Some((_, name)) => Value::from_iter([(
            "conditions",
            of_parent(status, Some(name)).first().map_or(Value::Null, |one| (*one).clone()),
        )]),
        None if status["parents"].is_array() => {
            Value::from_iter([("conditions", status["parents"][0]["conditions"].clone())])
        }
        None if status["ancestors"].is_array() => status["ancestors"][0].clone(),
        None => status.clone(),
    };
    let word = |wanted: &&str| {
        let (kind, value) = wanted.split_once('=').unwrap_or((*wanted, ""));
        match kind {
            "attached" => format!("attached={}", place["attachedRoutes"]),
            "sets" => format!("sets={}", place["attachedListenerSets"]),
            "kinds" => {
                let kinds = place["supportedKinds"].as_array().into_iter().flatten();
                let kinds: Vec<&str> = kinds.filter_map(|kind| kind["kind"].as_str()).collect();
                format!("kinds={}", kinds.join(","))
            }
            _ => {
                let mut conditions = place["conditions"].as_array().into_iter().flatten();
                let Some(condition) = conditions.find(|one| one["type"] == kind) else {
                    return "none".to_owned();
                };
                let (status, reason) = (&condition["status"], &condition["reason"]);
                let reason = if value.contains('/') { format!("/{reason}") } else { String::new() };
                format!("{kind}={status}{reason}").replace('"', "")
            }
        }
    };
    wanted.iter().map(word).collect()
}

#[test]
fn manifests_have_the_statuses_of_the_specification() {
    let Some(folder) = data("gateway-api") else { return };
    let lines = include_str!("conformance_statuses.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut manifest, mut translator, mut different) = ("", None, Vec::new());
    for line in lines {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            manifest = name;
            translator = Some(translated(&folder, &[&format!("conformance/tests/{name}.yaml")]));
            continue;
        }
        let (object, wanted) = line.split_once(" ->").unwrap();
        let mut words = object.split(' ');
        let (kind, name) = (words.next().unwrap(), words.next().unwrap());
        let name = if name.contains('/') {
            name.to_owned()
        } else {
            format!("gateway-conformance-infra/{name}")
        };
        let wanted: Vec<&str> = wanted.split_whitespace().collect();
        let status = status(translator.as_ref().unwrap(), kind, &name);
        let told = told(&status, words.next(), &wanted);
        if told != wanted {
            different.push(format!("[{manifest}] {line}\n    {told:?}"));
        }
    }
    assert!(different.is_empty(), "{}:\n{}", different.len(), different.join("\n"));
}
