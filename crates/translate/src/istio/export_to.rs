//! Istio's rules for `exportTo`.

use heddle_api::{At, Written};

use crate::report::Report;

/// Reports what is wrong with a list. `nobody` says whether `~` is allowed.
pub(crate) fn check(
    written: &Written,
    at: At,
    texts: &[String],
    nobody: bool,
    report: &mut Report,
) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let origin = || written.origin_of_item(at, "exportTo", index);
        let name = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let valid = match text.as_str() {
            "*" | "." => true,
            "~" => nobody,
            text => !text.is_empty() && name,
        };
        if !valid {
            report.rejected(origin(), format!("`{text}` is not a namespace, `.` or `*`"));
        } else if seen.contains(&text.as_str()) {
            report.rejected(origin(), format!("`{text}` stands twice"));
        } else if matches!(text.as_str(), "*" | "~") && texts.len() > 1 {
            report.rejected(origin(), format!("`{text}` stands alone"));
        }
        seen.push(text);
    }
}
