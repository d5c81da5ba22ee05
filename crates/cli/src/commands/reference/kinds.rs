//! The page of kinds: what is read, and what is enforced field by field.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use heddle_api::Kind;
use heddle_api::kinds::{Body, all, schemas};
use heddle_api::schema::{FieldSchema, ObjectSchema, TypeSchema};
use heddle_diag::Dialect;
use heddle_translate::outcomes::field_rules;

use super::{NOTE, cell};

/// Kinds that decide about traffic or workloads as a whole; their fields have no outcomes of their own.
const DIALECTS: [(Dialect, &str); 7] = [
    (Dialect::Kubernetes, "Kubernetes"),
    (Dialect::Istio, "Istio"),
    (Dialect::GatewayApi, "Gateway API"),
    (Dialect::Linkerd, "Linkerd"),
    (Dialect::Cilium, "Cilium"),
    (Dialect::Smi, "SMI"),
    (Dialect::Flagger, "Flagger"),
];

pub(super) fn page() -> String {
    let mut page = format!(
        "{NOTE}# Kinds\n\nDispatch is on group and kind. *Decoded* kinds are read field by field: unknown fields, wrong \
         types and values out of range are found with file, line and column. *Recognised* kinds are kept, shown and \
         reported as not enforced.\n"
    );
    for (dialect, title) in DIALECTS {
        let _ = write!(
            page,
            "\n## {title}\n\n| kind | group | versions | in a namespace | read |\n|---|---|---|---|---|\n"
        );
        for kind in all().filter(|kind| kind.dialect == dialect) {
            let group = if kind.group.is_empty() { "core" } else { kind.group };
            let read = if kind.body == Body::Raw { "recognised" } else { "decoded" };
            let scope = if kind.namespaced { "yes" } else { "no" };
            let versions = kind.versions.join(", ");
            let _ = writeln!(page, "| {} | {group} | {versions} | {scope} | {read} |", kind.kind);
        }
    }
    fields(&mut page);
    page
}

/// The fields of Istio's kinds with what becomes of each.
fn fields(page: &mut String) {
    let rules = rules_by_kind();
    page.push_str(
        "\n# Fields\n\nOf Istio's kinds, and of workloads where a standalone mesh runs them: a Pod's fields count in every template. What becomes of a field in general; values and other objects may say more, which `heddle analyze` \
         tells. Fields that are not listed below a path share what is said of the path.\n",
    );
    let told = |kind: &Kind| {
        kind.dialect == Dialect::Istio
            || kind.dialect == Dialect::Kubernetes && rules.contains_key(kind.kind)
    };
    for (kind, schema) in schemas().into_iter().filter(|(kind, _)| told(kind)) {
        let _ = write!(page, "\n## {}\n\n", kind.kind);
        match rules.get(kind.kind) {
            Some(Rules::Whole(why)) => {
                let _ = writeln!(page, "Decoded and not enforced: {}.", cell(why));
            }
            Some(Rules::Fields(rows)) => {
                page.push_str("| field | outcome | |\n|---|---|---|\n");
                for (path, outcome, why) in rows {
                    let _ = writeln!(page, "| `{path}` | {outcome} | {} |", cell(why));
                }
            }
            None => {}
        }
        types(page, kind, &schema);
    }
}

enum Rules {
    Whole(&'static str),
    Fields(Vec<(&'static str, &'static str, &'static str)>),
}

fn rules_by_kind() -> BTreeMap<&'static str, Rules> {
    let mut rules = BTreeMap::new();
    for rule in field_rules() {
        if rule.path.is_empty() && rule.kind != "MeshConfig" {
            rules.insert(rule.kind, Rules::Whole(rule.why));
            continue;
        }
        let entry = rules.entry(rule.kind).or_insert_with(|| Rules::Fields(Vec::new()));
        if let Rules::Fields(rows) = entry {
            rows.push((rule.path, rule.outcome.as_str(), rule.why));
        }
    }
    rules
}

/// The fields at the top of a kind, with what each takes.
fn types(page: &mut String, kind: &Kind, schema: &TypeSchema) {
    let TypeSchema::Object(ObjectSchema { fields, .. }) = schema else { return };
    if fields.is_empty() {
        return;
    }
    let place = if kind.body == Body::Spec { "Below `spec`" } else { "Beside `metadata`" };
    let described: Vec<String> = fields.iter().map(described).collect();
    let _ = write!(page, "\n{place}: {}.\n", described.join(", "));
}

fn described(field: &FieldSchema) -> String {
    let required = if field.rules.required { ", required" } else { "" };
    format!("`{}` ({}{required})", field.name, takes(field.takes))
}

fn takes(schema: &TypeSchema) -> String {
    match schema {
        TypeSchema::Bool => "boolean".to_owned(),
        TypeSchema::Choice(choices) => choices.join(" or "),
        TypeSchema::Duration => "duration".to_owned(),
        TypeSchema::Free => "anything".to_owned(),
        TypeSchema::IntOrText => "whole number or text".to_owned(),
        TypeSchema::Integer(..) => "whole number".to_owned(),
        TypeSchema::List(item) => format!("list of {}", takes(item)),
        TypeSchema::Map(entry) => format!("mapping to {}", takes(entry)),
        TypeSchema::Number => "number".to_owned(),
        TypeSchema::Object(object) => object.name.to_owned(),
        TypeSchema::Quantity => "quantity".to_owned(),
        TypeSchema::Text => "text".to_owned(),
    }
}
