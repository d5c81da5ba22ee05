//! Addresses of workloads by their labels, for policies that know peers as sets of addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::{LabelSelector, LabelSelectorOperator, Resource as AnyObject};
use heddle_ident::Cidr;
use heddle_ir::authorization::{Attribute, Condition, ValueMatch};

use crate::engine::{Derivation, Kind, Reader, Topic};
use crate::network::condition;
use crate::object::ObjectKey;
use crate::pod;
use crate::workload::WorkloadKey;

/// Which namespaces peers are in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Namespaces {
    /// Any.
    All,
    /// Those whose labels meet all requirements.
    Labelled(Vec<Requirement>),
    /// One.
    One(Arc<str>),
}

/// A condition on a label.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Requirement {
    pub(crate) key: Arc<str>,
    pub(crate) operator: LabelSelectorOperator,
    pub(crate) values: Vec<Arc<str>>,
}

impl Requirement {
    /// The label has this value.
    pub(crate) fn equals(key: &str, value: &str) -> Self {
        let values = vec![value.into()];
        Self { key: key.into(), operator: LabelSelectorOperator::In, values }
    }

    /// Whether a label with this value, or without, meets it.
    pub(crate) fn is_met(&self, value: Option<&str>) -> bool {
        let listed = value.is_some_and(|value| self.values.iter().any(|own| **own == *value));
        match self.operator {
            LabelSelectorOperator::In => listed,
            LabelSelectorOperator::NotIn => !listed,
            LabelSelectorOperator::Exists => value.is_some(),
            LabelSelectorOperator::DoesNotExist => value.is_none(),
        }
    }
}

/// The requirements of a selector of Kubernetes. A broken condition is met by nothing.
pub(crate) fn requirements(selector: &LabelSelector) -> Vec<Requirement> {
    let labels = selector.match_labels.iter().map(|(key, value)| Requirement::equals(key, value));
    let expressions = selector.match_expressions.iter().map(|expression| Requirement {
        key: expression.key.as_str().into(),
        operator: expression.operator.unwrap_or(LabelSelectorOperator::In),
        values: match expression.operator {
            Some(_) => expression.values.iter().map(|value| value.as_str().into()).collect(),
            None => Vec::new(),
        },
    });
    labels.chain(expressions).collect()
}

/// The addresses of the workloads that meet all requirements.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PeersKey {
    pub(crate) namespaces: Namespaces,
    /// On labels of the workload.
    pub(crate) labels: Vec<Requirement>,
    /// On the name of its service account.
    pub(crate) accounts: Vec<Requirement>,
    /// Gateways alone.
    pub(crate) gateways: bool,
}

impl PeersKey {
    /// Workloads by their namespaces and labels.
    pub(crate) fn new(namespaces: Namespaces, labels: Vec<Requirement>) -> Self {
        Self { namespaces, labels, accounts: Vec::new(), gateways: false }
    }
}

impl Derivation for PeersKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<[IpAddr]> {
        let topic = |kind| match &self.namespaces {
            Namespaces::One(namespace) => Topic::KindIn(kind, namespace.clone()),
            Namespaces::All | Namespaces::Labelled(_) => Topic::Kind(kind),
        };
        let mut addresses = BTreeSet::new();
        for object in reader.objects(topic(Kind::Pod)) {
            let AnyObject::Pod(pod) = &object else { continue };
            if pod::is_over(&pod.written) || !self.namespace_meets(reader, &pod.meta.namespace) {
                continue;
            }
            let Some(facts) = reader.read(&WorkloadKey(ObjectKey::of(&object))) else { continue };
            let label = |key: &str| match facts.labels.get(key) {
                Some(value) => Some(&**value),
                None => of_cluster(reader, key),
            };
            let account = facts.identity.path().rsplit('/').next();
            let met =
                self.labels.iter().all(|requirement| requirement.is_met(label(&requirement.key)))
                    && self.accounts.iter().all(|requirement| requirement.is_met(account))
                    && (!self.gateways || facts.is_gateway);
            if met {
                addresses.extend(pod::addresses(&pod.written));
            }
        }
        if self.gateways {
            return addresses.into_iter().collect();
        }
        for object in reader.objects(topic(Kind::WorkloadEntry)) {
            let AnyObject::WorkloadEntry(entry) = &object else { continue };
            if !self.namespace_meets(reader, &entry.meta.namespace) {
                continue;
            }
            let label = |key: &str| {
                entry
                    .spec
                    .labels
                    .get(key)
                    .or_else(|| entry.meta.labels.get(key))
                    .map(String::as_str)
            };
            let account = entry.spec.service_account.as_deref();
            let met =
                self.labels.iter().all(|requirement| requirement.is_met(label(&requirement.key)))
                    && self.accounts.iter().all(|requirement| requirement.is_met(account));
            if met {
                addresses.extend(
                    entry.spec.address.as_deref().and_then(|text| text.parse::<IpAddr>().ok()),
                );
            }
        }
        addresses.into_iter().collect()
    }
}

impl PeersKey {
    fn namespace_meets(&self, reader: &Reader<'_>, namespace: &str) -> bool {
        match &self.namespaces {
            Namespaces::All | Namespaces::One(_) => true,
            Namespaces::Labelled(requirements) => {
                let labels = namespace_labels(reader, namespace);
                let label = |key: &str| labels.get(key).map(String::as_str);
                requirements.iter().all(|requirement| requirement.is_met(label(&requirement.key)))
            }
        }
    }
}

/// The label by which Cilium tells clusters apart, which no workload has written on it. Everything that is known here is of
/// the own cluster.
pub(crate) const CLUSTER: &str = "io.cilium.k8s.policy.cluster";

fn of_cluster<'a>(reader: &'a Reader<'_>, key: &str) -> Option<&'a str> {
    (key == CLUSTER).then(|| reader.options().cluster.as_str())
}

/// Where workloads have a port of a name: its numbers, each with the addresses of those that call that number so.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct NamedPortKey(pub(crate) Arc<str>);

/// Addresses by port.
pub(crate) type NamedPorts = Arc<BTreeMap<u16, BTreeSet<IpAddr>>>;

impl Derivation for NamedPortKey {
    fn derive(&self, reader: &Reader<'_>) -> NamedPorts {
        let mut found: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
        for object in reader.objects(Topic::Kind(Kind::Pod)) {
            let AnyObject::Pod(pod) = &object else { continue };
            if pod::is_over(&pod.written) {
                continue;
            }
            let Some(facts) = reader.read(&WorkloadKey(ObjectKey::of(&object))) else { continue };
            let named = facts.ports.iter().find(|(name, _)| name.eq_ignore_ascii_case(&self.0));
            if let Some((_, number)) = named {
                found.entry(*number).or_default().extend(pod::addresses(&pod.written));
            }
        }
        Arc::new(found)
    }
}

/// Conditions for a port that each peer calls by this name: one alternative for each number. Nobody has it: none.
pub(crate) fn at_named_port(reader: &Reader<'_>, name: &str) -> Vec<Vec<Condition>> {
    let found = reader.read(&NamedPortKey(name.into()));
    let alternative = |(number, addresses): (&u16, &BTreeSet<IpAddr>)| {
        let addresses: Vec<IpAddr> = addresses.iter().copied().collect();
        vec![
            condition(Attribute::DestinationAddress, values(&addresses)),
            condition(Attribute::DestinationPort, vec![ValueMatch::Port(*number)]),
        ]
    };
    found.iter().map(alternative).collect()
}

/// The labels of a namespace; one that no object describes has the label that Kubernetes gives every namespace.
pub(crate) fn namespace_labels(reader: &Reader<'_>, name: &str) -> BTreeMap<String, String> {
    const NAME: &str = "kubernetes.io/metadata.name";
    let object = reader.object(&ObjectKey::new("", "Namespace", "", name));
    let mut labels = match object {
        Some(AnyObject::Namespace(namespace)) => namespace.meta.labels.clone(),
        _ => BTreeMap::new(),
    };
    labels.entry(NAME.to_owned()).or_insert_with(|| name.to_owned());
    labels
}

/// Values that match any of the addresses.
pub(crate) fn values(addresses: &[IpAddr]) -> Vec<ValueMatch> {
    addresses.iter().filter_map(|address| single(*address)).map(ValueMatch::Range).collect()
}

fn single(address: IpAddr) -> Option<Cidr> {
    Cidr::new(address, if address.is_ipv4() { 32 } else { 128 })
}
