//! Whole meshes, started and looked at from outside.
//!
//! This program plays every part but the supervisor's: run with a role as its first argument it is a broker, a
//! control plane that says what a test wrote down, a proxy that only answers for its health, or a small
//! application. Nothing needs root; where this is root, each test runs once more as an ordinary user. A host that
//! forbids user namespaces has its tests skipped, with the reason printed, unless `CI` is set.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails says where")]

mod control;
mod mesh;
mod roles;
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use mesh::User;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|name| roles::find(name)) {
        return role(&arguments[1..]);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in tests::ALL {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    run(&arguments)
}

fn run(arguments: &[String]) -> ExitCode {
    if let Some(reason) = mesh::forbidden() {
        println!("\nskipped: {reason}\n");
        let strict = std::env::var_os("CI").is_some();
        return if strict { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(*f));
    let mut failed = Vec::new();
    let mut passed = 0;
    for user in User::all() {
        for (name, test) in tests::ALL.iter().filter(|(name, _)| wanted(name)) {
            let begun = std::time::Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| test(user)));
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            println!("test {name} as {user} ... {word} ({} ms)", begun.elapsed().as_millis());
            match outcome {
                Ok(()) => passed += 1,
                Err(_) => failed.push(format!("{name} as {user}")),
            }
        }
    }
    println!("\ntest result: {passed} passed; {} failed {failed:?}\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
