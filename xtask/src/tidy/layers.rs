//! Arrows between crates point down only; the pure crates use nothing that has a clock, a socket or a file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, Package};

use super::Findings;

/// The last layer without clock, socket, file, environment, async or log.
const PURE_LAYER_MAX: u64 = 4;
/// Pure crates above that layer: they stand on everything that decides, and touch nothing else.
const PURE_ABOVE: [&str; 1] = ["heddle-explain"];
/// What pure crates may use from outside.
const PURE_DEPENDENCIES: [&str; 8] =
    ["granit-parser", "httparse", "memchr", "prost", "regex", "serde_json", "sha2", "thiserror"];
/// Names that say nothing about what a crate is for.
const FORBIDDEN_NAMES: [&str; 6] = ["common", "core", "helpers", "misc", "shared", "util"];

pub(super) fn check(metadata: &Metadata, root: &Path, findings: &mut Findings) -> Result<()> {
    let packages = metadata.workspace_packages();
    let mut layers = BTreeMap::new();
    for package in &packages {
        match package.metadata.pointer("/heddle/layer").and_then(serde_json::Value::as_u64) {
            Some(layer) => {
                layers.insert(package.name.to_string(), layer);
            }
            None => findings.push(format!("{}: no [package.metadata.heddle] layer", package.name)),
        }
    }
    let register = root.join("docs/dependencies.md");
    let register = std::fs::read_to_string(&register)
        .with_context(|| format!("cannot read {}", register.display()))?;
    for package in packages {
        check_package(package, &layers, &register, findings)?;
    }
    Ok(())
}

fn check_package(
    package: &Package,
    layers: &BTreeMap<String, u64>,
    register: &str,
    findings: &mut Findings,
) -> Result<()> {
    let name = package.name.as_str();
    let folder = package.manifest_path.parent().and_then(|folder| folder.file_name()).unwrap_or("");
    if name.strip_prefix("heddle-").unwrap_or(name) != folder {
        findings.push(format!("{name}: lives in a folder called {folder}"));
    }
    if FORBIDDEN_NAMES.contains(&folder) {
        findings.push(format!("{name}: the name does not say what the crate is for"));
    }
    let manifest = std::fs::read_to_string(&package.manifest_path)?;
    if !manifest.contains("[lints]\nworkspace = true") {
        findings.push(format!("{name}: does not take the workspace's lints"));
    }
    let Some(layer) = layers.get(name).copied() else { return Ok(()) };
    let pure = layer <= PURE_LAYER_MAX || PURE_ABOVE.contains(&name);
    for dependency in &package.dependencies {
        let own = layers.get(&dependency.name).copied();
        match own {
            Some(other) if dependency.kind == DependencyKind::Normal && other >= layer => {
                findings.push(format!(
                    "{name} (layer {layer}) uses {} (layer {other}); arrows point down only",
                    dependency.name
                ));
            }
            Some(_) => {}
            None => {
                if !register.contains(&format!("| {} |", dependency.name)) {
                    findings.push(format!(
                        "{name}: {} has no line in docs/dependencies.md",
                        dependency.name
                    ));
                }
                if pure
                    && dependency.kind == DependencyKind::Normal
                    && !PURE_DEPENDENCIES.contains(&dependency.name.as_str())
                {
                    findings.push(format!("{name} is pure and may not use {}", dependency.name));
                }
            }
        }
    }
    check_front(package, pure, findings)
}

/// The attributes at the root of a library.
fn check_front(package: &Package, pure: bool, findings: &mut Findings) -> Result<()> {
    let Some(folder) = package.manifest_path.parent() else { return Ok(()) };
    let front = folder.join("src/lib.rs");
    if !front.exists() {
        return Ok(());
    }
    let front = std::fs::read_to_string(front)?;
    let name = package.name.as_str();
    if name != "heddle-net" && !front.contains("#![forbid(unsafe_code)]") {
        findings.push(format!("{name}: lib.rs lacks #![forbid(unsafe_code)]"));
    }
    if pure && !front.contains("#![deny(clippy::disallowed_methods)]") {
        findings.push(format!("{name} is pure; lib.rs lacks #![deny(clippy::disallowed_methods)]"));
    }
    Ok(())
}
