//! Request heads (RFC 9112 section 3).

use std::borrow::Cow;
use std::str;

use heddle_ir::request;

use super::chars::{is_authority, is_field_name, is_target};
use super::fields::{Field, Fields, Span, next_line};
use super::{BodyLength, HeadError, HeadLimits, Parsed, Version};

/// The form in which a request target was sent (RFC 9112 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TargetForm {
    /// `http://host/path?query`.
    Absolute,
    /// `*`, of OPTIONS.
    Asterisk,
    /// `host:port`, of CONNECT.
    Authority,
    /// `/path?query`.
    #[default]
    Origin,
}

/// Where the parts of a request head are. Reused from request to request; an index is of use only together
/// with the bytes that it was parsed from.
#[derive(Clone, Debug, Default)]
pub struct RequestIndex {
    method: Span,
    pub(super) target: Span,
    form: TargetForm,
    version: Version,
    path: Span,
    query: Option<Span>,
    /// Authority of an absolute or authority-form target; it beats `Host` (RFC 9112 section 3.2.2).
    target_authority: Option<Span>,
    https: bool,
    pub(super) fields: Fields,
    body: BodyLength,
}

impl RequestIndex {
    /// An index with room for `fields_max` fields.
    pub fn with_capacity(fields_max: usize) -> Self {
        let mut index = Self::default();
        index.fields.list.reserve_exact(fields_max);
        index
    }

    /// Forgets everything, so that another head can be parsed. Must come before the first byte of each head.
    pub fn clear(&mut self) {
        self.fields.clear();
    }

    /// Parses a head that begins at the first byte. Called again with more bytes, it gives the same result as
    /// if all had come at once; `already_seen` is how many bytes the last call with the same head was given
    /// (0 at first), so that a head that comes byte by byte is not parsed anew for each byte.
    ///
    /// Empty lines before the request line must have been skipped by [`skip_empty_lines`].
    pub fn parse(
        &mut self,
        bytes: &[u8],
        already_seen: usize,
        limits: &HeadLimits,
    ) -> Result<Parsed, HeadError> {
        let head_bytes_max = limits.head_bytes_max.min(HeadLimits::HEAD_BYTES_CEILING);
        // What lies beyond the limit is never looked at, so that the result does not depend on how much of
        // it came at once.
        let bytes = &bytes[..bytes.len().min(head_bytes_max)];
        let news = bytes.get(already_seen..).unwrap_or_default();
        if memchr::memchr(b'\n', news).is_some()
            && let complete @ Parsed::Complete(_) = self.parse_lines(bytes, limits)?
        {
            return Ok(complete);
        }
        if bytes.len() < head_bytes_max {
            return Ok(Parsed::Incomplete);
        }
        let in_request_line = memchr::memchr(b'\n', bytes).is_none();
        Err(if in_request_line { HeadError::TargetTooLong } else { HeadError::TooLarge })
    }

    fn parse_lines(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Parsed, HeadError> {
        self.clear();
        let Some(line) = next_line(bytes, 0)? else { return Ok(Parsed::Incomplete) };
        self.parse_request_line(line, limits)?;
        let Some(end) = self.fields.parse(bytes, line.len() + 2, limits)? else {
            return Ok(Parsed::Incomplete);
        };
        self.check_host(bytes)?;
        self.body = self.fields.body(self.version)?.unwrap_or(BodyLength::None);
        Ok(Parsed::Complete(end))
    }

    fn parse_request_line(&mut self, line: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
        let method_end = memchr::memchr(b' ', line).ok_or(HeadError::Method)?;
        if !is_field_name(&line[..method_end]) {
            return Err(HeadError::Method);
        }
        let target_end =
            memchr::memrchr(b' ', line).filter(|end| *end > method_end).ok_or(HeadError::Target)?;
        self.version = match &line[target_end + 1..] {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            // Anything else is no version, of whatever protocol (RFC 9112 section 2.3).
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(HeadError::Version);
            }
            _ => return Err(HeadError::Target),
        };
        let target = &line[method_end + 1..target_end];
        if target.len() > limits.target_bytes_max {
            return Err(HeadError::TargetTooLong);
        }
        if !is_target(target) || str::from_utf8(target).is_err() {
            return Err(HeadError::Target);
        }
        self.method = Span::new(0, method_end);
        self.target = Span::new(method_end + 1, target_end);
        self.parse_target(&line[..method_end], target, method_end + 1)
    }

    fn parse_target(&mut self, method: &[u8], target: &[u8], at: usize) -> Result<(), HeadError> {
        self.target_authority = None;
        self.https = false;
        if method == b"CONNECT" {
            let port = memchr::memrchr(b':', target).map(|colon| &target[colon + 1..]);
            let port_valid = port.is_some_and(|port| {
                matches!(port.len(), 1..=5) && port.iter().all(u8::is_ascii_digit)
            });
            if !port_valid || !is_authority(target) {
                return Err(HeadError::Target);
            }
            self.form = TargetForm::Authority;
            self.target_authority = Some(Span::new(at, at + target.len()));
            self.split_path(target, target.len(), at);
            return Ok(());
        }
        let path_start = match target {
            [b'/', ..] => {
                self.form = TargetForm::Origin;
                0
            }
            b"*" if method == b"OPTIONS" => {
                self.form = TargetForm::Asterisk;
                0
            }
            _ => {
                self.form = TargetForm::Absolute;
                self.parse_absolute(target, at)?
            }
        };
        self.split_path(target, path_start, at);
        Ok(())
    }

    /// Answers where the path begins.
    fn parse_absolute(&mut self, target: &[u8], at: usize) -> Result<usize, HeadError> {
        let scheme_end = if starts_with_ignore_case(target, b"http://") {
            7
        } else if starts_with_ignore_case(target, b"https://") {
            self.https = true;
            8
        } else {
            return Err(HeadError::Target);
        };
        let rest = &target[scheme_end..];
        let length = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        if length == 0 || !is_authority(&rest[..length]) {
            return Err(HeadError::Target);
        }
        self.target_authority = Some(Span::new(at + scheme_end, at + scheme_end + length));
        Ok(scheme_end + length)
    }

    fn split_path(&mut self, target: &[u8], path_start: usize, at: usize) {
        let end = target.len();
        let query = memchr::memchr(b'?', &target[path_start..]).map(|place| path_start + place);
        self.path = Span::new(at + path_start, at + query.unwrap_or(end));
        self.query = query.map(|mark| Span::new(at + mark + 1, at + end));
    }

    fn check_host(&self, bytes: &[u8]) -> Result<(), HeadError> {
        match self.fields.facts.host {
            Some(host) if is_authority(host.of(bytes)) => Ok(()),
            Some(_) => Err(HeadError::Host),
            None if self.version == Version::Http10 => Ok(()),
            None => Err(HeadError::MissingHost),
        }
    }

    /// The head, over the same bytes that were parsed.
    pub fn head<'a>(&'a self, bytes: &'a [u8], head_bytes: usize) -> RequestHead<'a> {
        let bytes = &bytes[..head_bytes];
        // The parser let only UTF-8 through, so that the empty text stands for nothing that can happen.
        let text = |span: Span| str::from_utf8(span.of(bytes)).unwrap_or_default();
        let authority = self.target_authority.or(self.fields.facts.host).unwrap_or_default();
        let path = text(self.path);
        RequestHead {
            bytes,
            index: self,
            method: text(self.method),
            // `http://host` and `http://host?query` have the empty path, which is `/` (RFC 9110 section 4.2.3).
            path: if path.is_empty() && self.form == TargetForm::Absolute { "/" } else { path },
            query: self.query.map(text),
            authority: text(authority),
            https: self.https,
        }
    }
}

/// How many bytes of CR LF stand before a request line; a server must ignore at least one such line (RFC 9112
/// section 2.2).
pub fn skip_empty_lines(bytes: &[u8]) -> usize {
    let mut skipped = 0;
    while bytes[skipped..].starts_with(b"\r\n") {
        skipped += 2;
    }
    skipped
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A parsed request head: a view over its bytes.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) index: &'a RequestIndex,
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    authority: &'a str,
    https: bool,
}

impl<'a> RequestHead<'a> {
    /// The same head as addressed under this scheme, where the connection tells which it is.
    #[must_use]
    pub fn with_scheme(mut self, https: bool) -> Self {
        self.https = https;
        self
    }

    /// The same head with another path, as a normalised one.
    #[must_use]
    pub fn with_path(mut self, path: &'a str) -> Self {
        self.path = path;
        self
    }

    /// The head as it was received, its empty line included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The method.
    pub fn method_text(&self) -> &'a str {
        self.method
    }

    /// The path without query.
    pub fn path_text(&self) -> &'a str {
        self.path
    }

    /// The query without `?`.
    pub fn query_text(&self) -> Option<&'a str> {
        self.query
    }

    /// The authority; empty where an HTTP/1.0 client sent none.
    pub fn authority_text(&self) -> &'a str {
        self.authority
    }

    /// The version of the message.
    pub fn version(&self) -> Version {
        self.index.version
    }

    /// The form of the target.
    pub fn form(&self) -> TargetForm {
        self.index.form
    }

    /// How the body is delimited.
    pub fn body(&self) -> BodyLength {
        self.index.body
    }

    /// Whether the client means to send more requests on the connection (RFC 9112 section 9.3).
    pub fn keeps_alive(&self) -> bool {
        self.index.fields.keeps_alive(self.index.version)
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.index.version == Version::Http11 && self.index.fields.facts.expect_continue
    }

    /// The protocol that the client wants to switch to. None for `h2c`, which is ignored as RFC 9113 section
    /// 3.1 asks, for HTTP/1.0, and for a request with a body, which no protocol in use has.
    pub fn upgrade(&self) -> Option<&'a [u8]> {
        let facts = &self.index.fields.facts;
        let protocol = facts.upgrade?.of(self.bytes);
        let wanted = facts.connection_upgrade
            && self.index.version == Version::Http11
            && self.index.body == BodyLength::None
            && !protocol.eq_ignore_ascii_case(b"h2c");
        wanted.then_some(protocol)
    }

    /// The header fields in the order in which they were sent.
    pub fn fields(&self) -> impl Iterator<Item = &'a Field> {
        self.index.fields.list.iter()
    }

    /// Whether a field goes no further, because `Connection` names it.
    pub fn is_nominated(&self, field: &Field) -> bool {
        self.index.fields.is_nominated(field.known, self.bytes, field.name.of(self.bytes))
    }

    /// The values of a header, whose name is compared without regard to case. None where `Connection` names it: it is for
    /// this hop and goes no further, so that nobody may decide by it about what does.
    pub fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        values(self.bytes, &self.index.fields, name)
    }
}

pub(super) fn values<'a, 'n>(
    bytes: &'a [u8],
    fields: &'a Fields,
    name: &'n str,
) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
    fields
        .list
        .iter()
        .filter(move |field| {
            let own = field.name.of(bytes);
            own.eq_ignore_ascii_case(name.as_bytes())
                && !fields.is_nominated(field.known, bytes, own)
        })
        .map(move |field| field.value.of(bytes))
}

impl request::RequestHead for RequestHead<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> Option<&str> {
        self.query
    }

    fn authority(&self) -> &str {
        self.authority
    }

    fn scheme(&self) -> &str {
        if self.https { "https" } else { "http" }
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.values(name);
        let first = values.next()?;
        let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
        let mut joined = [first, second].join(&b","[..]);
        for value in values {
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        Some(Cow::Owned(joined))
    }
}
