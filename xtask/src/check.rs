//! `cargo xtask check`: formatting, lints and documentation, with warnings as errors; and the build with validated
//! cryptography.

use anyhow::Result;

use crate::run::{cargo, cargo_with, is_there};

pub(crate) fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    cargo_with(
        &["doc", "--workspace", "--no-deps", "--quiet", "--document-private-items"],
        // Links to private items resolve: private items are documented.
        &[("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links")],
    )?;
    fips()
}

/// The feature `fips` still builds. In a folder of its own: it changes what nearly every crate depends on.
fn fips() -> Result<()> {
    let missing = ["go", "cmake"].into_iter().find(|tool| !is_there(tool));
    if let Some(tool) = missing
        && std::env::var_os("CI").is_none()
    {
        eprintln!("xtask: skipped: the build with validated cryptography needs {tool}");
        return Ok(());
    }
    cargo(&[
        "check",
        "-p",
        "heddle",
        "--features",
        "fips",
        "--quiet",
        "--target-dir",
        "target/fips",
    ])
}
