//! Decodes trees into types, collecting every error instead of stopping at the first.
//!
//! A value that cannot be decoded becomes its default and its place is recorded as broken, so that `translate` can put
//! the safe meaning in its place. Items of lists keep their index. This module knows no kind; the tables of
//! [`crate::istio`] and [`crate::kubernetes`] drive it.

mod primitive;

use std::collections::{BTreeMap, BTreeSet};

use heddle_diag::{Code, Diagnostic, Diagnostics, Level, Origin, Outcome, OutcomeRecord, Position};

use crate::codes;
use crate::schema::{FieldSchema, Group, ObjectSchema, Rules, TypeSchema};
use crate::suggest::nearest;
use crate::tree::{At, Tree, Value};
use crate::value::Duration;

/// A type that can be decoded out of a tree.
pub trait Decode: Sized {
    /// The shape of the type.
    const SCHEMA: TypeSchema;

    /// Decodes the value at a place that is not `null`. None where nothing usable is there; the reason has been
    /// reported then.
    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self>;
}

/// What decoding finds besides values.
#[derive(Default, Debug)]
pub struct Findings {
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
    /// Fields whose outcome is known without looking at other objects.
    pub outcomes: Vec<OutcomeRecord>,
    /// Places whose meaning is not what is written.
    pub broken: BTreeSet<At>,
}

impl Findings {
    /// The broken places, sorted.
    pub(crate) fn broken_places(&self) -> std::sync::Arc<[At]> {
        self.broken.iter().copied().collect()
    }
}

/// Decodes one object and collects what is wrong with it.
#[derive(Debug)]
pub struct Decoder<'a> {
    tree: &'a Tree,
    root: At,
    origin: &'a Origin,
    manners: Manners,
    findings: Findings,
}

/// How strictly a kind's own project reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manners {
    /// Kubernetes' own kinds: `null` is the same as absent.
    Kubernetes,
    /// Custom resources: `null` is absent too, as the API server prunes it, and a warning.
    Custom,
    /// The mesh configuration: `null` is absent, unknown fields have no effect, and fields may be written with
    /// underscores.
    Lenient,
}

/// Fields that every object has beside those of its type.
const ENVELOPE: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

impl<'a> Decoder<'a> {
    /// A decoder for the object at `root`.
    pub fn new(tree: &'a Tree, root: At, origin: &'a Origin, manners: Manners) -> Self {
        Self { tree, root, origin, manners, findings: Findings::default() }
    }

    /// Everything found.
    pub fn finish(self) -> Findings {
        self.findings
    }

    /// The tree that is decoded.
    pub fn tree(&self) -> &'a Tree {
        self.tree
    }

    /// The version that the object is written in; empty where it says none.
    pub(crate) fn version(&self) -> &str {
        let api_version = self.tree.field(self.root, "apiVersion");
        let text = api_version.map_or("", |at| self.tree.text(at));
        text.rsplit_once('/').map_or(text, |(_, version)| version)
    }

    /// Takes over what another decoder of the same object found.
    pub(crate) fn absorb(&mut self, other: Findings) {
        self.findings.diagnostics.append(other.diagnostics);
        self.findings.outcomes.extend(other.outcomes);
        self.findings.broken.extend(other.broken);
    }

    /// Adds a finding, and the place that it breaks.
    pub(crate) fn found(&mut self, finding: Diagnostic, broken: Option<At>) {
        self.findings.diagnostics.push(finding);
        self.findings.broken.extend(broken);
    }

    /// The origin of a place with a position other than its own.
    pub(crate) fn origin_at_position(&self, at: At, position: Position) -> Origin {
        self.origin(at, position)
    }

    /// Reports fields beside `spec` that no object has.
    pub(crate) fn envelope(&mut self) {
        const SPEC: ObjectSchema = ObjectSchema {
            name: "",
            fields: &[FieldSchema { name: "spec", takes: &TypeSchema::Free, rules: Rules::NONE }],
            groups: &[],
            ignored: &[],
        };
        for child in self.tree.children(self.root) {
            if self.tree.key(child).is_some_and(|key| &**key != "spec") {
                self.unknown_field(self.root, child, &SPEC);
            }
        }
    }

    fn origin(&self, at: At, position: Position) -> Origin {
        self.origin.at(self.tree.path(self.root, at), Some(position))
    }

    /// Reports an error about the value at a place, and that the place is broken.
    pub fn error(
        &mut self,
        code: &'static Code,
        at: At,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let origin = self.origin(at, self.tree.position(at));
        let finding = Diagnostic::error(code, origin, message).hint_opt(hint);
        self.found(finding, Some(at));
    }

    /// Reports an error about the value at a place, naming its field.
    pub fn value_error(
        &mut self,
        code: &'static Code,
        at: At,
        message: impl std::fmt::Display,
        hint: Option<String>,
    ) {
        let message = match self.tree.label(at) {
            Some(label) => format!("`{label}`: {message}"),
            None => message.to_string(),
        };
        self.error(code, at, message, hint);
    }

    /// Reports something less than an error about a field.
    pub fn note(
        &mut self,
        level: Level,
        code: &'static Code,
        at: At,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let origin = self.origin(at, self.tree.key_position(at));
        self.findings
            .diagnostics
            .push(Diagnostic::new(level, code, origin, message).hint_opt(hint));
    }

    /// Reports that a value has another type than the field takes.
    pub fn wrong_type(&mut self, at: At, expected: &str, hint: Option<String>) {
        let value = self.tree.value(at);
        let spelled = self.tree.text(at);
        let found = match value {
            Value::Null | Value::List | Value::Map => value.describe().to_owned(),
            Value::Text if spelled.is_empty() => "an empty text".to_owned(),
            _ => format!("{} (`{}`)", value.describe(), shortened(spelled)),
        };
        let message = format!("expected {expected}, found {found}");
        self.value_error(codes::WRONG_TYPE, at, message, hint);
    }

    /// The index of the text at a place among those that are allowed; reports another one.
    pub fn choice(&mut self, at: At, texts: &'static [&'static str]) -> Option<usize> {
        if self.tree.value(at) != Value::Text {
            self.wrong_type(at, &format!("one of {}", listed(texts)), None);
            return None;
        }
        let text = self.tree.text(at);
        let index = texts.iter().position(|allowed| *allowed == &**text);
        if index.is_none() {
            let hint = match nearest(text, texts.iter().copied().filter(|text| !text.is_empty())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("allowed are {}", listed(texts)),
            };
            let message = format!("`{}` is not one of the values it takes", shortened(text));
            self.value_error(codes::UNKNOWN_VALUE, at, message, Some(hint));
        }
        index
    }

    /// Decodes the value of a field, or the default where the field is absent or broken.
    pub fn slot<T: Decode + Default>(&mut self, at: Option<At>) -> T {
        at.and_then(|at| T::decode(self, at)).unwrap_or_default()
    }

    /// Decodes the fields of an object; where there are none (no `spec`), a type that requires some is incomplete.
    pub(crate) fn body<T: Decode + Default>(&mut self, body: Option<At>) -> T {
        if body.is_none()
            && let TypeSchema::Object(schema) = T::SCHEMA
            && schema.fields.iter().any(|field| field.rules.required)
        {
            self.missing(self.root, "spec");
        }
        self.slot(body)
    }

    /// Finds the fields of an object, reports what does not belong there and what is missing, and checks the rules of
    /// each field. False when there is no object at that place.
    pub fn object(&mut self, at: At, schema: &ObjectSchema, found: &mut [Option<At>]) -> bool {
        if self.tree.value(at) != Value::Map {
            let empty = self.tree.value(at) == Value::Null;
            let hint = empty.then(|| "write `{}` for one without fields".to_owned());
            self.wrong_type(at, "a mapping", hint);
            return false;
        }
        for child in self.tree.children(at) {
            let Some(key) = self.tree.key(child) else { continue };
            match schema.fields.iter().position(|field| self.named(field.name, key)) {
                Some(index) => {
                    let rules = schema.fields.get(index).map_or(Rules::NONE, |field| field.rules);
                    if self.tree.value(child) != Value::Null {
                        if let Some(slot) = found.get_mut(index) {
                            *slot = Some(child);
                        }
                    } else if self.manners == Manners::Custom && !rules.nullable {
                        let message = format!("`{key}` has no value and is read as absent");
                        let hint = Some("give it a value or remove it".to_owned());
                        self.note(Level::Warning, codes::NO_VALUE, child, message, hint);
                    }
                }
                None => self.unknown_field(at, child, schema),
            }
        }
        for (field, slot) in schema.fields.iter().zip(found.iter()) {
            match slot {
                Some(child) => self.field_rules(field, *child),
                None if field.rules.required => self.missing(at, field.name),
                None => {}
            }
        }
        for group in schema.groups {
            self.group(at, *group);
        }
        true
    }

    /// Whether a key is the name of a field.
    fn named(&self, name: &str, key: &str) -> bool {
        let lenient = || {
            let mut upper = false;
            let camel = key.chars().filter_map(|c| {
                if c == '_' {
                    upper = true;
                    return None;
                }
                Some(if std::mem::take(&mut upper) { c.to_ascii_uppercase() } else { c })
            });
            camel.eq(name.chars())
        };
        name == key || self.manners == Manners::Lenient && key.contains('_') && lenient()
    }

    fn unknown_field(&mut self, at: At, child: At, schema: &ObjectSchema) {
        let Some(key) = self.tree.key(child) else { return };
        if at == self.root && ENVELOPE.contains(&&**key) {
            return;
        }
        let origin = self.origin(child, self.tree.key_position(child));
        if let Some((_, reason)) = schema.ignored.iter().find(|(name, _)| *name == &**key) {
            let record = OutcomeRecord::new(origin, Outcome::Ignored, *reason);
            self.findings.outcomes.push(record);
            return;
        }
        let known = schema.fields.iter().map(|field| field.name);
        if self.findings.diagnostics.is_full() {
            self.findings.broken.insert(at);
            return;
        }
        let hint = match nearest(key, known.chain(schema.ignored.iter().map(|(name, _)| *name))) {
            Some(near) => format!("did you mean `{near}`?"),
            None if schema.fields.is_empty() => "no field is known here".to_owned(),
            None => {
                let names: Vec<&str> = schema.fields.iter().map(|field| field.name).collect();
                format!("known here: {}", listed(&names))
            }
        };
        let message = format!("unknown field `{}`", shortened(key));
        if self.manners == Manners::Lenient {
            let detail = "Istio has no such field here and ignores it too";
            let record = OutcomeRecord::new(origin.clone(), Outcome::Ignored, detail);
            self.findings.outcomes.push(record);
            let finding = Diagnostic::warning(codes::UNKNOWN_FIELD, origin, message).hint(hint);
            self.findings.diagnostics.push(finding);
            return;
        }
        let finding = Diagnostic::error(codes::UNKNOWN_FIELD, origin, message).hint(hint);
        self.findings.diagnostics.push(finding);
        self.findings.broken.insert(at);
    }

    fn missing(&mut self, at: At, name: &str) {
        let mut path = self.tree.path(self.root, at);
        crate::tree::push_field(&mut path, name);
        let origin = self.origin.at(path, Some(self.tree.position(at)));
        let message = format!("`{name}` is required and missing");
        self.findings.diagnostics.push(Diagnostic::error(codes::MISSING_FIELD, origin, message));
        self.findings.broken.insert(at);
    }

    fn group(&mut self, at: At, group: Group) {
        let (names, least, most) = match group {
            Group::AtMostOne(names) => (names, 0, 1),
            Group::ExactlyOne(names) => (names, 1, 1),
            Group::AtLeastOne(names) => (names, 1, usize::MAX),
        };
        let set: Vec<At> = names
            .iter()
            .filter_map(|name| self.tree.field(at, name))
            .filter(|child| self.tree.value(*child) != Value::Null)
            .collect();
        if set.len() < least {
            let message = format!("one of {} is required", listed(names));
            self.error(codes::MISSING_FIELD, at, message, None);
        } else if let (true, Some(extra)) = (set.len() > most, set.get(1)) {
            let both: Vec<&str> =
                set.iter().filter_map(|child| self.tree.key(*child)).map(|key| &**key).collect();
            let message = format!("only one of {} may be set", listed(&both));
            let origin = self.origin(*extra, self.tree.key_position(*extra));
            let mut finding = Diagnostic::error(codes::ONE_OF, origin, message);
            if let Some(first) = set.first() {
                finding = finding
                    .related("first set here", self.origin(*first, self.tree.key_position(*first)));
            }
            self.findings.diagnostics.push(finding);
            self.findings.broken.insert(at);
        }
    }

    fn field_rules(&mut self, field: &FieldSchema, at: At) {
        let rules = &field.rules;
        self.scalar_rules(at, rules.len, rules.range, rules.check);
        if let Some(least) = rules.duration_min_ns {
            let duration = Duration::parse(self.tree.text(at));
            if duration.is_some_and(|duration| duration.as_nanos() < least) {
                let message = format!("`{}` is less than a millisecond", self.tree.text(at));
                self.value_error(codes::OUT_OF_RANGE, at, message, None);
            }
        }
        if !matches!(self.tree.value(at), Value::List | Value::Map) {
            return;
        }
        if let Some((least, most)) = rules.count {
            let count = self.tree.children(at).count();
            if count < least || count > most {
                let message = format!("{count} entries, {}", bounds(least, most));
                self.value_error(codes::OUT_OF_RANGE, at, message, None);
            }
        }
        if let Some(key) = rules.unique {
            self.unique_items(at, key);
        }
        if matches!(field.takes, TypeSchema::Object(_)) {
            return;
        }
        for child in self.tree.children(at) {
            self.scalar_rules(child, rules.item_len, rules.item_range, rules.item_check);
            if let (Some(check), Some(key)) = (rules.key_check, self.tree.key(child))
                && let Err(expected) = check(key)
            {
                let message = format!("the key `{}` is not {expected}", shortened(key));
                self.value_error(codes::BAD_FORMAT, child, message, None);
            }
        }
    }

    /// Items of a list that is a map in disguise must differ in their key.
    fn unique_items(&mut self, at: At, key: &str) {
        let mut seen = BTreeMap::new();
        for item in self.tree.children(at) {
            // A set's items are their own keys.
            let named = if key.is_empty() { Some(item) } else { self.tree.field(item, key) };
            let Some(named) = named else { continue };
            let Some(first) = seen.insert(self.tree.text(named), named) else { continue };
            let text = shortened(self.tree.text(named));
            let message = match key {
                "" => format!("`{text}` stands twice in one list"),
                key => format!("`{key}` is `{text}` twice in one list"),
            };
            let origin = self.origin(named, self.tree.position(named));
            let first = self.origin(first, self.tree.position(first));
            let finding = Diagnostic::error(codes::RULE, origin, message);
            self.found(finding.related("first set here", first), Some(item));
        }
    }

    fn scalar_rules(
        &mut self,
        at: At,
        len: Option<(usize, usize)>,
        range: Option<(f64, f64)>,
        check: Option<crate::schema::TextCheck>,
    ) {
        #[expect(clippy::cast_precision_loss, reason = "the bounds of schemas are far below 2^53")]
        let number = match self.tree.value(at) {
            Value::Int(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            _ => None,
        };
        if let (Some((least, most)), Some(number)) = (range, number)
            && !(least..=most).contains(&number)
        {
            let message = format!("{number} is out of range, {}", range_text(least, most));
            self.value_error(codes::OUT_OF_RANGE, at, message, None);
        }
        if self.tree.value(at) != Value::Text {
            return;
        }
        let text = self.tree.text(at).clone();
        if let Some((least, most)) = len {
            let length = text.chars().count();
            if length == 0 && least == 1 {
                self.value_error(codes::OUT_OF_RANGE, at, "must not be empty", None);
                return;
            }
            if length < least || length > most {
                let message = format!("the text has {length} characters, {}", bounds(least, most));
                self.value_error(codes::OUT_OF_RANGE, at, message, None);
            }
        }
        if let Some(check) = check
            && let Err(expected) = check(&text)
        {
            let message = format!("`{}` is not {expected}", shortened(&text));
            self.value_error(codes::BAD_FORMAT, at, message, None);
        }
    }
}

/// `` `a`, `b` and `c` ``.
pub(crate) fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// A user's text, cut where it would fill the screen.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn bounds(least: usize, most: usize) -> String {
    match (least, most) {
        (least, usize::MAX) => format!("at least {least} expected"),
        (0, most) => format!("at most {most} allowed"),
        (least, most) => format!("{least} to {most} allowed"),
    }
}

fn range_text(least: f64, most: f64) -> String {
    match (least.is_finite(), most.is_finite()) {
        (true, true) => format!("allowed are {least} to {most}"),
        (true, false) => format!("at least {least} is allowed"),
        (false, _) => format!("at most {most} is allowed"),
    }
}
