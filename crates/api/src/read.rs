//! Reads files and cluster objects: the front of this crate.

use std::sync::Arc;

use heddle_diag::{
    Diagnostic, Diagnostics, Dialect, Level, Origin, Outcome, OutcomeRecord, Position, Source,
};

use crate::check;
use crate::codes;
use crate::decode::{Decoder, Manners, shortened};
use crate::fragment;
use crate::kinds::{self, Body, Kind, Resource};
use crate::mesh;
use crate::meta::Meta;
use crate::object::Written;
use crate::suggest::nearest;
use crate::text;
use crate::tree::{At, Tree, Value};
use crate::yaml::{self, Budget, Document, Limits, Problem, Stop};

/// What was read: every object that could be read at all, and everything there is to say.
#[derive(Default, Debug)]
pub struct Loaded {
    /// The objects in the order they are written. A ConfigMap with a mesh configuration is followed by that.
    pub resources: Vec<Resource>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
    /// Fields whose outcome is known without looking at other objects.
    pub outcomes: Vec<OutcomeRecord>,
}

impl Loaded {
    /// Adds what was read elsewhere.
    pub fn append(&mut self, other: Self) {
        self.resources.extend(other.resources);
        self.diagnostics.append(other.diagnostics);
        self.outcomes.extend(other.outcomes);
    }
}

/// How to read.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Bounds.
    pub limits: Limits,
    /// The namespace of namespaced objects that name none.
    pub default_namespace: Arc<str>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { limits: Limits::default(), default_namespace: "default".into() }
    }
}

impl Reader {
    /// Reads a file of YAML or JSON; `path` is how the user calls it.
    pub fn read_file(&self, path: &str, bytes: &[u8]) -> Loaded {
        let source = |position| Source::File { path: path.into(), position };
        self.read(bytes, "", &source)
    }

    /// [`Reader::read_file`], for whoever does not read files to their end: `size_bytes` is how much there is, and
    /// what is longer than the limit is refused whatever its beginning.
    pub fn read_beginning(&self, path: &str, bytes: &[u8], size_bytes: u64) -> Loaded {
        if bytes.len() <= self.limits.file_bytes_max {
            return self.read_file(path, bytes);
        }
        let source = |position| Source::File { path: path.into(), position };
        let mut reading = Reading {
            reader: self,
            cluster: "".into(),
            source: &source,
            loaded: Loaded::default(),
        };
        reading.refuse(text::too_large(size_bytes.max(bytes.len() as u64), &self.limits));
        reading.loaded
    }

    /// Reads objects that a cluster's API server gave, as JSON (one object or a list). They have no positions.
    pub fn read_cluster(&self, cluster: &str, json: &[u8]) -> Loaded {
        let source = |_| Source::Cluster { uid: Arc::default(), generation: 0 };
        self.read(json, cluster, &source)
    }

    fn read(&self, bytes: &[u8], cluster: &str, source: &dyn Fn(Position) -> Source) -> Loaded {
        let mut reading =
            Reading { reader: self, cluster: cluster.into(), source, loaded: Loaded::default() };
        let text = match text::decode(bytes, &self.limits) {
            Ok(text) => text,
            Err(unreadable) => {
                reading.refuse(unreadable);
                return reading.loaded;
            }
        };
        let mut budget = Budget::new(&self.limits);
        for chunk in text::split(text) {
            let (documents, stop) = yaml::read(chunk.text, chunk.first_line, &mut budget);
            for document in documents {
                reading.document(document);
            }
            let Some(stop) = stop else { continue };
            let whole_file = stop.whole_file;
            reading.stopped(stop);
            if whole_file {
                break;
            }
        }
        reading.loaded.diagnostics.sort();
        reading.loaded
    }
}

/// The reading of one file.
struct Reading<'a> {
    reader: &'a Reader,
    cluster: Arc<str>,
    source: &'a dyn Fn(Position) -> Source,
    loaded: Loaded,
}

/// How deep lists of objects may nest.
const LIST_DEPTH_MAX: usize = 4;

/// What kind an item of a list has when it does not say so itself.
type Inherited<'a> = Option<(&'a str, &'a str)>;

impl Reading<'_> {
    /// The origin of a place that belongs to no object.
    fn place(&self, position: Position) -> Origin {
        let mut origin = Origin::in_file("", position);
        origin.source = (self.source)(position);
        origin.cluster = self.cluster.clone();
        origin
    }

    /// Nothing of the file can be read.
    fn refuse(&mut self, unreadable: text::Unreadable) {
        let origin = self.place(unreadable.position);
        let finding = Diagnostic::error(unreadable.code, origin, unreadable.message);
        self.loaded.diagnostics.push(finding.hint(unreadable.hint));
    }

    fn stopped(&mut self, stop: Stop) {
        for problem in &stop.before {
            let finding = Self::problem(problem, &self.place(problem.position));
            self.loaded.diagnostics.push(finding);
        }
        let origin = self.place(stop.position);
        self.loaded
            .diagnostics
            .push(Diagnostic::error(stop.code, origin, stop.message).hint_opt(stop.hint));
    }

    fn document(&mut self, document: Document) {
        let Document { tree, mut problems } = document;
        problems.sort_by_key(|problem| problem.at);
        let tree = Arc::new(tree);
        let mut seen = vec![false; problems.len()];
        self.object(&tree, Tree::ROOT, &problems, &mut seen, None, 0);
        for (problem, _) in problems.iter().zip(seen).filter(|(_, seen)| !seen) {
            let origin = self.place(problem.position);
            let finding = Self::problem(problem, &origin);
            self.loaded.diagnostics.push(finding);
        }
    }

    /// A finding of the text as one of the object it belongs to.
    fn problem(problem: &Problem, origin: &Origin) -> Diagnostic {
        let level = if problem.breaks { Level::Error } else { Level::Warning };
        let mut finding =
            Diagnostic::new(level, problem.code, origin.clone(), problem.message.clone())
                .hint_opt(problem.hint.clone());
        if let Some((note, position)) = problem.related {
            finding = finding.related(note, origin.at(origin.field.clone(), Some(position)));
        }
        finding
    }

    fn error(
        &mut self,
        code: &'static heddle_diag::Code,
        position: Position,
        message: String,
        hint: Option<String>,
    ) {
        let origin = self.place(position);
        self.loaded.diagnostics.push(Diagnostic::error(code, origin, message).hint_opt(hint));
    }

    /// Reads the object at a place, or the items of a list of objects.
    fn object(
        &mut self,
        tree: &Arc<Tree>,
        root: At,
        problems: &[Problem],
        seen: &mut [bool],
        inherited: Inherited<'_>,
        depth: usize,
    ) {
        let position = tree.position(root);
        if tree.value(root) != Value::Map {
            let found = tree.value(root).describe();
            let message = format!("expected an object, found {found}");
            let hint = "an object is a mapping with `apiVersion`, `kind` and `metadata`".to_owned();
            return self.error(codes::NOT_AN_OBJECT, position, message, Some(hint));
        }
        let text = |name: &str| {
            let at = tree.field(root, name)?;
            (tree.value(at) == Value::Text).then(|| tree.text(at).clone())
        };
        let api_version = text("apiVersion").or(inherited.map(|(version, _)| version.into()));
        let kind = text("kind").or(inherited.map(|(_, kind)| kind.into()));
        let (Some(api_version), Some(kind)) = (&api_version, &kind) else {
            let missing = if api_version.is_none() { "apiVersion" } else { "kind" };
            let keys: Vec<&str> =
                tree.children(root).filter_map(|child| tree.key(child)).map(|key| &**key).collect();
            let near = nearest(missing, keys.iter().copied())
                .map(|near| format!("`{near}` must be `{missing}`"));
            let part = || {
                let (kind, part) = fragment::part_of(&keys)?;
                Some(format!("this looks like a part (`{part}`) of a `{kind}` that stands alone"))
            };
            let hint = near.or_else(part);
            let message = format!("the document has no `{missing}`");
            return self.error(codes::NOT_AN_OBJECT, position, message, hint);
        };
        let items = tree.field(root, "items").filter(|at| tree.value(*at) == Value::List);
        if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), items) {
            if depth >= LIST_DEPTH_MAX {
                let message = "lists of objects nest too deep".to_owned();
                return self.error(codes::TOO_DEEP, position, message, None);
            }
            let of = (!item_kind.is_empty()).then_some((&**api_version, item_kind));
            for item in tree.children(items) {
                self.object(tree, item, problems, seen, of, depth + 1);
            }
            return;
        }
        let mut object = ObjectReading { reading: self, tree, root, problems, seen };
        object.read(api_version, kind);
    }
}

/// The reading of one object.
struct ObjectReading<'r, 'a, 't> {
    reading: &'r mut Reading<'a>,
    tree: &'t Arc<Tree>,
    root: At,
    problems: &'t [Problem],
    seen: &'t mut [bool],
}

impl ObjectReading<'_, '_, '_> {
    fn read(&mut self, api_version: &Arc<str>, kind_name: &Arc<str>) {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = kinds::find(group, kind_name);
        let dialect = kind.map_or(Dialect::Kubernetes, |kind| kind.dialect);
        let mut origin = self.reading.place(self.tree.position(self.root));
        origin.dialect = dialect;
        origin.group = group.into();
        origin.kind = kind_name.clone();
        let meta_at = self.tree.field(self.root, "metadata");
        let name_of = |name: &str| {
            let at = self.tree.field(meta_at?, name)?;
            (self.tree.value(at) == Value::Text).then(|| self.tree.text(at).clone())
        };
        origin.name = name_of("name").or_else(|| name_of("generateName")).unwrap_or_default();
        let namespaced = kind.is_none_or(|kind| kind.namespaced);
        let namespace = name_of("namespace").filter(|namespace| !namespace.is_empty());
        if namespaced {
            origin.namespace =
                namespace.unwrap_or_else(|| self.reading.reader.default_namespace.clone());
        }
        let mut meta_decoder = Decoder::new(self.tree, self.root, &origin, Manners::Kubernetes);
        let mut meta: Meta = meta_decoder.slot(meta_at);
        self.names(&mut meta_decoder, &meta, meta_at, kind);
        let mut findings = meta_decoder.finish();
        if let Source::Cluster { uid, generation } = &mut origin.source {
            *uid = meta.uid.as_deref().unwrap_or_default().into();
            *generation = meta.generation.unwrap_or(0);
        }
        meta.namespace = origin.namespace.to_string();

        let manners = match dialect {
            Dialect::Kubernetes => Manners::Kubernetes,
            _ => Manners::Custom,
        };
        let mut decoder = Decoder::new(self.tree, self.root, &origin, manners);
        self.text_problems(&mut decoder);
        self.known(&mut decoder, kind, group, version, kind_name);
        let body = self.body(&mut decoder, kind);
        let written = Written {
            tree: self.tree.clone(),
            root: self.root,
            origin: origin.clone(),
            broken: Arc::default(),
        };
        decoder.absorb(std::mem::take(&mut findings));
        let (resource, findings) = kinds::build(kind, decoder, body, meta, written);
        let embedded = mesh::embedded(&resource, &self.reading.reader.limits);
        let loaded = &mut self.reading.loaded;
        loaded.diagnostics.append(findings.diagnostics);
        loaded.outcomes.extend(findings.outcomes);
        if kind.is_some_and(|kind| kind.body == Body::Raw) {
            let why = kind.map_or("nothing of it is in force", crate::recognised::reason);
            let detail = format!("recognised and kept, but not enforced yet: {why}");
            loaded.outcomes.push(OutcomeRecord::new(origin, Outcome::Unsupported, detail));
        }
        loaded.resources.push(resource);
        loaded.append(embedded);
    }

    /// Names must be there and well formed.
    fn names(
        &self,
        decoder: &mut Decoder<'_>,
        meta: &Meta,
        meta_at: Option<At>,
        kind: Option<&Kind>,
    ) {
        if kind.is_some_and(|kind| kind.kind == "IstioOperator") {
            // An input of an installer, not an object of a cluster: it may stay without a name.
            return;
        }
        let Some(meta_at) = meta_at.filter(|at| self.tree.value(*at) == Value::Map) else {
            decoder.error(codes::MISSING_FIELD, self.root, "the object has no `metadata`", None);
            return;
        };
        let check: crate::schema::TextCheck = match kind.map(|kind| (kind.group, kind.kind)) {
            Some(("", "Namespace" | "Service")) => check::dns_label,
            _ => check::dns_name,
        };
        if meta.name.is_empty() {
            if meta.generate_name.is_none() {
                decoder.error(codes::BAD_NAME, meta_at, "`metadata.name` is missing", None);
            }
        } else if let (Err(expected), Some(at)) =
            (check(&meta.name), self.tree.field(meta_at, "name"))
        {
            let message = format!("`{}` is not {expected}", shortened(&meta.name));
            decoder.value_error(codes::BAD_NAME, at, message, None);
        }
    }

    /// Takes over what was found in the text of this object.
    fn text_problems(&mut self, decoder: &mut Decoder<'_>) {
        let place = |at: &dyn Fn(At) -> bool| self.problems.partition_point(|p| at(p.at));
        let first = place(&|at| at < self.root);
        let end = place(&|at| at < self.root || self.tree.contains(self.root, at));
        let problems = self.problems.get(first..end).unwrap_or_default();
        let seen = self.seen.get_mut(first..end).unwrap_or_default();
        for (problem, seen) in problems.iter().zip(seen) {
            *seen = true;
            let origin = decoder.origin_at_position(problem.at, problem.position);
            let finding = Reading::problem(problem, &origin);
            decoder.found(finding, problem.breaks.then_some(problem.at));
        }
    }

    /// Says what is not known about kind and version.
    fn known(
        &self,
        decoder: &mut Decoder<'_>,
        kind: Option<&Kind>,
        group: &str,
        version: &str,
        kind_name: &str,
    ) {
        let field = |name| self.tree.field(self.root, name).unwrap_or(self.root);
        let Some(kind) = kind else {
            let elsewhere: Vec<&str> = kinds::all()
                .filter(|known| known.kind == kind_name)
                .map(|known| known.group)
                .collect();
            let in_group =
                kinds::all().filter(|known| known.group == group).map(|known| known.kind);
            let shown = if group.is_empty() { "Kubernetes' core group" } else { group };
            let message = format!("`{kind_name}` of {shown} is not a kind that heddle knows");
            let (level, hint) = if elsewhere.is_empty() {
                match nearest(kind_name, in_group) {
                    Some(near) => (Level::Error, format!("did you mean `{near}`?")),
                    None => (Level::Info, "it is kept and has no effect".to_owned()),
                }
            } else {
                let groups = crate::decode::listed(&elsewhere);
                (Level::Error, format!("a kind of that name exists in {groups}"))
            };
            decoder.note(level, codes::UNKNOWN_KIND, field("kind"), message, Some(hint));
            return;
        };
        if !kind.versions.contains(&version) {
            let message = format!("`{kind_name}` has no version `{version}`");
            let hint = format!("versions are {}", crate::decode::listed(kind.versions));
            decoder.note(
                Level::Error,
                codes::UNKNOWN_VERSION,
                field("apiVersion"),
                message,
                Some(hint),
            );
        }
        if kind.body == Body::Raw {
            let why = crate::recognised::reason(kind);
            let message =
                format!("`{kind_name}` is recognised and kept, but not enforced yet: {why}");
            decoder.note(Level::Warning, codes::NOT_ENFORCED, field("kind"), message, None);
        }
    }

    /// The place of the fields of the kind; reports fields beside `spec` that no kind has.
    fn body(&self, decoder: &mut Decoder<'_>, kind: Option<&Kind>) -> Option<At> {
        match kind.map(|kind| kind.body) {
            Some(Body::Spec) => {
                decoder.envelope();
                let spec = self.tree.field(self.root, "spec")?;
                (self.tree.value(spec) != Value::Null).then_some(spec)
            }
            Some(Body::SpecOrTop) => match self.tree.field(self.root, "spec") {
                Some(spec) => {
                    decoder.envelope();
                    (self.tree.value(spec) != Value::Null).then_some(spec)
                }
                None => Some(self.root),
            },
            Some(Body::Top) => Some(self.root),
            Some(Body::Raw) | None => None,
        }
    }
}

#[cfg(test)]
mod tests;
