//! ReferenceGrants: who may refer across namespaces.

use heddle_api::Resource as AnyObject;

use crate::engine::{Kind, Reader, Topic};

/// Who refers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

/// What is referred to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct To<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// Whether the reference stays in its namespace, or some grant of the other namespace allows it. A grant with an error
/// allows only what stands beside the error.
pub(crate) fn permits(reader: &Reader<'_>, from: From<'_>, to: To<'_>) -> bool {
    if from.namespace == to.namespace {
        return true;
    }
    let grants = reader.objects(Topic::KindIn(Kind::ReferenceGrant, to.namespace.into()));
    grants.iter().any(|grant| {
        let AnyObject::ReferenceGrant(grant) = grant else { return false };
        let sources = grant.spec.from.iter().filter(|source| !grant.is_broken(source.at));
        let mut sources = sources.filter(|source| {
            source.group == from.group
                && source.kind == from.kind
                && source.namespace == from.namespace
        });
        let targets = grant.spec.to.iter().filter(|target| !grant.is_broken(target.at));
        let mut targets = targets.filter(|target| {
            target.group == to.group
                && target.kind == to.kind
                && target.name.as_deref().is_none_or(|name| name == to.name)
        });
        sources.next().is_some() && targets.next().is_some()
    })
}
