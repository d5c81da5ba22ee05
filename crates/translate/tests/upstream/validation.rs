//! What Istio's admission accepts and rejects.

use heddle_api::Reader;
use heddle_diag::Level;
use heddle_translate::{Change, Options, Translator, codes};
use serde_json::Value;

use crate::shared::data;

/// Cases on which heddle differs, and why.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "TestValidateTlsOptions/7",
        "the Go code warns of more than two certificates; the schema of the CRD refuses them",
    ),
    (
        "TestValidateHTTPRoute/36",
        "the Go struct takes a null match; the API server refuses it in a list, and so does heddle",
    ),
    (
        "TestValidateServiceEntries/48",
        "the Go struct cannot tell an empty list from none; the schema of the CRD refuses it",
    ),
];

/// Whether the object would be rejected: an error of reading, or one of its own project's rules.
fn rejected(case: &Value) -> Vec<String> {
    let mut object = serde_json::json!({
        "apiVersion": case["apiVersion"], "kind": case["kind"], "metadata": case["metadata"],
    });
    if object["metadata"].is_null() {
        object["metadata"] = serde_json::json!({"name": "test", "namespace": "default"});
    }
    object["spec"] = case["spec"].clone();
    repeat(&mut object["spec"]);
    let text = object.to_string();
    let loaded = Reader::default().read_file("case.json", text.as_bytes());
    let mut errors: Vec<String> = loaded
        .diagnostics
        .iter()
        .filter(|finding| finding.level == Level::Error)
        .map(|finding| finding.message.clone())
        .collect();
    let mut translator = Translator::new(Options::default());
    translator.apply(loaded.resources.into_iter().map(Change::Upsert));
    let own = [codes::REJECTED, codes::WEIGHTS, codes::UNKNOWN_ATTRIBUTE];
    errors.extend(
        translator
            .findings()
            .iter()
            .filter(|finding| own.contains(&finding.code))
            .map(|finding| finding.message.clone()),
    );
    errors
}

/// Long texts are written as `{"$repeatString": text, "length": bytes}`.
fn repeat(value: &mut Value) {
    if let (Some(text), Some(length)) = (
        value.get("$repeatString").and_then(Value::as_str),
        value.get("length").and_then(Value::as_u64),
    ) {
        let length = usize::try_from(length).unwrap();
        *value = Value::String(text.repeat(length / text.len()));
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(repeat),
        Value::Object(entries) => entries.values_mut().for_each(repeat),
        _ => {}
    }
}

#[test]
fn what_istio_accepts_and_rejects_is_accepted_and_rejected() {
    let Some(path) = data("istio/validation-cases.json") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut different = Vec::new();
    let mut seen = 0;
    for case in &cases {
        seen += 1;
        let errors = rejected(case);
        let valid = case["valid"].as_bool().unwrap();
        let id = case["id"].as_str().unwrap();
        let listed = DIFFERENT.iter().any(|(known, _)| *known == id);
        if (errors.is_empty() == valid) == listed {
            let name = case["name"].as_str().unwrap_or_default();
            different.push(format!(
                "{id} ({name}): valid {valid}, errors {errors:?}\n    {}",
                case["spec"]
            ));
        }
    }
    assert!(seen > 300);
    assert!(different.is_empty(), "{} of {seen}:\n{}", different.len(), different.join("\n"));
}
