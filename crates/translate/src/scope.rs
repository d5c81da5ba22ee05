//! Scopes: the clients that see the same outbound configuration.
//!
//! A scope is a value, not a reference: its id spells the namespace, the labels and the network, so that what is
//! derived for a scope depends on no pod. Labels that differ between replicas of one workload are left out, so that
//! replicas share a scope.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_ident::NetworkName;
use heddle_ir::outbound::ScopeId;

/// Labels that Kubernetes' controllers put on each replica; no one selects clients by them.
const REPLICA_LABELS: [&str; 7] = [
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "controller-revision-hash",
    "controller-uid",
    "pod-template-generation",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// What decides which configuration a client sees.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Scope {
    pub(crate) namespace: Arc<str>,
    pub(crate) labels: BTreeMap<Arc<str>, Arc<str>>,
    pub(crate) network: NetworkName,
}

impl Scope {
    pub(crate) fn new(
        namespace: &str,
        labels: &BTreeMap<Arc<str>, Arc<str>>,
        network: &NetworkName,
    ) -> Self {
        let labels = labels
            .iter()
            .filter(|(key, _)| !REPLICA_LABELS.contains(&&***key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Self { namespace: namespace.into(), labels, network: network.clone() }
    }

    /// `namespace@network?key=value&key=value`; labels have none of the separators (Kubernetes' label syntax).
    pub(crate) fn id(&self) -> ScopeId {
        let mut text = self.namespace.to_string();
        if !self.network.as_str().is_empty() {
            text.push('@');
            text.push_str(self.network.as_str());
        }
        for (index, (key, value)) in self.labels.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(key);
            text.push('=');
            text.push_str(value);
        }
        ScopeId(text.into())
    }

    /// The scope that an id spells; none where it spells none.
    pub(crate) fn parse(id: &ScopeId) -> Option<Self> {
        let (place, labels) = id.0.split_once('?').unwrap_or((&id.0, ""));
        let (namespace, network) = place.split_once('@').unwrap_or((place, ""));
        if namespace.is_empty() {
            return None;
        }
        let mut parsed = BTreeMap::new();
        for pair in labels.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=')?;
            parsed.insert(key.into(), value.into());
        }
        Some(Self {
            namespace: namespace.into(),
            labels: parsed,
            network: NetworkName::new(network),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_spells_its_scope_and_replicas_share_it() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
        };
        let network = NetworkName::new("east");
        let one = labels(&[("app", "web"), ("x/y", ""), ("pod-template-hash", "1")]);
        let two = labels(&[("app", "web"), ("x/y", ""), ("pod-template-hash", "2")]);
        let scope = Scope::new("shop", &one, &network);
        assert_eq!(&*scope.id().0, "shop@east?app=web&x/y=");
        assert_eq!(Scope::parse(&scope.id()), Some(scope.clone()));
        assert_eq!(scope, Scope::new("shop", &two, &network));
        let plain = Scope::new("shop", &BTreeMap::new(), &NetworkName::new(""));
        assert_eq!(&*plain.id().0, "shop");
        assert_eq!(Scope::parse(&plain.id()), Some(plain));
        assert_eq!(Scope::parse(&ScopeId("".into())), None);
        assert_eq!(Scope::parse(&ScopeId("a?b".into())), None);
    }
}
