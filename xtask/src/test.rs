//! `cargo xtask test`: unit, property and live tests, then the demo's scenes on the release build.

use std::process::Command;

use anyhow::Result;

use crate::run::{cargo_with, root, run};

/// Makes a test that lacks what it needs fail instead of saying that it skips.
const NO_SKIPS: (&str, &str) = ("HEDDLE_TEST_NO_SKIPS", "1");

/// What the live tests' Python programs import, in a virtual environment of the build directory.
fn python_packages() -> Result<()> {
    let list = root().join("crates/heddle/tests/it/requirements.txt");
    let folder = root().join("target/test-venv");
    let (wanted, installed) = (std::fs::read(&list)?, folder.join("requirements.txt"));
    if std::fs::read(&installed).is_ok_and(|before| before == wanted) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let words = ["install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(folder.join("bin/pip")).args(words).arg(&list))?;
    Ok(std::fs::write(installed, wanted)?)
}

pub(crate) fn test(full: bool) -> Result<()> {
    // A variable `CI` in the environment is what tells a machine that has everything from a laptop that may not.
    let mut variables = Vec::new();
    if std::env::var_os("CI").is_some() {
        variables.push(NO_SKIPS);
    }
    if full {
        variables.push(("HEDDLE_TEST_FULL", "1"));
    }
    if let Err(error) = python_packages() {
        // The tests that need them say that they skip, or fail where nothing may be skipped.
        eprintln!("xtask: no Python packages for the live tests: {error:#}");
    }
    cargo_with(&["test", "--workspace", "--quiet"], &variables)?;
    cargo_with(&["run", "--release", "--quiet", "--", "demo", "--check"], &variables)
}
