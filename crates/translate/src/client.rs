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
    /// The service port that it calls, or the port that a gateway was called on; none when reporting.
    pub(crate) port: Option<u16>,
    /// The Gateway, as `namespace/name`, whose server took the request; none inside the mesh.
    pub(crate) gateway: Option<&'a str>,
}

/// Gateways as an object names them: the reserved name for the mesh, or `namespace/name`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gateways<'a> {
    pub(crate) names: &'a [String],
    /// Namespace of the object, which names without one are of.
    pub(crate) namespace: &'a str,
}

/// What an object says about the clients it is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applies {
    /// Full names; empty: those of the whole object.
    pub(crate) gateways: Vec<Arc<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) source_namespace: Option<String>,
    pub(crate) source_labels: BTreeMap<String, String>,
}

/// The reserved name for all proxies inside the mesh.
pub(crate) const MESH: &str = "mesh";

impl<'a> Client<'a> {
    /// A client of a scope that calls a port.
    pub(crate) fn of(scope: &'a Scope, port: u16) -> Self {
        Self {
            namespace: &scope.namespace,
            labels: Some(&scope.labels),
            port: Some(port),
            gateway: None,
        }
    }

    /// Requests that a server of a Gateway took at a workload of the scope.
    pub(crate) fn at_gateway(scope: &'a Scope, gateway: &'a str, port: u16) -> Self {
        Self { gateway: Some(gateway), ..Self::of(scope, port) }
    }

    /// Every client that an object of the namespace may concern.
    pub(crate) fn any(namespace: &'a str) -> Self {
        Self { namespace, labels: None, port: None, gateway: None }
    }

    /// Whether rules for these gateways, as full names, are for the client. When reporting, every one is.
    fn is_behind(&self, gateways: &[Arc<str>]) -> bool {
        let own = self.gateway.unwrap_or(MESH);
        gateways.iter().any(|gateway| **gateway == *own)
    }

    /// Whether an object that is bound to these gateways is for the client.
    pub(crate) fn is_bound(&self, gateways: Gateways<'_>) -> bool {
        self.labels.is_none()
            || match self.gateway {
                None => is_mesh(gateways.names),
                Some(_) => self.is_behind(&gateways.full()),
            }
    }

    /// Whether an HTTP match is for the client: a list of gateways in it makes the other selectors of sources
    /// meaningless (API.md 2.1).
    pub(crate) fn takes_http(&self, applies: &Applies) -> bool {
        let Some(labels) = self.labels else { return true };
        let source = if applies.gateways.is_empty() {
            self.is_source(applies, labels)
        } else {
            self.is_behind(&applies.gateways)
        };
        source && self.is_at_port(applies)
    }

    /// Whether a match of a TCP or TLS route is for the client: all selectors must hold.
    pub(crate) fn takes_stream(&self, applies: &Applies) -> bool {
        let Some(labels) = self.labels else { return true };
        (applies.gateways.is_empty() || self.is_behind(&applies.gateways))
            && self.is_source(applies, labels)
            && self.is_at_port(applies)
    }

    fn is_source(&self, applies: &Applies, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        let namespace = applies.source_namespace.as_deref().filter(|name| !name.is_empty());
        namespace.is_none_or(|name| name == self.namespace)
            && selects(&applies.source_labels, labels)
    }

    fn is_at_port(&self, applies: &Applies) -> bool {
        applies.port.is_none_or(|port| port == 0 || self.port.is_none_or(|own| own == port))
    }

    /// Whether a selector by labels takes the client.
    pub(crate) fn has_labels(&self, selector: &BTreeMap<String, String>) -> bool {
        self.labels.is_none_or(|labels| selects(selector, labels))
    }
}

impl<'a> Gateways<'a> {
    /// What an object of the namespace names.
    pub(crate) fn new(names: &'a [String], namespace: &'a str) -> Self {
        Self { names, namespace }
    }

    /// The full names.
    pub(crate) fn full(self) -> Vec<Arc<str>> {
        self.names.iter().map(|name| full_gateway(name, self.namespace)).collect()
    }
}

/// A gateway's name with its namespace; the name of the mesh stays as it is.
pub(crate) fn full_gateway(name: &str, namespace: &str) -> Arc<str> {
    match name.split_once('/') {
        _ if name == MESH => MESH.into(),
        Some((".", name)) => format!("{namespace}/{name}").into(),
        Some(_) => name.into(),
        None => format!("{namespace}/{name}").into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn applies(gateways: &[&str], label: &str, port: Option<u16>) -> Applies {
        let labels = [("app".to_owned(), label.to_owned())];
        Applies {
            gateways: gateways.iter().map(|name| (*name).into()).collect(),
            port,
            source_namespace: None,
            source_labels: labels.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        }
    }

    /// API.md 2.1, compilation rules: selectors on the proxy.
    #[test]
    fn gateways_in_a_match_replace_the_other_selectors() {
        let scope = Scope::new(
            "shop",
            &[("app".into(), "web".into())].into(),
            &heddle_ident::NetworkName::new(""),
        );
        let mesh = Client::of(&scope, 80);
        let gateway = Client::at_gateway(&scope, "infra/gw", 80);
        for (written, in_mesh, at_gateway) in [
            (applies(&[], "", None), true, true),
            (applies(&[], "web", None), true, true),
            (applies(&[], "other", None), false, false),
            (applies(&["mesh"], "other", None), true, false),
            (applies(&["infra/gw"], "other", None), false, true),
            (applies(&["mesh", "infra/gw"], "", Some(80)), true, true),
            (applies(&["mesh", "infra/gw"], "", Some(81)), false, false),
        ] {
            assert_eq!(mesh.takes_http(&written), in_mesh, "{written:?}");
            assert_eq!(gateway.takes_http(&written), at_gateway, "{written:?}");
        }
        let both = applies(&["mesh"], "other", None);
        assert!(!mesh.takes_stream(&both), "streams: every selector must hold");
        assert!(Client::any("shop").takes_http(&both));
    }

    #[test]
    fn a_name_without_namespace_is_of_the_object_s() {
        for (name, full) in
            [("gw", "own/gw"), ("./gw", "own/gw"), ("infra/gw", "infra/gw"), ("mesh", "mesh")]
        {
            assert_eq!(&*full_gateway(name, "own"), full);
        }
    }
}
