//! `cargo xtask tidy`: the rules of this repository that no compiler checks.
//!
//! All findings are collected and printed, then the task fails. A rule has no exceptions but those in the
//! tables here, which may only shrink.

mod files;
mod layers;

use anyhow::{Result, bail};
use cargo_metadata::MetadataCommand;

use crate::run::root;

/// Collects what is wrong, as lines for a person.
#[derive(Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    pub(crate) fn push(&mut self, finding: impl Into<String>) {
        self.0.push(finding.into());
    }
}

pub(crate) fn tidy() -> Result<()> {
    let root = root();
    let metadata =
        MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
    let mut findings = Findings::default();
    layers::check(&metadata, &root, &mut findings)?;
    files::check(&root, &mut findings)?;
    for finding in &findings.0 {
        eprintln!("tidy: {finding}");
    }
    match findings.0.len() {
        0 => Ok(()),
        count => bail!("tidy found {count} problems"),
    }
}
