use super::*;
use crate::{Outcome, Position};
use expect_test::expect;

const SAMPLE: &crate::Code = &crate::Code {
    id: "HED9999",
    title: "a sample",
    text: "For this test.",
    upstream: &["IST0101", "KIA0601"],
};

fn origin() -> Origin {
    let mut origin = Origin::in_file("a \"b\".yaml", Position { line: 3, column: 5 });
    origin.dialect = crate::Dialect::Istio;
    origin.kind = "VirtualService".into();
    origin.namespace = "default".into();
    origin.name = "reviews".into();
    origin.at("spec.http[0]", Some(Position { line: 7, column: 3 }))
}

#[test]
fn prints_the_documented_shape() {
    let finding = Diagnostic::error(SAMPLE, origin(), "line\nbreak \u{1} \\")
        .hint("look")
        .related("first here", Origin::built_in("x"));
    let plain = Diagnostic::info(SAMPLE, origin(), "m");
    let outcome = OutcomeRecord::new(origin(), Outcome::Ignored, "why");
    expect![[r#"{"findings":[{"code":"HED9999","upstream":["IST0101","KIA0601"],"level":"error","message":"line\nbreak \u0001 \\","hint":"look","origin":{"dialect":"istio","kind":"VirtualService","namespace":"default","name":"reviews","file":"a \"b\".yaml","line":7,"column":3,"field":"spec.http[0]"},"related":[{"note":"first here","origin":{"dialect":"built-in","kind":"Default","name":"x"}}]},{"code":"HED9999","upstream":["IST0101","KIA0601"],"level":"info","message":"m","hint":null,"origin":{"dialect":"istio","kind":"VirtualService","namespace":"default","name":"reviews","file":"a \"b\".yaml","line":7,"column":3,"field":"spec.http[0]"}}],"outcomes":[{"origin":{"dialect":"istio","kind":"VirtualService","namespace":"default","name":"reviews","file":"a \"b\".yaml","line":7,"column":3,"field":"spec.http[0]"},"outcome":"ignored","detail":"why"}]}"#]]
    .assert_eq(&findings_json([&finding, &plain], [&outcome]));
}

#[test]
fn empty_values_take_no_commas() {
    let mut json = JsonWriter::new();
    json.open_list();
    json.open_object();
    json.close_object();
    json.open_list();
    json.close_list();
    json.string("");
    json.raw("1");
    json.close_list();
    assert_eq!(json.finish(), r#"[{},[],"",1]"#);
}
