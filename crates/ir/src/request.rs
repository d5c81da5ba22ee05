//! What a decision may read of a request.
//!
//! HTTP/1 and HTTP/2 heads, and the requests of `explain`, implement [`RequestHead`]; `route` and `authz`
//! read nothing else, so that they cannot tell where a request came from.

use std::borrow::Cow;
use std::net::SocketAddr;

use heddle_ident::SpiffeId;

/// The head of an HTTP request, of any version.
pub trait RequestHead {
    /// The method as received, case kept.
    fn method(&self) -> &str;
    /// The path as it will be forwarded, that is after normalisation, without query and fragment; begins with `/` but
    /// for `OPTIONS *` (RFC 9112 section 3.2.4).
    fn path(&self) -> &str;
    /// The query without its `?`; none when there is no `?`.
    fn query(&self) -> Option<&str>;
    /// `Host` or `:authority` as received, with its port if it has one.
    fn authority(&self) -> &str;
    /// `http` or `https`, as the client addressed it.
    fn scheme(&self) -> &str;
    /// The value of a header; `name` is lower case. Repeated headers are joined with `,` in order
    /// (RFC 9110 section 5.3). None when the header is absent. Must not allocate unless it joins.
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}

/// What is known of a connection, besides the requests on it.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The identity proven by the peer's certificate; none on plaintext.
    pub peer_identity: Option<SpiffeId>,
    /// The address that the connection came from.
    pub source: SocketAddr,
    /// The address and port that it was made to, before any redirection.
    pub destination: SocketAddr,
    /// The server name of the TLS ClientHello; none without TLS or SNI.
    pub server_name: Option<String>,
}
