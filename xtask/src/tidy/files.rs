//! Sizes of files, their first lines, and words that must not stand in them.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Findings;

/// Lines of production code in a file; tests do not count.
const LINES_MAX: usize = 600;
/// Files that are longer, each for its reason. The list may only shrink.
const LONG_FILES: [(&str, &str); 0] = [];

pub(super) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    let mut files = Vec::new();
    for folder in ["crates", "fuzz", "xtask"] {
        collect(&root.join(folder), &mut files)?;
    }
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        check_file(&name, &std::fs::read_to_string(&file)?, findings);
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn check_file(name: &str, text: &str, findings: &mut Findings) {
    let test_file = name.contains("/tests/") || name.ends_with("/tests.rs");
    let generated = text.starts_with("// @generated");
    if !text.starts_with("//!") && !test_file && !generated {
        findings.push(format!("{name}: does not begin with //! and what the module is for"));
    }
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = code.lines().count();
    let long = LONG_FILES.iter().any(|(file, _)| *file == name);
    if lines > LINES_MAX && !test_file && !generated && !long {
        findings.push(format!("{name}: {lines} lines of code; {LINES_MAX} is the most"));
    }
    if name.ends_with("/mod.rs") {
        findings.push(format!("{name}: foo.rs beside foo/, not foo/mod.rs"));
    }
    for (number, line) in code.lines().enumerate() {
        let number = number + 1;
        let comment = line.trim_start().starts_with("//");
        if !comment
            && line.contains("unsafe ")
            && line.contains('{')
            && !name.starts_with("crates/net/")
            && !name.starts_with("xtask/")
        {
            findings.push(format!("{name}:{number}: unsafe outside crates/net"));
        }
        if line.contains("TODO") && !name.starts_with("xtask/") {
            findings.push(format!("{name}:{number}: TODO; say it in docs/ or do it"));
        }
    }
}
