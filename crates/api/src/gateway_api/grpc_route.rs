//! GRPCRoute.

use super::common::{DefaultGateways, ParentReference};
use super::filter::GrpcFilter;
use super::http_route::MatchType;
use super::rules;
use super::session::SessionPersistence;
use crate::check;

object! {
    /// Routes gRPC calls.
    GrpcRoute {
        /// Hosts: one name each, or `*.` and a suffix; absent means those of the listener.
        "hostnames" => hostnames: Vec<String> [count(0, 16), item_len(1, 253), item_check(rules::hostname)],
        /// What it attaches to.
        "parentRefs" => parent_refs: Vec<ParentReference> [count(0, 32)],
        /// The rules.
        "rules" => rules: Vec<GrpcRule> [count(0, 16)],
        /// Attaches to Gateways that say so too.
        "useDefaultGateways" => use_default_gateways: Option<DefaultGateways>,
    }
    check rules::grpc_route
}

object! {
    /// What is matched and what happens then.
    GrpcRule {
        /// Where calls go, by weight.
        "backendRefs" => backend_refs: Vec<GrpcBackendRef> [count(0, 16)],
        /// What is changed on the way.
        "filters" => filters: Vec<GrpcFilter> [count(0, 16)],
        /// What calls it applies to; any may match. Empty matches all.
        "matches" => matches: Vec<GrpcMatch> [count(0, 64)],
        /// Its name.
        "name" => name: Option<String> [len(1, 253), check(check::dns_name)],
        /// Binds clients to endpoints.
        "sessionPersistence" => session_persistence: Option<SessionPersistence>,
    }
    check rules::grpc_rule
}

object! {
    /// Conditions on a call; all must hold.
    GrpcMatch {
        /// Headers.
        "headers" => headers: Vec<GrpcHeaderMatch> [count(0, 16), unique("name")],
        /// Service and method.
        "method" => method: Option<GrpcMethodMatch>,
    }
}

object! {
    /// A condition on service and method; at least one of the two is given.
    GrpcMethodMatch {
        /// The method; absent means every one.
        "method" => method: Option<String> [len(0, 1024)],
        /// The service with its package; absent means every one.
        "service" => service: Option<String> [len(0, 1024)],
        /// How they are compared; absent means `Exact`.
        "type" => kind: Option<MatchType>,
    }
    check rules::grpc_method
}

object! {
    /// A condition on a header.
    GrpcHeaderMatch {
        /// Its name, in any case.
        "name" => name: String [required, len(1, 256), check(rules::token)],
        /// How it is compared; absent means `Exact`.
        "type" => kind: Option<MatchType>,
        /// The value.
        "value" => value: String [required, len(1, 4096)],
    }
}

object! {
    /// A backend with its share and changes of its own.
    GrpcBackendRef {
        /// What is changed for this backend only.
        "filters" => filters: Vec<GrpcFilter> [count(0, 16)],
        /// Its API group; absent means the core group.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind; absent means `Service`.
        "kind" => kind: Option<String> [len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
        /// Its namespace; absent means the route's. Another one needs a ReferenceGrant.
        "namespace" => namespace: Option<String> [len(1, 63), check(check::dns_label)],
        /// The port of the service; required for a Service.
        "port" => port: Option<u16> [port],
        /// Its share relative to the others; absent means 1.
        "weight" => weight: Option<u32> [range(0.0, 1_000_000.0)],
    }
    check rules::grpc_backend_ref
}
