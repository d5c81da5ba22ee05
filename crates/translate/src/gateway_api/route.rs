//! Routes of all kinds as far as attaching them is concerned.

use std::cmp::Ordering;
use std::sync::Arc;

use heddle_api::gateway_api::{
    GROUP, GrpcRoute, HttpRoute, ParentReference, TcpRoute, TlsRoute, UdpRoute,
};
use heddle_api::{At, Meta, Object, Resource as AnyObject, Written};
use heddle_ident::HostPattern;

use crate::linkerd;
use crate::object::ObjectKey;

/// Kinds of routes, in the order in which they win for a port of a Service (API.md hazard 29).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum RouteKind {
    Grpc,
    Http,
    Tls,
    Tcp,
    Udp,
}

impl RouteKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http => "HTTPRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
            Self::Udp => "UDPRoute",
        }
    }
}

/// A route of any kind.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    Grpc(Arc<Object<GrpcRoute>>),
    Http(Arc<Object<HttpRoute>>),
    Tls(Arc<Object<TlsRoute>>),
    Tcp(Arc<Object<TcpRoute>>),
    Udp(Arc<Object<UdpRoute>>),
}

macro_rules! each {
    ($route:expr, $object:ident => $value:expr) => {
        match $route {
            Route::Grpc($object) => $value,
            Route::Http($object) => $value,
            Route::Tls($object) => $value,
            Route::Tcp($object) => $value,
            Route::Udp($object) => $value,
        }
    };
}

impl Route {
    pub(crate) fn of(object: &AnyObject) -> Option<Self> {
        Some(match object {
            AnyObject::GrpcRoute(object) => Self::Grpc(object.clone()),
            AnyObject::HttpRoute(object) | AnyObject::LinkerdHttpRoute(object) => {
                Self::Http(object.clone())
            }
            AnyObject::TlsRoute(object) => Self::Tls(object.clone()),
            AnyObject::TcpRoute(object) => Self::Tcp(object.clone()),
            AnyObject::UdpRoute(object) => Self::Udp(object.clone()),
            _ => return None,
        })
    }

    pub(crate) fn kind(&self) -> RouteKind {
        match self {
            Self::Grpc(_) => RouteKind::Grpc,
            Self::Http(_) => RouteKind::Http,
            Self::Tls(_) => RouteKind::Tls,
            Self::Tcp(_) => RouteKind::Tcp,
            Self::Udp(_) => RouteKind::Udp,
        }
    }

    pub(crate) fn key(&self) -> ObjectKey {
        let meta = self.meta();
        let group = &self.written().origin().group;
        ObjectKey::new(group, self.kind().as_str(), &meta.namespace, &meta.name)
    }

    /// What a parent reference of the route means.
    pub(crate) fn parent_key(&self, parent: &ParentReference) -> ObjectKey {
        let namespace = &self.meta().namespace;
        if &*self.written().origin().group == GROUP {
            parent_key(parent, namespace)
        } else {
            linkerd::route::parent_key(parent, namespace)
        }
    }

    pub(crate) fn meta(&self) -> &Meta {
        each!(self, object => &object.meta)
    }

    pub(crate) fn written(&self) -> &Written {
        each!(self, object => &object.written)
    }

    /// Where the `spec` is.
    pub(crate) fn at(&self) -> At {
        each!(self, object => object.spec.at)
    }

    pub(crate) fn parents(&self) -> &[ParentReference] {
        each!(self, object => &object.spec.parent_refs)
    }

    /// Host names as they are written; none for kinds without.
    pub(crate) fn hostnames(&self) -> &[String] {
        match self {
            Self::Grpc(object) => &object.spec.hostnames,
            Self::Http(object) => &object.spec.hostnames,
            Self::Tls(object) => &object.spec.hostnames,
            Self::Tcp(_) | Self::Udp(_) => &[],
        }
    }

    /// Whether what it attaches to, or for which hosts, cannot be known.
    pub(crate) fn is_unattachable(&self) -> bool {
        let written = self.written();
        let broken =
            |field| written.field(self.at(), field).is_some_and(|at| written.is_broken(at));
        broken("parentRefs") || broken("hostnames")
    }
}

/// What a parent reference of a route in `namespace` means.
pub(crate) fn parent_key(parent: &ParentReference, namespace: &str) -> ObjectKey {
    ObjectKey::new(parent.group(), parent.kind(), parent.namespace(namespace), &parent.name)
}

/// The oldest first, then by `namespace/name`, as the Gateway API breaks ties. One without time of creation is not in a
/// cluster yet, so it is the youngest.
pub(crate) fn by_age(left: &Meta, right: &Meta) -> Ordering {
    let rank = |meta: &Meta| {
        let time = meta.creation_timestamp.clone().unwrap_or_default();
        (time.is_empty(), time, format!("{}/{}", meta.namespace, meta.name))
    };
    rank(left).cmp(&rank(right))
}

/// The hosts that both patterns have; none where they have none in common.
pub(crate) fn intersection(left: &HostPattern, right: &HostPattern) -> Option<HostPattern> {
    if left.covers(right) {
        Some(right.clone())
    } else if right.covers(left) {
        Some(left.clone())
    } else {
        None
    }
}

/// The hosts for which a route acts on a listener: those it shares with it. Empty: none.
pub(crate) fn shared_hosts(listener: &HostPattern, hostnames: &[String]) -> Vec<HostPattern> {
    if hostnames.is_empty() {
        return vec![listener.clone()];
    }
    let mut shared: Vec<HostPattern> = Vec::new();
    for host in hostnames.iter().filter_map(|text| HostPattern::parse(text).ok()) {
        if let Some(host) = intersection(listener, &host)
            && !shared.contains(&host)
        {
            shared.push(host);
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_shared_as_far_as_both_have_them() {
        let shared = |listener: &str, route: &[&str]| {
            let listener = HostPattern::parse(listener).unwrap();
            let route: Vec<String> = route.iter().map(ToString::to_string).collect();
            let hosts = shared_hosts(&listener, &route);
            hosts.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shared("*", &[]), ["*"]);
        assert_eq!(shared("*.a.b", &[]), ["*.a.b"]);
        assert_eq!(
            shared("*.a.b", &["x.a.b", "a.b", "*.b", "*.c.a.b"]),
            ["x.a.b", "*.a.b", "*.c.a.b"]
        );
        assert_eq!(shared("x.a.b", &["*.a.b", "*.b", "y.a.b"]), ["x.a.b"]);
        assert_eq!(shared("x.a.b", &["y.a.b"]), [""; 0]);
    }
}
