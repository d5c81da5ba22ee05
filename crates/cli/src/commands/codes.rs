//! `heddle explain CODE`: what a finding means and what to do.

use std::process::ExitCode;

use anyhow::{Result, bail};
use heddle_diag::Code;

use super::print::{out, table};

/// Every code there is, in the order of their numbers.
pub(crate) fn all() -> Vec<&'static Code> {
    let mut codes: Vec<_> =
        heddle_api::codes::ALL.iter().chain(heddle_translate::codes::ALL).copied().collect();
    codes.sort_by_key(|code| code.id);
    codes
}

pub(crate) fn explain(code: Option<&str>) -> Result<ExitCode> {
    let codes = all();
    let Some(wanted) = code else {
        let rows: Vec<_> = codes
            .iter()
            .map(|code| vec![code.id.to_owned(), code.upstream.join(","), code.title.to_owned()])
            .collect();
        out(&table(&rows))?;
        return Ok(ExitCode::SUCCESS);
    };
    let wanted = wanted.to_ascii_uppercase();
    let found: Vec<_> = codes
        .iter()
        .filter(|code| code.id == wanted || code.upstream.contains(&wanted.as_str()))
        .collect();
    if found.is_empty() {
        bail!("no finding is called {wanted}; `heddle explain` lists all");
    }
    for code in found {
        let upstream = match code.upstream {
            [] => String::new(),
            upstream => format!(" ({})", upstream.join(", ")),
        };
        out(&format!("{}{upstream}: {}\n\n{}\n", code.id, code.title, code.text))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_given_twice() {
        let codes = all();
        for pair in codes.windows(2) {
            assert_ne!(pair[0].id, pair[1].id);
        }
        assert!(codes.len() > 10);
    }
}
