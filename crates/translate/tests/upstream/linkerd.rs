//! Samples of Linkerd, its website, emojivoto and SMI: every object is read, what an API server takes is taken, and about
//! every object of theirs something is said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use heddle_api::Reader;
use heddle_diag::{Dialect, Level};
use heddle_translate::workloads::{Allocation, expand};
use heddle_translate::{Change, Options, Translator};
use serde_json::Value;

use crate::shared::data;

/// Objects that an API server and heddle differ about: folder, file, object, and why.
const DIFFERENT: &[(&str, &str, &str, &str)] = &[
    (
        "linkerd-website",
        "adding-non-kubernetes-workloads.yaml",
        "ExternalWorkload external-workload",
        "its address is a placeholder, which the schema takes and nobody can connect to",
    ),
    (
        "linkerd-website",
        "adding-non-kubernetes-workloads.yaml",
        "Pod client",
        "its service account was not in the server's namespace",
    ),
    (
        "linkerd-website",
        "using-ingress.yaml",
        "Ingress emojivoto-ingress",
        "an Ingress is recognised and not decoded",
    ),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            found.push(path);
        }
    }
}

#[test]
fn what_an_api_server_takes_is_taken() {
    let mut different = Vec::new();
    for folder in ["linkerd-website", "emojivoto", "smi-spec"] {
        let Some(root) = data(folder) else { return };
        let text = std::fs::read_to_string(root.join("apiserver-acceptance.json")).unwrap();
        let accepted: Value = serde_json::from_str(&text).unwrap();
        let mut by_file: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for object in accepted["objects"].as_array().unwrap() {
            by_file.entry(object["file"].as_str().unwrap()).or_default().push(object);
        }
        for (file, objects) in by_file {
            let bytes = std::fs::read(root.join(file)).unwrap();
            let loaded = Reader::default().read_file(file, &bytes);
            let errors: BTreeSet<(String, String)> = loaded
                .diagnostics
                .iter()
                .filter(|finding| finding.level == Level::Error)
                .map(|finding| (finding.origin.kind.to_string(), finding.origin.name.to_string()))
                .collect();
            let read: Vec<(String, String)> = loaded
                .resources
                .iter()
                .map(|object| (object.origin().kind.to_string(), object.origin().name.to_string()))
                .collect();
            for object in objects {
                let kind = object["kind"].as_str().unwrap_or_default().to_owned();
                let name = object["name"].as_str().unwrap_or_default().to_owned();
                let key = (kind, name);
                let known = heddle_api::kinds::all().any(|known| known.kind == key.0);
                let result = object["result"].as_str().unwrap();
                let lost = !read.contains(&key);
                let wrong = match result {
                    "accept" => lost || errors.contains(&key),
                    "reject" => known && !lost && !errors.contains(&key),
                    // The kind is not installed there; here it is read where it is known.
                    _ => lost,
                };
                let object = format!("{} {}", key.0, key.1);
                let listed = DIFFERENT.iter().any(|(in_folder, in_file, named, _)| {
                    *in_folder == folder && file.ends_with(in_file) && *named == object
                });
                if wrong != listed {
                    different.push(format!("{folder}/{file}: {object}: {result}, lost {lost}"));
                }
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn nothing_of_linkerd_or_smi_is_passed_over_in_silence() {
    let mut silent = Vec::new();
    let mut objects_seen = 0;
    for folder in ["linkerd2", "linkerd-website", "emojivoto", "smi-spec", "smi-sdk-go"] {
        let Some(root) = data(folder) else { return };
        let mut found = Vec::new();
        files(&root, &mut found);
        for path in found {
            let name = path.display().to_string();
            let loaded = Reader::default().read_file(&name, &std::fs::read(&path).unwrap());
            let mut told: BTreeSet<(String, String)> = BTreeSet::new();
            let mut tell = |origin: &heddle_diag::Origin| {
                told.insert((origin.kind.to_string(), origin.name.to_string()));
            };
            loaded.diagnostics.iter().for_each(|finding| tell(&finding.origin));
            loaded.outcomes.iter().for_each(|record| tell(&record.origin));
            let objects = loaded.resources;
            let mut translator = Translator::new(Options::default());
            let expanded = expand(objects.clone(), Allocation::default(), true).objects;
            translator.apply(expanded.into_iter().map(Change::Upsert));
            translator.findings().iter().for_each(|finding| tell(&finding.origin));
            translator.outcomes().iter().for_each(|record| tell(&record.origin));
            for object in &objects {
                let origin = object.origin();
                if !matches!(origin.dialect, Dialect::Linkerd | Dialect::Smi | Dialect::Flagger) {
                    continue;
                }
                // Without fields there is nothing to be said.
                let (written, own) = (object.written(), ["apiVersion", "kind", "metadata"]);
                let keys =
                    written.tree().children(written.root()).filter_map(|at| written.tree().key(at));
                if keys.filter(|key| !own.contains(&&***key)).count() == 0 {
                    continue;
                }
                objects_seen += 1;
                let key = (origin.kind.to_string(), origin.name.to_string());
                if !told.contains(&key) {
                    silent.push(format!("{name}: {} {}", key.0, key.1));
                }
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    assert!(objects_seen > 70, "{objects_seen}");
}
