//! Upstream's validation cases: what its CRDs reject is rejected here, what they accept is not.

use std::fmt::Write;

use heddle_api::{At, Reader, Resource, Tree, Value};
use heddle_diag::Level;

fn text<'a>(tree: &'a Tree, at: At, name: &str) -> &'a str {
    tree.field(at, name).map_or("", |field| tree.text(field))
}

/// Writes a value; `{"$repeatString": "x", "length": n}` stands for a long text.
fn write(tree: &Tree, at: At, json: &mut heddle_diag::JsonWriter) {
    if let (Some(text), Some(length)) = (tree.field(at, "$repeatString"), tree.field(at, "length"))
    {
        let Value::Int(length) = tree.value(length) else { panic!("a length") };
        let text = tree.text(text).repeat(usize::try_from(length).unwrap());
        return json.string(text.get(..usize::try_from(length).unwrap()).unwrap());
    }
    match tree.value(at) {
        Value::Map => {
            json.open_object();
            for child in tree.children(at) {
                json.key(tree.key(child).unwrap());
                write(tree, child, json);
            }
            json.close_object();
        }
        Value::List => {
            json.open_list();
            for child in tree.children(at) {
                write(tree, child, json);
            }
            json.close_list();
        }
        _ => tree.write_json(at, json),
    }
}

#[test]
fn structural_rejections_are_those_of_the_crds() {
    let Some(file) = crate::shared("istio/validation-cases.json") else { return };
    let bytes = std::fs::read(file).unwrap();
    // The cases are no object; as one of an unknown kind they are kept as a tree.
    let wrapped = format!(
        "{{\"apiVersion\": \"x/v1\", \"kind\": \"Cases\", \"metadata\": {{\"name\": \"x\"}}, \"cases\": {}}}",
        String::from_utf8(bytes).unwrap()
    );
    let loaded = Reader::default().read_file("cases.json", wrapped.as_bytes());
    let Some(Resource::Other(cases)) = loaded.resources.first() else { panic!("{loaded:?}") };
    let tree = cases.written.tree();
    let list = tree.field(cases.written.root(), "cases").unwrap();
    let (mut wrong, mut rejected, mut accepted, mut webhook) = (String::new(), 0, 0, 0);
    for case in tree.children(list) {
        let mut json = heddle_diag::JsonWriter::new();
        json.open_object();
        for key in ["apiVersion", "kind", "metadata", "spec"] {
            if let Some(field) = tree.field(case, key) {
                json.key(key);
                write(tree, field, &mut json);
            }
        }
        json.close_object();
        let object = json.finish();
        let loaded = Reader::default().read_file("case.json", object.as_bytes());
        let errors: Vec<String> = loaded
            .diagnostics
            .iter()
            .filter(|finding| finding.level == Level::Error)
            .map(|finding| format!("{} {}", finding.origin.field, finding.message))
            .collect();
        let is = |name| tree.field(case, name).map(|at| tree.value(at)) == Some(Value::Bool(true));
        // What only the webhook rejects is `translate`'s business, but rejecting it here is right too.
        match (is("crdAccepts"), is("valid"), errors.is_empty()) {
            (false, _, false) => rejected += 1,
            (true, true, true) => accepted += 1,
            (true, false, early) => webhook += usize::from(!early),
            (false, _, true) | (true, true, false) => {
                let _ = writeln!(
                    wrong,
                    "{} {:?}: crd {:?}, we {errors:?}\n    {object}",
                    text(tree, case, "id"),
                    text(tree, case, "name"),
                    text(tree, case, "crdMessage"),
                );
            }
        }
    }
    assert_eq!(wrong, "");
    assert_eq!((rejected, accepted, webhook), (52, 124, 2));
}
