//! The objects, and under which topics each is found.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::istio::VirtualService;
use heddle_api::{Object, Resource as AnyObject};

use crate::client::Gateways;
use crate::names::{full_name, service_host};
use crate::object::ObjectKey;
use crate::options::Options;
use crate::pod;

/// A set of objects that a derivation may read as one. It changes when an object joins, leaves or changes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Topic {
    /// One object.
    Object(ObjectKey),
    /// All objects of a kind.
    Kind(Kind),
    /// All objects of a kind in a namespace.
    KindIn(Kind, Arc<str>),
    /// Services and ServiceEntries by the full host text, wildcards as they are written.
    ServicesByHost(Arc<str>),
    /// VirtualServices by the full host text.
    VirtualServicesByHost(Arc<str>),
    /// VirtualServices by the full name of a Gateway that they are bound to.
    VirtualServicesByGateway(Arc<str>),
    /// VirtualServices by the full name of one that they delegate to.
    VirtualServicesByDelegate(Arc<str>),
    /// DestinationRules of a namespace by the full host text.
    DestinationRulesByHost(Arc<str>, Arc<str>),
    /// Pods and WorkloadEntries of a namespace by a label.
    WorkloadsByLabel(Arc<str>, Arc<str>, Arc<str>),
    /// Pods and WorkloadEntries by an address.
    WorkloadsByAddress(IpAddr),
    /// EndpointSlices by namespace and name of their Service.
    EndpointSlicesOf(Arc<str>, Arc<str>),
    /// Routes of the Gateway API by what they attach to.
    RoutesOf(ObjectKey),
    /// ListenerSets by namespace and name of their Gateway.
    ListenerSetsOf(Arc<str>, Arc<str>),
    /// BackendTLSPolicies by namespace and name of the Service.
    TlsPoliciesOf(Arc<str>, Arc<str>),
}

/// Kinds that are looked up as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    AuthorizationPolicy,
    CiliumCidrGroup,
    CiliumClusterwidePolicy,
    CiliumPolicy,
    ConfigMap,
    DestinationRule,
    EgressNetwork,
    EnvoyFilter,
    Gateway,
    HttpLocalRateLimitPolicy,
    LinkerdAuthorizationPolicy,
    GatewayApiGateway,
    MeshConfig,
    NetworkPolicy,
    Other,
    PeerAuthentication,
    Pod,
    Server,
    ServerAuthorization,
    ReferenceGrant,
    RequestAuthentication,
    Service,
    ServiceEntry,
    ServiceProfile,
    TrafficSplit,
    TrafficTarget,
    Sidecar,
    VirtualService,
    WorkloadEntry,
    WorkloadGroup,
}

impl Kind {
    fn of(object: &AnyObject) -> Self {
        match object {
            AnyObject::AuthorizationPolicy(_) => Self::AuthorizationPolicy,
            AnyObject::CiliumCidrGroup(_) => Self::CiliumCidrGroup,
            AnyObject::CiliumClusterwideNetworkPolicy(_) => Self::CiliumClusterwidePolicy,
            AnyObject::CiliumNetworkPolicy(_) => Self::CiliumPolicy,
            AnyObject::ConfigMap(_) => Self::ConfigMap,
            AnyObject::DestinationRule(_) => Self::DestinationRule,
            AnyObject::EgressNetwork(_) => Self::EgressNetwork,
            AnyObject::EnvoyFilter(_) => Self::EnvoyFilter,
            AnyObject::Gateway(_) => Self::Gateway,
            AnyObject::HttpLocalRateLimitPolicy(_) => Self::HttpLocalRateLimitPolicy,
            AnyObject::LinkerdAuthorizationPolicy(_) => Self::LinkerdAuthorizationPolicy,
            AnyObject::MeshConfig(_) => Self::MeshConfig,
            AnyObject::NetworkPolicy(_) => Self::NetworkPolicy,
            AnyObject::PeerAuthentication(_) => Self::PeerAuthentication,
            AnyObject::Pod(_) => Self::Pod,
            AnyObject::Server(_) => Self::Server,
            AnyObject::ServerAuthorization(_) => Self::ServerAuthorization,
            AnyObject::GatewayApiGateway(_) => Self::GatewayApiGateway,
            AnyObject::ReferenceGrant(_) => Self::ReferenceGrant,
            AnyObject::RequestAuthentication(_) => Self::RequestAuthentication,
            AnyObject::Service(_) => Self::Service,
            AnyObject::ServiceEntry(_) => Self::ServiceEntry,
            AnyObject::ServiceProfile(_) => Self::ServiceProfile,
            AnyObject::TrafficSplit(_) => Self::TrafficSplit,
            AnyObject::TrafficTarget(_) => Self::TrafficTarget,
            AnyObject::Sidecar(_) => Self::Sidecar,
            AnyObject::VirtualService(_) => Self::VirtualService,
            AnyObject::WorkloadEntry(_) => Self::WorkloadEntry,
            AnyObject::WorkloadGroup(_) => Self::WorkloadGroup,
            _ => Self::Other,
        }
    }
}

/// The objects by key and by topic.
pub(crate) struct Store {
    options: Options,
    objects: BTreeMap<ObjectKey, AnyObject>,
    topics: HashMap<Topic, BTreeSet<ObjectKey>>,
}

impl Store {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, objects: BTreeMap::new(), topics: HashMap::new() }
    }

    /// Puts an object in the place of the one with its key, or removes that. Returns the topics that changed.
    pub(crate) fn change(&mut self, key: &ObjectKey, object: Option<AnyObject>) -> BTreeSet<Topic> {
        let before = self.objects.get(key).map(|old| self.topics_of(key, old)).unwrap_or_default();
        let after = object.as_ref().map(|new| self.topics_of(key, new)).unwrap_or_default();
        for topic in before.difference(&after) {
            if let Some(members) = self.topics.get_mut(topic) {
                members.remove(key);
                if members.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
        for topic in after.difference(&before) {
            self.topics.entry(topic.clone()).or_default().insert(key.clone());
        }
        match object {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(key),
        };
        before.into_iter().chain(after).collect()
    }

    pub(crate) fn object(&self, key: &ObjectKey) -> Option<AnyObject> {
        self.objects.get(key).cloned()
    }

    /// The objects of a topic, in the order of their keys.
    pub(crate) fn of(&self, topic: &Topic) -> Vec<AnyObject> {
        let keys = self.topics.get(topic).into_iter().flatten();
        keys.filter_map(|key| self.object(key)).collect()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    fn topics_of(&self, key: &ObjectKey, object: &AnyObject) -> BTreeSet<Topic> {
        let domain = &*self.options.cluster_domain;
        let namespace = &key.name.namespace;
        let kind = Kind::of(object);
        let mut topics = vec![
            Topic::Object(key.clone()),
            Topic::Kind(kind),
            Topic::KindIn(kind, namespace.clone()),
        ];
        match object {
            AnyObject::Service(_) => {
                if let Some(host) = service_host(&key.name.name, namespace, domain) {
                    topics.push(Topic::ServicesByHost(host.as_str().into()));
                }
            }
            AnyObject::ServiceEntry(entry) => topics.extend(
                entry
                    .spec
                    .hosts
                    .iter()
                    .map(|host| Topic::ServicesByHost(host.to_ascii_lowercase().into())),
            ),
            AnyObject::VirtualService(object) => {
                topics.extend(object.spec.hosts.iter().map(|host| {
                    Topic::VirtualServicesByHost(full_name(host, namespace, domain).into())
                }));
                let gateways = Gateways::new(&object.spec.gateways, namespace).full();
                topics.extend(gateways.into_iter().map(Topic::VirtualServicesByGateway));
                topics.extend(delegates(object).map(Topic::VirtualServicesByDelegate));
            }
            AnyObject::DestinationRule(rule) => topics.push(Topic::DestinationRulesByHost(
                namespace.clone(),
                full_name(&rule.spec.host, namespace, domain).into(),
            )),
            AnyObject::Pod(pod) => {
                topics.extend(by_labels(namespace, &pod.meta.labels));
                topics.extend(
                    pod::addresses(&pod.written).into_iter().map(Topic::WorkloadsByAddress),
                );
            }
            AnyObject::WorkloadEntry(entry) => {
                topics.extend(by_labels(namespace, &entry.spec.labels));
                topics.extend(by_labels(namespace, &entry.meta.labels));
                let address = entry.spec.address.as_deref().and_then(|text| text.parse().ok());
                topics.extend(address.map(Topic::WorkloadsByAddress));
            }
            AnyObject::EndpointSlice(slice) => {
                if let Some(service) = slice.meta.labels.get("kubernetes.io/service-name") {
                    let service = service.as_str().into();
                    topics.push(Topic::EndpointSlicesOf(namespace.clone(), service));
                }
            }
            other => topics.extend(crate::gateway_api::topics(other)),
        }
        topics.into_iter().collect()
    }
}

/// The full names of the objects that a VirtualService delegates to.
fn delegates(object: &Object<VirtualService>) -> impl Iterator<Item = Arc<str>> + '_ {
    object.spec.http.iter().filter_map(|rule| rule.delegate.as_ref()).map(|delegate| {
        let own = object.meta.namespace.as_str();
        let namespace = delegate.namespace.as_deref().filter(|text| !text.is_empty());
        let name = delegate.name.as_deref().unwrap_or_default();
        format!("{}/{name}", namespace.unwrap_or(own)).into()
    })
}

fn by_labels<'a>(
    namespace: &'a Arc<str>,
    labels: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = Topic> + 'a {
    labels.iter().map(|(key, value)| {
        Topic::WorkloadsByLabel(namespace.clone(), key.as_str().into(), value.as_str().into())
    })
}
