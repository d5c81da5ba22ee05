//! The repository's own tasks, `cargo xtask TASK`. CI runs `cargo xtask ci` and has no logic of its own.

mod bench;
mod check;
mod r#gen;
mod run;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Checks, tests, generated files and benches of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Throughput, latency, CPU and memory beside an Envoy pair, in one run
    Bench {
        /// Rounds, interleaved; medians are reported
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// How long each load runs
        #[arg(long, default_value_t = 8)]
        seconds: u32,
        /// Another build of heddle, measured in the same run: what a change costs
        #[arg(long, value_name = "PROGRAM")]
        before: Option<std::path::PathBuf>,
    },
    /// Formatting, lints, rustdoc; warnings are errors
    Check,
    /// Everything CI runs, in its order: tidy, check, gen --check, test
    Ci,
    /// The pages of docs/ that the program writes out of its own tables
    Gen {
        /// Only says which are out of date, and fails
        #[arg(long)]
        check: bool,
    },
    /// Every test that a change must pass, within 15 minutes after the build
    Test {
        /// Adds soaks, large generated runs and peers; keeps the output in docs/test-full.md
        #[arg(long)]
        full: bool,
        /// Only the soaks of the full run
        #[arg(long)]
        soaks: bool,
    },
    /// The repository's rules: layers, purity, sizes, documents
    Tidy,
}

fn main() -> ExitCode {
    match task(&Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn task(task: &Task) -> Result<()> {
    match task {
        Task::Bench { rounds, seconds, before } => {
            let (rounds, seconds, before) = (*rounds, *seconds, before.clone());
            bench::bench(&bench::Options { rounds, seconds, before })
        }
        Task::Check => check::check(),
        Task::Ci => {
            tidy::tidy()?;
            check::check()?;
            r#gen::generate(true)?;
            test::test(test::Scope::Usual)
        }
        Task::Gen { check } => r#gen::generate(*check),
        Task::Test { soaks: true, .. } => test::test(test::Scope::Soaks),
        Task::Test { full: true, .. } => test::test(test::Scope::Full),
        Task::Test { .. } => test::test(test::Scope::Usual),
        Task::Tidy => tidy::tidy(),
    }
}
