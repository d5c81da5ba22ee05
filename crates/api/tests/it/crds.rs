//! The types against upstream's CRDs, field by field.

use std::collections::{BTreeMap, BTreeSet};

use heddle_api::schema::{ObjectSchema, Rules, TypeSchema};
use heddle_api::{At, Reader, Resource, Tree, Value, kinds};

/// A CRD's schema at a place.
#[derive(Clone, Copy)]
pub(crate) struct Upstream<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) at: At,
}

impl<'a> Upstream<'a> {
    pub(crate) fn get(self, name: &str) -> Option<Self> {
        Some(Self { tree: self.tree, at: self.tree.field(self.at, name)? })
    }

    pub(crate) fn path(self, names: &[&str]) -> Option<Self> {
        names.iter().try_fold(self, |here, name| here.get(name))
    }

    pub(crate) fn text(self, name: &str) -> Option<&'a str> {
        self.get(name).map(|here| &**self.tree.text(here.at))
    }

    pub(crate) fn items(self) -> Vec<Self> {
        self.tree.children(self.at).map(|at| Self { tree: self.tree, at }).collect()
    }

    fn texts(self, name: &str) -> Vec<&'a str> {
        let list = self.get(name).map(Self::items).unwrap_or_default();
        list.into_iter().map(|item| &**self.tree.text(item.at)).collect()
    }

    fn entries(self) -> BTreeMap<&'a str, Self> {
        self.items().into_iter().map(|entry| (&**self.tree.key(entry.at).unwrap(), entry)).collect()
    }

    fn number(self, name: &str) -> Option<f64> {
        match self.tree.value(self.get(name)?.at) {
            #[expect(clippy::cast_precision_loss, reason = "schemas have small numbers")]
            Value::Int(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            other => panic!("{name}: {other:?}"),
        }
    }

    fn size(self, name: &str) -> Option<usize> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "lengths are small"
        )]
        self.number(name).map(|number| number as usize)
    }

    fn is_true(self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Its CEL rules.
    fn rules(self) -> Vec<&'a str> {
        let rules = self.get("x-kubernetes-validations").map(Self::items).unwrap_or_default();
        rules.into_iter().filter_map(|rule| rule.text("rule")).collect()
    }
}

#[derive(Default)]
pub(crate) struct Comparison {
    pub(crate) differences: Vec<String>,
    pub(crate) fields: usize,
}

impl Comparison {
    pub(crate) fn differ(&mut self, path: &str, what: impl Into<String>) {
        self.differences.push(format!("{path}: {}", what.into()));
    }

    fn object(&mut self, path: &str, ours: &ObjectSchema, upstream: Upstream<'_>) {
        let properties = upstream.get("properties").map(Upstream::entries).unwrap_or_default();
        let required: BTreeSet<&str> = upstream.texts("required").into_iter().collect();
        let known: BTreeSet<&str> = ours.fields.iter().map(|field| field.name).collect();
        for name in properties.keys().filter(|name| !known.contains(*name)) {
            self.differ(path, format!("`{name}` is missing"));
        }
        for field in ours.fields {
            self.fields += 1;
            let path = format!("{path}.{}", field.name);
            let Some(upstream) = properties.get(field.name) else {
                self.differ(&path, "upstream has no such field");
                continue;
            };
            if field.rules.required != required.contains(field.name) {
                self.differ(&path, "required differs");
            }
            if field.rules.nullable != upstream.is_true("nullable") {
                self.differ(&path, "nullable differs");
            }
            self.rules(&path, field.takes, &field.rules, *upstream);
            self.value(&path, field.takes, *upstream);
        }
        let upstream_groups: BTreeSet<Vec<&str>> = upstream
            .get("oneOf")
            .into_iter()
            .map(|one_of| {
                let mut names: Vec<&str> = one_of
                    .items()
                    .into_iter()
                    .flat_map(|option| option.texts("required"))
                    .collect();
                names.sort_unstable();
                names
            })
            .filter(|names| names.len() > 1)
            .collect();
        let groups: BTreeSet<Vec<&str>> = ours
            .groups
            .iter()
            .map(|group| {
                let (heddle_api::schema::Group::AtMostOne(names)
                | heddle_api::schema::Group::ExactlyOne(names)
                | heddle_api::schema::Group::AtLeastOne(names)) = group;
                let mut names = names.to_vec();
                names.sort_unstable();
                names
            })
            .collect();
        for group in upstream_groups.difference(&groups) {
            self.differ(path, format!("exclusive fields {group:?} are not known"));
        }
    }

    fn rules(&mut self, path: &str, takes: &TypeSchema, ours: &Rules, upstream: Upstream<'_>) {
        let item = upstream.get("items").or(upstream.get("additionalProperties"));
        if !matches!(takes, TypeSchema::Choice(_)) {
            self.length(path, ours.len, upstream);
            if let Some(item) = item.filter(|_| !matches!(takes, TypeSchema::Object(_))) {
                self.length(&format!("{path}[]"), ours.item_len, item);
            }
        }
        let count = |least, most| match (upstream.size(least), upstream.size(most)) {
            (None, None) => None,
            (least, most) => Some((least.unwrap_or(0), most.unwrap_or(usize::MAX))),
        };
        if count("minItems", "maxItems").or(count("minProperties", "maxProperties")) != ours.count {
            self.differ(path, "count differs");
        }
        let set = (upstream.text("x-kubernetes-list-type") == Some("set")).then_some("");
        if upstream.texts("x-kubernetes-list-map-keys").first().copied().or(set) != ours.unique {
            self.differ(path, "unique key differs");
        }
        if upstream.get("pattern").is_some() && ours.check.is_none() {
            self.differ(path, "pattern is not checked");
        }
        if item.is_some_and(|item| item.get("pattern").is_some()) && ours.item_check.is_none() {
            self.differ(path, "pattern of items is not checked");
        }
        let millisecond = upstream.rules().iter().any(|rule| rule.contains("duration(self)"));
        if millisecond != ours.duration_min_ns.is_some() {
            self.differ(path, "least duration differs");
        }
        let (least, most) = match takes {
            #[expect(clippy::cast_precision_loss, reason = "bounds of integers")]
            TypeSchema::Integer(least, most) => (*least as f64, *most as f64),
            TypeSchema::Number => (f64::NEG_INFINITY, f64::INFINITY),
            _ => return,
        };
        let (rule_least, rule_most) = ours.range.unwrap_or((least, most));
        let port = upstream.rules().iter().any(|rule| rule.contains("65535"));
        let bounds = (
            upstream.number("minimum").unwrap_or(if port { 1.0 } else { f64::NEG_INFINITY }),
            upstream.number("maximum").unwrap_or(if port { 65_535.0 } else { f64::INFINITY }),
        );
        // Ports are kept in 16 bits, which is narrower than the CRD and what upstream's webhook says.
        if least.max(rule_least) < bounds.0 || most.min(rule_most) > bounds.1 {
            self.differ(path, format!("range is wider than {bounds:?}"));
        }
        let narrowed = rule_least > bounds.0 || rule_most < bounds.1;
        if ours.range.is_some() && narrowed && !port && bounds != (0.0, 4_294_967_295.0) {
            self.differ(path, format!("range is narrower than {bounds:?}"));
        }
    }

    fn length(&mut self, path: &str, ours: Option<(usize, usize)>, upstream: Upstream<'_>) {
        let theirs = match (upstream.size("minLength"), upstream.size("maxLength")) {
            (None, None) => None,
            (least, most) => Some((least.unwrap_or(0), most.unwrap_or(usize::MAX))),
        };
        if theirs != ours && upstream.get("enum").is_none() {
            self.differ(path, format!("length is {ours:?}, upstream {theirs:?}"));
        }
    }

    pub(crate) fn value(&mut self, path: &str, ours: &TypeSchema, upstream: Upstream<'_>) {
        let kind = upstream.text("type").unwrap_or_default();
        let item = upstream.get("items").or(upstream.get("additionalProperties"));
        match (ours, kind) {
            (TypeSchema::Text | TypeSchema::Duration, "string")
            | (TypeSchema::Integer(..), "integer")
            | (TypeSchema::Number, "number")
            | (TypeSchema::Bool, "boolean") => {
                if upstream.get("enum").is_some() {
                    self.differ(path, "the values are not checked");
                }
            }
            (TypeSchema::Free, _) if upstream.is_true("x-kubernetes-preserve-unknown-fields") => {}
            (TypeSchema::Choice(texts), "string") => {
                let theirs: BTreeSet<&str> = upstream.texts("enum").into_iter().collect();
                let ours: BTreeSet<&str> = texts.iter().copied().collect();
                if theirs != ours {
                    self.differ(path, format!("values are {ours:?}, upstream {theirs:?}"));
                }
            }
            (TypeSchema::Object(schema), "object") => self.object(path, schema, upstream),
            (TypeSchema::List(of), "array") | (TypeSchema::Map(of), "object") => match item {
                Some(item) => self.value(&format!("{path}[]"), of, item),
                None => self.differ(path, "upstream has no items"),
            },
            (ours, kind) => self.differ(path, format!("{ours:?} is not upstream's {kind}")),
        }
    }
}

#[test]
fn every_field_of_every_version_is_known_with_its_rules() {
    let Some(file) = crate::shared("istio/manifests/charts/base/files/crd-all.gen.yaml") else {
        return;
    };
    let loaded = Reader::default().read_file("crds.yaml", &std::fs::read(file).unwrap());
    let schemas = kinds::schemas();
    let mut comparison = Comparison::default();
    let mut kinds_seen = 0;
    for resource in &loaded.resources {
        let Resource::Other(crd) = resource else { panic!("{:?}", resource.origin()) };
        let root = Upstream { tree: crd.written.tree(), at: crd.written.root() };
        let spec = root.get("spec").unwrap();
        let (group, name) =
            (spec.text("group").unwrap(), spec.path(&["names"]).unwrap().text("kind").unwrap());
        let Some((kind, schema)) =
            schemas.iter().find(|(kind, _)| kind.group == group && kind.kind == name)
        else {
            comparison.differ(name, "the kind is not known");
            continue;
        };
        kinds_seen += 1;
        let plural = spec.get("names").unwrap().text("plural");
        if plural != Some(kind.plural) {
            comparison.differ(name, format!("plural is {plural:?}"));
        }
        if (spec.text("scope") == Some("Namespaced")) != kind.namespaced {
            comparison.differ(name, "scope differs");
        }
        let versions = spec.get("versions").unwrap().items();
        let theirs: BTreeSet<&str> = versions.iter().filter_map(|v| v.text("name")).collect();
        if theirs != kind.versions.iter().copied().collect() {
            comparison.differ(name, format!("versions are {theirs:?}"));
        }
        for version in versions {
            let upstream =
                version.path(&["schema", "openAPIV3Schema", "properties", "spec"]).unwrap();
            let path = format!("{name}/{}", version.text("name").unwrap());
            comparison.value(&path, schema, upstream);
        }
    }
    assert_eq!(comparison.differences, Vec::<String>::new());
    assert!(kinds_seen == 15 && comparison.fields > 2000, "{kinds_seen} {}", comparison.fields);
}
