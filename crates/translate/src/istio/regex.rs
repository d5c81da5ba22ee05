//! Regular expressions as objects write them.

/// The longest pattern that Istio takes, in characters.
const PATTERN_CHARS_MAX: usize = 1024;
/// Bound on the compiled program; a pattern of nested repetitions would otherwise take all memory.
const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// Whether a pattern may be used; the error says why not.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("the regular expression is empty".to_owned());
    }
    if pattern.chars().count() > PATTERN_CHARS_MAX {
        return Err(format!("the regular expression has more than {PATTERN_CHARS_MAX} characters"));
    }
    match regex::RegexBuilder::new(pattern).size_limit(PROGRAM_BYTES_MAX).build() {
        Ok(_) => Ok(()),
        Err(error) => {
            // The library's message is several lines with a drawing; its last line says what is wrong.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            Err(format!("`{pattern}` is not a regular expression: {reason}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn patterns_are_bounded() {
        assert_eq!(check("/v[12]/.*"), Ok(()));
        for (pattern, why) in [
            ("", "empty"),
            ("(", "unclosed group"),
            ("*", "repetition operator"),
            ("(?=x)", "look-around"),
            (&"a".repeat(1025), "1024"),
            ("((a{100}){100}){100}", "size limit"),
        ] {
            let error = check(pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }
}
