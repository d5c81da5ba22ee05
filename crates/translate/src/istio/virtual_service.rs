//! Which VirtualService decides for a host, and what there is to say about each.

use std::cmp::Ordering;
use std::sync::Arc;

use heddle_api::istio::VirtualService;
use heddle_api::{Object, Resource as AnyObject};
use heddle_ident::HostPattern;

use crate::client::is_mesh;
use crate::engine::{Derivation, Reader, Topic};
use crate::export::Export;
use crate::mesh::{Mesh, MeshKey};
use crate::names::{covering_texts, full_name};
use crate::object::by_age;

pub(crate) type Vs = Arc<Object<VirtualService>>;

/// The VirtualServices that may decide for a host, as clients of a namespace see it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ClaimsKey {
    pub(crate) namespace: Arc<str>,
    pub(crate) host: Arc<str>,
}

/// A VirtualService that may decide for a host. Equal only to itself: an object that was put again is another one.
#[derive(Clone, Debug)]
pub(crate) struct Claim(pub(crate) Vs);

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Derivation for ClaimsKey {
    /// The most specific host first, then by how near the object is to the client, then by age.
    fn derive(&self, reader: &Reader<'_>) -> Arc<[Claim]> {
        let mesh = reader.read(&MeshKey);
        let Ok(host) = HostPattern::parse(&self.host) else { return Arc::new([]) };
        let mut claims: Vec<Claim> = Vec::new();
        for text in covering_texts(&host).into_iter().filter(|text| **text != *"*") {
            let mut found: Vec<(Nearness, Vs)> = of_host(reader, &text)
                .into_iter()
                .filter_map(|object| Some((nearness(&object, &self.namespace, &mesh)?, object)))
                .collect();
            found.sort_by(rank);
            claims.extend(found.into_iter().map(|(_, object)| Claim(object)));
        }
        claims.into()
    }
}

/// The objects with that host that are for proxies inside the mesh.
fn of_host(reader: &Reader<'_>, text: &Arc<str>) -> Vec<Vs> {
    let objects = reader.objects(Topic::VirtualServicesByHost(text.clone()));
    objects
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::VirtualService(object) if is_mesh(&object.spec.gateways) => Some(object),
            _ => None,
        })
        .collect()
}

fn rank(left: &(Nearness, Vs), right: &(Nearness, Vs)) -> Ordering {
    left.0.cmp(&right.0).then_with(|| by_age(&left.1.meta, &right.1.meta))
}

/// How near an object is to a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Nearness {
    /// Private to the client's own namespace.
    Private,
    /// Exported to the client's namespace by name.
    Exported,
    /// Seen by everyone.
    Public,
}

pub(crate) fn export(object: &Object<VirtualService>, mesh: &Mesh) -> Export {
    let texts = object.spec.export_to.iter().map(String::as_str);
    Export::of(texts, &object.meta.namespace, &mesh.virtual_service_export)
}

/// How near an object is to clients of a namespace; none where they do not see it.
fn nearness(object: &Object<VirtualService>, namespace: &str, mesh: &Mesh) -> Option<Nearness> {
    let export = export(object, mesh);
    if !export.shows_to(namespace) {
        return None;
    }
    Some(match export {
        Export::All => Nearness::Public,
        _ if export.is_private_to(&object.meta.namespace) => Nearness::Private,
        _ => Nearness::Exported,
    })
}

/// Two objects for one host.
pub(super) struct Contest {
    /// The other object.
    pub(super) other: Vs,
    /// Whose clients see both.
    pub(super) namespace: Arc<str>,
    /// Neither is nearer to these clients, so age decides: hardly what both authors meant.
    pub(super) by_age: bool,
}

/// The other object that decides for a host of `object`, for clients of some namespace that see both; none where nothing
/// stands in its way. One that decides by age goes before one that decides by being nearer.
pub(super) fn shadowed_by(reader: &Reader<'_>, object: &Vs, host: &str) -> Option<Contest> {
    contest(reader, object, host, |own, other| rank(other, own) == Ordering::Less)
}

/// An object that `object` keeps from deciding for a host.
pub(super) fn shadows(reader: &Reader<'_>, object: &Vs, host: &str) -> Option<Contest> {
    contest(reader, object, host, |own, other| rank(own, other) == Ordering::Less)
}

fn contest(
    reader: &Reader<'_>,
    object: &Vs,
    host: &str,
    wins: impl Fn(&(Nearness, Vs), &(Nearness, Vs)) -> bool,
) -> Option<Contest> {
    let mut nearer = None;
    let mesh = reader.read(&MeshKey);
    let text = full_name(host, &object.meta.namespace, &reader.options().cluster_domain);
    for other in of_host(reader, &text.into()) {
        if other.meta.name == object.meta.name && other.meta.namespace == object.meta.namespace {
            continue;
        }
        // Only namespaces that one of the two names can tell them apart; any further one stands for all others.
        let named = object.spec.export_to.iter().chain(&other.spec.export_to).map(String::as_str);
        let own = [object.meta.namespace.as_str(), other.meta.namespace.as_str()];
        for namespace in
            own.into_iter().chain(named.filter(|name| !matches!(*name, "." | "*" | "~")))
        {
            let near = |object: &Vs| Some((nearness(object, namespace, &mesh)?, object.clone()));
            if let (Some(own), Some(other)) = (near(object), near(&other))
                && wins(&own, &other)
            {
                let by_age = own.0 == other.0;
                let contest = Contest { other: other.1, namespace: namespace.into(), by_age };
                if by_age {
                    return Some(contest);
                }
                nearer.get_or_insert(contest);
            }
        }
    }
    nearer
}
