//! `cargo xtask check`: formatting, lints and documentation, with warnings as errors; and the build with validated
//! cryptography.

use anyhow::Result;

use crate::run::{cargo, cargo_with};

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
    let missing = ["go", "cmake"].into_iter().find(|tool| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
    });
    if let Some(tool) = missing
        && std::env::var_os("CI").is_none()
    {
        eprintln!("skipped: the build with validated cryptography needs {tool}");
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
