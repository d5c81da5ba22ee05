//! Sidecars: what workloads know of the mesh, and what they accept (API.md 2.7). Scoping is not access control.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::istio::{EgressListener, OutboundTrafficMode, Sidecar, VirtualService};
use heddle_api::{Object, Resource as AnyObject};
use heddle_diag::Origin;
use heddle_ident::HostPattern;
use heddle_ir::index::UnknownDestinations;
use heddle_ir::outbound::ScopeId;

use crate::client::selects;
use crate::engine::{Derivation, Kind, Reader, Topic};
use crate::mesh::MeshKey;
use crate::names::full_name;
use crate::object::by_age;
use crate::scope::Scope;

/// The Sidecar that decides for the workloads of a scope.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SidecarKey(pub(crate) ScopeId);

/// What a Sidecar says.
#[derive(Clone, Debug)]
pub(crate) struct Scoping {
    pub(crate) object: Arc<Object<Sidecar>>,
    /// In order; none: everything is known.
    egress: Option<Vec<Egress>>,
    /// None: as the mesh says.
    pub(crate) unknown_destinations: Option<UnknownDestinations>,
}

impl PartialEq for Scoping {
    /// By identity: an object that was put again is another one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.object, &other.object) && self.egress == other.egress
    }
}

/// Hosts that are known on a port.
#[derive(Clone, PartialEq, Debug)]
struct Egress {
    origin: Origin,
    /// None: every port that no other entry has.
    port: Option<u16>,
    known: Vec<Hosts>,
    excluded: Vec<Hosts>,
}

/// Hosts of namespaces.
#[derive(Clone, PartialEq, Debug)]
struct Hosts {
    /// None: every one.
    namespace: Option<Arc<str>>,
    pattern: HostPattern,
}

impl Hosts {
    fn is_of(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }

    fn covers(&self, namespace: &str, host: &HostPattern) -> bool {
        self.is_of(namespace) && self.pattern.covers(host)
    }
}

/// How a host of a listener is read.
pub(super) enum HostEntry<'a> {
    /// Hosts of a namespace: `*`, `.` or a name.
    Known(&'a str, &'a str),
    /// Hosts that are left out again; the namespace `*` for any.
    Excluded(&'a str, &'a str),
}

/// The parts of `namespace/host`; a tilde in front leaves out, by itself in every namespace.
pub(super) fn host_entry(text: &str) -> Option<HostEntry<'_>> {
    let (namespace, host) = text.split_once('/')?;
    if host.contains('/') {
        return None;
    }
    Some(match namespace.strip_prefix('~') {
        Some("") => HostEntry::Excluded("*", host),
        Some(namespace) => HostEntry::Excluded(namespace, host),
        None => HostEntry::Known(namespace, host),
    })
}

/// Whether a listener has an address of its own, to which nothing is redirected.
pub(super) fn is_bound(listener: &EgressListener) -> bool {
    listener.bind.as_deref().is_some_and(|bind| !bind.is_empty())
        || listener.capture_mode == Some(heddle_api::istio::CaptureMode::None)
}

impl Derivation for SidecarKey {
    fn derive(&self, reader: &Reader<'_>) -> Option<Arc<Scoping>> {
        let scope = Scope::parse(&self.0)?;
        let object = deciding(reader, &scope.namespace, &scope.labels)?;
        let spec = &object.spec;
        let unknown_destinations = spec.outbound_traffic_policy.as_ref().map(|policy| {
            match policy.mode {
                Some(OutboundTrafficMode::AllowAny) => UnknownDestinations::PassThrough,
                // The enum's first value, which an empty mode is in Istio's encoding.
                Some(OutboundTrafficMode::RegistryOnly) | None => UnknownDestinations::Refuse,
            }
        });
        let broken = object.is_field_broken(spec.at, "egress");
        let egress = (!spec.egress.is_empty() || broken).then(|| {
            let listeners = spec.egress.iter().filter(|listener| !is_bound(listener));
            listeners.map(|listener| egress(&object, listener, &scope.namespace)).collect()
        });
        Some(Arc::new(Scoping { object, egress, unknown_destinations }))
    }
}

fn egress(object: &Object<Sidecar>, listener: &EgressListener, namespace: &str) -> Egress {
    let mut egress = Egress {
        origin: object.origin_at(listener.at),
        port: listener.port.as_ref().and_then(|port| port.number).filter(|number| *number > 0),
        known: Vec::new(),
        excluded: Vec::new(),
    };
    for entry in listener.hosts.iter().filter_map(|text| host_entry(text)) {
        let (list, of, host) = match entry {
            HostEntry::Known(of, host) => (&mut egress.known, of, host),
            HostEntry::Excluded(of, host) => (&mut egress.excluded, of, host),
        };
        let Ok(pattern) = HostPattern::parse(host) else { continue };
        let namespace = match of {
            "*" => None,
            "." => Some(namespace.into()),
            name => Some(name.into()),
        };
        list.push(Hosts { namespace, pattern });
    }
    egress
}

/// The Sidecar of a workload: one of its namespace that selects it, else the one of its namespace without selector, else
/// that of the root namespace. Of several the oldest counts.
fn deciding(
    reader: &Reader<'_>,
    namespace: &Arc<str>,
    labels: &BTreeMap<Arc<str>, Arc<str>>,
) -> Option<Arc<Object<Sidecar>>> {
    let own = of_namespace(reader, namespace);
    let selecting = own.iter().find(|object| {
        let selector = object.spec.workload_selector.as_ref();
        selector.is_some_and(|selector| {
            !object.is_broken(selector.at) && selects(&selector.labels, labels)
        })
    });
    let general = |objects: &[Arc<Object<Sidecar>>]| {
        objects.iter().find(|object| object.spec.workload_selector.is_none()).cloned()
    };
    selecting.cloned().or_else(|| general(&own)).or_else(|| {
        let root = reader.read(&MeshKey).root_namespace.clone();
        general(&of_namespace(reader, &root))
    })
}

/// The Sidecars of a namespace, the oldest first.
pub(super) fn of_namespace(reader: &Reader<'_>, namespace: &Arc<str>) -> Vec<Arc<Object<Sidecar>>> {
    let objects = reader.objects(Topic::KindIn(Kind::Sidecar, namespace.clone()));
    let mut found: Vec<Arc<Object<Sidecar>>> = objects
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::Sidecar(object) => Some(object),
            _ => None,
        })
        .collect();
    found.sort_by(|left, right| by_age(&left.meta, &right.meta));
    found
}

impl Scoping {
    /// The listener that decides for a port: the one that names it, else the one without port.
    fn listener(&self, port: u16) -> Option<&Egress> {
        let egress = self.egress.as_ref()?;
        let named = egress.iter().find(|listener| listener.port == Some(port));
        named.or_else(|| egress.iter().find(|listener| listener.port.is_none()))
    }

    /// Whether a port of a service is known.
    pub(crate) fn knows(&self, namespace: &str, host: &HostPattern, port: u16) -> bool {
        if self.egress.is_none() {
            return true;
        }
        self.listener(port).is_some_and(|listener| {
            listener.known.iter().any(|hosts| hosts.covers(namespace, host))
                && !listener.excluded.iter().any(|hosts| hosts.covers(namespace, host))
        })
    }

    /// Whether the routes of an object are known on a port: one of its hosts is within what is known, or the other way
    /// round.
    pub(crate) fn knows_routes(
        &self,
        object: &Object<VirtualService>,
        port: u16,
        cluster_domain: &str,
    ) -> bool {
        if self.egress.is_none() {
            return true;
        }
        let Some(listener) = self.listener(port) else { return false };
        let namespace = object.meta.namespace.as_str();
        object.spec.hosts.iter().any(|host| {
            let full = full_name(host, namespace, cluster_domain);
            let Ok(own) = HostPattern::parse(&full) else { return false };
            let known = listener.known.iter().any(|hosts| {
                hosts.is_of(namespace) && (hosts.pattern.covers(&own) || own.covers(&hosts.pattern))
            });
            known && !listener.excluded.iter().any(|hosts| hosts.covers(namespace, &own))
        })
    }

    /// What says that a port's hosts are hidden.
    pub(crate) fn origin(&self, port: u16) -> Origin {
        match self.listener(port) {
            Some(listener) => listener.origin.clone(),
            None => self.object.origin_of(self.object.spec.at, "egress"),
        }
    }
}
