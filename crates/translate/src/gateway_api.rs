//! The Kubernetes Gateway API: Gateways and their routes, and routes of the mesh (a Service as parent).
//!
//! Each Gateway has one `view` (its listeners with those of its ListenerSets, checked and merged) and one
//! `attach`ment of routes to them; servers of gateway workloads, tables of the mesh, statuses and findings are made
//! out of these two by the same code. References are `backend`'s, rules `rules`', statuses `status`'.

pub(crate) mod attach;
pub(crate) mod backend;
pub(crate) mod certificates;
pub(crate) mod class;
pub(crate) mod conflicts;
pub(crate) mod external_auth;
pub(crate) mod filters;
pub(crate) mod grants;
pub(crate) mod grpc;
pub(crate) mod listener;
pub(crate) mod matches;
pub(crate) mod mesh;
pub(crate) mod outcomes;
pub(crate) mod report;
pub(crate) mod route;
pub(crate) mod rules;
pub(crate) mod servers;
pub mod status;
pub(crate) mod streams;
pub(crate) mod tls_policy;
pub(crate) mod view;

use heddle_api::Resource as AnyObject;
use heddle_api::gateway_api::{EXPERIMENTAL_GROUP, GROUP};

use crate::engine::Topic;
use crate::object::ObjectKey;

/// A Gateway's key.
pub(crate) fn gateway_key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(GROUP, "Gateway", namespace, name)
}

/// Whether a group and kind are a ListenerSet's, under either name.
pub(crate) fn is_listener_set(group: &str, kind: &str) -> bool {
    matches!((group, kind), (GROUP, "ListenerSet") | (EXPERIMENTAL_GROUP, "XListenerSet"))
}

/// The topics under which objects of the Gateway API are found.
pub(crate) fn topics(object: &AnyObject) -> Vec<Topic> {
    if let Some(route) = route::Route::of(object) {
        let parents = route.parents().iter();
        return parents.map(|parent| Topic::RoutesOf(route.parent_key(parent))).collect();
    }
    match object {
        AnyObject::ListenerSet(set) | AnyObject::XListenerSet(set) => {
            let parent = &set.spec.parent_ref;
            let namespace = parent.namespace.as_deref().unwrap_or(&set.meta.namespace);
            vec![Topic::ListenerSetsOf(namespace.into(), parent.name.as_str().into())]
        }
        AnyObject::BackendTlsPolicy(policy) => {
            let namespace = || policy.meta.namespace.as_str().into();
            let targets = policy.spec.target_refs.iter();
            targets
                .map(|target| Topic::TlsPoliciesOf(namespace(), target.name.as_str().into()))
                .collect()
        }
        _ => Vec::new(),
    }
}
