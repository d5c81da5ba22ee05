//! Which routes attach to which listeners of a Gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::Resource as AnyObject;
use heddle_api::gateway_api::ParentReference;
use heddle_ident::HostPattern;

use crate::engine::{Derivation, Reader, Topic};
use crate::gateway_api::listener::{ListenerView, Protocol};
use crate::gateway_api::route::{Route, RouteKind, by_age, parent_key, shared_hosts};
use crate::gateway_api::view::{View, ViewKey};
use crate::gateway_api::{gateway_key, is_listener_set};
use crate::object::ObjectKey;

/// The routes of a Gateway.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct AttachedKey(pub(crate) ObjectKey);

/// A route on a listener.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Attached {
    pub(crate) route: ObjectKey,
    pub(crate) kind: RouteKind,
    /// The hosts that it shares with the listener.
    pub(crate) hosts: Vec<HostPattern>,
}

/// What became of a parent reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Accepted,
    /// No listener has the name and port.
    NoMatchingParent,
    /// No listener takes the kind from the namespace.
    NotAllowed,
    /// No listener that does has a host in common.
    NoMatchingHost,
    /// An older route of the other kind (HTTP, gRPC) has all the hosts.
    Taken,
    /// What the route attaches to has an error.
    Unreadable,
}

/// The routes of a Gateway, by listener.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Attachments {
    /// For each listener of the [`View`], its routes, the oldest first.
    pub(crate) listeners: Vec<Vec<Attached>>,
    /// For each route and index of its parent reference.
    pub(crate) outcomes: BTreeMap<(ObjectKey, usize), Outcome>,
}

impl Derivation for AttachedKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<Attachments> {
        let Some(view) = reader.read(&ViewKey(self.0.clone())) else { return Arc::default() };
        let mut attachments =
            Attachments { listeners: vec![Vec::new(); view.listeners.len()], ..Default::default() };
        for route in routes(reader, &self.0, &view) {
            attach(reader, &self.0, &view, &route, &mut attachments);
        }
        Arc::new(attachments)
    }
}

/// Every route that names the Gateway or one of its sets, the oldest first.
fn routes(reader: &Reader<'_>, gateway: &ObjectKey, view: &View) -> Vec<Route> {
    let mut routes: BTreeMap<ObjectKey, Route> = BTreeMap::new();
    for parent in std::iter::once(gateway).chain(&view.sets) {
        let found = reader.objects(Topic::RoutesOf(parent.clone()));
        routes.extend(found.iter().filter_map(Route::of).map(|route| (route.key(), route)));
    }
    let mut routes: Vec<Route> = routes.into_values().collect();
    routes.sort_by(|left, right| by_age(left.meta(), right.meta()));
    routes
}

fn attach(
    reader: &Reader<'_>,
    gateway: &ObjectKey,
    view: &View,
    route: &Route,
    attachments: &mut Attachments,
) {
    for (index, parent) in route.parents().iter().enumerate() {
        let owner = route.parent_key(parent);
        if owner != *gateway && !view.sets.contains(&owner) {
            continue;
        }
        let outcome = if route.is_unattachable() {
            Outcome::Unreadable
        } else {
            let chosen = view.of(&owner).filter(|(_, listener)| selects(parent, listener));
            let mut outcome = Outcome::NoMatchingParent;
            for (position, listener) in chosen {
                let one =
                    on_listener(reader, route, listener, attachments.listeners.get_mut(position));
                outcome = better(outcome, one);
            }
            outcome
        };
        attachments.outcomes.insert((route.key(), index), outcome);
    }
}

fn selects(parent: &ParentReference, listener: &ListenerView) -> bool {
    parent.section_name.as_deref().is_none_or(|name| name == &*listener.name)
        && parent.port.is_none_or(|port| port == listener.port)
}

/// What got further says more.
fn better(one: Outcome, other: Outcome) -> Outcome {
    let rank = |outcome: Outcome| match outcome {
        Outcome::NoMatchingParent | Outcome::Unreadable => 0,
        Outcome::NotAllowed => 1,
        Outcome::NoMatchingHost => 2,
        Outcome::Taken => 3,
        Outcome::Accepted => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn on_listener(
    reader: &Reader<'_>,
    route: &Route,
    listener: &ListenerView,
    attached: Option<&mut Vec<Attached>>,
) -> Outcome {
    let namespace = &*route.meta().namespace;
    let own = &*listener.owner.name.namespace;
    let kind = route.kind();
    let allowed = listener.conflict.is_none()
        && listener.kinds.contains(&kind)
        && listener.namespaces.take(reader, own, namespace);
    if !allowed {
        return Outcome::NotAllowed;
    }
    let mut hosts = match listener.protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Other => vec![HostPattern::Any],
        Protocol::Http | Protocol::Https | Protocol::Tls => {
            shared_hosts(&listener.host, route.hostnames())
        }
    };
    if hosts.is_empty() {
        return Outcome::NoMatchingHost;
    }
    let Some(attached) = attached else { return Outcome::NotAllowed };
    // On one host of a listener either HTTPRoutes or GRPCRoutes act, whichever has the oldest.
    hosts.retain(|host| {
        !attached.iter().any(|other| other.kind != kind && other.hosts.contains(host))
    });
    if hosts.is_empty() {
        return Outcome::Taken;
    }
    let key = route.key();
    // Two references of one route may lead to the same listener.
    match attached.iter_mut().find(|other| other.route == key) {
        Some(_) => {}
        None => attached.push(Attached { route: key, kind, hosts }),
    }
    Outcome::Accepted
}

/// The Gateway behind a parent reference: itself, or that of a ListenerSet. None where it is not heddle's.
pub(crate) fn gateway_of(
    reader: &Reader<'_>,
    parent: &ParentReference,
    namespace: &str,
) -> Option<ObjectKey> {
    let owner = parent_key(parent, namespace);
    let gateway = if is_listener_set(&owner.group, &owner.kind) {
        let object = reader.object(&owner)?;
        let (AnyObject::ListenerSet(set) | AnyObject::XListenerSet(set)) = &object else {
            return None;
        };
        let (key, _) = crate::gateway_api::view::gateway_of(reader, set)?;
        key
    } else {
        owner
    };
    let wanted = gateway_key(&gateway.name.namespace, &gateway.name.name);
    (gateway == wanted && reader.read(&ViewKey(gateway.clone())).is_some()).then_some(gateway)
}
