//! The request that is followed, in the form that the deciding crates read.

use std::borrow::Cow;

use heddle_ir::protocol::Protocol;
use heddle_ir::request::{RequestHead, TokenFacts};
use heddle_route::{HeaderEdit, host_of};

use crate::answer::{Handled, HeaderChanges, RequestView};

/// What the client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    Grpc,
    Tcp,
    Tls,
    Udp,
}

impl Speaks {
    /// What a client would speak to a port of which this is declared.
    pub(crate) fn to_port(declared: Protocol) -> Self {
        match declared {
            Protocol::Detect | Protocol::Http1 => Self::Http1,
            Protocol::Http2 => Self::Http2,
            Protocol::Grpc => Self::Grpc,
            Protocol::Tcp => Self::Tcp,
            Protocol::Tls => Self::Tls,
            Protocol::Udp => Self::Udp,
        }
    }

    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http1 | Self::Http2 | Self::Grpc)
    }

    /// As what a proxy handles it on a port of which this is declared: what is declared decides, then the first bytes.
    pub(crate) fn handled(self, declared: Protocol) -> Handled {
        match (declared, self) {
            (_, Self::Udp) | (Protocol::Udp, _) => Handled::Udp,
            (Protocol::Tcp, _) | (Protocol::Detect, Self::Tcp) => Handled::Tcp,
            (_, Self::Tls) => Handled::Tls,
            (Protocol::Tls, _) => Handled::Tcp,
            (_, Self::Http2) => Handled::Http2,
            (_, Self::Grpc) => Handled::Grpc,
            // What is no HTTP at all is refused by the parser.
            (_, Self::Http1 | Self::Tcp) => Handled::Http1,
        }
    }
}

/// A request head, with what was found out about the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) authority: String,
    pub(crate) scheme: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// What its token says.
    pub(crate) token: Option<TokenFacts>,
    /// The rule of the port's own routes that took it.
    pub(crate) route: Option<String>,
}

impl Head {
    pub(crate) fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// Path and query.
    pub(crate) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    pub(crate) fn view(&self, handled: Handled) -> RequestView {
        if !handled.is_http() {
            return RequestView { authority: self.authority.clone(), ..RequestView::default() };
        }
        RequestView {
            method: self.method.clone(),
            path: self.target(),
            authority: self.authority.clone(),
            headers: self.headers.clone(),
        }
    }

    /// Takes a path that may bring a query of its own.
    pub(crate) fn set_path(&mut self, path: String) {
        // As the proxy writes the head: the request's query follows whatever the path has become.
        self.path = path;
    }

    pub(crate) fn edit(&mut self, edit: HeaderEdit<'_>) {
        match edit {
            HeaderEdit::Add(name, value) => {
                self.headers.push((name.to_owned(), value.to_owned()));
            }
            HeaderEdit::Remove(name) => self.headers.retain(|(own, _)| own != name),
            HeaderEdit::Set(name, value) => {
                let place = self.headers.iter().position(|(own, _)| own == name);
                self.headers.retain(|(own, _)| own != name);
                let place = place.unwrap_or(self.headers.len()).min(self.headers.len());
                self.headers.insert(place, (name.to_owned(), value.to_owned()));
            }
        }
    }
}

impl RequestHead for Head {
    fn method(&self) -> &str {
        &self.method
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
    fn authority(&self) -> &str {
        &self.authority
    }
    fn scheme(&self) -> &str {
        &self.scheme
    }
    fn token(&self) -> Option<&TokenFacts> {
        self.token.as_ref()
    }
    fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.headers.iter().filter(|(own, _)| own == name);
        let (_, first) = values.next()?;
        let mut joined = Cow::Borrowed(first.as_bytes());
        for (_, value) in values {
            let joined = joined.to_mut();
            joined.push(b',');
            joined.extend(value.as_bytes());
        }
        Some(joined)
    }
}

/// Adds a change of a response's head to those before it.
pub(crate) fn change(changes: &mut HeaderChanges, edit: HeaderEdit<'_>) {
    match edit {
        HeaderEdit::Add(name, value) => {
            let before = changes.iter_mut().find(|(own, value)| own == name && value.is_some());
            match before {
                Some((_, Some(before))) => {
                    before.push(',');
                    before.push_str(value);
                }
                _ => changes.push((name.to_owned(), Some(value.to_owned()))),
            }
        }
        HeaderEdit::Remove(name) => {
            changes.retain(|(own, _)| own != name);
            changes.push((name.to_owned(), None));
        }
        HeaderEdit::Set(name, value) => {
            changes.retain(|(own, _)| own != name);
            changes.push((name.to_owned(), Some(value.to_owned())));
        }
    }
}
