//! The page of commands, out of the definition of the command line.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::{NOTE, cell, prose};

/// A section per visible command, below it those of its own.
pub(super) fn page(mut root: Command) -> String {
    root.build();
    let mut page = format!(
        "{NOTE}# Commands\n\nEvery command takes `-h` for a summary and `--help` for all of it. Results go to standard \
         output, errors to standard error with their causes and a hint. Exit status: 0 done, 1 failed, 2 bad usage; \
         `analyze` exits with 79 when it finds something at the failure level.\n\n## Options of every command\n\n"
    );
    arguments(&mut page, root.get_arguments().filter(|argument| is_common(argument)));
    for command in root.get_subcommands() {
        section(&mut page, command, 2);
    }
    page
}

fn section(page: &mut String, command: &Command, level: usize) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let _ = write!(page, "\n{} {name}\n\n", "#".repeat(level));
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        let _ = write!(page, "{}.\n\n", prose(about.to_string().trim_end_matches('.')));
    }
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(page, "    {}\n", usage.trim_start_matches("Usage: "));
    arguments(page, command.get_arguments().filter(|argument| !is_common(argument)));
    for below in command.get_subcommands() {
        section(page, below, level + 1);
    }
}

/// Whether it is told once, for all commands.
fn is_common(argument: &Arg) -> bool {
    argument.is_global_set() || matches!(argument.get_id().as_str(), "help" | "version")
}

fn arguments<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let mut rows = String::new();
    for argument in arguments.filter(|argument| !argument.is_hide_set()) {
        let _ =
            writeln!(rows, "| `{}` | {} |", spelling(argument).replace('|', "\\|"), says(argument));
    }
    if !rows.is_empty() {
        let _ = write!(page, "| | |\n|---|---|\n{rows}");
    }
}

fn spelling(argument: &Arg) -> String {
    let values: Vec<String> = argument
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| name.to_string().to_uppercase())
        .collect();
    let value = if argument.get_action().takes_values() { values.join(" ") } else { String::new() };
    let many = argument.get_num_args().is_some_and(|count| count.max_values() > 1);
    let value = if many && !value.is_empty() { format!("{value}…") } else { value };
    let mut names = Vec::new();
    names.extend(argument.get_short().map(|short| format!("-{short}")));
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    if names.is_empty() {
        return value;
    }
    let names = names.join(", ");
    if value.is_empty() { names } else { format!("{names} {value}") }
}

fn says(argument: &Arg) -> String {
    let mut text = argument
        .get_long_help()
        .or(argument.get_help())
        .map(|help| cell(&help.to_string()))
        .unwrap_or_default();
    if !argument.get_action().takes_values() {
        return text;
    }
    let choices: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|choice| !choice.is_hide_set())
        .map(|choice| match choice.get_help() {
            Some(help) => format!("`{}` ({})", choice.get_name(), cell(&help.to_string())),
            None => format!("`{}`", choice.get_name()),
        })
        .collect();
    if !choices.is_empty() {
        let _ = write!(text, ". One of {}", choices.join(", "));
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into()).collect();
    if !defaults.is_empty() {
        let _ = write!(text, ". Default: `{}`", defaults.join(" "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(text, ". Variable: `{}`", variable.to_string_lossy());
    }
    text
}
