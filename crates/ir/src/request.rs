//! What a decision may read of a request.
//!
//! HTTP/1 and HTTP/2 heads, and the requests of `explain`, implement [`RequestHead`]; `route` and `authz`
//! read nothing else, so that they cannot tell where a request came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
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
    /// What the request's token says; none: it has no token, or tokens are not looked at.
    fn token(&self) -> Option<&TokenFacts> {
        None
    }
    /// The name of the rule of [`crate::inbound::InboundPort::routes`] that took it.
    fn route(&self) -> Option<&str> {
        None
    }
}

/// Stands for the head of a stream, which has none. No value of it exists.
#[derive(Debug)]
pub enum NoRequest {}

impl RequestHead for NoRequest {
    fn method(&self) -> &str {
        match *self {}
    }
    fn path(&self) -> &str {
        match *self {}
    }
    fn query(&self) -> Option<&str> {
        match *self {}
    }
    fn authority(&self) -> &str {
        match *self {}
    }
    fn scheme(&self) -> &str {
        match *self {}
    }
    fn header(&self, _name: &str) -> Option<Cow<'_, [u8]>> {
        match *self {}
    }
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

/// What a request's token says, once it has been verified.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TokenFacts {
    /// `iss`.
    pub issuer: String,
    /// `sub`; empty: the token has none, and no principal.
    pub subject: String,
    /// `aud`, one or several.
    pub audiences: Vec<String>,
    /// `azp`.
    pub presenter: Option<String>,
    /// All claims.
    pub claims: BTreeMap<String, ClaimValue>,
}

/// The value of a claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClaimValue {
    /// `true` or `false`.
    Flag(bool),
    /// Several.
    List(Vec<ClaimValue>),
    /// Claims inside.
    Map(BTreeMap<String, ClaimValue>),
    /// `null`.
    Null,
    /// A number, as text.
    Number(String),
    /// A text.
    Text(String),
}

impl TokenFacts {
    /// `issuer/subject`; none when one of them is empty.
    pub fn principal(&self) -> Option<String> {
        let Self { issuer, subject, .. } = self;
        (!issuer.is_empty() && !subject.is_empty()).then(|| format!("{issuer}/{subject}"))
    }

    /// The claim at the end of a path.
    pub fn claim(&self, path: &[impl AsRef<str>]) -> Option<&ClaimValue> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.claims.get(first.as_ref())?, |value, name| match value {
            ClaimValue::Map(claims) => claims.get(name.as_ref()),
            _ => None,
        })
    }
}

/// A request head with what was found out about the request since it was read.
#[derive(Debug)]
pub struct Known<'a, H> {
    /// The head.
    pub head: &'a H,
    /// What its token says.
    pub token: Option<&'a TokenFacts>,
    /// The rule of the port's own routes that took it.
    pub route: Option<&'a str>,
}

impl<H: RequestHead> RequestHead for Known<'_, H> {
    fn method(&self) -> &str {
        self.head.method()
    }
    fn path(&self) -> &str {
        self.head.path()
    }
    fn query(&self) -> Option<&str> {
        self.head.query()
    }
    fn authority(&self) -> &str {
        self.head.authority()
    }
    fn scheme(&self) -> &str {
        self.head.scheme()
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.head.header(name)
    }
    fn token(&self) -> Option<&TokenFacts> {
        self.token
    }
    fn route(&self) -> Option<&str> {
        self.route
    }
}
