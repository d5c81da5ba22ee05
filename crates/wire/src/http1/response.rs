//! Response heads (RFC 9112 section 4).

use super::fields::{Field, Fields, Span, next_line};
use super::request::values;
use super::{BodyLength, HeadError, HeadLimits, Parsed, Version, is_field_value};

/// Where the parts of a response head are. Reused from response to response.
#[derive(Clone, Debug, Default)]
pub struct ResponseIndex {
    version: Version,
    status: u16,
    reason: Span,
    status_line_end: usize,
    fields: Fields,
}

impl ResponseIndex {
    /// An index with room for `fields_max` fields.
    pub fn with_capacity(fields_max: usize) -> Self {
        let mut index = Self::default();
        index.fields.list.reserve_exact(fields_max);
        index
    }

    /// Parses a head that begins at the first byte; see [`super::RequestIndex::parse`].
    pub fn parse(
        &mut self,
        bytes: &[u8],
        already_seen: usize,
        limits: &HeadLimits,
    ) -> Result<Parsed, HeadError> {
        let head_bytes_max = limits.head_bytes_max.min(HeadLimits::HEAD_BYTES_CEILING);
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
        Err(HeadError::TooLarge)
    }

    fn parse_lines(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Parsed, HeadError> {
        self.fields.clear();
        let Some(line) = next_line(bytes, 0)? else { return Ok(Parsed::Incomplete) };
        self.parse_status_line(line)?;
        self.status_line_end = line.len() + 2;
        let Some(end) = self.fields.parse(bytes, self.status_line_end, limits)? else {
            return Ok(Parsed::Incomplete);
        };
        // Refused even where the status has no body: two hops may disagree about that as well.
        self.fields.body(self.version)?;
        Ok(Parsed::Complete(end))
    }

    fn parse_status_line(&mut self, line: &[u8]) -> Result<(), HeadError> {
        let (version, rest) = line.split_at_checked(9).ok_or(HeadError::StatusLine)?;
        self.version = match version {
            b"HTTP/1.1 " => Version::Http11,
            b"HTTP/1.0 " => Version::Http10,
            _ if version.starts_with(b"HTTP/") => return Err(HeadError::Version),
            _ => return Err(HeadError::StatusLine),
        };
        let (digits, rest) = rest.split_at_checked(3).ok_or(HeadError::StatusLine)?;
        if !digits.iter().all(u8::is_ascii_digit) || !matches!(digits[0], b'1'..=b'9') {
            return Err(HeadError::StatusLine);
        }
        // The space before an empty reason is often left out.
        if !matches!(rest, [] | [b' ', ..]) || !is_field_value(rest) {
            return Err(HeadError::StatusLine);
        }
        self.status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        self.reason = Span::new(line.len() - rest.len().saturating_sub(1), line.len());
        Ok(())
    }

    /// The head, over the same bytes that were parsed.
    pub fn head<'a>(&'a self, bytes: &'a [u8], head_bytes: usize) -> ResponseHead<'a> {
        ResponseHead { bytes: &bytes[..head_bytes], index: self }
    }
}

/// A parsed response head: a view over its bytes.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) index: &'a ResponseIndex,
}

impl<'a> ResponseHead<'a> {
    /// The head as it was received, its empty line included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The status, 100 to 999.
    pub fn status(&self) -> u16 {
        self.index.status
    }

    /// The reason phrase; often empty.
    pub fn reason(&self) -> &'a [u8] {
        self.index.reason.of(self.bytes)
    }

    /// The version of the message.
    pub fn version(&self) -> Version {
        self.index.version
    }

    /// Whether the server means to take more requests on the connection. A response that ends with the
    /// connection cannot; see [`ResponseHead::body`].
    pub fn keeps_alive(&self) -> bool {
        self.index.fields.keeps_alive(self.index.version)
    }

    /// Whether it is an interim response, after which another head follows. 101 is a final one.
    pub fn is_interim(&self) -> bool {
        matches!(self.index.status, 100 | 102..=199)
    }

    /// How the body is delimited (RFC 9112 section 6.3), given the method of the request.
    pub fn body(&self, request_method: &[u8]) -> BodyLength {
        let status = self.index.status;
        if request_method == b"HEAD" || status < 200 || status == 204 || status == 304 {
            return BodyLength::None;
        }
        if request_method == b"CONNECT" && status < 300 {
            return BodyLength::None;
        }
        // The parser has refused what `body` calls an error.
        self.index.fields.body(self.index.version).ok().flatten().unwrap_or(BodyLength::UntilClose)
    }

    /// The header fields in the order in which they were sent.
    pub fn fields(&self) -> impl Iterator<Item = &'a Field> {
        self.index.fields.list.iter()
    }

    /// The values of a header, whose name is compared without regard to case.
    pub fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        values(self.bytes, &self.index.fields, name)
    }

    pub(super) fn all_fields(&self) -> &'a Fields {
        &self.index.fields
    }

    pub(super) fn status_line_end(&self) -> usize {
        self.index.status_line_end
    }
}
