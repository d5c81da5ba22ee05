//! Annotations of an object, with the place of each.

use std::collections::BTreeMap;

use heddle_api::kubernetes::PodTemplateMeta;
use heddle_api::{At, Meta, Object, Written};
use heddle_diag::Origin;

/// The annotations of an object, or of the template of its pods.
#[derive(Clone, Copy)]
pub(crate) struct Annotated<'a> {
    written: &'a Written,
    metadata: At,
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> Annotated<'a> {
    pub(crate) fn of<T>(object: &'a Object<T>) -> Self {
        let (written, meta) = (&object.written, &object.meta);
        Self { written, metadata: meta.at, annotations: &meta.annotations }
    }

    pub(crate) fn of_meta(written: &'a Written, meta: &'a Meta) -> Self {
        Self { written, metadata: meta.at, annotations: &meta.annotations }
    }

    pub(crate) fn of_template(written: &'a Written, meta: &'a PodTemplateMeta) -> Self {
        Self { written, metadata: meta.at, annotations: &meta.annotations }
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
        self.written.origin_of_entry(self.metadata, "annotations", key)
    }

    /// The origin of the object.
    pub(crate) fn object(&self) -> &'a Origin {
        self.written.origin()
    }
}
