//! Requests of the Gateway API's conformance suite (`conformance-cases.json`), every row of HTTPRoutes and GRPCRoutes.

use std::collections::BTreeMap;

use heddle_explain::{Answer, Query, Verdict, World};
use serde_json::Value;

use super::conformance_world::{INFRA, of_manifests};
use super::shared::data;

/// Rows that say nothing that could be checked or do not come out as the suite's: test, row, why. Changed by hand only.
const DIFFERENT: &[(&str, usize, &str)] = &[
    (
        "BackendTLSPolicyGRPCRoute",
        2,
        "the row names no outcome: the call fails, as the policy's authority is not there",
    ),
    (
        "GatewayFrontendInvalidDefaultClientCertificateValidation",
        1,
        "the row names no outcome: nothing is served where no authority vouches for clients",
    ),
];

/// Rows of tests whose gateway the file does not name, or whose listener is not the first: test, row, gateway, port.
const ELSEWHERE: &[(&str, usize, &str, u16)] = &[
    ("HTTPRouteMultipleGateways", 1, "same-namespace", 80),
    ("GatewayFrontendClientCertificateValidation", 2, "client-validation-default", 8443),
    ("GatewayFrontendClientCertificateValidation", 3, "client-validation-default", 8443),
    (
        "GatewayFrontendInvalidDefaultClientCertificateValidation",
        0,
        "invalid-default-client-validation-config",
        80,
    ),
];

/// The rows of a test; where one stands for a table, the table's.
fn rows(test: &Value) -> Vec<Value> {
    let rows = test["requests"].as_array().unwrap().clone();
    if test["test"] != "HTTPRouteHTTPSListener" {
        return rows;
    }
    let table = test["tables"][0]["rows"].as_array().unwrap().iter();
    table
        .map(|case| {
            let mut row = rows[0].clone();
            row["backend"] = case["backend"].clone();
            row["request"]["host"] = case["host"].clone();
            row["response"]["statusCode"] = case["statusCode"].clone();
            row
        })
        .collect()
}

/// Whether the row is of HTTP or gRPC; others are of streams and datagrams.
fn is_http(row: &Value) -> bool {
    row["request"].is_object() || grpc_method(row).is_some()
}

fn grpc_method(row: &Value) -> Option<&'static str> {
    let known = [("echoRequest", "Echo"), ("echoTwoRequest", "EchoTwo")];
    let mut known = known.into_iter().chain([("echoThreeRequest", "EchoThree")]);
    known.find(|(field, _)| row[field].is_object()).map(|(_, method)| method)
}

fn question(gateway: &str, port: u16, row: &Value) -> Query {
    let mut query = Query { from: format!("gateway:{gateway}"), ..Query::default() };
    let mut host = "anything.example".to_owned();
    if let Some(method) = grpc_method(row) {
        query.protocol = Some("grpc".to_owned());
        query.path =
            Some(format!("/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/{method}"));
        let metadata = &row["requestMetadata"];
        if let Some(authority) = metadata["authority"].as_str() {
            authority.clone_into(&mut host);
        }
        query.headers = pairs(&metadata["metadata"]);
    } else {
        let request = &row["request"];
        let text = |field: &str| request[field].as_str().map(str::to_owned);
        query.method = Some(text("method").unwrap_or_else(|| "GET".to_owned()));
        query.path = text("path");
        host = text("host").unwrap_or(host);
        query.headers = pairs(&request["headers"]);
        if request["protocol"] == "H2C_PRIOR_KNOWLEDGE" {
            query.protocol = Some("http2".to_owned());
        }
    }
    query.to = if host.contains(':') { host } else { format!("{host}:{port}") };
    query
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// What an answer has otherwise than a row; none where it agrees.
fn difference(row: &Value, answer: &Answer) -> Option<String> {
    let response = &row["response"];
    if let Some(redirect) = row["redirectRequest"].as_object() {
        let status = response["statusCode"].as_u64();
        if answer.status.map(u64::from) != status {
            return Some(format!("status {:?} for {status:?}", answer.status));
        }
        return location(redirect, answer.location.as_deref()?);
    }
    if let Some(code) = response["code"].as_str().filter(|code| *code != "OK") {
        let wanted = match code {
            "Unimplemented" => 12,
            "Unavailable" => 14,
            other => panic!("{other}"),
        };
        return (answer.grpc_status != Some(wanted))
            .then(|| format!("gRPC status {:?} for {code}", answer.grpc_status));
    }
    let mut statuses: Vec<u64> = response["statusCodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    statuses.push(response["statusCode"].as_u64().unwrap_or(200));
    if statuses == [504] {
        // The delay is the backend's; known is when it would be too long.
        return (answer.timeout_ms != Some(500)).then(|| format!("{:?}", answer.timeout_ms));
    }
    let reached = matches!(answer.verdict, Verdict::Forward | Verdict::Depends);
    let status = answer.status.map_or(if reached { 200 } else { 0 }, u64::from);
    if !statuses.contains(&status) {
        return Some(format!("{:?} {status} for {statuses:?}", answer.verdict));
    }
    response_headers(row, answer).or_else(|| if reached { forwarded(row, answer) } else { None })
}

/// Compares the parts of a location that a row names.
fn location(wanted: &serde_json::Map<String, Value>, location: &str) -> Option<String> {
    let (scheme, rest) = location.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let parts = [("scheme", scheme), ("host", host), ("port", port)];
    let path = format!("/{path}");
    let mut parts = parts.into_iter().chain([("path", &*path)]);
    // A row without port wants none.
    let wrong = parts.find(|(part, is)| match wanted.get(*part).and_then(Value::as_str) {
        Some(wanted) => wanted != *is,
        None => *part == "port" && !is.is_empty(),
    });
    wrong.map(|(part, is)| format!("{part} is {is} in {location}"))
}

fn response_headers(row: &Value, answer: &Answer) -> Option<String> {
    let response = &row["response"];
    let header = |name: &str| {
        let name = name.to_ascii_lowercase();
        let found = answer.response_headers.iter().rev().find(|(own, _)| *own == name);
        found.and_then(|(_, value)| value.clone())
    };
    let plain = |text: &str| text.replace(' ', "");
    for (name, value) in pairs(&response["headers"]) {
        if header(&name).as_deref() != Some(&*value) {
            return Some(format!("{name}: {:?} for {value}", header(&name)));
        }
    }
    for (name, values) in response["validHeaderValues"].as_object().into_iter().flatten() {
        let values = values.as_array().unwrap();
        let is = header(name).map(|value| plain(&value));
        if !values.iter().any(|value| value.as_str().map(plain) == is) {
            return Some(format!("{name}: {is:?} for {values:?}"));
        }
    }
    let absent = response["absentHeaders"].as_array().into_iter().flatten();
    let mut absent = absent.filter_map(Value::as_str);
    absent.find(|name| header(name).is_some()).map(|name| format!("{name} is there"))
}

fn forwarded(row: &Value, answer: &Answer) -> Option<String> {
    let served: Vec<_> = answer.destinations.iter().filter(|one| one.weight > 0).collect();
    if served.is_empty() {
        return Some("no destination".to_owned());
    }
    if let Some(backend) = row["backend"].as_str() {
        let wanted = format!("{}/{backend}", row["namespace"].as_str().unwrap());
        let workloads = served.iter().flat_map(|one| &one.workloads);
        if !workloads.clone().all(|one| one.starts_with(&wanted)) || workloads.count() == 0 {
            return Some(format!("workloads of {wanted}"));
        }
    }
    for mirror in row["mirroredTo"].as_array().into_iter().flatten() {
        let backend = &mirror["backendRef"];
        let wanted = format!(
            "{}/{}",
            backend["namespace"].as_str().unwrap(),
            backend["name"].as_str().unwrap()
        );
        if !answer.mirrors.iter().any(|mirror| mirror.service == wanted) {
            return Some(format!("no mirror {wanted}"));
        }
    }
    let request = &served[0].request;
    let expected = &row["expectedRequest"];
    if let Some(path) = expected["path"].as_str().filter(|path| !path.is_empty())
        && path != request.path
    {
        return Some(format!("path {} for {path}", request.path));
    }
    let header = |name: &str| {
        let name = name.to_ascii_lowercase();
        let values = request.headers.iter().filter(|(own, _)| *own == name);
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(",")
    };
    for (name, value) in pairs(&expected["headers"]) {
        if header(&name) != value {
            return Some(format!("{name}: {} for {value}", header(&name)));
        }
    }
    let absent = expected["absentHeaders"].as_array().into_iter().flatten();
    let mut absent = absent.filter_map(Value::as_str);
    absent.find(|name| !header(name).is_empty()).map(|name| format!("{name} is there"))
}

fn ask(world: &World, test: &Value, index: usize, row: &Value) -> Result<Answer, String> {
    let name = test["test"].as_str().unwrap();
    let elsewhere = ELSEWHERE.iter().find(|(test, row, ..)| *test == name && *row == index);
    let (gateway, port) = if let Some((_, _, gateway, port)) = elsewhere {
        (format!("{INFRA}/{gateway}"), *port)
    } else {
        let https = name == "HTTPRouteHTTPSListener" || name.contains("ClientCertificate");
        (test["gateway"].as_str().unwrap().to_owned(), if https { 443 } else { 80 })
    };
    world.explain(&question(&gateway, port, row)).map_err(|error| error.to_string())
}

#[test]
fn every_row_of_http_and_grpc_comes_out_as_the_suites() {
    let Some(path) = data("gateway-api/conformance-cases.json") else { return };
    let folder = path.parent().unwrap().to_owned();
    let cases: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let (mut different, mut rows_seen, mut others) = (Vec::new(), 0, 0);
    for test in cases["tests"].as_array().unwrap() {
        let name = test["test"].as_str().unwrap();
        let manifests = test["manifests"].as_array().unwrap();
        let manifests: Vec<&str> = manifests.iter().filter_map(Value::as_str).collect();
        let rows = rows(test);
        let mut world: BTreeMap<bool, World> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            if !is_http(row) {
                others += 1;
                continue;
            }
            rows_seen += 1;
            // The second row of this test is sent after its grant has been taken away.
            let granted = !(name == "HTTPRouteReferenceGrant" && index == 1);
            let world =
                world.entry(granted).or_insert_with(|| of_manifests(&folder, &manifests, granted));
            let found = match ask(world, test, index, row) {
                Ok(answer) => {
                    difference(row, &answer).map(|why| format!("{why}; because {}", answer.reason))
                }
                Err(error) => Some(error),
            };
            let known = DIFFERENT.iter().any(|(test, at, _)| *test == name && *at == index);
            if found.is_some() != known {
                different.push(format!("{name} {index}: {found:?}\n    {row}"));
            }
        }
    }
    assert!(different.is_empty(), "{} of {rows_seen}:\n{}", different.len(), different.join("\n"));
    assert_eq!((rows_seen, others), (114, 4));
}
