//! Access-log lines: Envoy's operators, Istio's default formats, from a record of what happened.
//!
//! A format is parsed once ([`AccessLogFormat`]) and then writes each [`AccessRecord`] into a buffer of the caller.
//! Where lines go is the [`Sink`](crate::Sink)'s business.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::flags::ResponseFlags;

mod format;
mod write;

pub use format::{AccessLogFormat, FormatError};

/// Istio's default text format.
pub const DEFAULT_TEXT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// Istio's default JSON format: keys and what stands under them.
pub const DEFAULT_JSON_FORMAT: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];

/// The headers of a message, as the forwarding path has them.
pub trait Headers {
    /// The value of the first header of this name (lower case), or of the pseudo-header `:method`, `:path`,
    /// `:authority`, `:scheme`.
    fn value(&self, name: &str) -> Option<&[u8]>;
}

/// A message without headers, or none at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn value(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

/// What happened, for one line. Absent values print as `-`, in JSON as `null`.
#[derive(Clone, Copy)]
pub struct AccessRecord<'a> {
    /// When the request or connection began.
    pub start: SystemTime,
    /// The request's headers, as received (`:path` before any rewriting).
    pub request: &'a dyn Headers,
    /// The response's headers, as sent.
    pub response: &'a dyn Headers,
    /// The response's trailers.
    pub trailers: &'a dyn Headers,
    /// `HTTP/1.1`, `HTTP/2`; absent for opaque connections.
    pub protocol: Option<&'a str>,
    /// The status; 0 when there was none.
    pub response_code: u16,
    /// Response flags.
    pub flags: ResponseFlags,
    /// Why there is this response, for example `via_upstream`.
    pub response_code_details: Option<&'a str>,
    /// Why the connection ended, when this proxy ended it.
    pub connection_termination_details: Option<&'a str>,
    /// What went wrong in TLS with the upstream.
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// Bytes of the request body, or from the client.
    pub bytes_received: u64,
    /// Bytes of the response body, or to the client.
    pub bytes_sent: u64,
    /// From the start to the end.
    pub duration: Duration,
    /// From the start to the last byte of the request; absent when it did not come in whole.
    pub request_duration: Option<Duration>,
    /// From the start to the first byte of the response from upstream.
    pub response_duration: Option<Duration>,
    /// The endpoint.
    pub upstream_host: Option<SocketAddr>,
    /// `outbound|<port>|<subset>|<host>` or `inbound|<port>||`.
    pub upstream_cluster: Option<&'a str>,
    /// Our address towards the endpoint.
    pub upstream_local_address: Option<SocketAddr>,
    /// Where the client connected to.
    pub downstream_local_address: Option<SocketAddr>,
    /// Where the client connected from.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The server name of the client's TLS hello.
    pub requested_server_name: Option<&'a str>,
    /// The route's name.
    pub route_name: Option<&'a str>,
    /// The client's SPIFFE id.
    pub downstream_peer_uri_san: Option<&'a str>,
    /// The TLS version towards the client, for example `TLSv1.3`.
    pub downstream_tls_version: Option<&'a str>,
    /// The gRPC status.
    pub grpc_status: Option<u32>,
    /// The trace.
    pub trace_id: Option<&'a str>,
}

impl AccessRecord<'_> {
    /// A record of nothing that began at `start`, to be filled with `..`.
    pub fn empty(start: SystemTime) -> Self {
        Self {
            start,
            request: &NoHeaders,
            response: &NoHeaders,
            trailers: &NoHeaders,
            protocol: None,
            response_code: 0,
            flags: ResponseFlags::NONE,
            response_code_details: None,
            connection_termination_details: None,
            upstream_transport_failure_reason: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            request_duration: None,
            response_duration: None,
            upstream_host: None,
            upstream_cluster: None,
            upstream_local_address: None,
            downstream_local_address: None,
            downstream_remote_address: None,
            requested_server_name: None,
            route_name: None,
            downstream_peer_uri_san: None,
            downstream_tls_version: None,
            grpc_status: None,
            trace_id: None,
        }
    }
}

#[cfg(test)]
mod tests;
