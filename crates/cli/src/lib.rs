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
    // A process inside a mesh: before anything else, while there is one thread.
    if std::env::args_os().nth(1).is_some_and(|word| word == heddle_net::process::RUN_PLAN) {
        failure::print(&anyhow::Error::new(heddle_net::process::run_plan()));
        return ExitCode::from(1);
    }
    match run(Arguments::parse()) {
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
        Command::Agent(arguments) => commands::agent::run(mesh, &arguments),
        Command::Analyze(arguments) => commands::analyze::run(mesh, &arguments),
        Command::Apply(arguments) => commands::objects::apply(mesh, &arguments),
        Command::Certs(arguments) => commands::certs::certs(mesh, &arguments),
        Command::Completions { shell } => commands::words::completions(shell),
        Command::Delete(arguments) => commands::objects::delete(mesh, &arguments),
        Command::Demo(arguments) => commands::demo::run(mesh, &arguments),
        Command::Down(arguments) => commands::up::down(mesh, &arguments),
        Command::Exec(arguments) => commands::workload::exec(mesh, arguments),
        Command::Explain(arguments) => commands::explain::run(mesh, &arguments),
        Command::Get(arguments) => commands::objects::get(mesh, &arguments),
        Command::History(arguments) => commands::history::history(mesh, &arguments),
        Command::Internal(command) => commands::internal::run(command),
        Command::Logs(arguments) => commands::workload::logs(mesh, &arguments),
        Command::Man => commands::words::man(),
        Command::Metrics { workload } => commands::workload::metrics(mesh, &workload),
        Command::Proxy(arguments) => commands::internal::proxy(arguments),
        Command::Rollback(arguments) => commands::history::rollback(mesh, &arguments),
        Command::Sample(command) => commands::sample::run(command),
        Command::Status(arguments) => commands::objects::status(mesh, &arguments),
        Command::Up(arguments) => commands::up::up(mesh, &arguments),
        Command::Wait(arguments) => commands::objects::wait(mesh, &arguments),
    }
}
