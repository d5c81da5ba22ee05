//! Whatever stands in a file: it is read, translated and reported on without a panic, and twice the same.

use std::path::{Path, PathBuf};

use heddle_api::{Reader, Resource};
use heddle_translate::workloads::{Allocation, expand};
use heddle_translate::{Change, Options, Translator};

use crate::shared::data;

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

fn lines(objects: Vec<Resource>) -> Vec<String> {
    let mut translator = Translator::new(Options::default());
    let objects = expand(objects, Allocation::default(), true).objects;
    translator.apply(objects.into_iter().map(Change::Upsert));
    let findings = translator.findings();
    let findings =
        findings.iter().map(|finding| format!("{}: {}", finding.origin, finding.message));
    let outcomes = translator.outcomes();
    let outcomes = outcomes.iter().map(|record| format!("{}: {:?}", record.origin, record.outcome));
    findings.chain(outcomes).collect()
}

#[test]
fn every_file_of_the_corpus_is_taken() {
    let mut found = Vec::new();
    for folder in ["corpus", "istio/samples", "istio/pkg/config", "istio/authz-rendered"] {
        let Some(folder) = data(folder) else { return };
        files(&folder, &mut found);
    }
    assert!(found.len() > 100);
    for path in found {
        let bytes = std::fs::read(&path).unwrap();
        let read = || Reader::default().read_file(&path.display().to_string(), &bytes).resources;
        assert_eq!(lines(read()), lines(read()), "{}", path.display());
    }
}
