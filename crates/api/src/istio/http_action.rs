//! What a rule of a VirtualService does with a request.

use std::collections::BTreeMap;

use super::common::{Destination, Percent, StringMatch};
use crate::value::Duration;

object! {
    /// Cross-origin rules.
    CorsPolicy {
        /// Whether credentials may be sent.
        "allowCredentials" => allow_credentials: Option<bool> [nullable],
        /// Request headers that may be used.
        "allowHeaders" => allow_headers: Vec<String>,
        /// Methods that may be used.
        "allowMethods" => allow_methods: Vec<String>,
        /// The former form of `allowOrigins`: exact origins.
        "allowOrigin" => allow_origin: Vec<String>,
        /// Origins that are allowed.
        "allowOrigins" => allow_origins: Vec<StringMatch>,
        /// Response headers that scripts may see.
        "exposeHeaders" => expose_headers: Vec<String>,
        /// How long the answer to a preflight may be kept.
        "maxAge" => max_age: Option<Duration> [duration_min_1ms],
        /// What happens to a preflight that no origin matches.
        "unmatchedPreflights" => unmatched_preflights: Option<UnmatchedPreflights>,
    }
}

object! {
    /// Another VirtualService.
    Delegate {
        /// Its name.
        "name" => name: Option<String>,
        /// Its namespace; absent means the same.
        "namespace" => namespace: Option<String>,
    }
}

object! {
    /// A fixed answer.
    DirectResponse {
        /// Its body.
        "body" => body: Option<DirectResponseBody>,
        /// Its status.
        "status" => status: u32 [required],
    }
}

object! {
    /// The body of a fixed answer.
    DirectResponseBody {
        /// As base64.
        "bytes" => bytes: Option<String>,
        /// As text.
        "string" => string: Option<String>,
    }
    at_most_one ["string", "bytes"]
}

object! {
    /// Faults to inject.
    FaultInjection {
        /// Fail requests.
        "abort" => abort: Option<FaultAbort>,
        /// Delay requests.
        "delay" => delay: Option<FaultDelay>,
    }
}

object! {
    /// An injected failure.
    FaultAbort {
        /// A gRPC status by name.
        "grpcStatus" => grpc_status: Option<String>,
        /// An HTTP/2 error; never supported upstream.
        "http2Error" => http2_error: Option<String>,
        /// An HTTP status.
        "httpStatus" => http_status: Option<i32>,
        /// Share of requests; absent means none.
        "percentage" => percentage: Option<Percent>,
    }
    at_most_one ["httpStatus", "grpcStatus", "http2Error"]
}

object! {
    /// An injected delay.
    FaultDelay {
        /// Never supported upstream.
        "exponentialDelay" => exponential_delay: Option<Duration> [duration_min_1ms],
        /// How long.
        "fixedDelay" => fixed_delay: Option<Duration> [duration_min_1ms],
        /// Share of requests in whole percent; deprecated.
        "percent" => percent: Option<i32>,
        /// Share of requests; absent means none.
        "percentage" => percentage: Option<Percent>,
    }
    at_most_one ["fixedDelay", "exponentialDelay"]
}

object! {
    /// Changes of headers.
    Headers {
        /// Of requests.
        "request" => request: Option<HeaderOperations>,
        /// Of responses.
        "response" => response: Option<HeaderOperations>,
    }
}

object! {
    /// Changes of headers of one direction.
    HeaderOperations {
        /// Append these.
        "add" => add: BTreeMap<String, String>,
        /// Remove these.
        "remove" => remove: Vec<String>,
        /// Set these, replacing what is there.
        "set" => set: BTreeMap<String, String>,
    }
}

object! {
    /// A destination of copies.
    HttpMirror {
        /// Where.
        "destination" => destination: Destination [required],
        /// Share of requests; absent means all.
        "percentage" => percentage: Option<Percent>,
    }
}

object! {
    /// A redirect.
    HttpRedirect {
        /// New authority.
        "authority" => authority: Option<String>,
        /// Where the new port comes from.
        "derivePort" => derive_port: Option<DerivePort>,
        /// New port.
        "port" => port: Option<u16>,
        /// Replaces the matched prefix of the path.
        "prefixRewrite" => prefix_rewrite: Option<String>,
        /// Status; absent means 301.
        "redirectCode" => redirect_code: Option<u32>,
        /// New scheme.
        "scheme" => scheme: Option<String>,
        /// New path.
        "uri" => uri: Option<String>,
    }
    at_most_one ["port", "derivePort"]
}

object! {
    /// When and how often requests are tried again.
    HttpRetry {
        /// How often in addition to the first try; 0 means never.
        "attempts" => attempts: Option<i32>,
        /// Least time between tries; absent means 25 ms.
        "backoff" => backoff: Option<Duration> [duration_min_1ms],
        /// Time for each try; absent means the route's timeout.
        "perTryTimeout" => per_try_timeout: Option<Duration> [duration_min_1ms],
        /// Whether hosts that failed are avoided; absent means yes.
        "retryIgnorePreviousHosts" => retry_ignore_previous_hosts: Option<bool> [nullable],
        /// Conditions, separated by commas.
        "retryOn" => retry_on: Option<String>,
        /// Whether other localities are tried.
        "retryRemoteLocalities" => retry_remote_localities: Option<bool> [nullable],
    }
}

object! {
    /// Changes of path and authority.
    HttpRewrite {
        /// New authority.
        "authority" => authority: Option<String>,
        /// New path, or new prefix where a prefix matched.
        "uri" => uri: Option<String>,
        /// Replacement by expression.
        "uriRegexRewrite" => uri_regex_rewrite: Option<RegexRewrite>,
    }
}

object! {
    /// Replacement in the path by expression.
    RegexRewrite {
        /// RE2 expression.
        "match" => matches: Option<String>,
        /// Replacement with `\1` for groups.
        "rewrite" => rewrite: Option<String>,
    }
}

choice! {
    /// What happens to a preflight that no origin matches.
    UnmatchedPreflights {
        "UNSPECIFIED" => Unspecified,
        "FORWARD" => Forward,
        "IGNORE" => Ignore,
    }
}

choice! {
    /// Where the port of a redirect comes from.
    DerivePort {
        "FROM_PROTOCOL_DEFAULT" => FromProtocolDefault,
        "FROM_REQUEST_PORT" => FromRequestPort,
    }
}
