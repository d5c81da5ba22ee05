//! `cargo xtask test`: unit, property and live tests, then the demo's scenes on the release build.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::run::{cargo_with, root, run};

/// Makes a test that lacks what it needs fail instead of saying that it skips.
const NO_SKIPS: (&str, &str) = ("HEDDLE_TEST_NO_SKIPS", "1");
/// Cases of each property in a full run; the default is 256.
const MANY_CASES: (&str, &str) = ("PROPTEST_CASES", "4096");

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

/// What of the tests is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// What every change must pass.
    Usual,
    /// The same with larger generated runs, and the soaks in their long form.
    Full,
    /// The soaks in their long form alone.
    Soaks,
}

pub(crate) fn test(scope: Scope) -> Result<()> {
    // A variable `CI` in the environment is what tells a machine that has everything from a laptop that may not.
    let mut variables = Vec::new();
    if std::env::var_os("CI").is_some() {
        variables.push(NO_SKIPS);
    }
    if let Err(error) = python_packages() {
        // The tests that need them say that they skip, or fail where nothing may be skipped.
        eprintln!("xtask: no Python packages for the live tests: {error:#}");
    }
    if scope != Scope::Soaks {
        let mut usual = variables.clone();
        if scope == Scope::Full {
            usual.push(MANY_CASES);
        }
        cargo_with(&["test", "--workspace", "--quiet"], &usual)?;
        cargo_with(&["run", "--release", "--quiet", "--", "demo", "--check"], &variables)?;
    }
    if scope == Scope::Usual { Ok(()) } else { soaks() }
}

/// Runs the soaks one after the other and keeps what they print.
fn soaks() -> Result<()> {
    let words = ["test", "-p", "heddle", "--test", "it", "soaks", "--", "--test-threads=1"];
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    eprintln!("xtask: cargo {} (HEDDLE_TEST_FULL)", words.join(" "));
    let begun = Instant::now();
    let output = command
        .args(words)
        .env("HEDDLE_TEST_FULL", "1")
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    std::io::stdout().write_all(&output.stdout)?;
    let kept: Vec<&str> = text
        .lines()
        // The name of a test stands before the first line that it prints.
        .filter_map(|line| line.find("soak: ").map(|at| &line[at..]))
        .chain(text.lines().filter(|line| line.starts_with("test result")))
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let page = format!(
        "# The last long run\n\n`cargo xtask test --full` writes this page: the soaks on the test build, on {cores} cores, in {} s.\n\n```\n{}\n```\n",
        begun.elapsed().as_secs(),
        kept.join("\n")
    );
    std::fs::write(root().join("docs/test-full.md"), page)?;
    ensure!(output.status.success(), "the soaks failed: {}", output.status);
    Ok(())
}
