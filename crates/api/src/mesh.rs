//! Finds configuration inside other objects: YAML within a ConfigMap, or a part of an `IstioOperator`.
//!
//! A document within a text keeps its positions in the outer file, so that a finding in `data.mesh` points at the line a
//! user sees.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_diag::{Diagnostic, Position};

use crate::codes;
use crate::decode::{Decode, Decoder, Manners};
use crate::istio::{MeshConfig, MeshNetworks};
use crate::kinds::Resource;
use crate::meta::Meta;
use crate::object::{Object, Written};
use crate::read::Loaded;
use crate::tree::{At, Tree, Value};
use crate::yaml::{self, Budget, Limits};

/// The mesh configuration that an object holds, if any.
pub(crate) fn embedded(resource: &Resource, limits: &Limits) -> Loaded {
    let mut loaded = Loaded::default();
    let origin = resource.origin();
    match resource {
        Resource::ConfigMap(map)
            if &*origin.name == "istio" || origin.name.starts_with("istio-") =>
        {
            let data = map.written.field(map.written.root(), "data");
            let key = |name| map.written.field(data?, name);
            if let Some(at) = key("mesh") {
                document::<MeshConfig>(resource, at, limits, &mut loaded, Resource::MeshConfig);
            }
            if let Some(at) = key("meshNetworks") {
                document::<MeshNetworks>(resource, at, limits, &mut loaded, Resource::MeshNetworks);
            }
        }
        Resource::Other(operator) if &*origin.kind == "IstioOperator" => {
            let written = &operator.written;
            let spec = written.field(written.root(), "spec");
            if let Some(at) = spec.and_then(|spec| written.field(spec, "meshConfig")) {
                part(resource, written.clone(), at, &mut loaded, Resource::MeshConfig);
            }
        }
        _ => {}
    }
    loaded
}

/// Decodes the document in the text at a place.
fn document<T: Decode + Default>(
    resource: &Resource,
    at: At,
    limits: &Limits,
    loaded: &mut Loaded,
    make: fn(Arc<Object<T>>) -> Resource,
) {
    let mut findings = Vec::new();
    let written = nested(resource.written(), at, limits, &mut findings);
    for finding in findings {
        loaded.diagnostics.push(finding);
    }
    if let Some(written) = written {
        part(resource, written, Tree::ROOT, loaded, make);
    }
}

/// A document that stands in a text of an object: what it says, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Nested<T> {
    /// What it says.
    pub object: Object<T>,
    /// What is wrong with it, at the places of the outer file.
    pub findings: Vec<Diagnostic>,
}

/// Reads the document in the text at a place of an object, where it has all of these keys at its top. None where it has
/// not, or where there is no text. What cannot be read at all has none of them.
pub fn nested_document<T: Decode + Default>(
    meta: &Meta,
    outer: &Written,
    at: At,
    keys: &[&str],
) -> Option<Nested<T>> {
    let text = outer.tree().text(at);
    if outer.tree().value(at) != Value::Text || keys.iter().any(|key| !text.contains(key)) {
        return None;
    }
    let mut findings = Vec::new();
    let mut written = nested(outer, at, &Limits::default(), &mut findings)?;
    if keys.iter().any(|key| written.field(Tree::ROOT, key).is_none()) {
        return None;
    }
    let tree = written.tree.clone();
    let origin = written.origin.clone();
    let mut decoder = Decoder::new(&tree, Tree::ROOT, &origin, Manners::Custom);
    let spec = decoder.slot(Some(Tree::ROOT));
    let found = decoder.finish();
    let broken: BTreeSet<At> = written.broken.iter().copied().chain(found.broken).collect();
    written.broken = broken.into_iter().collect();
    findings.extend(found.diagnostics.iter().cloned());
    Some(Nested { object: Object { meta: meta.clone(), spec, written }, findings })
}

/// Reads the document in the text at a place of an object, with the positions of the outer file.
fn nested(
    outer: &Written,
    at: At,
    limits: &Limits,
    findings: &mut Vec<Diagnostic>,
) -> Option<Written> {
    if outer.tree().value(at) != Value::Text {
        return None;
    }
    let shift = Shift {
        block: outer.tree().node(at).and_then(|node| node.block),
        fallback: outer.tree().position(at),
    };
    let text = outer.tree().text(at).clone();
    let (documents, stop) = yaml::read(&text, 1, &mut Budget::new(limits));
    let origin_at = |position| outer.origin().at(outer.path(at), Some(shift.outer(position)));
    if let Some(stop) = stop {
        for problem in &stop.before {
            let origin = origin_at(problem.position);
            let finding = Diagnostic::error(problem.code, origin, problem.message.clone());
            findings.push(finding.hint_opt(problem.hint.clone()));
        }
        let finding = Diagnostic::error(
            codes::NESTED_DOCUMENT,
            origin_at(stop.position),
            format!("the embedded document cannot be read: {}", stop.message),
        );
        findings.push(finding.hint_opt(stop.hint));
    }
    let mut document = documents.into_iter().next()?;
    for problem in &document.problems {
        let finding =
            Diagnostic::error(problem.code, origin_at(problem.position), problem.message.clone());
        findings.push(finding.hint_opt(problem.hint.clone()));
    }
    for node in &mut document.tree.nodes {
        node.position = shift.outer(node.position);
        node.key_position = shift.outer(node.key_position);
    }
    document.tree.prefix = outer.path(at).into();
    Some(Written {
        tree: Arc::new(document.tree),
        root: Tree::ROOT,
        origin: outer.origin_at(at),
        broken: document.problems.iter().map(|problem| problem.at).collect(),
    })
}

/// Decodes a part of an object as an object of its own with the same metadata.
fn part<T: Decode + Default>(
    resource: &Resource,
    mut written: Written,
    at: At,
    loaded: &mut Loaded,
    make: fn(Arc<Object<T>>) -> Resource,
) {
    let tree = written.tree.clone();
    let origin = written.origin.clone();
    let mut decoder = Decoder::new(&tree, written.root, &origin, Manners::Lenient);
    let spec = decoder.slot(Some(at));
    let findings = decoder.finish();
    let broken: BTreeSet<At> = written.broken.iter().copied().chain(findings.broken).collect();
    written.broken = broken.into_iter().collect();
    loaded.diagnostics.append(findings.diagnostics);
    loaded.outcomes.extend(findings.outcomes);
    let meta = resource.meta().clone();
    loaded.resources.push(make(Arc::new(Object { meta, spec, written })));
}

/// From positions in an embedded text to those in the file.
struct Shift {
    /// Where the first line of a literal block (`|`) begins.
    block: Option<Position>,
    /// Where the text begins, for notations whose lines cannot be told apart.
    fallback: Position,
}

impl Shift {
    fn outer(&self, inner: Position) -> Position {
        let Some(block) = self.block else { return self.fallback };
        Position {
            line: block.line.saturating_add(inner.line - 1),
            column: block.column.saturating_add(inner.column - 1),
        }
    }
}
