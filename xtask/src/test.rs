//! `cargo xtask test`: unit, property and live tests, then the demo's scenes on the release build.

use anyhow::Result;

use crate::run::cargo_with;

/// Makes a test that lacks what it needs fail instead of saying that it skips.
const NO_SKIPS: (&str, &str) = ("HEDDLE_TEST_NO_SKIPS", "1");

pub(crate) fn test(full: bool) -> Result<()> {
    // A variable `CI` in the environment is what tells a machine that has everything from a laptop that may not.
    let mut variables = Vec::new();
    if std::env::var_os("CI").is_some() {
        variables.push(NO_SKIPS);
    }
    if full {
        variables.push(("HEDDLE_TEST_FULL", "1"));
    }
    cargo_with(&["test", "--workspace", "--quiet"], &variables)?;
    cargo_with(&["run", "--release", "--quiet", "--", "demo", "--check"], &variables)
}
