//! HTTP/1: heads mean one thing however they are cut, and what is written on is understood as what was read.

use heddle_wire::http1::{BodyLength, HeadError};
use heddle_wire::http1::{
    BodyScanner, HeadLimits, HeaderEdit, Parsed, RequestEdits, RequestIndex, ResponseIndex,
    skip_empty_lines, write_request,
};

pub(crate) const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST http://a/b?c HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x, close\r\nX: y\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nExpect: 100-continue\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a:1\r\n folded\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
];

pub(crate) const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 200 \r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
];

pub(crate) const BODIES: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n",
    b"a;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: 1\r\nOther: 2\r\n\r\n",
    b"000000000000001\r\nx\r\n0\r\n\r\n",
    b"1\nx\n0\n\n",
];

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 4096, fields_max: 32, target_bytes_max: 1024 };

/// A request head that is whole or refused at once must be so byte by byte too, and what is forwarded of it must say
/// the same to the next hop: method, path, authority and above all where the body ends.
pub(crate) fn request(bytes: &[u8]) {
    let bytes = &bytes[skip_empty_lines(bytes)..];
    let mut index = RequestIndex::with_capacity(LIMITS.fields_max);
    let whole = index.parse(bytes, 0, &LIMITS);
    assert_eq!(whole, in_pieces(bytes), "the result depends on how the bytes are cut");
    let Ok(Parsed::Complete(end)) = whole else { return };
    let head = index.head(bytes, end);
    if matches!(head.body(), BodyLength::UntilClose) {
        panic!("a request has no body until the connection closes");
    }
    let mut written = Vec::new();
    let edits = RequestEdits::default();
    let marked = || std::iter::once(HeaderEdit::Set("x-mark", b"1"));
    write_request(&head, &edits, marked, &mut written);
    let mut again = RequestIndex::with_capacity(LIMITS.fields_max + 1);
    let limits = HeadLimits { head_bytes_max: 16 * 1024, fields_max: 64, target_bytes_max: 4096 };
    let Ok(Parsed::Complete(end)) = again.parse(&written, 0, &limits) else {
        panic!("what was written is no head: {:?}", String::from_utf8_lossy(&written));
    };
    assert_eq!(end, written.len(), "what was written holds more than one head");
    let copy = again.head(&written, end);
    assert_eq!(copy.body(), head.body(), "the next hop sees another end of the body");
    assert_eq!(copy.method_text(), head.method_text());
    assert_eq!(copy.path_text(), head.path_text());
    assert_eq!(copy.query_text(), head.query_text());
    if !head.authority_text().is_empty() {
        assert_eq!(copy.authority_text(), head.authority_text());
    }
    assert_eq!(copy.values("x-mark").count(), 1);
}

fn in_pieces(bytes: &[u8]) -> Result<Parsed, HeadError> {
    let mut index = RequestIndex::with_capacity(LIMITS.fields_max);
    let mut seen = 0;
    for length in 1..=bytes.len() {
        match index.parse(&bytes[..length], seen, &LIMITS) {
            Ok(Parsed::Incomplete) => seen = length,
            done => return done,
        }
    }
    index.parse(bytes, seen, &LIMITS)
}

/// As for requests, but for what is written on.
pub(crate) fn response(bytes: &[u8]) {
    let mut index = ResponseIndex::with_capacity(LIMITS.fields_max);
    let whole = index.parse(bytes, 0, &LIMITS);
    let mut pieces = ResponseIndex::with_capacity(LIMITS.fields_max);
    let mut seen = 0;
    let mut cut = Ok(Parsed::Incomplete);
    for length in 1..=bytes.len() {
        cut = pieces.parse(&bytes[..length], seen, &LIMITS);
        if cut != Ok(Parsed::Incomplete) {
            break;
        }
        seen = length;
    }
    assert_eq!(whole, cut, "the result depends on how the bytes are cut");
    let Ok(Parsed::Complete(end)) = whole else { return };
    let head = index.head(bytes, end);
    assert_eq!(head.body(b"HEAD"), BodyLength::None);
    assert!((100..1000).contains(&head.status()), "a status has three digits");
}

/// A chunked body ends at the same byte however it is cut, and an error does not depend on the cut either.
pub(crate) fn chunked_body(bytes: &[u8]) {
    let mut scanner = BodyScanner::new(BodyLength::Chunked);
    let whole = scanner.take(bytes).map(|taken| (taken, scanner.is_done()));
    let mut pieces = BodyScanner::new(BodyLength::Chunked);
    let mut taken = 0;
    let mut cut = Ok((0, false));
    for byte in bytes.chunks(1) {
        match pieces.take(byte) {
            Ok(count) => taken += count,
            Err(error) => {
                cut = Err(error);
                break;
            }
        }
        cut = Ok((taken, pieces.is_done()));
        if pieces.is_done() {
            break;
        }
    }
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut, "the end depends on the cut"),
        (Err(_), Err(_)) => {}
        (whole, cut) => panic!("{whole:?} at once, {cut:?} byte by byte"),
    }
}
