//! Annotations of an object, with the place of each.

use std::collections::BTreeMap;

use heddle_api::{Object, Written};
use heddle_diag::Origin;

/// The annotations of an object.
#[derive(Clone, Copy)]
pub(crate) struct Annotated<'a> {
    written: &'a Written,
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> Annotated<'a> {
    pub(crate) fn of<T>(object: &'a Object<T>) -> Self {
        Self { written: &object.written, annotations: &object.meta.annotations }
    }

    /// The value of an annotation, without blanks around it.
    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.annotations.get(key).map(|value| value.trim())
    }

    /// The keys that begin with a text.
    pub(crate) fn keys(&self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.annotations.keys().map(String::as_str).filter(move |key| key.starts_with(prefix))
    }

    /// Where an annotation is written.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        let metadata = self.written.field(self.written.root(), "metadata");
        metadata.map_or_else(
            || self.written.origin().clone(),
            |at| self.written.origin_of_entry(at, "annotations", key),
        )
    }

    /// The origin of the object.
    pub(crate) fn object(&self) -> &'a Origin {
        self.written.origin()
    }
}
