//! Tests against the data of the peers, read when it is beside the checkout.

#![expect(clippy::unwrap_used, reason = "a test may stop where its data is not what it should be")]

mod cilium_crds;
mod crds;
mod gateway_crds;
mod samples;
mod validation;

use std::path::{Path, PathBuf};

/// The folder of test data; none where it is absent, which is said.
fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("HEDDLE_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let data = root.join("data").join(folder);
    if data.exists() {
        return Some(data);
    }
    eprintln!("skipped: {} is absent", data.display());
    None
}

/// Every file of these kinds below a folder, in a stable order.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| extensions.contains(&&*e.to_string_lossy()))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
