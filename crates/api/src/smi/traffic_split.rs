//! TrafficSplit (`split.smi-spec.io`).

use crate::value::Quantity;

object! {
    /// Shares of the requests that clients send to a service.
    TrafficSplit {
        /// The service that clients address, by name or host.
        "service" => service: String [required, not_empty],
        /// The services that answer, with their shares.
        "backends" => backends: Vec<SplitBackend> [required],
        /// Which requests are split; absent means all of them. Others go to the service that was addressed.
        "matches" => matches: Vec<RouteGroupRef>,
    }
}

object! {
    /// A service with its share.
    SplitBackend {
        /// The service, of the same namespace; may be the one that is addressed.
        "service" => service: String [required, not_empty],
        /// Its share of the sum; v1alpha1 writes quantities such as `900m`.
        "weight" => weight: Option<Quantity> [required],
    }
}

object! {
    /// A group of routes, of the same namespace.
    RouteGroupRef {
        /// Its API group; absent means `specs.smi-spec.io`.
        "apiGroup" => api_group: Option<String>,
        /// Of which kind it is.
        "kind" => kind: Option<RouteGroupKind> [required],
        /// Its name.
        "name" => name: String [required],
    }
}

choice! {
    /// What requests are described by.
    RouteGroupKind {
        /// A group of routes.
        "HTTPRouteGroup" => HttpRouteGroup,
    }
}
