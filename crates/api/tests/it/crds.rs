//! The types against upstream's CRDs, field by field.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
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
    let (comparison, kinds_seen) = compare(&std::fs::read(file).unwrap());
    assert_eq!(comparison.differences, Vec::<String>::new());
    assert!(kinds_seen == 15 && comparison.fields > 2000, "{kinds_seen} {}", comparison.fields);
}

/// Compares the types with the CRDs of a file; also returns how many kinds there were.
fn compare(file: &[u8]) -> (Comparison, usize) {
    let loaded = Reader::default().read_file("crds.yaml", file);
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
            let root = version.path(&["schema", "openAPIV3Schema"]).unwrap();
            // Old kinds of SMI have their fields beside `metadata`.
            let upstream = root.path(&["properties", "spec"]).unwrap_or(root);
            let path = format!("{name}/{}", version.text("name").unwrap());
            comparison.value(&path, schema, upstream);
        }
    }
    (comparison, kinds_seen)
}

/// The differences of one folder of CRDs; templates of Helm are put out of the way.
fn differences(folder: &str, extension: &str) -> Option<(Vec<String>, usize)> {
    let folder = crate::shared(folder)?;
    let mut found = Vec::new();
    let mut kinds = 0;
    for file in crate::files(&folder, &[extension]) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("gateway.networking") || name == "httproute.yaml" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let plain: Vec<&str> = text.lines().filter(|line| !line.contains("{{")).collect();
        let (comparison, seen) = compare(plain.join("\n").as_bytes());
        found.extend(comparison.differences);
        kinds += seen;
    }
    Some((found, kinds))
}

#[test]
fn linkerd() {
    let Some((found, kinds)) = differences("linkerd2/charts/linkerd-crds/templates", "yaml") else {
        return;
    };
    assert_eq!(kinds, 9);
    expect![[r#"
        ServerAuthorization/v1alpha1.server.selector.matchLabels: upstream has no items
        ServerAuthorization/v1beta1.server.selector.matchLabels: upstream has no items
        Server/v1alpha1.accessPolicy: upstream has no such field
        Server/v1alpha1.podSelector: required differs
        Server/v1alpha1.podSelector.matchLabels: upstream has no items
        Server/v1alpha1.podSelector: exclusive fields ["matchExpressions", "matchLabels"] are not known
        Server/v1alpha1.externalWorkloadSelector: upstream has no such field
        Server/v1alpha1.port: IntOrText is not upstream's 
        Server/v1alpha1.proxyProtocol: values are {"HTTP/1", "HTTP/2", "TLS", "gRPC", "opaque", "unknown"}, upstream {}
        Server/v1beta1.accessPolicy: upstream has no such field
        Server/v1beta1.podSelector: required differs
        Server/v1beta1.podSelector.matchLabels: upstream has no items
        Server/v1beta1.externalWorkloadSelector: upstream has no such field
        Server/v1beta1.port: IntOrText is not upstream's 
        Server/v1beta1.proxyProtocol: values are {"HTTP/1", "HTTP/2", "TLS", "gRPC", "opaque", "unknown"}, upstream {}
        Server/v1beta2.accessPolicy: upstream has no such field
        Server/v1beta2.podSelector.matchLabels: upstream has no items
        Server/v1beta2.externalWorkloadSelector.matchLabels: upstream has no items
        Server/v1beta2.port: IntOrText is not upstream's 
        Server/v1beta2.proxyProtocol: values are {"HTTP/1", "HTTP/2", "TLS", "gRPC", "opaque", "unknown"}, upstream {}
        Server/v1beta3.accessPolicy: values are {"all-authenticated", "all-unauthenticated", "audit", "cluster-authenticated", "cluster-unauthenticated", "deny"}, upstream {}
        Server/v1beta3.podSelector.matchLabels: upstream has no items
        Server/v1beta3.externalWorkloadSelector.matchLabels: upstream has no items
        Server/v1beta3.port: IntOrText is not upstream's 
        Server/v1beta3.proxyProtocol: values are {"HTTP/1", "HTTP/2", "TLS", "gRPC", "opaque", "unknown"}, upstream {}
        ServiceProfile/v1alpha1.dstOverrides[].authority: required differs
        ServiceProfile/v1alpha1.dstOverrides[].weight: required differs
        ServiceProfile/v1alpha1.dstOverrides[].weight: pattern is not checked
        ServiceProfile/v1alpha1.dstOverrides[].weight: Quantity is not upstream's 
        ServiceProfile/v1alpha1.retryBudget.retryRatio: range is narrower than (-inf, inf)
        ServiceProfile/v1alpha1.routes: required differs
        ServiceProfile/v1alpha1.routes[].condition.all: Free is not upstream's array
        ServiceProfile/v1alpha1.routes[].condition.any: Free is not upstream's array
        ServiceProfile/v1alpha1.routes[].condition.not: Free is not upstream's array
        ServiceProfile/v1alpha1.routes[].name: length is Some((1, 18446744073709551615)), upstream None
        ServiceProfile/v1alpha1.routes[].responseClasses[].condition.status.min: range is narrower than (-inf, inf)
        ServiceProfile/v1alpha1.routes[].responseClasses[].condition.status.max: range is narrower than (-inf, inf)
        ServiceProfile/v1alpha1.routes[].responseClasses[].condition.all: Free is not upstream's array
        ServiceProfile/v1alpha1.routes[].responseClasses[].condition.any: Free is not upstream's array
        ServiceProfile/v1alpha1.routes[].retryBudget: upstream has no such field
        ServiceProfile/v1alpha2.dstOverrides[].authority: required differs
        ServiceProfile/v1alpha2.dstOverrides[].weight: required differs
        ServiceProfile/v1alpha2.dstOverrides[].weight: pattern is not checked
        ServiceProfile/v1alpha2.dstOverrides[].weight: Quantity is not upstream's 
        ServiceProfile/v1alpha2.retryBudget.retryRatio: range is narrower than (-inf, inf)
        ServiceProfile/v1alpha2.routes[].condition.all: Free is not upstream's array
        ServiceProfile/v1alpha2.routes[].condition.any: Free is not upstream's array
        ServiceProfile/v1alpha2.routes[].condition.not: Free is not upstream's array
        ServiceProfile/v1alpha2.routes[].name: length is Some((1, 18446744073709551615)), upstream None
        ServiceProfile/v1alpha2.routes[].responseClasses[].condition.status.min: range is narrower than (-inf, inf)
        ServiceProfile/v1alpha2.routes[].responseClasses[].condition.status.max: range is narrower than (-inf, inf)
        ServiceProfile/v1alpha2.routes[].responseClasses[].condition.all: Free is not upstream's array
        ServiceProfile/v1alpha2.routes[].responseClasses[].condition.any: Free is not upstream's array
        ServiceProfile/v1alpha2.routes[].retryBudget: upstream has no such field
        ExternalWorkload/v1alpha1.meshTLS: upstream has no such field
        ExternalWorkload/v1alpha1.meshTls: required differs
        ExternalWorkload/v1alpha1.ports[].protocol: values are {"TCP", "UDP"}, upstream {}
        ExternalWorkload/v1alpha1.workloadIPs: count differs
        ExternalWorkload/v1beta1.meshTLS: required differs
        ExternalWorkload/v1beta1.meshTls: upstream has no such field
        ExternalWorkload/v1beta1.ports[].protocol: values are {"TCP", "UDP"}, upstream {}"#]].assert_eq(&found.join("\n"));
}

#[test]
fn smi() {
    let Some((found, kinds)) = differences("smi-sdk-go/crds", "yaml") else { return };
    assert_eq!(kinds, 5);
    expect![[r#"
        TrafficTarget/v1alpha3.destination.port: upstream has no such field
        TrafficTarget/v1alpha3.sources: required differs
        TrafficTarget/v1alpha3.sources[].port: upstream has no such field
        TrafficTarget/v1alpha3.rules: required differs
        TrafficTarget/v1alpha3.specs: upstream has no such field
        TrafficTarget/v1alpha2.destination.port: IntOrText is not upstream's number
        TrafficTarget/v1alpha2.sources[].port: upstream has no such field
        TrafficTarget/v1alpha2.rules[].kind: values are {"HTTPRouteGroup", "TCPRoute", "UDPRoute"}, upstream {"HTTPRouteGroup", "TCPRoute"}
        TrafficTarget/v1alpha2.specs: upstream has no such field
        TrafficTarget/v1alpha1.destination.port: required differs
        TrafficTarget/v1alpha1.destination.port: IntOrText is not upstream's number
        TrafficTarget/v1alpha1.sources[].port: upstream has no such field
        TrafficTarget/v1alpha1.rules: upstream has no such field
        TrafficTarget/v1alpha1.specs[].kind: values are {"HTTPRouteGroup", "TCPRoute", "UDPRoute"}, upstream {"HTTPRouteGroup", "TCPRoute"}
        HTTPRouteGroup/v1alpha4.matches[].name: length is Some((1, 18446744073709551615)), upstream None
        HTTPRouteGroup/v1alpha4.matches[].methods[]: the values are not checked
        HTTPRouteGroup/v1alpha4.matches[].headers: Free is not upstream's array
        HTTPRouteGroup/v1alpha3.matches[].name: length is Some((1, 18446744073709551615)), upstream None
        HTTPRouteGroup/v1alpha3.matches[].methods[]: the values are not checked
        HTTPRouteGroup/v1alpha3.matches[].headers: Free is not upstream's array
        HTTPRouteGroup/v1alpha2.matches[].name: length is Some((1, 18446744073709551615)), upstream None
        HTTPRouteGroup/v1alpha2.matches[].methods[]: the values are not checked
        HTTPRouteGroup/v1alpha2.matches[].headers: Free is not upstream's array
        HTTPRouteGroup/v1alpha1.matches[].name: length is Some((1, 18446744073709551615)), upstream None
        HTTPRouteGroup/v1alpha1.matches[].methods[]: the values are not checked
        HTTPRouteGroup/v1alpha1.matches[].headers: Free is not upstream's array
        TrafficSplit: versions are {"v1alpha2", "v1alpha3", "v1alpha4"}
        TrafficSplit/v1alpha4.service: length is Some((1, 18446744073709551615)), upstream None
        TrafficSplit/v1alpha4.backends[].service: length is Some((1, 18446744073709551615)), upstream None
        TrafficSplit/v1alpha4.backends[].weight: Quantity is not upstream's number
        TrafficSplit/v1alpha4.matches[].apiGroup: upstream has no such field
        TrafficSplit/v1alpha3.service: length is Some((1, 18446744073709551615)), upstream None
        TrafficSplit/v1alpha3.backends[].service: length is Some((1, 18446744073709551615)), upstream None
        TrafficSplit/v1alpha3.backends[].weight: Quantity is not upstream's number
        TrafficSplit/v1alpha3.matches[].apiGroup: upstream has no such field
        TrafficSplit/v1alpha2.service: length is Some((1, 18446744073709551615)), upstream None
        TrafficSplit/v1alpha2.backends[].service: length is Some((1, 18446744073709551615)), upstream None
        TrafficSplit/v1alpha2.backends[].weight: Quantity is not upstream's number
        TrafficSplit/v1alpha2.matches: upstream has no such field
        TCPRoute: versions are {"v1alpha4"}
        TCPRoute/v1alpha4.matches: required differs
        TCPRoute/v1alpha4.matches.name: upstream has no such field
        TCPRoute/v1alpha4.matches.ports: required differs
        UDPRoute/v1alpha4.matches: required differs
        UDPRoute/v1alpha4.matches.name: upstream has no such field
        UDPRoute/v1alpha4.matches.ports: required differs"#]].assert_eq(&found.join("\n"));
}
