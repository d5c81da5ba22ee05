//! HTTPRoute.

use super::common::{DefaultGateways, ParentReference};
use super::filter::HttpFilter;
use super::rules;
use super::session::SessionPersistence;
use crate::check;
use crate::value::Duration;

object! {
    /// Routes HTTP requests.
    HttpRoute {
        /// Hosts: one name each, or `*.` and a suffix; absent means those of the listener.
        "hostnames" => hostnames: Vec<String> [count(0, 16), item_len(1, 253), item_check(rules::hostname)],
        /// What it attaches to.
        "parentRefs" => parent_refs: Vec<ParentReference> [count(0, 32)],
        /// The rules; absent means one that takes everything and has no backend.
        "rules" => rules: Vec<HttpRule> [count(1, 16)],
        /// Attaches to Gateways that say so too.
        "useDefaultGateways" => use_default_gateways: Option<DefaultGateways>,
    }
    check rules::http_route
}

object! {
    /// What is matched and what happens then.
    HttpRule {
        /// Where requests go, by weight.
        "backendRefs" => backend_refs: Vec<HttpBackendRef> [count(0, 16)],
        /// What is changed on the way, or answered here.
        "filters" => filters: Vec<HttpFilter> [count(0, 16)],
        /// What requests it applies to; any may match. Absent matches all.
        "matches" => matches: Vec<HttpMatch> [count(0, 64)],
        /// Its name.
        "name" => name: Option<String> [len(1, 253), check(check::dns_name)],
        /// Retries; absent means none.
        "retry" => retry: Option<RetrySettings>,
        /// Binds clients to endpoints.
        "sessionPersistence" => session_persistence: Option<SessionPersistence>,
        /// Time limits.
        "timeouts" => timeouts: Option<HttpTimeouts>,
    }
    check rules::http_rule
}

object! {
    /// Conditions on a request; all must hold.
    HttpMatch {
        /// Headers.
        "headers" => headers: Vec<HttpHeaderMatch> [count(0, 16), unique("name")],
        /// The method.
        "method" => method: Option<HttpMethod>,
        /// The path; absent means the prefix `/`.
        "path" => path: Option<HttpPathMatch>,
        /// Query parameters.
        "queryParams" => query_params: Vec<HttpQueryMatch> [count(0, 16), unique("name")],
    }
}

object! {
    /// A condition on the path.
    HttpPathMatch {
        /// How it is compared; absent means `PathPrefix`.
        "type" => kind: Option<PathMatchType>,
        /// The path; absent means `/`.
        "value" => value: Option<String> [len(0, 1024)],
    }
    check rules::path_match
}

impl HttpPathMatch {
    /// The type with its default.
    pub fn kind(&self) -> PathMatchType {
        self.kind.unwrap_or(PathMatchType::PathPrefix)
    }

    /// The value with its default.
    pub fn value(&self) -> &str {
        self.value.as_deref().unwrap_or("/")
    }
}

choice! {
    /// How a path is compared.
    PathMatchType {
        /// Equal.
        "Exact" => Exact,
        /// Begins with these path elements.
        "PathPrefix" => PathPrefix,
        /// RE2 expression for the whole path.
        "RegularExpression" => RegularExpression,
    }
}

choice! {
    /// How a text is compared.
    MatchType {
        /// Equal.
        "Exact" => Exact,
        /// RE2 expression for the whole text.
        "RegularExpression" => RegularExpression,
    }
}

object! {
    /// A condition on a header.
    HttpHeaderMatch {
        /// Its name, in any case.
        "name" => name: String [required, len(1, 256), check(rules::token)],
        /// How it is compared; absent means `Exact`.
        "type" => kind: Option<MatchType>,
        /// The value.
        "value" => value: String [required, len(1, 4096), check(rules::header_value)],
    }
}

object! {
    /// A condition on a query parameter.
    HttpQueryMatch {
        /// Its name; case matters.
        "name" => name: String [required, len(1, 256), check(rules::token)],
        /// How it is compared; absent means `Exact`.
        "type" => kind: Option<MatchType>,
        /// The value.
        "value" => value: String [required, len(1, 1024)],
    }
}

choice! {
    /// Methods that can be matched.
    HttpMethod {
        "GET" => Get,
        "HEAD" => Head,
        "POST" => Post,
        "PUT" => Put,
        "DELETE" => Delete,
        "CONNECT" => Connect,
        "OPTIONS" => Options,
        "TRACE" => Trace,
        "PATCH" => Patch,
    }
}

object! {
    /// A backend with its share and changes of its own.
    HttpBackendRef {
        /// What is changed for this backend only.
        "filters" => filters: Vec<HttpFilter> [count(0, 16)],
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
    check rules::http_backend_ref
}

object! {
    /// Retries.
    RetrySettings {
        /// How often; absent means once.
        "attempts" => attempts: Option<u32> [min(1.0)],
        /// The least pause before a retry.
        "backoff" => backoff: Option<Duration> [check(rules::duration)],
        /// Statuses that are tried again.
        "codes" => codes: Vec<u16> [item_range(400.0, 599.0), unique("")],
    }
}

object! {
    /// Time limits; `0s` means none.
    HttpTimeouts {
        /// One try.
        "backendRequest" => backend_request: Option<Duration> [check(rules::duration)],
        /// The whole exchange.
        "request" => request: Option<Duration> [check(rules::duration)],
    }
    check rules::timeouts
}
