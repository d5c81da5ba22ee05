//! `heddle internal reference`: the pages of `docs/` that are written out of the program's own tables, so that
//! they cannot say something else than the program does. `cargo xtask gen` calls it.
//!
//! Each page is a function from tables to text; only [`write()`] touches files.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;

use super::{codes, words};
use crate::arguments::{Arguments, ReferenceArguments};

mod commands;
mod kinds;
mod metrics;

/// The first line of every page, so that nobody edits one by hand.
const NOTE: &str = "<!-- Written by `cargo xtask gen`; do not edit. -->\n\n";

/// A page: its path below the folder, and how its text is made.
type Page = (&'static str, fn() -> Result<String>);

const PAGES: [Page; 5] = [
    ("errors.md", || Ok(errors())),
    ("reference/commands.md", || Ok(commands::page(Arguments::command()))),
    ("reference/heddle.1", words::man_page),
    ("reference/kinds.md", || Ok(kinds::page())),
    ("reference/metrics.md", || Ok(metrics::page())),
];

/// Writes every page below the folder that was asked for.
pub(crate) fn write(arguments: &ReferenceArguments) -> Result<ExitCode> {
    for (name, make) in PAGES {
        let path = arguments.out.join(name);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        std::fs::write(&path, make()?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One section per finding.
fn errors() -> String {
    let mut page = format!(
        "{NOTE}# Findings\n\n\
         What `heddle analyze`, `apply` and `get -o yaml` can say about an object. A code is stable. `heddle explain CODE` \
         prints the same text; the codes of `istioctl analyze` are listed where one means the same.\n\n\
         | code | upstream | title |\n|---|---|---|\n"
    );
    let codes = codes::all();
    for code in &codes {
        let anchor = code.id.to_ascii_lowercase();
        let _ = writeln!(
            page,
            "| [{}](#{anchor}) | {} | {} |",
            code.id,
            code.upstream.join(", "),
            cell(code.title)
        );
    }
    for code in codes {
        let _ = write!(page, "\n## {}\n\n**{}**", code.id, prose(code.title));
        if !code.upstream.is_empty() {
            let _ = write!(page, " ({})", code.upstream.join(", "));
        }
        let _ = write!(page, "\n\n{}\n", prose(code.text));
    }
    page
}

/// Text outside of tables: what Markdown would take for HTML is escaped, but for what stands in backticks.
fn prose(text: &str) -> String {
    let mut quoted = false;
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '`' => {
                quoted = !quoted;
                escaped.push('`');
            }
            '<' if !quoted => escaped.push_str("&lt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    prose(text).replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_made_and_ends_with_a_line() {
        for (name, make) in PAGES {
            let text = make().unwrap();
            assert!(text.ends_with('\n'), "{name}");
            assert!(text.len() > 1_000, "{name}: {} bytes", text.len());
        }
    }

    #[test]
    fn every_code_and_every_visible_command_has_its_section() {
        let errors = errors();
        for code in codes::all() {
            assert!(errors.contains(&format!("\n## {}\n", code.id)), "{}", code.id);
        }
        let commands = commands::page(Arguments::command());
        for command in Arguments::command().get_subcommands() {
            let title = format!("\n## heddle {}\n", command.get_name());
            assert_eq!(commands.contains(&title), !command.is_hide_set(), "{title}");
        }
    }

    #[test]
    fn markup_in_texts_stays_text() {
        assert_eq!(prose("`a <b>` <c>"), "`a <b>` &lt;c>");
        assert_eq!(cell("a|b\nc"), "a\\|b c");
    }
}
