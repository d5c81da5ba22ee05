use super::*;
use crate::Diagnostics;
use expect_test::{Expect, expect};

const SAMPLE: &crate::Code =
    &crate::Code { id: "HED9999", title: "a sample", text: "For this test.", upstream: &[] };

fn check(text: &str, line: u32, column: u32, expected: &Expect) {
    let mut origin = Origin::in_file("vs.yaml", Position { line, column });
    origin.kind = "VirtualService".into();
    origin.namespace = "shop".into();
    origin.name = "web".into();
    let finding =
        Diagnostic::error(SAMPLE, origin, "unknown field `hots`").hint("did you mean `hosts`?");
    expected.assert_eq(&render_text(&finding, |path| (path == "vs.yaml").then_some(text)));
}

#[test]
fn the_caret_stands_under_the_word() {
    check(
        "spec:\n  hots: [a]\n",
        2,
        3,
        &expect![[r"
            error[HED9999]: unknown field `hots`
              --> vs.yaml:2:3  VirtualService shop/web
              |
            2 |   hots: [a]
              |   ^^^^
            hint: did you mean `hosts`?
        "]],
    );
}

#[test]
fn a_line_beyond_the_text_has_no_excerpt() {
    check(
        "spec:\n",
        9,
        1,
        &expect![[r"
            error[HED9999]: unknown field `hots`
              --> vs.yaml:9:1  VirtualService shop/web
            hint: did you mean `hosts`?
        "]],
    );
}

#[test]
fn long_lines_are_cut_and_control_characters_hidden() {
    let line = format!("{}\u{1b}[31mX: é{}", "a".repeat(300), "b".repeat(500));
    check(
        &line,
        1,
        306,
        &expect![[r"
            error[HED9999]: unknown field `hots`
              --> vs.yaml:1:306  VirtualService shop/web
              |
            1 | aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa [31mX: ébbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
              |                                                             ^
            hint: did you mean `hosts`?
        "]],
    );
}

#[test]
fn the_sink_is_bounded_and_sorts_by_place() {
    let mut sink = Diagnostics::new();
    for line in [9, 2, 5] {
        let origin = Origin::in_file("a", Position { line, column: 1 });
        sink.push(Diagnostic::warning(SAMPLE, origin, "m"));
    }
    sink.sort();
    let lines: Vec<String> = sink.iter().map(|d| d.origin.to_string()).collect();
    assert_eq!(lines, ["a:2:1", "a:5:1", "a:9:1"]);
    assert!(!sink.has_errors());
    for _ in 0..Diagnostics::LIMIT {
        sink.push(Diagnostic::error(SAMPLE, Origin::built_in("x"), "m"));
    }
    assert_eq!((sink.len(), sink.dropped(), sink.has_errors()), (Diagnostics::LIMIT, 3, true));
}
