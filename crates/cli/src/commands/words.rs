//! Completions and the man page, made from the definition of the command line.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;

use super::print::out;
use crate::arguments::Arguments;

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "heddle", &mut script);
    out(&String::from_utf8(script).context("completions are not text")?)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man() -> Result<ExitCode> {
    out(&man_page()?)?;
    Ok(ExitCode::SUCCESS)
}

/// The page in roff.
pub(crate) fn man_page() -> Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .render(&mut page)
        .context("cannot make the page")?;
    String::from_utf8(page).context("the page is not text")
}
