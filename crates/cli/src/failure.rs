//! How a failed command is told: what, why, and what to do.

use std::fmt;
use std::io::Write;

/// An error with a hint for the person who typed the command.
#[derive(Debug)]
pub(crate) struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Attaches a hint to an error.
pub(crate) fn hinted(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Hinted { error: error.into(), hint: hint.into() })
}

/// Prints an error with its causes, each once, and its hints, to standard error.
pub(crate) fn print(error: &anyhow::Error) {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    let mut hints = Vec::new();
    for cause in error.chain() {
        if let Some(hinted) = cause.downcast_ref::<Hinted>() {
            hints.push(hinted.hint.clone());
        }
        let line = cause.to_string();
        if line != last {
            text.push_str(&format!("  because: {line}\n"));
            last = line;
        }
    }
    for hint in hints {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // Where standard error is gone there is nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
