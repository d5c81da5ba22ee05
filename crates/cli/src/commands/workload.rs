//! `exec` and `logs`: inside a workload.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context, Result};
use heddle_standalone::{ClientError, ExecRequest, LogRequest};

use super::print::out;
use super::signals::stop_signal;
use super::state::{client, runtime};
use super::terminal::Terminal;
use crate::arguments::{ExecArguments, LogsArguments, MeshArguments};
use crate::failure::hinted;

/// An error of the supervisor with its hint.
pub(crate) fn told(error: ClientError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => hinted(error, hint),
        None => error.into(),
    }
}

pub(crate) fn exec(mesh: &MeshArguments, arguments: ExecArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let term = std::env::var("TERM").ok().filter(|_| terminal);
    let request = ExecRequest {
        workload: arguments.workload,
        container: arguments.container,
        command: arguments.command,
        terminal,
        environment: term.map(|term| ("TERM".to_owned(), term)).into_iter().collect(),
    };
    let status = runtime()?.block_on(async {
        let terminate = stop_signal()?;
        let ran = if terminal {
            let terminal = Terminal::open()?;
            let far = terminal.far();
            client.exec(&request, [far, far, far], terminate).await
        } else {
            let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
            let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
            client.exec(&request, streams, terminate).await
        };
        match ran {
            // As a shell, so that scripts can tell it from the command's own failure.
            Err(ClientError::NotRunnable { message, code }) => {
                crate::failure::print(&anyhow::Error::msg(message));
                Ok(code)
            }
            other => other.map_err(told),
        }
    })?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

pub(crate) fn logs(mesh: &MeshArguments, arguments: &LogsArguments) -> Result<ExitCode> {
    let client = client(mesh)?;
    let control = arguments.workload == "control-plane";
    let request = LogRequest {
        workload: (!control).then(|| arguments.workload.clone()),
        container: arguments.container.clone(),
        follow: arguments.follow,
        tail: arguments.tail,
        ..LogRequest::default()
    };
    let mut stdout = std::io::stdout().lock();
    let read = client.logs(&request, |piece| stdout.write_all(piece));
    match runtime()?.block_on(read) {
        Err(ClientError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        result => result.map_err(told)?,
    }
    stdout.flush().context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// What a workload's proxy counts.
pub(crate) fn metrics(mesh: &MeshArguments, workload: &str) -> Result<ExitCode> {
    let client = client(mesh)?;
    let page = runtime()?.block_on(client.metrics(workload)).map_err(told)?;
    out(&page)?;
    Ok(ExitCode::SUCCESS)
}
