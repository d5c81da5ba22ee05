use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, value: &str) -> bool {
    FullMatch::compile(pattern).unwrap().matches(value.as_bytes())
}

#[test]
fn a_pattern_matches_the_whole_value_or_not_at_all() {
    assert!(matches("/api/v[0-9]", "/api/v1"));
    assert!(!matches("/api/v[0-9]", "/api/v1/x"));
    assert!(!matches("/api/v[0-9]", "x/api/v1"));
    assert!(matches("a|b", "b"));
    assert!(!matches("a|b", "ab"));
    assert!(matches("^a$", "a"));
    assert!(!matches("a", "a\n"));
    assert!(matches(".*Mobile.*", "Mozilla Mobile Safari"));
    assert!(!matches("(?m)a$", "a\nb"));
}

#[test]
fn classes_mean_ascii_as_in_re2() {
    assert!(matches(r"\d+", "42"));
    assert!(!matches(r"\d", "٣"));
    assert!(matches(r"[\d.]+", "4.2"));
    assert!(matches(r"[^\d]", "x"));
    assert!(matches(r"[\D]", "x"));
    assert!(!matches(r"[\D]", "1"));
    assert!(matches(r"\w+", "a_1"));
    assert!(!matches(r"\w", "é"));
    assert!(!matches(r"\s", "\u{b}"));
    assert!(!matches(r"\s", "\u{a0}"));
    assert!(matches(r"a\b.b", "a-b"));
    assert!(matches(".", "é"));
    assert!(!FullMatch::compile(".").unwrap().matches(&[0xff]));
    assert!(matches("[[:alpha:]]+", "ab"));
    assert!(matches("(?i)abc", "aBc"));
}

#[test]
fn what_re2_takes_literally_is_literal() {
    assert!(matches("/users/{id}", "/users/{id}"));
    assert!(matches("a{,3}", "a{,3}"));
    assert!(matches("a{2,3}", "aaa"));
    assert!(!matches("a{2,3}", "a"));
    assert!(matches("[[a]", "["));
    assert!(matches("[[:]", ":"));
    assert!(matches("[[::]x]", ":x]"));
    assert!(matches("[[a]b]", "ab]"));
    assert!(matches("[a&&b]", "&"));
    assert!(matches("[]a]", "]"));
    assert!(matches("[^]a]", "b"));
    assert!(matches("[a-]", "-"));
    assert!(matches("[a~~b]", "~"));
    assert!(matches(r"\<a\>", "<a>"));
    assert!(matches(r"\/\-\_\.", "/-_."));
    assert!(matches(r"\Qa.b\E.", "a.bx"));
    assert!(matches(r"\Qa+", "a+"));
    assert!(matches(r"\101\0", "A\0"));
    assert!(matches(r"\x41\x{42}", "AB"));
    assert!(matches(r"\pL", "é"));
    assert!(matches("a]", "a]"));
    assert!(matches("[+--]", "-"));
}

#[test]
fn what_re2_refuses_is_refused() {
    for pattern in [
        "*",
        "+a",
        "(",
        ")",
        "a)(b",
        "[",
        "[b-a]",
        r"\",
        r"\1",
        r"(a)\1",
        "(?=a)",
        "(?x)a",
        "a{1001}",
        "(?<",
        r"\y",
        r"\h",
        "x{1000}{1000}",
        "(?-u:a)",
    ] {
        assert!(FullMatch::compile(pattern).is_err(), "{pattern}");
    }
    assert_eq!(FullMatch::compile(&"a".repeat(5000)).unwrap_err(), PatternError::TooLong(5000));
}

#[test]
fn ignoring_case_holds_for_the_whole_pattern() {
    let pattern = FullMatch::compile_ignoring_case("Example\\.(com|ORG)").unwrap();
    assert!(pattern.matches(b"eXample.COM"));
    assert!(pattern.matches(b"example.org"));
    assert!(!pattern.matches(b"examplexorg"));
}

#[test]
fn every_match_is_replaced_and_groups_are_filled_in() {
    let replaced = |pattern: &str, replacement: &str, text: &str| {
        let mut out = String::new();
        Substitution::compile(pattern, replacement).unwrap().write(text, &mut out);
        out
    };
    assert_eq!(
        replaced("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api"),
        "/v1/api/instance/foo"
    );
    assert_eq!(replaced("one", "two", "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/two/zzz");
    assert_eq!(
        replaced("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz"),
        "/xxx/two/yyy/one/zzz"
    );
    assert_eq!(replaced("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb"), "/aaa/yyy/bbb");
    assert_eq!(replaced("x", r"\\\0", "axb"), r"a\xb");
    assert_eq!(replaced("(a)|(b)", r"[\1\2]", "ab"), "[a][b]");
    assert_eq!(replaced("none", "x", "/é"), "/é");
    assert_eq!(replaced("", "-", "é"), "-é-");
}

#[test]
fn a_replacement_that_refers_to_nothing_is_refused() {
    assert_eq!(Substitution::compile("(a)", r"\2").unwrap_err(), PatternError::Group(2));
    assert_eq!(Substitution::compile("(a)", r"\x").unwrap_err(), PatternError::Replacement);
    assert_eq!(Substitution::compile("(a)", "\\").unwrap_err(), PatternError::Replacement);
}

/// Texts made of what means something in patterns.
fn any_pattern() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "a",
        "é",
        "-",
        "[",
        "]",
        "^",
        "[:",
        ":]",
        "[:alpha:]",
        "{",
        "}",
        "{2}",
        "{,",
        ",",
        "1",
        "(",
        ")",
        "(?",
        "(?i)",
        "(?:",
        "P<n>",
        "|",
        "*",
        "+",
        "?",
        "\\",
        "\\d",
        "\\Q",
        "\\E",
        "\\b",
        "\\12",
        "\\x{41}",
        "&&",
        "--",
        "~~",
        "<",
        ">",
        ".",
        "$",
        "/",
        "#",
        " ",
    ]);
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn no_pattern_panics_or_gets_out_of_its_anchors(pattern in any_pattern(), value in "[a1é/-]{0,4}") {
        // Whatever compiles alone compiles between anchors, and the other way round.
        let alone = Substitution::compile(&pattern, "").is_ok();
        let anchored = FullMatch::compile(&pattern);
        let splits_characters = pattern.contains(['B', 'C']);
        prop_assert!(alone == anchored.is_ok() || splits_characters);
        let _ = anchored.is_ok_and(|anchored| anchored.matches(value.as_bytes()));
        let mut out = String::new();
        if let Ok(substitution) = Substitution::compile(&pattern, r"<\0>") {
            substitution.write(&value, &mut out);
            prop_assert_eq!(out.replace(['<', '>'], ""), value);
        }
    }
}
