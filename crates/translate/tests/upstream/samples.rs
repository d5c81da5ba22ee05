//! Istio's samples translate without an error.

use std::path::Path;

use heddle_api::{Reader, Resource};
use heddle_diag::Level;
use heddle_translate::workloads::{Allocation, expand};
use heddle_translate::{Change, Options, Translator};

use crate::shared::data;

fn read(path: &Path) -> Vec<Resource> {
    let bytes = std::fs::read(path).unwrap();
    let loaded = Reader::default().read_file(&path.display().to_string(), &bytes);
    assert!(!loaded.diagnostics.has_errors(), "{}: {:?}", path.display(), loaded.diagnostics);
    loaded.resources
}

/// Errors that a sample has by its nature, as it is applied to an application that is not all there.
fn expected(file: &str, message: &str) -> bool {
    match file {
        // It is for an installation of cert-manager.
        "certmanager-gateway.yaml" => message.contains("cert-manager-resolver"),
        // These route to versions that other files of the sample add.
        "virtual-service-ratings-mysql.yaml"
        | "virtual-service-ratings-mysql-vm.yaml"
        | "virtual-service-ratings-db.yaml"
        | "virtual-service-details-v2.yaml"
        | "destination-rule-all.yaml"
        | "destination-rule-all-mtls.yaml" => message.contains("no workload of"),
        _ => false,
    }
}

#[test]
fn bookinfo_translates_without_an_error() {
    let Some(root) = data("istio/samples/bookinfo") else { return };
    let application = read(&root.join("platform/kube/bookinfo.yaml"));
    let mut files: Vec<_> = std::fs::read_dir(root.join("networking"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 15);
    let rules = read(&root.join("networking/destination-rule-all.yaml"));
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let mut objects = application.clone();
        objects.extend(rules.clone());
        objects.extend(read(&file));
        let mut translator = Translator::new(Options::default());
        let objects = expand(objects, Allocation::default(), true).objects;
        translator.apply(objects.into_iter().map(Change::Upsert));
        for finding in &translator.findings() {
            let is_error = finding.level == Level::Error;
            let in_rules = finding.origin.kind.as_ref() == "DestinationRule";
            assert!(
                !is_error
                    || expected(&name, &finding.message)
                    || (in_rules && finding.message.contains("no workload of")),
                "{name}: {}: {}",
                finding.origin,
                finding.message
            );
        }
    }
}
