//! Routes with a Server as parent: requests on its port must be one of theirs (API.md 7.7).

use std::sync::Arc;

use heddle_ir::http_route::RouteTable;

use crate::engine::Reader;
use crate::linkerd::server::ServerObject;

/// A route of a Server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct InboundRoute {
    /// API group of the route.
    pub(crate) group: Arc<str>,
    /// Kind of the route.
    pub(crate) kind: Arc<str>,
    /// Name of the route's object; its namespace is the Server's.
    pub(crate) object: Arc<str>,
    /// What its rules are called.
    pub(crate) name: Arc<str>,
}

impl InboundRoute {
    /// Whether it is the route of that group, kind and name.
    pub(crate) fn is(&self, group: &str, kind: &str, name: &str) -> bool {
        *self.group == *group && *self.kind == *kind && *self.object == *name
    }
}

/// The routes of a Server.
pub(crate) fn of_server(_reader: &Reader<'_>, _server: &ServerObject) -> Vec<InboundRoute> {
    Vec::new()
}

/// Their rules; none where the Server has no routes, so that every request is taken.
pub(crate) fn table(_reader: &Reader<'_>, _server: &ServerObject) -> Option<Arc<RouteTable>> {
    None
}
