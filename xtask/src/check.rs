//! `cargo xtask check`: formatting, lints and documentation, with warnings as errors.

use anyhow::Result;

use crate::run::{cargo, cargo_with};

pub(crate) fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    cargo_with(
        &["doc", "--workspace", "--no-deps", "--quiet", "--document-private-items"],
        // Links to private items resolve: private items are documented.
        &[("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links")],
    )
}
