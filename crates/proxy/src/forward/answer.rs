//! Answers that the proxy itself gives, in the words that Envoy uses.

use std::borrow::Cow;

use heddle_telemetry::{Reason, ResponseFlags};
use heddle_tls::PeerVerificationError;
use heddle_wire::http1;

/// An answer of the proxy's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// What went wrong, for records; none: nothing did.
    pub(crate) reason: Option<Reason>,
    /// For the peer: short, nothing of the inside.
    pub(crate) body: Cow<'static, [u8]>,
    /// Further headers; names are lower case.
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    /// The status that a gRPC client gets; none: as the HTTP status maps.
    pub(crate) grpc_status: Option<u8>,
}

impl Answer {
    /// An answer with a text.
    pub(crate) fn text(status: u16, reason: Reason, body: &'static str) -> Self {
        let body = Cow::Borrowed(body.as_bytes());
        Self { status, reason: Some(reason), body, headers: Vec::new(), grpc_status: None }
    }

    /// Refused by authorisation.
    pub(crate) fn denied() -> Self {
        Self {
            grpc_status: Some(7),
            ..Self::text(403, Reason::AuthorizationDenied, "RBAC: access denied")
        }
    }

    /// Its token is not valid, or it has none and needs one.
    pub(crate) fn unauthenticated(status: u16, body: String, challenge: String) -> Self {
        let headers = vec![(Cow::Borrowed("www-authenticate"), challenge)];
        Self { headers, ..Self::refused_outside(status, Vec::new(), body.into_bytes()) }
    }

    /// Refused by an external authoriser, in its own words.
    pub(crate) fn refused_outside(
        status: u16,
        headers: Vec<(Cow<'static, str>, String)>,
        body: Vec<u8>,
    ) -> Self {
        let body = Cow::Owned(body);
        let reason = Some(Reason::AuthorizationDenied);
        Self { status, reason, body, headers, grpc_status: None }
    }

    /// An external authoriser had to be asked, and has not answered.
    pub(crate) fn unanswered(status: u16) -> Self {
        Self::text(status, Reason::AuthorizationDenied, "")
    }

    /// The body is longer than an external authoriser may be sent.
    pub(crate) fn too_large() -> Self {
        Self::text(413, Reason::LimitReached, "Payload Too Large")
    }

    /// No route matched.
    pub(crate) fn no_route() -> Self {
        Self { grpc_status: Some(12), ..Self::text(404, Reason::NoRoute, "") }
    }

    /// There is nothing that the destination could be.
    pub(crate) fn no_destination() -> Self {
        Self::text(503, Reason::DestinationUnknown, "")
    }

    /// No endpoint is there to be picked.
    pub(crate) fn no_healthy_upstream() -> Self {
        Self::text(503, Reason::NoHealthyEndpoint, "no healthy upstream")
    }

    /// A limit was reached.
    pub(crate) fn overflow() -> Self {
        let body =
            "upstream connect error or disconnect/reset before headers. reset reason: overflow";
        let mut answer = Self::text(503, Reason::CircuitOverflow, body);
        answer.headers.push((Cow::Borrowed("x-envoy-overloaded"), "true".to_owned()));
        answer
    }

    /// No connection to the endpoint.
    pub(crate) fn connect_failure() -> Self {
        let body = "upstream connect error or disconnect/reset before headers. \
                    reset reason: remote connection failure";
        Self::text(503, Reason::ConnectFailure, body)
    }

    /// The endpoint closed before it answered.
    pub(crate) fn connection_terminated() -> Self {
        let body = "upstream connect error or disconnect/reset before headers. \
                    reset reason: connection termination";
        Self::text(503, Reason::UpstreamClosed, body)
    }

    /// The endpoint answered something that is not HTTP.
    pub(crate) fn upstream_protocol_error() -> Self {
        let body = "upstream connect error or disconnect/reset before headers. \
                    reset reason: protocol error";
        Self::text(502, Reason::UpstreamProtocol, body)
    }

    /// The answer took too long.
    pub(crate) fn upstream_timeout() -> Self {
        Self {
            grpc_status: Some(4),
            ..Self::text(504, Reason::RequestTimeout, "upstream request timeout")
        }
    }

    /// Nothing moved for too long.
    pub(crate) fn idle_timeout() -> Self {
        Self { grpc_status: Some(4), ..Self::text(504, Reason::IdleTimeout, "stream timeout") }
    }

    /// The request is not valid HTTP/1, or too large.
    pub(crate) fn bad_request(status: u16) -> Self {
        Self::text(status, Reason::ClientProtocol, "")
    }

    /// The same, with a header that says what is wrong with the certificate of the other end: for workloads of the mesh.
    #[must_use]
    pub(crate) fn about_peer(mut self, refusal: &PeerVerificationError) -> Self {
        /// A chain of names may be long.
        const VALUE_BYTES_MAX: usize = 512;
        let text = format!("{}; {refusal}", refusal.reason());
        let is_safe = |c: &char| c.is_ascii_graphic() || *c == ' ';
        let value = text.chars().filter(is_safe).take(VALUE_BYTES_MAX).collect();
        self.headers.push((Cow::Borrowed("x-heddle-peer-refused"), value));
        self
    }

    /// Headers beside the status of a gRPC call, whose own say everything else.
    pub(crate) fn grpc_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_own = |name: &str| name != "content-type" && !name.starts_with("grpc-");
        let headers = self.headers.iter().map(|(name, value)| (&**name, value.as_str()));
        headers.filter(move |(name, _)| is_own(name))
    }

    /// The same for another reason.
    #[must_use]
    pub(crate) fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// The response flags of records.
    pub(crate) fn flags(&self) -> ResponseFlags {
        self.reason.map_or(ResponseFlags::NONE, Reason::flags)
    }

    /// The gRPC status of the answer (grpc/doc/http-grpc-status-mapping).
    pub(crate) fn grpc_code(&self) -> u8 {
        self.grpc_status.unwrap_or(match self.status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502 | 503 | 504 => 14,
            200 => 0,
            _ => 2,
        })
    }

    /// The answer as HTTP/1. A gRPC client gets its status in the head, as gRPC over HTTP/1 proxies do.
    pub(crate) fn write_http1(&self, method: &str, is_grpc: bool, close: bool, out: &mut Vec<u8>) {
        let mut headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (&**name, value.as_bytes())).collect();
        if is_grpc {
            let code = self.grpc_code().to_string();
            headers = self.grpc_headers().map(|(name, value)| (name, value.as_bytes())).collect();
            headers.push(("content-type", b"application/grpc"));
            headers.push(("grpc-status", code.as_bytes()));
            headers.push(("grpc-message", &self.body));
            http1::write_own_response(200, &headers, &[], method, close, out);
            return;
        }
        let has_type = self.headers.iter().any(|(name, _)| name == "content-type");
        if !self.body.is_empty() && !has_type {
            headers.push(("content-type", b"text/plain"));
        }
        headers.push(("server", b"istio-envoy"));
        http1::write_own_response(self.status, &headers, &self.body, method, close, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_complete_messages() {
        let write = |answer: Answer, method, grpc, close| {
            let mut out = Vec::new();
            answer.write_http1(method, grpc, close, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            write(Answer::denied(), "GET", false, false),
            "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\nserver: istio-envoy\r\n\
             content-length: 19\r\n\r\nRBAC: access denied"
        );
        assert_eq!(
            write(Answer::no_route(), "HEAD", false, true),
            "HTTP/1.1 404 Not Found\r\nserver: istio-envoy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let grpc = write(Answer::denied(), "POST", true, false);
        assert!(
            grpc.starts_with("HTTP/1.1 200 OK\r\n") && grpc.contains("grpc-status: 7\r\n"),
            "{grpc}"
        );
    }
}
