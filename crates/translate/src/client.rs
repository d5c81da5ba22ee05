//! For whom something is translated.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scope::Scope;

/// The client whose view is translated: a scope, or every client at once when reporting on an object.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    /// Its namespace; when reporting, that of the object.
    pub(crate) namespace: &'a str,
    /// Its labels; none when reporting.
    pub(crate) labels: Option<&'a BTreeMap<Arc<str>, Arc<str>>>,
    /// The service port that it calls; none when reporting.
    pub(crate) port: Option<u16>,
}

/// What an object says about the clients it is for.
pub(crate) struct Applies<'a> {
    pub(crate) gateways: &'a [String],
    pub(crate) port: Option<u16>,
    pub(crate) source_namespace: Option<&'a str>,
    pub(crate) source_labels: &'a BTreeMap<String, String>,
}

/// The reserved name for all proxies inside the mesh.
pub(crate) const MESH: &str = "mesh";

impl<'a> Client<'a> {
    /// A client of a scope that calls a port.
    pub(crate) fn of(scope: &'a Scope, port: u16) -> Self {
        Self { namespace: &scope.namespace, labels: Some(&scope.labels), port: Some(port) }
    }

    /// Every client that an object of the namespace may concern.
    pub(crate) fn any(namespace: &'a str) -> Self {
        Self { namespace, labels: None, port: None }
    }

    /// Whether the client is one of those meant. When reporting, every one is.
    pub(crate) fn takes(&self, applies: &Applies<'_>) -> bool {
        let Some(labels) = self.labels else { return true };
        is_mesh(applies.gateways)
            && applies.port.is_none_or(|port| self.port.is_none_or(|own| own == port))
            && applies.source_namespace.is_none_or(|name| name.is_empty() || name == self.namespace)
            && selects(applies.source_labels, labels)
    }

    /// Whether a selector by labels takes the client.
    pub(crate) fn has_labels(&self, selector: &BTreeMap<String, String>) -> bool {
        self.labels.is_none_or(|labels| selects(selector, labels))
    }
}

/// Whether a list of gateways means proxies inside the mesh.
pub(crate) fn is_mesh(gateways: &[String]) -> bool {
    gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH)
}

/// Whether all pairs of a selector are among the labels.
pub(crate) fn selects(
    selector: &BTreeMap<String, String>,
    labels: &BTreeMap<Arc<str>, Arc<str>>,
) -> bool {
    selector.iter().all(|(key, value)| labels.get(key.as_str()).is_some_and(|own| **own == **value))
}
