//! Objects in, resources and reports out: each folder of `testdata` is a case.
//!
//! `in.yaml` has the objects. Comment lines `# ask <kind> <name>` at its top say which resources are printed into
//! `out.txt`, after everything there is to say about the objects. `UPDATE_GOLDEN=1` writes `out.txt` anew.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod print;

use std::fmt::Write;
use std::path::Path;

use heddle_api::{Reader, Resource};
use heddle_ident::{Host, NetworkName, WorkloadId};
use heddle_ir::endpoint::EndpointSetKey;
use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::resource::ResourceName;
use heddle_translate::workloads::Allocation;
use heddle_translate::{Change, Options, Profile, Translator};

/// What a case prints.
fn run(input: &str) -> String {
    let mut out = String::new();
    let mut options = Options::default();
    if input.contains("# profile istio-sidecar\n") {
        options.profile = Profile::IstioSidecar;
    }
    let expansion = input.contains("# expand\n");
    let loaded = Reader::default().read_file("in.yaml", input.as_bytes());
    for finding in &loaded.diagnostics {
        writeln!(out, "read: {}", print::finding(finding)).unwrap();
    }
    let mut objects = loaded.resources;
    if expansion {
        // Of the Pods that are made here nobody could say where their annotations are written.
        for object in objects.iter().filter(|object| matches!(object, Resource::Pod(_))) {
            for finding in heddle_translate::workloads::report(object).findings {
                if finding.code == heddle_translate::codes::ANNOTATION {
                    writeln!(out, "{}", print::finding(&finding)).unwrap();
                }
            }
        }
        objects = heddle_translate::workloads::expand(objects, Allocation::default(), true).objects;
    }
    let mut translator = Translator::new(options);
    translator.apply(objects.into_iter().map(Change::Upsert));
    for finding in &translator.findings() {
        writeln!(out, "{}", print::finding(finding)).unwrap();
    }
    for record in translator.outcomes() {
        if record.outcome != heddle_diag::Outcome::Applied {
            writeln!(out, "outcome: {}", print::outcome(&record)).unwrap();
        }
    }
    for line in input.lines().filter_map(|line| line.strip_prefix("# ask ")) {
        writeln!(out, "\n== {line}").unwrap();
        // What a gateway workload would listen on, of a namespace and labels: `gateway-for NAMESPACE KEY=VALUE…`.
        if let Some(rest) = line.strip_prefix("gateway-for ") {
            let mut words = rest.split_whitespace();
            let namespace = words.next().unwrap();
            let labels = words.map(|pair| pair.split_once('=').unwrap());
            let labels = labels.map(|(key, value)| (key.into(), value.into())).collect();
            out.push_str(&print::gateway(&translator.gateway_for(namespace, &labels)));
            continue;
        }
        match translator.resource(&name(line)) {
            Some(resource) => out.push_str(&print::resource(&resource)),
            None => out.push_str("none\n"),
        }
    }
    out
}

fn name(line: &str) -> ResourceName {
    let words: Vec<&str> = line.split_whitespace().collect();
    let workload = |name: &str| WorkloadId::new(format!("standalone/Pod/{name}"));
    match words.as_slice() {
        ["outbound", scope, host, port] => ResourceName::Outbound(OutboundKey {
            scope: ScopeId((*scope).into()),
            host: (*host).into(),
            port: port.parse().unwrap(),
        }),
        ["endpoints", host, port] => ResourceName::Endpoints(EndpointSetKey {
            host: Host::parse(host).unwrap(),
            port: port.parse().unwrap(),
        }),
        ["index", scope] => ResourceName::Index(ScopeId((*scope).into())),
        ["inbound", name] => ResourceName::Inbound(workload(name)),
        ["gateway", name] => ResourceName::Gateway(workload(name)),
        ["proxy", name] => ResourceName::Proxy(workload(name)),
        ["workload", address] => {
            ResourceName::Workload(NetworkName::new(""), address.parse().unwrap())
        }
        _ => panic!("cannot ask for {line:?}"),
    }
}

#[test]
fn every_case_gives_what_was_agreed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<_> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut different = Vec::new();
    for case in cases {
        let input = std::fs::read_to_string(case.join("in.yaml")).unwrap();
        let output = run(&input);
        let path = case.join("out.txt");
        if update {
            std::fs::write(&path, &output).unwrap();
            continue;
        }
        let agreed = std::fs::read_to_string(&path).unwrap_or_default();
        if agreed != output {
            different.push(format!("{}:\n{}", case.display(), print::difference(&agreed, &output)));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
