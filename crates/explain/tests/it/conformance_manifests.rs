//! Requests at the manifests of the Gateway API's conformance suite for which its case file has no rows.

use std::collections::BTreeMap;

use heddle_explain::{Answer, Query, Verdict, World};

use super::conformance_world::{INFRA, of_manifests};
use super::shared::data;

const CASES: &str = include_str!("conformance_manifests.txt");
/// The namespace of the mesh's manifests.
const MESH: &str = "gateway-conformance-mesh";

fn question(manifest: &str, from: &str, line: &str) -> Query {
    let mut query = Query::default();
    let (mut from, mut namespace) = (from.to_owned(), INFRA);
    for word in line.split_whitespace() {
        if matches!(word, "grpc" | "tcp" | "tls") {
            query.protocol = Some(word.to_owned());
        } else if let Some(other) = word.strip_prefix("from=") {
            other.clone_into(&mut from);
        } else if let Some(method) = word.strip_prefix("method=") {
            query.method = Some(method.to_owned());
        } else if word.starts_with('/') {
            query.path = Some(word.to_owned());
        } else if query.to.is_empty() {
            word.clone_into(&mut query.to);
        } else {
            let (name, value) = word.split_once(':').unwrap();
            query.headers.push((name.to_owned(), value.to_owned()));
        }
    }
    let mesh = manifest.starts_with("mesh/");
    if mesh {
        namespace = MESH;
    }
    if !from.contains('/') {
        from = format!("{namespace}/{from}");
    }
    query.from = if mesh { from } else { format!("gateway:{from}") };
    if !query.to.contains(':') {
        query.to.push_str(":80");
    }
    query
}

/// The last part of `namespace/name`.
fn name(full: &str) -> &str {
    full.rsplit_once('/').map_or(full, |(_, name)| name)
}

/// What a request comes to, in the words of the case file: only those kinds of words that the line has.
fn told(answer: &Answer, wanted: &[&str]) -> Vec<String> {
    let mut words = Vec::new();
    let served: Vec<_> = answer.destinations.iter().filter(|one| one.weight > 0).collect();
    let reached = matches!(answer.verdict, Verdict::Forward | Verdict::Depends);
    let request = served.first().map(|one| &one.request);
    let header = |name: &str| {
        let values = request.into_iter().flat_map(|request| &request.headers);
        let values = values.filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let values: Vec<&str> = values.collect();
        (!values.is_empty()).then(|| values.join(","))
    };
    let response = |name: &str| {
        let mut changes = answer
            .response_headers
            .iter()
            .chain(served.first().into_iter().flat_map(|one| &one.response_headers));
        changes.rfind(|(own, _)| own == name).map(|(_, value)| value.clone())
    };
    let mut workloads: Vec<&str> =
        served.iter().flat_map(|one| &one.workloads).map(|one| name(one)).collect();
    workloads.dedup();
    for word in wanted {
        let is = if let Some(rest) = word.strip_prefix("resp.!!") {
            response(rest).map_or_else(|| (*word).to_owned(), |value| format!("{rest}:{value:?}"))
        } else if let Some(rest) = word.strip_prefix("resp.!") {
            if response(rest) == Some(None) { (*word).to_owned() } else { String::new() }
        } else if let Some(rest) = word.strip_prefix("resp.") {
            let name = rest.split_once(':').unwrap().0;
            format!("resp.{name}:{}", response(name).flatten().unwrap_or_default())
        } else if let Some(rest) = word.strip_prefix('!') {
            header(rest).map_or_else(|| (*word).to_owned(), |value| format!("{rest}:{value}"))
        } else if word.starts_with("grpc=") {
            format!("grpc={}", answer.grpc_status.unwrap_or_default())
        } else if word.starts_with("path=") {
            format!("path={}", request.map_or("", |request| &request.path))
        } else if word.starts_with("host=") {
            format!("host={}", request.map_or("", |request| &request.authority))
        } else if word.starts_with("timeout=") {
            format!("timeout={}", answer.timeout_ms.unwrap_or_default())
        } else if word.starts_with("try=") {
            let retries = answer.retries.as_ref();
            let per_try = retries.and_then(|retries| retries.per_try_timeout_ms);
            format!("try={}", per_try.unwrap_or_default())
        } else if word.starts_with("retry=") {
            format!("retry={}", answer.retries.as_ref().map_or(0, |retries| retries.attempts))
        } else if let Some(rest) = word.strip_prefix("mirror=") {
            let mirrors = answer.mirrors.iter();
            let mut mirrors = mirrors.map(|one| format!("{}*{}", name(&one.service), one.percent));
            mirrors.find(|one| one == rest).map_or(String::new(), |one| format!("mirror={one}"))
        } else if word.contains("://") {
            answer.location.clone().unwrap_or_default()
        } else if let Some((name, _)) = word.split_once(':') {
            format!("{name}:{}", header(name).unwrap_or_default())
        } else if word.parse::<u16>().is_ok() {
            format!("{}", answer.status.unwrap_or_default())
        } else if let Some((backend, _)) = word.split_once('*') {
            let mut found = served.iter().filter(|one| name(&one.service) == backend);
            found.next().map_or(String::new(), |one| format!("{backend}*{}", one.weight))
        } else {
            let is = workloads.contains(word) && reached;
            if is { (*word).to_owned() } else { format!("not {word}") }
        };
        words.push(is);
    }
    let named = wanted.iter().filter(|word| {
        let name = word.split('*').next().unwrap_or_default();
        workloads.contains(&name)
    });
    if reached && named.count() != workloads.len() {
        words.push(format!("workloads {workloads:?}"));
    }
    words
}

#[test]
fn manifests_mean_what_the_specification_says() {
    let Some(folder) = data("gateway-api") else { return };
    let mut worlds: BTreeMap<&str, World> = BTreeMap::new();
    let (mut manifest, mut from, mut rows, mut different) = ("", "", 0, Vec::new());
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((section, sender)) =
            line.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            (manifest, from) = (section, sender.trim());
            continue;
        }
        rows += 1;
        let world = worlds.entry(manifest).or_insert_with(|| {
            of_manifests(&folder, &[&format!("conformance/tests/{manifest}.yaml")], true)
        });
        let (asked, wanted) = line.split_once("->").unwrap();
        let wanted: Vec<&str> = wanted.split_whitespace().collect();
        let (told, why) = match world.explain(&question(manifest, from, asked)) {
            Ok(answer) => (told(&answer, &wanted), answer.reason),
            Err(error) => (Vec::new(), error.to_string()),
        };
        if told != wanted {
            different.push(format!("[{manifest}] {line}\n    {told:?}: {why}"));
        }
    }
    assert!(different.is_empty(), "{} of {rows}:\n{}", different.len(), different.join("\n"));
    assert!(rows > 200, "{rows}");
}
