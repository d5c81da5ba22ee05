//! Heads written out again, with changes, in one copy.
//!
//! What is not changed keeps its bytes: header order, the case of names, odd spacing. A head with nothing to
//! change is copied as it stands. Fields that are for one hop only are dropped, and said anew where this hop
//! needs them (RFC 9110 section 7.6.1). Fields that frame the message cannot be edited: such edits are passed
//! over, since the body is forwarded in the framing that it came in.

use super::fields::{Field, Fields, Known};
use super::{RequestHead, ResponseHead, TargetForm, Version, is_field_name, is_field_value};

/// One change of a header. Names are compared without regard to case and written as given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderEdit<'a> {
    /// Adds a value behind those that are there.
    Add(&'a str, &'a [u8]),
    /// Removes every value.
    Remove(&'a str),
    /// Replaces every value by this one.
    Set(&'a str, &'a [u8]),
}

impl<'a> HeaderEdit<'a> {
    fn name(self) -> &'a [u8] {
        match self {
            Self::Add(name, _) | Self::Remove(name) | Self::Set(name, _) => name.as_bytes(),
        }
    }

    fn replaces(self, name: &[u8]) -> bool {
        match self {
            Self::Add(..) => false,
            Self::Remove(own) | Self::Set(own, _) => own.as_bytes().eq_ignore_ascii_case(name),
        }
    }

    fn allowed(self) -> bool {
        match Known::of(self.name()) {
            Known::Expect | Known::Other => match self {
                Self::Remove(_) => true,
                Self::Add(name, value) | Self::Set(name, value) => {
                    is_field_name(name.as_bytes()) && is_field_value(value)
                }
            },
            Known::Connection
            | Known::ContentLength
            | Known::Host
            | Known::Http2Settings
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade => false,
        }
    }
}

/// Changes to a request head, but for those of single headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestEdits<'a> {
    /// New path; none: as received. The query is kept, unless the path has a `?`: what is behind that is then the query,
    /// and there is none where nothing is.
    pub path: Option<&'a str>,
    /// New authority; none: as received.
    pub authority: Option<&'a str>,
    /// Ask the server to close the connection after the response.
    pub close: bool,
}

/// Changes to a response head, but for those of single headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseEdits {
    /// Tell the client that the connection closes after this response.
    pub close: bool,
    /// Tell an HTTP/1.0 client that it stays open.
    pub keep_alive: bool,
    /// The body is forwarded without chunks, to a client that does not know them.
    pub without_chunks: bool,
}

/// Appends the request head to `out`, as HTTP/1.1. `headers` gives the changes of headers in the order in which
/// they act, and is asked more than once.
pub fn write_request<'e, I: Iterator<Item = HeaderEdit<'e>>>(
    head: &RequestHead<'_>,
    edits: &RequestEdits<'_>,
    headers: impl Fn() -> I,
    out: &mut Vec<u8>,
) {
    let fields = &head.index.fields;
    let own_authority = (head.form() == TargetForm::Absolute).then(|| head.authority_text());
    let authority = edits.authority.or(own_authority);
    let path = edits.path.or((own_authority.is_some()).then_some(head.path_text()));
    let unchanged = path.is_none()
        && authority.is_none()
        && !edits.close
        && head.version() == Version::Http11
        && !fields.facts.hop_by_hop
        && headers().next().is_none();
    if unchanged {
        out.extend_from_slice(head.bytes);
        return;
    }
    out.reserve(head.bytes.len() + 256);
    out.extend_from_slice(head.method_text().as_bytes());
    out.push(b' ');
    match path {
        Some(path) => write_target(path, head.query_text(), out),
        None => out.extend_from_slice(head.index.target.of(head.bytes)),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = fields.list.iter().find(|field| field.known == Known::Host);
    if host.is_none() || authority.is_some() {
        // Foremost, as RFC 9110 section 7.2 advises.
        let name = host.map_or(&b"Host"[..], |field| field.name.of(head.bytes));
        write_field(out, name, authority.unwrap_or_default().as_bytes());
    }
    copy_fields(head.bytes, fields, out, |field, name| match field.known {
        Known::Host => authority.is_none(),
        known => {
            keeps_field(known, head.bytes, fields, name)
                && !headers().any(|edit| edit.replaces(name) && edit.allowed())
        }
    });
    write_edits(out, &headers);
    if fields.list.iter().any(|field| is_te_trailers(field, head.bytes)) {
        write_field(out, b"TE", b"trailers");
    }
    if let Some(protocol) = head.upgrade() {
        write_field(out, b"Connection", b"Upgrade");
        write_field(out, b"Upgrade", protocol);
    } else if edits.close {
        write_field(out, b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a path and a query. A path with a `?` has its own: what is behind that, and none where nothing is.
pub fn write_target(path: &str, query: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(path.strip_suffix('?').unwrap_or(path).as_bytes());
    if let Some(query) = query.filter(|_| !path.contains('?')) {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
}

/// Appends the response head to `out`, as HTTP/1.1. `headers` gives the changes of headers in the order in which
/// they act, and is asked more than once.
pub fn write_response<'e, I: Iterator<Item = HeaderEdit<'e>>>(
    head: &ResponseHead<'_>,
    edits: &ResponseEdits,
    headers: impl Fn() -> I,
    out: &mut Vec<u8>,
) {
    let fields = head.all_fields();
    let unchanged = !fields.facts.hop_by_hop
        && head.version() == Version::Http11
        && !edits.close
        && !edits.keep_alive
        && !edits.without_chunks
        && headers().next().is_none();
    if unchanged {
        out.extend_from_slice(head.bytes);
        return;
    }
    out.reserve(head.bytes.len() + 256);
    out.extend_from_slice(b"HTTP/1.1 ");
    // Everything behind `HTTP/1.x ` of the status line, as it is.
    out.extend_from_slice(&head.bytes[9..head.status_line_end()]);
    copy_fields(head.bytes, fields, out, |field, name| {
        !(edits.without_chunks && field.known == Known::TransferEncoding)
            && keeps_field(field.known, head.bytes, fields, name)
            && !headers().any(|edit| edit.replaces(name) && edit.allowed())
    });
    write_edits(out, &headers);
    if head.status() == 101 {
        write_field(out, b"Connection", b"Upgrade");
        if let Some(protocol) = fields.facts.upgrade {
            write_field(out, b"Upgrade", protocol.of(head.bytes));
        }
    } else if edits.close {
        write_field(out, b"Connection", b"close");
    } else if edits.keep_alive {
        write_field(out, b"Connection", b"keep-alive");
    }
    out.extend_from_slice(b"\r\n");
}

/// Copies the lines that `keep` wants, neighbours in one piece.
fn copy_fields(
    bytes: &[u8],
    fields: &Fields,
    out: &mut Vec<u8>,
    keep: impl Fn(&Field, &[u8]) -> bool,
) {
    let mut run = 0..0;
    for field in &fields.list {
        let (start, end) = (field.line.start as usize, field.line.end as usize);
        if !keep(field, field.name.of(bytes)) {
            continue;
        }
        if run.end != start {
            out.extend_from_slice(&bytes[run]);
            run = start..end;
        }
        run.end = end;
    }
    out.extend_from_slice(&bytes[run]);
}

fn keeps_field(known: Known, bytes: &[u8], fields: &Fields, name: &[u8]) -> bool {
    !known.is_hop_by_hop() && !fields.is_nominated(known, bytes, name)
}

fn is_te_trailers(field: &Field, bytes: &[u8]) -> bool {
    field.known == Known::Te
        && super::fields::tokens(field.value.of(bytes))
            .any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

/// Writes what is set and added, but for what a later edit replaces again.
fn write_edits<'e, I: Iterator<Item = HeaderEdit<'e>>>(out: &mut Vec<u8>, edits: &impl Fn() -> I) {
    for (place, edit) in edits().enumerate() {
        let (HeaderEdit::Add(name, value) | HeaderEdit::Set(name, value)) = edit else { continue };
        let replaced = || {
            edits().skip(place + 1).any(|later| later.replaces(name.as_bytes()) && later.allowed())
        };
        if edit.allowed() && !replaced() {
            write_field(out, name.as_bytes(), value);
        }
    }
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a response of the proxy's own. `body` is sent with a `Content-Length`, also to HEAD, whose answer
/// then leaves the body itself out. Of `headers`, which routes and authorisers may have a word in, those that frame the
/// message or are for one hop are left out.
pub fn write_own_response(
    status: u16,
    headers: &[(&str, &[u8])],
    body: &[u8],
    method: &str,
    close: bool,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        let name = name.as_bytes();
        if is_field_name(name) && is_field_value(value) && Known::of(name) == Known::Other {
            write_field(out, name, value);
        }
    }
    if status != 204 && status != 304 {
        out.extend_from_slice(b"content-length: ");
        push_number(out, body.len() as u64);
        out.extend_from_slice(b"\r\n");
    }
    if close {
        write_field(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if method != "HEAD" && status != 204 && status != 304 {
        out.extend_from_slice(body);
    }
}

/// Appends a chunk with these data, which must not be empty: an empty chunk would end the body.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!data.is_empty(), "an empty chunk ends the body");
    let size = data.len() as u64;
    let digits = (64 - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(size >> (place * 4) & 15) as usize]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends a decimal number.
fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The reason phrase of a status that the proxy itself answers with (RFC 9110 section 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_chunks_are_written_whole() {
        for (number, text) in [(0, "0"), (9, "9"), (10, "10"), (u64::MAX, "18446744073709551615")] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, text.as_bytes());
        }
        for length in [1, 15, 16, 255, 256, 4096] {
            let mut out = Vec::new();
            write_chunk(&vec![b'x'; length], &mut out);
            assert!(out.starts_with(format!("{length:x}\r\nx").as_bytes()), "{length}");
            assert!(out.ends_with(b"x\r\n"));
        }
    }
}
