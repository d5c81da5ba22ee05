//! `envoy.service.auth.v3`: asking somebody outside of the proxy whether a request may go on.
//!
//! The part of Envoy's `external_auth.proto` and `attribute_context.proto` that Istio's CUSTOM policies use, so that the
//! authorisers that exist (OPA's Envoy plugin and its like) answer.

use std::collections::BTreeMap;

/// The path of the one call, `Check`.
pub const CHECK_PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// The full name of the service.
pub const SERVICE_NAME: &str = "envoy.service.auth.v3.Authorization";

/// What is asked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckRequest {
    /// Who wants what.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<AttributeContext>,
}

/// A connection or request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeContext {
    /// Who sent it.
    #[prost(message, optional, tag = "1")]
    pub source: Option<Peer>,
    /// Who is to get it.
    #[prost(message, optional, tag = "2")]
    pub destination: Option<Peer>,
    /// The request; none for a stream.
    #[prost(message, optional, tag = "4")]
    pub request: Option<AskedRequest>,
    /// Further facts, by name.
    #[prost(btree_map = "string, string", tag = "10")]
    pub context_extensions: BTreeMap<String, String>,
    /// The TLS that it came over.
    #[prost(message, optional, tag = "12")]
    pub tls_session: Option<TlsSession>,
}

/// One end of a connection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Peer {
    /// Its address.
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
    /// The service that it belongs to.
    #[prost(string, tag = "2")]
    pub service: String,
    /// Its labels.
    #[prost(btree_map = "string, string", tag = "3")]
    pub labels: BTreeMap<String, String>,
    /// Its proven identity, as the URI of its certificate; empty: none.
    #[prost(string, tag = "4")]
    pub principal: String,
}

/// `envoy.config.core.v3.Address`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Address {
    /// The only kind used here.
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

/// `envoy.config.core.v3.SocketAddress`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SocketAddress {
    /// The address as text.
    #[prost(string, tag = "2")]
    pub address: String,
    /// The port.
    #[prost(uint32, tag = "3")]
    pub port_value: u32,
}

/// A request and when it came.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AskedRequest {
    /// When its head was whole.
    #[prost(message, optional, tag = "1")]
    pub time: Option<Timestamp>,
    /// The request.
    #[prost(message, optional, tag = "2")]
    pub http: Option<HttpRequest>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Timestamp {
    /// Since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Beyond that.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// An HTTP request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpRequest {
    /// `x-request-id`, if there is one.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// Headers, lower case, pseudo-headers among them; repeated ones joined by commas.
    #[prost(btree_map = "string, string", tag = "3")]
    pub headers: BTreeMap<String, String>,
    /// Path and query.
    #[prost(string, tag = "4")]
    pub path: String,
    /// Host with its port, if it has one.
    #[prost(string, tag = "5")]
    pub host: String,
    /// `http` or `https`.
    #[prost(string, tag = "6")]
    pub scheme: String,
    /// Bytes of the body; -1: not known.
    #[prost(int64, tag = "9")]
    pub size: i64,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`.
    #[prost(string, tag = "10")]
    pub protocol: String,
    /// The body or its beginning, as text.
    #[prost(string, tag = "11")]
    pub body: String,
    /// The same as bytes.
    #[prost(bytes = "vec", tag = "12")]
    pub raw_body: Vec<u8>,
}

/// The TLS of a connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TlsSession {
    /// The server name that was asked for.
    #[prost(string, tag = "1")]
    pub sni: String,
}

/// What is answered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckResponse {
    /// Code 0: it goes on. Absent counts as 0, as anywhere in protobuf.
    #[prost(message, optional, tag = "1")]
    pub status: Option<RpcStatus>,
    /// What else is to be done.
    #[prost(oneof = "HttpResponse", tags = "2, 3")]
    pub http_response: Option<HttpResponse>,
}

/// `google.rpc.Status`, without details.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RpcStatus {
    /// `google.rpc.Code`.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For developers.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// What becomes of a request besides.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HttpResponse {
    /// It is refused with this.
    #[prost(message, tag = "2")]
    Denied(DeniedHttpResponse),
    /// It goes on with these changes.
    #[prost(message, tag = "3")]
    Ok(OkHttpResponse),
}

/// An answer to the client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeniedHttpResponse {
    /// The status; none or 0: 403.
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    /// Headers of it.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// Its body.
    #[prost(string, tag = "3")]
    pub body: String,
}

/// `envoy.type.v3.HttpStatus`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HttpStatus {
    /// The number.
    #[prost(int32, tag = "1")]
    pub code: i32,
}

/// Changes of a request that goes on, and of its response.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OkHttpResponse {
    /// Headers of the request.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderValueOption>,
    /// Headers that are taken away; not the pseudo-headers, nor `host`.
    #[prost(string, repeated, tag = "5")]
    pub headers_to_remove: Vec<String>,
    /// Headers of the response.
    #[prost(message, repeated, tag = "6")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
    /// Query parameters that are set.
    #[prost(message, repeated, tag = "7")]
    pub query_parameters_to_set: Vec<QueryParameter>,
    /// Query parameters that are taken away.
    #[prost(string, repeated, tag = "8")]
    pub query_parameters_to_remove: Vec<String>,
}

/// A header and how it is put there.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderValueOption {
    /// The header.
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    /// Behind those that are there, rather than in their place. Superseded by `append_action`, and what authorisers use.
    #[prost(message, optional, tag = "2")]
    pub append: Option<BoolValue>,
    /// See [`AppendAction`].
    #[prost(enumeration = "AppendAction", tag = "3")]
    pub append_action: i32,
}

/// How a header is put among others of its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum AppendAction {
    /// Behind those that are there.
    AppendIfExistsOrAdd = 0,
    /// Only where there is none.
    AddIfAbsent = 1,
    /// In the place of those that are there.
    OverwriteIfExistsOrAdd = 2,
    /// In the place of those that are there, and only then.
    OverwriteIfExists = 3,
}

/// `envoy.config.core.v3.HeaderValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HeaderValue {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value; empty where `raw_value` has it.
    #[prost(string, tag = "2")]
    pub value: String,
    /// The value as bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub raw_value: Vec<u8>,
}

/// `google.protobuf.BoolValue`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BoolValue {
    /// The value.
    #[prost(bool, tag = "1")]
    pub value: bool,
}

/// `envoy.config.core.v3.QueryParameter`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QueryParameter {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn messages_have_envoys_numbers() {
        // By hand: status {code: 7}, denied_response {status {code: 401}, body: "no"}.
        let bytes = b"\x0a\x02\x08\x07\x12\x09\x0a\x03\x08\x91\x03\x1a\x02no";
        let response = CheckResponse::decode(&bytes[..]).unwrap();
        let denied = DeniedHttpResponse {
            status: Some(HttpStatus { code: 401 }),
            headers: Vec::new(),
            body: "no".to_owned(),
        };
        assert_eq!(response.status, Some(RpcStatus { code: 7, message: String::new() }));
        assert_eq!(response.http_response, Some(HttpResponse::Denied(denied)));
        assert_eq!(response.encode_to_vec(), bytes);

        let http = HttpRequest {
            method: "GET".to_owned(),
            headers: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            ..HttpRequest::default()
        };
        let request = AskedRequest { time: None, http: Some(http) };
        let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
        let bytes = CheckRequest { attributes: Some(attributes) }.encode_to_vec();
        assert_eq!(bytes, b"\x0a\x11\x22\x0f\x12\x0d\x12\x03GET\x1a\x06\x0a\x01a\x12\x01b");
    }
}
