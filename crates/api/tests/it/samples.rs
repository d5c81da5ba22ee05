use std::path::{Path, PathBuf};

use heddle_api::Reader;
use heddle_diag::{Level, render_text};

/// The folder of test data; none where it is absent, which is said.
fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("HEDDLE_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let data = root.join("data");
    if data.is_dir() {
        return Some(data);
    }
    println!("skipped: {} is absent", data.display());
    None
}

fn yaml_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json")
        {
            files.push(path);
        }
    }
    files.sort();
}

/// Every finding of at least this level, rendered.
fn findings(folder: &Path, level: Level) -> String {
    let mut files = Vec::new();
    yaml_files(folder, &mut files);
    let mut out = String::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let path = file.strip_prefix(folder).unwrap().display().to_string();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let loaded = Reader::default().read_file(&path, &bytes);
        for finding in loaded.diagnostics.iter().filter(|finding| finding.level >= level) {
            out.push_str(&render_text(finding, |_| Some(&text)));
        }
    }
    out
}

#[test]
fn istio_samples_have_no_error() {
    let Some(data) = shared() else { return };
    println!("{}", findings(&data.join("istio/samples"), Level::Error));
    println!("{}", findings(&data.join("corpus"), Level::Error));
}
