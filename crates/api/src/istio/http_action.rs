//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    CorsPolicy {
        "allowCredentials" => allow_credentials: Option<bool> [nullable],
        "allowHeaders" => allow_headers: Vec<String>,
        "allowMethods" => allow_methods: Vec<String>,
        "allowOrigin" => allow_origin: Vec<String>,
        "allowOrigins" => allow_origins: Vec<StringMatch>,
        "exposeHeaders" => expose_headers: Vec<String>,
        "maxAge" => max_age: Option<Duration> [duration_min_1ms],
        "unmatchedPreflights" => unmatched_preflights: Option<UnmatchedPreflights>,
    }
}

object! {
    /// TODO.
    Delegate {
        "name" => name: Option<String>,
        "namespace" => namespace: Option<String>,
    }
}

object! {
    /// TODO.
    DirectResponse {
        "body" => body: Option<DirectResponseBody>,
        "status" => status: u32 [required],
    }
}

object! {
    /// TODO.
    DirectResponseBody {
        "bytes" => bytes: Option<String>,
        "string" => string: Option<String>,
    }
    at_most_one ["string", "bytes"]
}

object! {
    /// TODO.
    FaultInjection {
        "abort" => abort: Option<FaultAbort>,
        "delay" => delay: Option<FaultDelay>,
    }
}

object! {
    /// TODO.
    FaultAbort {
        "grpcStatus" => grpc_status: Option<String>,
        "http2Error" => http2_error: Option<String>,
        "httpStatus" => http_status: Option<i32>,
        "percentage" => percentage: Option<Percent>,
    }
    at_most_one ["httpStatus", "grpcStatus", "http2Error"]
}

object! {
    /// TODO.
    FaultDelay {
        "exponentialDelay" => exponential_delay: Option<Duration> [duration_min_1ms],
        "fixedDelay" => fixed_delay: Option<Duration> [duration_min_1ms],
        "percent" => percent: Option<i32>,
        "percentage" => percentage: Option<Percent>,
    }
    at_most_one ["fixedDelay", "exponentialDelay"]
}

object! {
    /// TODO.
    Headers {
        "request" => request: Option<HeaderOperations>,
        "response" => response: Option<HeaderOperations>,
    }
}

object! {
    /// TODO.
    HeaderOperations {
        "add" => add: BTreeMap<String, String>,
        "remove" => remove: Vec<String>,
        "set" => set: BTreeMap<String, String>,
    }
}

object! {
    /// TODO.
    HttpMirror {
        "destination" => destination: Destination [required],
        "percentage" => percentage: Option<Percent>,
    }
}

object! {
    /// TODO.
    HttpRedirect {
        "authority" => authority: Option<String>,
        "derivePort" => derive_port: Option<DerivePort>,
        "port" => port: Option<u16>,
        "prefixRewrite" => prefix_rewrite: Option<String>,
        "redirectCode" => redirect_code: Option<u32>,
        "scheme" => scheme: Option<String>,
        "uri" => uri: Option<String>,
    }
    at_most_one ["port", "derivePort"]
}

object! {
    /// TODO.
    HttpRetry {
        "attempts" => attempts: Option<i32>,
        "backoff" => backoff: Option<Duration> [duration_min_1ms],
        "perTryTimeout" => per_try_timeout: Option<Duration> [duration_min_1ms],
        "retryIgnorePreviousHosts" => retry_ignore_previous_hosts: Option<bool> [nullable],
        "retryOn" => retry_on: Option<String>,
        "retryRemoteLocalities" => retry_remote_localities: Option<bool> [nullable],
    }
}

object! {
    /// TODO.
    HttpRewrite {
        "authority" => authority: Option<String>,
        "uri" => uri: Option<String>,
        "uriRegexRewrite" => uri_regex_rewrite: Option<RegexRewrite>,
    }
}

object! {
    /// TODO.
    RegexRewrite {
        "match" => matches: Option<String>,
        "rewrite" => rewrite: Option<String>,
    }
}

choice! {
    /// TODO.
    UnmatchedPreflights {
        "UNSPECIFIED" => Unspecified,
        "FORWARD" => Forward,
        "IGNORE" => Ignore,
    }
}

choice! {
    /// TODO.
    DerivePort {
        "FROM_PROTOCOL_DEFAULT" => FromProtocolDefault,
        "FROM_REQUEST_PORT" => FromRequestPort,
    }
}
