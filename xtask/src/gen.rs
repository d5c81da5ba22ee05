//! `cargo xtask gen`: the pages that the program writes out of its own tables, and whether they are up to date.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, root};

/// Writes the pages into `docs/`; with `check` only compares them, and fails when one differs.
pub(crate) fn generate(check: bool) -> Result<()> {
    let docs = root().join("docs");
    if !check {
        return write(&docs);
    }
    let fresh = root().join("target/xtask/docs");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    }
    write(&fresh)?;
    let stale = differences(&fresh, &docs)?;
    for page in &stale {
        eprintln!("gen: docs/{page} is not what the program says");
    }
    match stale.len() {
        0 => Ok(()),
        count => bail!("{count} pages are out of date; `cargo xtask gen` writes them"),
    }
}

fn write(folder: &Path) -> Result<()> {
    let out = folder.to_str().context("the repository's path is not UTF-8")?;
    cargo(&["run", "-q", "-p", "heddle", "--", "internal", "reference", "--out", out])
}

/// Pages that differ, or that only one of the folders has where the program decides which there are.
fn differences(fresh: &Path, docs: &Path) -> Result<BTreeSet<String>> {
    let mut pages = BTreeSet::new();
    for path in files(fresh)? {
        pages.insert(name(fresh, &path));
    }
    // The whole folder is the program's: a page of a removed table must go.
    let reference = docs.join("reference");
    if reference.exists() {
        for path in files(&reference)? {
            pages.insert(name(docs, &path));
        }
    }
    pages.retain(|page| {
        let read = |folder: &Path| fs::read(folder.join(page)).ok();
        read(fresh) != read(docs)
    });
    Ok(pages)
}

fn name(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).display().to_string()
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}
