//! A Gateway with everything that belongs to it: its listeners, those of its ListenerSets, and what is wrong with them.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_api::gateway_api::{Gateway, ListenerNamespacesFrom, ListenerSet};
use heddle_api::{Object, Resource as AnyObject};
use heddle_ir::gateway::{ClientCertificate, ServerTls};
use heddle_ir::secret::SecretKey;

use crate::engine::{Derivation, Reader, Topic};
use crate::gateway_api::certificates::{self, Referrer, Unresolved};
use crate::gateway_api::class::{self, Ownership};
use crate::gateway_api::listener::{self, ListenerView, Namespaces, Surroundings};
use crate::gateway_api::route::by_age;
use crate::gateway_api::{conflicts, gateway_key};
use crate::names::service_host;
use crate::object::ObjectKey;

/// A Gateway of a class that heddle serves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ViewKey(pub(crate) ObjectKey);

/// What is known of a Gateway.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct View {
    /// Why none of its listeners is served.
    pub(crate) refused: Option<Unresolved>,
    /// Why an address that it asks for is not one it can have.
    pub(crate) address_unusable: Option<String>,
    /// The addresses that it asks for by value.
    pub(crate) addresses: Vec<Arc<str>>,
    /// The Gateway's listeners in order, then those of its sets, the oldest set first.
    pub(crate) listeners: Vec<ListenerView>,
    /// How many of them are the Gateway's own.
    pub(crate) own: usize,
    /// The sets that may attach.
    pub(crate) sets: Vec<ObjectKey>,
    /// What it presents to backends; an error where the reference leads to nothing.
    pub(crate) client_certificate: Option<Result<SecretKey, Unresolved>>,
}

impl View {
    /// Whether some listener lets clients without a valid certificate in.
    pub(crate) fn is_insecure(&self) -> bool {
        self.listeners.iter().any(|listener| {
            matches!(&listener.tls, Some(ServerTls::Terminate(termination))
                if termination.client_certificate == ClientCertificate::Unverified)
        })
    }

    /// The listeners of an object: the Gateway itself or one of its sets.
    pub(crate) fn of<'a>(
        &'a self,
        owner: &'a ObjectKey,
    ) -> impl Iterator<Item = (usize, &'a ListenerView)> {
        self.listeners.iter().enumerate().filter(move |(_, listener)| listener.owner == *owner)
    }
}

impl Derivation for ViewKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<View>> {
        let Some(AnyObject::GatewayApiGateway(gateway)) = reader.object(&self.0) else {
            return None;
        };
        let class = &gateway.spec.gateway_class_name;
        if class::ownership(reader, class) != Ownership::Ours {
            return None;
        }
        let mut listeners: Vec<ListenerView> = Vec::new();
        let namespace = &*self.0.name.namespace;
        let frontend = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
        let own = Surroundings {
            reader,
            owner: self.0.clone(),
            owner_kind: "Gateway",
            written: &gateway.written,
            frontend,
            gateway_namespace: namespace,
        };
        listeners.extend(gateway.spec.listeners.iter().map(|one| listener::view(one, &own)));
        let own_count = listeners.len();
        let mut sets = Vec::new();
        for (key, set) in allowed_sets(reader, &gateway) {
            let surroundings = Surroundings {
                owner: key.clone(),
                owner_kind: "ListenerSet",
                written: &set.written,
                ..own
            };
            let of_set = set.spec.listeners.iter();
            listeners.extend(of_set.map(|one| listener::view(one, &surroundings)));
            sets.push(key);
        }
        conflicts::mark(&mut listeners, own_count);
        let address = address_problem(&gateway);
        Some(Arc::new(View {
            refused: refusal(reader, &gateway),
            address_unusable: address,
            addresses: addresses(reader, &gateway),
            listeners,
            own: own_count,
            sets,
            client_certificate: client_certificate(reader, &gateway),
        }))
    }
}

/// The ListenerSets that name the Gateway and that it lets attach, the oldest first.
fn allowed_sets(
    reader: &Reader<'_>,
    gateway: &Object<Gateway>,
) -> Vec<(ObjectKey, Arc<Object<ListenerSet>>)> {
    let (namespace, name) = (&gateway.meta.namespace, &gateway.meta.name);
    let topic = Topic::ListenerSetsOf(namespace.as_str().into(), name.as_str().into());
    let mut sets: Vec<(ObjectKey, Arc<Object<ListenerSet>>)> = Vec::new();
    for object in reader.objects(topic) {
        let (AnyObject::ListenerSet(set) | AnyObject::XListenerSet(set)) = &object else {
            continue;
        };
        if set.spec.parent_ref.is_gateway() && takes_set(reader, gateway, &set.meta.namespace) {
            sets.push((ObjectKey::of(&object), set.clone()));
        }
    }
    sets.sort_by(|(_, left), (_, right)| by_age(&left.meta, &right.meta));
    sets
}

/// Whether a Gateway lets ListenerSets of a namespace attach.
pub(crate) fn takes_set(reader: &Reader<'_>, gateway: &Object<Gateway>, namespace: &str) -> bool {
    let allowed = gateway.spec.allowed_listeners.as_ref();
    let Some(namespaces) = allowed.and_then(|allowed| allowed.namespaces.as_ref()) else {
        return false;
    };
    if gateway.is_broken(namespaces.at) {
        return false;
    }
    let namespaces = match namespaces.from.unwrap_or(ListenerNamespacesFrom::None) {
        ListenerNamespacesFrom::All => Namespaces::All,
        ListenerNamespacesFrom::Same => Namespaces::Same,
        ListenerNamespacesFrom::None => Namespaces::None,
        ListenerNamespacesFrom::Selector => Namespaces::Selector(namespaces.selector.clone()),
    };
    namespaces.take(reader, &gateway.meta.namespace, namespace)
}

/// The Gateway that a ListenerSet names, where it exists and is heddle's.
pub(crate) fn gateway_of(
    reader: &Reader<'_>,
    set: &Object<ListenerSet>,
) -> Option<(ObjectKey, Arc<Object<Gateway>>)> {
    let parent = &set.spec.parent_ref;
    if !parent.is_gateway() {
        return None;
    }
    let namespace = parent.namespace.as_deref().unwrap_or(&set.meta.namespace);
    let key = gateway_key(namespace, &parent.name);
    let Some(AnyObject::GatewayApiGateway(gateway)) = reader.object(&key) else { return None };
    let ours = class::ownership(reader, &gateway.spec.gateway_class_name) == Ownership::Ours;
    ours.then_some((key, gateway))
}

fn refusal(reader: &Reader<'_>, gateway: &Object<Gateway>) -> Option<Unresolved> {
    if let Some(message) = class::refusal(reader, &gateway.spec.gateway_class_name) {
        return Some(Unresolved::new("InvalidParameters", message));
    }
    let infrastructure = gateway.spec.infrastructure.as_ref();
    if infrastructure.is_some_and(|one| one.parameters_ref.is_some()) {
        let message = "Gateways of heddle's take no parameters";
        return Some(Unresolved::new("InvalidParameters", message));
    }
    let odd = gateway.spec.addresses.iter().find(|address| !known(address.kind()));
    odd.map(|address| {
        let message = format!("addresses of the type `{}` are not supported", address.kind());
        Unresolved::new("UnsupportedAddress", message)
    })
}

fn known(kind: &str) -> bool {
    matches!(kind, "IPAddress" | "Hostname")
}

/// Where the first address that cannot be listened on stands: documentation ranges never can.
fn address_problem(gateway: &Object<Gateway>) -> Option<String> {
    let values = gateway.spec.addresses.iter().filter(|one| one.kind() == "IPAddress");
    let mut values = values.filter_map(|address| address.value.as_deref());
    values
        .find(|text| text.parse().is_ok_and(is_unusable))
        .map(|text| format!("`{text}` is no address that anything can listen on"))
}

/// Multicast, broadcast and documentation addresses (RFC 5737, RFC 3849).
fn is_unusable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_documentation() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast() || matches!(v6.segments(), [0x2001, 0xdb8, ..]),
    }
}

/// What it asks for; where it asks for nothing, the name of the Service that is made for it, once that is there.
fn addresses(reader: &Reader<'_>, gateway: &Object<Gateway>) -> Vec<Arc<str>> {
    let values = gateway.spec.addresses.iter().filter(|one| known(one.kind()));
    let values = values.filter_map(|address| address.value.as_deref());
    let asked: Vec<Arc<str>> = values.filter(|value| !value.is_empty()).map(Into::into).collect();
    if !asked.is_empty() {
        return asked;
    }
    let (namespace, name) = (&gateway.meta.namespace, class::workload_name(gateway));
    if reader.object(&ObjectKey::new("", "Service", namespace, &name)).is_none() {
        return Vec::new();
    }
    let host = service_host(&name, namespace, &reader.options().cluster_domain);
    host.map(|host| host.as_str().into()).into_iter().collect()
}

fn client_certificate(
    reader: &Reader<'_>,
    gateway: &Object<Gateway>,
) -> Option<Result<SecretKey, Unresolved>> {
    let tls = gateway.spec.tls.as_ref()?.backend.as_ref()?;
    let reference = tls.client_certificate_ref.as_ref()?;
    let referrer = Referrer { kind: "Gateway", namespace: &gateway.meta.namespace };
    let reason = "InvalidClientCertificateRef";
    Some(certificates::key_pair(reader, referrer, reference, reason))
}
