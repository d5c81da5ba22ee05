//! The command line as a library. Layer 8.
//!
//! A command reads its arguments, asks a running mesh over its Unix sockets or works on files, and prints. No
//! command decides anything about traffic: `translate`, `route` and `authz` do, the same code as in the proxy.
//! Errors go to standard error with their causes and a hint; the exit status is 0 done, 1 failed, 2 bad usage,
//! and 79 where `analyze` found something at the failure level.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod failure;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            failure::print(&error);
            ExitCode::from(1)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mesh = &arguments.mesh;
    match arguments.command {
        Command::Analyze(arguments) => commands::analyze::run(&arguments),
        Command::Completions { shell } => commands::words::completions(shell),
        Command::Exec(arguments) => commands::workload::exec(mesh, arguments),
        Command::Explain(arguments) => commands::codes::explain(&arguments),
        Command::Logs(arguments) => commands::workload::logs(mesh, &arguments),
        Command::Man => commands::words::man(),
        Command::Sample(command) => commands::sample::run(command),
        _ => anyhow::bail!("not yet"),
    }
}
