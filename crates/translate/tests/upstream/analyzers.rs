//! What istioctl's analysers find in their own test files.

use std::collections::BTreeMap;

use heddle_api::Reader;
use heddle_diag::Code;
use heddle_translate::workloads::{Allocation, expand};
use heddle_translate::{Change, Options, Translator, codes};
use serde_json::Value;

use crate::shared::data;

/// The analysers that this crate has counterparts of, and the codes of their findings.
const ANALYZERS: &[(&str, &[&Code])] = &[
    ("destinationrule.CaCertificateAnalyzer", &[codes::NO_CA, codes::NO_CA_OF_PORT]),
    ("destinationrule.PodNotSelectedAnalyzer", &[codes::EMPTY_SUBSET, codes::UNKNOWN_RULE_HOST]),
    ("service.PortNameAnalyzer", &[codes::PORT_NAME]),
    ("serviceentry.ProtocolAddressesAnalyzer", &[codes::ADDRESSES_REQUIRED]),
    ("virtualservice.ConflictingMeshGatewayHostsAnalyzer", &[codes::SHADOWED]),
    (
        "virtualservice.DestinationHostAnalyzer",
        &[codes::UNKNOWN_HOST, codes::PORT_REQUIRED, codes::UNKNOWN_PORT],
    ),
    ("virtualservice.DestinationRuleAnalyzer", &[codes::UNKNOWN_SUBSET]),
    ("gateway.CertificateAnalyzer", &[codes::SAME_CERTIFICATE]),
    ("gateway.ConflictingGatewayAnalyzer", &[codes::GATEWAY_CONFLICT]),
    ("gateway.IngressGatewayPortAnalyzer", &[codes::GATEWAY_PORT]),
    ("gateway.SecretAnalyzer", &[codes::NO_SECRET, codes::SECRET_CONTENT]),
    ("serviceentry.ConflictingServiceEntryProtocolAnalyzer", &[codes::CONFLICTING_HOST]),
    (
        "sidecar.SelectorAnalyzer",
        &[
            codes::SIDECARS_OF_NAMESPACE,
            codes::SIDECARS_OF_WORKLOAD,
            codes::SIDECAR_SELECTS_NOTHING,
        ],
    ),
    (
        "virtualservice.GatewayAnalyzer",
        &[codes::UNKNOWN_GATEWAY, codes::GATEWAY_HOST, codes::INTERNAL_GATEWAY],
    ),
    (
        "schemaValidation.CollectionValidationAnalyzer",
        &[codes::UNREACHABLE_RULE, codes::INEFFECTIVE_MATCH],
    ),
];

/// Where heddle differs: case, code, object, how many it finds there, and why.
const DIFFERENT: &[(&str, &str, &str, usize, &str)] = &[
    (
        "destinationrule with credentialname, simple at portlevel, no workloadSelector",
        "IST0129",
        "db-tls",
        0,
        "the Secret is read for every rule, not only for one with a workload selector",
    ),
    (
        "gatewayBadPort",
        "IST0162",
        "httpbin-gateway",
        0,
        "no workload is selected: a mesh on one machine makes a gateway that listens on any port",
    ),
    (
        "virtualServiceConflictingMeshGatewayHostsWithExportTo",
        "IST0109",
        "productpage-c",
        1,
        "the nearer object decides, which is what the exports say",
    ),
    (
        "virtualServiceConflictingMeshGatewayHostsWithExportTo",
        "IST0109",
        "productpage-d",
        0,
        "the nearer object decides, which is what the exports say",
    ),
    (
        "virtualServiceDestinationHosts",
        "IST0101",
        "hello-export-to-bogus",
        0,
        "namespaces need not be among the files",
    ),
    (
        "virtualServiceDestinationHosts",
        "IST0101",
        "reviews-bogushost",
        1,
        "the missing destination is found when the file is read",
    ),
    (
        "virtualServiceDestinationHosts",
        "IST0101",
        "reviews-bookinfo-eu",
        1,
        "a ServiceEntry without ports leads nowhere",
    ),
    (
        "virtualServiceDestinationHosts",
        "IST0101",
        "reviews-bookinfo-eu-wildcard",
        1,
        "a ServiceEntry without ports leads nowhere",
    ),
    (
        "virtualServiceDestinationHosts",
        "IST0101",
        "reviews-external",
        1,
        "a ServiceEntry without ports leads nowhere",
    ),
    (
        "virtualServiceDestinationHosts",
        "IST0101",
        "vs-to-extporto-serviceentry",
        1,
        "a ServiceEntry without ports leads nowhere",
    ),
    (
        "virtualServiceDestinationRules",
        "IST0101",
        "reviews-bogussubset",
        0,
        "the files have no service, which is what is found instead",
    ),
    (
        "virtualServiceDestinationRules",
        "IST0101",
        "reviews-mirror-bogussubset",
        0,
        "the files have no service, which is what is found instead",
    ),
    (
        "dupmatches",
        "IST0130",
        "overlapping-in-two-matches",
        1,
        "a rule of which no match takes anything is never reached, whatever the reason",
    ),
    ("dupmatches", "IST0131", "uri-with-prefix-exact", 1, "a prefix takes exact paths too"),
    (
        "host defined in virtualservice not found in the gateway",
        "IST0132",
        "testing-service-03-test-04",
        2,
        "a finding for each host",
    ),
    (
        "host defined in virtualservice not found in the gateway(beta version)",
        "IST0132",
        "testing-service-03-test-04",
        2,
        "a finding for each host",
    ),
];

type Findings = BTreeMap<(String, String), usize>;

fn found(files: &[&str], codes: &[&Code]) -> Option<Findings> {
    let mut objects = Vec::new();
    for file in files {
        let path = data(&format!("istio/{file}"))?;
        let loaded = Reader::default().read_file(file, &std::fs::read(path).unwrap());
        objects.extend(loaded.resources);
    }
    let mut translator = Translator::new(Options::default());
    let objects = expand(objects, Allocation::default(), true).objects;
    translator.apply(objects.into_iter().map(Change::Upsert));
    let mut findings = Findings::new();
    for finding in &translator.findings() {
        let upstream = finding.code.upstream.first().filter(|_| codes.contains(&finding.code));
        if let Some(code) = upstream {
            *findings.entry(((*code).to_owned(), finding.origin.name.to_string())).or_default() +=
                1;
        }
    }
    Some(findings)
}

#[test]
fn what_istioctl_finds_is_found() {
    let Some(path) = data("istio/analyzer-expectations.json") else { return };
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut different = Vec::new();
    let mut seen = 0;
    for case in all["cases"].as_array().unwrap() {
        let analyzer = case["analyzer"].as_str().unwrap();
        let Some((_, codes)) = ANALYZERS.iter().find(|(known, _)| *known == analyzer) else {
            continue;
        };
        let name = case["name"].as_str().unwrap();
        let mut expected = Findings::new();
        for finding in case["expected"].as_array().unwrap() {
            let code = finding["code"].as_str().unwrap();
            if codes.iter().any(|known| known.upstream.contains(&code)) {
                let name = finding["name"].as_str().unwrap();
                *expected.entry((code.to_owned(), name.to_owned())).or_default() += 1;
            }
        }
        let files: Vec<&str> =
            case["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
        let Some(found) = found(&files, codes) else { continue };
        seen += 1;
        for (_, code, object, count, _) in DIFFERENT.iter().filter(|(case, ..)| *case == name) {
            let key = ((*code).to_owned(), (*object).to_owned());
            expected.remove(&key);
            if *count > 0 {
                expected.insert(key, *count);
            }
        }
        if found != expected {
            different
                .push(format!("{name} {files:?}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(seen > 10, "{seen}");
    assert!(different.is_empty(), "{} of {seen}:\n{}", different.len(), different.join("\n"));
}
