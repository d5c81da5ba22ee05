//! The header fields of a head, as ranges over its bytes.

use super::chars::{is_field_name, is_field_value, trim};
use super::{BodyLength, HeadError, HeadLimits, Version};

/// A range of bytes within a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        // Heads are at most HEAD_BYTES_CEILING bytes, far below 2^32; saturation keeps a mistake harmless.
        let clamp = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: clamp(start), end: clamp(end) }
    }

    /// The bytes of this range; empty where the range does not lie within `bytes`.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Fields that say something about the message or the connection itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub enum Known {
    Connection,
    ContentLength,
    Expect,
    Host,
    Http2Settings,
    KeepAlive,
    Other,
    ProxyConnection,
    Te,
    TransferEncoding,
    Upgrade,
}

impl Known {
    pub(super) fn of(name: &[u8]) -> Self {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::KeepAlive,
            14 if is("content-length") => Self::ContentLength,
            14 if is("http2-settings") => Self::Http2Settings,
            16 if is("proxy-connection") => Self::ProxyConnection,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            _ => Self::Other,
        }
    }

    /// Whether the field is for this hop only and is not forwarded as it stands (RFC 9110 section 7.6.1).
    pub fn is_hop_by_hop(self) -> bool {
        match self {
            Self::Connection
            | Self::Http2Settings
            | Self::KeepAlive
            | Self::ProxyConnection
            | Self::Te
            | Self::Upgrade => true,
            Self::ContentLength
            | Self::Expect
            | Self::Host
            | Self::Other
            | Self::TransferEncoding => false,
        }
    }
}

/// One header field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// The name as it was sent.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
    /// Which field it is, where that matters to the codec.
    pub known: Known,
    /// The whole line, its CRLF included.
    pub line: Span,
}

/// All header fields of a head and what they say about the message.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub(super) list: Vec<Field>,
    pub(super) facts: Facts,
}

/// What the fields say, gathered while they are parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact")]
pub(super) struct Facts {
    pub content_length: Option<u64>,
    pub chunked: bool,
    pub close: bool,
    pub keep_alive: bool,
    /// `Connection` names `upgrade`.
    pub connection_upgrade: bool,
    /// `Connection` names a field other than those that are dropped anyway.
    pub connection_names_fields: bool,
    pub upgrade: Option<Span>,
    pub expect_continue: bool,
    pub host: Option<Span>,
    pub hop_by_hop: bool,
}

impl Fields {
    /// The fields in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.list.iter()
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.facts = Facts::default();
    }

    /// Parses lines from `start` until the empty one. Answers the offset behind it, or nothing when more
    /// bytes are needed.
    pub(super) fn parse(
        &mut self,
        bytes: &[u8],
        start: usize,
        limits: &HeadLimits,
    ) -> Result<Option<usize>, HeadError> {
        let mut at = start;
        loop {
            let Some(line) = next_line(bytes, at)? else { return Ok(None) };
            if line.is_empty() {
                return Ok(Some(at + 2));
            }
            if self.list.len() >= limits.fields_max {
                return Err(HeadError::TooManyFields);
            }
            self.parse_line(bytes, at, line)?;
            at += line.len() + 2;
        }
    }

    fn parse_line(&mut self, bytes: &[u8], at: usize, line: &[u8]) -> Result<(), HeadError> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(HeadError::ObsFold);
        }
        let colon = memchr::memchr(b':', line).ok_or(HeadError::FieldName)?;
        let name = &line[..colon];
        if !is_field_name(name) {
            return Err(HeadError::FieldName);
        }
        let rest = &line[colon + 1..];
        if !is_field_value(rest) {
            return Err(HeadError::FieldValue);
        }
        let value = trim(rest);
        // Where the value is empty `trim` may point anywhere within the blanks; the length is what counts.
        let lead = rest.len() - rest.trim_ascii_start().len().max(value.len());
        let value_start = at + colon + 1 + lead;
        let field = Field {
            name: Span::new(at, at + colon),
            value: Span::new(value_start, value_start + value.len()),
            known: Known::of(name),
            line: Span::new(at, at + line.len() + 2),
        };
        self.list.push(field);
        self.note(bytes, field)
    }

    /// Takes what a field says about the message into account.
    fn note(&mut self, bytes: &[u8], field: Field) -> Result<(), HeadError> {
        let facts = &mut self.facts;
        let value = field.value.of(bytes);
        facts.hop_by_hop |= field.known.is_hop_by_hop();
        match field.known {
            Known::Connection => note_connection(facts, value),
            Known::ContentLength => {
                if facts.content_length.is_some() {
                    return Err(HeadError::DuplicateContentLength);
                }
                facts.content_length = Some(parse_length(value).ok_or(HeadError::ContentLength)?);
            }
            Known::Expect => facts.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            Known::Host => {
                if facts.host.replace(field.value).is_some() {
                    return Err(HeadError::DuplicateHost);
                }
            }
            Known::TransferEncoding => note_transfer_encoding(facts, value)?,
            Known::Upgrade => facts.upgrade = Some(field.value),
            Known::Http2Settings
            | Known::KeepAlive
            | Known::Other
            | Known::ProxyConnection
            | Known::Te => {}
        }
        Ok(())
    }

    /// How the fields delimit the body, where they do (RFC 9112 section 6.3, rules 3 to 5).
    pub(super) fn body(&self, version: Version) -> Result<Option<BodyLength>, HeadError> {
        match (self.facts.chunked, self.facts.content_length) {
            (true, Some(_)) => Err(HeadError::ContentLengthWithTransferEncoding),
            // RFC 9112 section 6.1: with HTTP/1.0 the framing is to be taken as faulty.
            (true, None) if version == Version::Http10 => Err(HeadError::TransferEncoding),
            (true, None) => Ok(Some(BodyLength::Chunked)),
            (false, Some(0)) => Ok(Some(BodyLength::None)),
            (false, Some(length)) => Ok(Some(BodyLength::Length(length))),
            (false, None) => Ok(None),
        }
    }

    /// Whether the sender means to go on using the connection (RFC 9112 section 9.3).
    pub(super) fn keeps_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.facts.close,
            Version::Http10 => self.facts.keep_alive && !self.facts.close,
        }
    }

    /// Whether `Connection` says of a field that it is for this hop only (RFC 9110 section 7.6.1). What frames the message
    /// stays, whatever it says: a client could otherwise have the framing removed from the next hop's sight.
    pub(super) fn is_nominated(&self, known: Known, bytes: &[u8], name: &[u8]) -> bool {
        self.facts.connection_names_fields
            && matches!(known, Known::Other | Known::Expect)
            && self.list.iter().filter(|field| field.known == Known::Connection).any(|field| {
                tokens(field.value.of(bytes)).any(|token| token.eq_ignore_ascii_case(name))
            })
    }
}

/// The line that begins at `at`, without its CRLF; nothing when it is not whole yet.
pub(super) fn next_line(bytes: &[u8], at: usize) -> Result<Option<&[u8]>, HeadError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(None) };
    match rest[..end].strip_suffix(b"\r") {
        Some(line) => Ok(Some(line)),
        None => Err(HeadError::BareLf),
    }
}

/// The comma-separated elements of a list value, without blanks and empty ones (RFC 9110 section 5.6.1).
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|token| !token.is_empty())
}

fn note_connection(facts: &mut Facts, value: &[u8]) {
    for token in tokens(value) {
        if token.eq_ignore_ascii_case(b"close") {
            facts.close = true;
        } else if token.eq_ignore_ascii_case(b"keep-alive") {
            facts.keep_alive = true;
        } else if token.eq_ignore_ascii_case(b"upgrade") {
            facts.connection_upgrade = true;
        } else {
            facts.connection_names_fields = true;
        }
    }
}

/// Only `chunked`, once, is understood. Another coding beside it would pass through unharmed, but then the
/// two ends would have to agree about it, and such senders do not exist in the field.
fn note_transfer_encoding(facts: &mut Facts, value: &[u8]) -> Result<(), HeadError> {
    let mut seen = false;
    for token in tokens(value) {
        seen = true;
        if !token.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError::TransferEncodingUnknown);
        }
        if facts.chunked {
            return Err(HeadError::TransferEncoding);
        }
        facts.chunked = true;
    }
    if seen { Ok(()) } else { Err(HeadError::TransferEncoding) }
}

/// Digits only, at most 19 of them, so that it never overflows: no sign, no blank, no list.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
