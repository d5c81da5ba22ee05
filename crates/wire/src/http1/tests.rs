//! Heads and bodies: tables of what is refused, and properties over every split of the bytes.

use heddle_ir::request::RequestHead as _;
use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 4096, fields_max: 8, target_bytes_max: 1024 };

fn request_error(bytes: &[u8]) -> HeadError {
    RequestIndex::default().parse(bytes, 0, &LIMITS).unwrap_err()
}

fn response_error(bytes: &[u8]) -> HeadError {
    ResponseIndex::default().parse(bytes, 0, &LIMITS).unwrap_err()
}

fn with_request<R>(text: &str, look: impl FnOnce(RequestHead<'_>) -> R) -> R {
    let mut index = RequestIndex::default();
    let Parsed::Complete(length) = index.parse(text.as_bytes(), 0, &LIMITS).unwrap() else {
        panic!("incomplete: {text:?}")
    };
    look(index.head(text.as_bytes(), length))
}

fn with_response<R>(text: &str, look: impl FnOnce(ResponseHead<'_>) -> R) -> R {
    let mut index = ResponseIndex::default();
    let Parsed::Complete(length) = index.parse(text.as_bytes(), 0, &LIMITS).unwrap() else {
        panic!("incomplete: {text:?}")
    };
    look(index.head(text.as_bytes(), length))
}

#[test]
fn a_request_is_seen_as_it_was_sent() {
    let text =
        "GET /a%20b/c?q=1&r HTTP/1.1\r\nHost: Shop:8080\r\nX-A:  one \r\nx-a: two\r\n\r\nrest";
    with_request(text, |head| {
        assert_eq!(head.method(), "GET");
        assert_eq!(head.path(), "/a%20b/c");
        assert_eq!(head.query(), Some("q=1&r"));
        assert_eq!(head.authority(), "Shop:8080");
        assert_eq!(head.scheme(), "http");
        assert_eq!(head.header("x-a").as_deref(), Some(&b"one,two"[..]));
        assert_eq!(head.header("x-b"), None);
        assert_eq!(head.body(), BodyLength::None);
        assert!(head.keeps_alive());
        assert_eq!(head.bytes().len(), text.len() - 4);
    });
}

#[test]
fn every_form_of_target_is_understood() {
    let cases = [
        ("GET http://h:1/p?q HTTP/1.1\r\nHost: other\r\n\r\n", "h:1", "/p", Some("q")),
        ("GET http://h HTTP/1.1\r\nHost: other\r\n\r\n", "h", "/", None),
        ("GET HTTPS://h?q HTTP/1.1\r\nHost: other\r\n\r\n", "h", "/", Some("q")),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "h", "*", None),
        ("CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", "h:443", "", None),
        ("GET /?a?b HTTP/1.1\r\nHost:\r\n\r\n", "", "/", Some("a?b")),
        ("GET / HTTP/1.0\r\n\r\n", "", "/", None),
    ];
    for (text, authority, path, query) in cases {
        with_request(text, |head| {
            assert_eq!((head.authority(), head.path(), head.query()), (authority, path, query));
        });
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let cases: &[(&str, HeadError)] = &[
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", HeadError::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", HeadError::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", HeadError::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", HeadError::ObsFold),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", HeadError::ObsFold),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeadError::FieldName),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", HeadError::FieldName),
        ("GET / HTTP/1.1\r\nHost a\r\n\r\n", HeadError::FieldName),
        ("GET / HTTP/1.1\r\nHo\x00st: a\r\n\r\n", HeadError::FieldName),
        ("GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n", HeadError::FieldValue),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", HeadError::FieldValue),
        ("GET / HTTP/1.1\r\n\r\n", HeadError::MissingHost),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HeadError::DuplicateHost),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HeadError::Host),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", HeadError::Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HeadError::Host),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", HeadError::Version),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", HeadError::Version),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET /\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET / a HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method),
    ];
    for (text, error) in cases {
        assert_eq!(request_error(text.as_bytes()), *error, "{text:?}");
        assert!((400..=505).contains(&error.status()));
    }
    assert_eq!(request_error(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"), HeadError::Target);
}

#[test]
fn conflicting_framing_is_refused() {
    let cases: &[(&str, HeadError)] = &[
        ("Content-Length: 1\r\nContent-Length: 2\r\n", HeadError::DuplicateContentLength),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", HeadError::DuplicateContentLength),
        ("Content-Length: 1, 1\r\n", HeadError::ContentLength),
        ("Content-Length: +1\r\n", HeadError::ContentLength),
        ("Content-Length: -1\r\n", HeadError::ContentLength),
        ("Content-Length: 1a\r\n", HeadError::ContentLength),
        ("Content-Length: 0x1\r\n", HeadError::ContentLength),
        ("Content-Length:\r\n", HeadError::ContentLength),
        ("Content-Length: 18446744073709551616\r\n", HeadError::ContentLength),
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            HeadError::ContentLengthWithTransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\ncontent-length: 0\r\n",
            HeadError::ContentLengthWithTransferEncoding,
        ),
        ("Transfer-Encoding: chunked, chunked\r\n", HeadError::TransferEncoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            HeadError::TransferEncoding,
        ),
        ("Transfer-Encoding:\r\n", HeadError::TransferEncoding),
        ("Transfer-Encoding: gzip\r\n", HeadError::TransferEncodingUnknown),
        ("Transfer-Encoding: chunked, gzip\r\n", HeadError::TransferEncodingUnknown),
        ("Transfer-Encoding: xchunked\r\n", HeadError::TransferEncodingUnknown),
        ("Transfer-Encoding: \x0bchunked\r\n", HeadError::FieldValue),
        ("Transfer-Encoding: chunked;q=1\r\n", HeadError::TransferEncodingUnknown),
    ];
    for (fields, error) in cases {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(request_error(request.as_bytes()), *error, "{fields:?}");
        let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        assert_eq!(response_error(response.as_bytes()), *error, "{fields:?}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(request_error(old.as_bytes()), HeadError::TransferEncoding);
}

#[test]
fn limits_hold() {
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(8));
    assert_eq!(request_error(many.as_bytes()), HeadError::TooManyFields);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(4096));
    assert_eq!(request_error(large.as_bytes()), HeadError::TooLarge);
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(1024));
    assert_eq!(request_error(target.as_bytes()), HeadError::TargetTooLong);
    let endless = format!("GET /{}", "y".repeat(4096));
    assert_eq!(request_error(endless.as_bytes()), HeadError::TargetTooLong);
    assert_eq!(request_error(&vec![b'A'; 4096]), HeadError::TargetTooLong);
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(4096));
    assert_eq!(response_error(large.as_bytes()), HeadError::TooLarge);
}

#[test]
fn bad_status_lines_are_refused() {
    for line in
        ["HTTP/1.1 20 OK", "HTTP/1.1 2000", "HTTP/1.1 0200 x", "HTTP/1.1", "x", "HTTP/1.1 099 x"]
    {
        assert_eq!(
            response_error(format!("{line}\r\n\r\n").as_bytes()),
            HeadError::StatusLine,
            "{line}"
        );
    }
    assert_eq!(response_error(b"HTTP/2.0 200 OK\r\n\r\n"), HeadError::Version);
    with_response("HTTP/1.1 204\r\n\r\n", |head| {
        assert_eq!((head.status(), head.reason()), (204, &b""[..]));
    });
}

#[test]
fn the_kind_of_message_decides_whether_there_is_a_body() {
    let length =
        |text: &str, method: &str| with_response(text, |head| head.body(method.as_bytes()));
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(length(ok, "GET"), BodyLength::Length(5));
    assert_eq!(length(ok, "HEAD"), BodyLength::None);
    assert_eq!(length(ok, "CONNECT"), BodyLength::None);
    for status in [100, 101, 103, 204, 304] {
        let text = format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(length(&text, "GET"), BodyLength::None, "{status}");
    }
    assert_eq!(length("HTTP/1.1 200 OK\r\n\r\n", "GET"), BodyLength::UntilClose);
    assert_eq!(length("HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", "GET"), BodyLength::None);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
    assert_eq!(length(chunked, "GET"), BodyLength::Chunked);
}

#[test]
fn connections_stay_open_as_the_version_says() {
    let alive = |text: &str| with_request(text, |head| head.keeps_alive());
    assert!(alive("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!alive("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"));
    assert!(!alive("GET / HTTP/1.0\r\n\r\n"));
    assert!(alive("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

#[test]
fn upgrades_need_both_fields_and_no_body() {
    let upgrade = |fields: &str| {
        with_request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), |head| {
            head.upgrade().map(<[u8]>::to_vec)
        })
    };
    let both = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(upgrade(both), Some(b"websocket".to_vec()));
    assert_eq!(upgrade("Upgrade: websocket\r\n"), None);
    assert_eq!(upgrade("Connection: Upgrade\r\nUpgrade: h2c\r\n"), None);
    assert_eq!(upgrade(&format!("{both}Content-Length: 1\r\n")), None);
}

fn rewritten(text: &str, edits: &RequestEdits<'_>) -> String {
    rewritten_with(text, edits, &[])
}

fn rewritten_with(text: &str, edits: &RequestEdits<'_>, headers: &[HeaderEdit<'_>]) -> String {
    with_request(text, |head| {
        let mut out = Vec::new();
        write_request(&head, edits, || headers.iter().copied(), &mut out);
        String::from_utf8(out).unwrap()
    })
}

#[test]
fn an_unedited_head_is_forwarded_as_it_stands() {
    let text = "GET /x?y HTTP/1.1\r\nhOsT:a\r\nX-Odd:   z  \r\nContent-Length: 3\r\n\r\n";
    assert_eq!(rewritten(text, &RequestEdits::default()), text);
    let text = "HTTP/1.1 200 Fine  so\r\nServer:x\r\nTransfer-Encoding: chunked\r\n\r\n";
    with_response(text, |head| {
        let mut out = Vec::new();
        write_response(&head, &ResponseEdits::default(), std::iter::empty, &mut out);
        assert_eq!(out, text.as_bytes());
    });
}

#[test]
fn hop_by_hop_fields_end_here() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine, host\r\nX-Mine: 1\r\n\
                Keep-Alive: 5\r\nTE: gzip, trailers\r\nX-Other: 2\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(
        rewritten(text, &RequestEdits::default()),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Other: 2\r\nContent-Length: 4\r\nTE: trailers\r\n\r\n"
    );
    let text = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    assert_eq!(
        rewritten(text, &RequestEdits::default()),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    // `Connection` cannot take the framing away.
    let text =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(
        rewritten(text, &RequestEdits::default()),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    );
}

#[test]
fn heads_of_other_forms_become_plain_ones() {
    assert_eq!(
        rewritten(
            "GET http://h:1/p?q HTTP/1.1\r\nhost: x\r\nA: b\r\n\r\n",
            &RequestEdits::default()
        ),
        "GET /p?q HTTP/1.1\r\nhost: h:1\r\nA: b\r\n\r\n"
    );
    assert_eq!(
        rewritten("GET /p HTTP/1.0\r\nA: b\r\n\r\n", &RequestEdits::default()),
        "GET /p HTTP/1.1\r\nHost: \r\nA: b\r\n\r\n"
    );
}

#[test]
fn edits_apply_in_order() {
    use HeaderEdit::{Add, Remove, Set};
    let text = "GET /a?q HTTP/1.1\r\nHost: a\r\nX-Set: old\r\nX-Keep: k\r\nX-Gone: g\r\nX-Set: older\r\n\r\n";
    let edits = RequestEdits { path: Some("/new"), authority: Some("b:80"), close: true };
    let headers = [
        Set("x-set", b"one"),
        Set("x-both", b"1"),
        Add("x-add", b"a"),
        Remove("x-gone"),
        Set("x-both", b"2"),
        Add("x-add", b"b"),
        Add("content-length", b"7"),
        Set("host", b"evil"),
        Add("bad name", b"x"),
        Add("x-bad", b"a\nb"),
        Remove("x-keep"),
    ];
    assert_eq!(
        rewritten_with(text, &edits, &headers),
        "GET /new?q HTTP/1.1\r\nHost: b:80\r\nx-set: one\r\nx-add: a\r\nx-both: 2\r\nx-add: b\r\n\
         Connection: close\r\n\r\n"
    );
}

#[test]
fn a_response_of_the_own_frames_itself() {
    let headers: [(&str, &[u8]); 6] = [
        ("Content-Length", b"99"),
        ("transfer-encoding", b"chunked"),
        ("connection", b"keep-alive"),
        ("x-a", b"b\r\nx-c: d"),
        ("x y", b"z"),
        ("content-type", b"text/plain"),
    ];
    let mut out = Vec::new();
    write_own_response(403, &headers, b"no", "GET", true, &mut out);
    let expected = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn responses_say_what_becomes_of_the_connection() {
    let text = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nA: b\r\nTransfer-Encoding: x\r\n\r\n";
    assert_eq!(response_error(text.as_bytes()), HeadError::TransferEncodingUnknown);
    let text =
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n";
    let write = |edits: ResponseEdits| {
        with_response(text, |head| {
            let mut out = Vec::new();
            write_response(&head, &edits, std::iter::empty, &mut out);
            String::from_utf8(out).unwrap()
        })
    };
    assert_eq!(
        write(ResponseEdits::default()),
        "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    assert_eq!(
        write(ResponseEdits { close: true, without_chunks: true, ..ResponseEdits::default() }),
        "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n"
    );
    let text =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    with_response(text, |head| {
        let mut out = Vec::new();
        write_response(&head, &ResponseEdits::default(), std::iter::empty, &mut out);
        let expected =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(out, expected.as_bytes());
    });
}

/// What a scanner made of a body given in pieces of these sizes: the bytes it took, and whether it ended.
fn scan(bytes: &[u8], sizes: &[usize]) -> Result<(usize, bool), BodyError> {
    let mut scanner = BodyScanner::new(BodyLength::Chunked);
    let (mut at, mut sizes) = (0, sizes.iter().cycle());
    while at < bytes.len() && !scanner.is_done() {
        let size = sizes.next().copied().unwrap_or(1).max(1);
        let piece = &bytes[at..bytes.len().min(at + size)];
        at += scanner.take(piece)?;
    }
    Ok((at, scanner.is_done()))
}

#[test]
fn chunked_bodies_end_where_they_say() {
    let cases: &[(&str, Result<usize, BodyError>)] = &[
        ("0\r\n\r\n", Ok(5)),
        ("3\r\nabc\r\n0\r\n\r\nNEXT", Ok(13)),
        ("a;x=\"y\"\r\n0123456789\r\n0\r\nT: v\r\nU:\r\n\r\n", Ok(36)),
        ("3 \r\nabc\r\n000\r\n\r\n", Ok(16)),
        ("3\r\nabcd\r\n0\r\n\r\n", Err(BodyError::ChunkEnd)),
        ("3\r\nabc\n0\r\n\r\n", Err(BodyError::ChunkEnd)),
        ("3\nabc\r\n0\r\n\r\n", Err(BodyError::ChunkSize)),
        ("\r\n", Err(BodyError::ChunkSize)),
        (";x\r\n", Err(BodyError::ChunkSize)),
        ("-1\r\n", Err(BodyError::ChunkSize)),
        ("0x1\r\n", Err(BodyError::ChunkSize)),
        ("g\r\n", Err(BodyError::ChunkSize)),
        ("1000000000000000\r\n", Err(BodyError::ChunkSize)),
        ("1;a\nb\r\n", Err(BodyError::ChunkExtension)),
        ("0\r\nT\r\n\r\n", Err(BodyError::Trailer)),
        ("0\r\n T: v\r\n\r\n", Err(BodyError::Trailer)),
        ("0\r\nT : v\r\n\r\n", Err(BodyError::Trailer)),
        ("0\r\nContent-Length: 5\r\n\r\n", Err(BodyError::Trailer)),
        ("0\r\ntransfer-encoding: chunked\r\n\r\n", Err(BodyError::Trailer)),
        ("0\r\nT: v\n\r\n", Err(BodyError::Trailer)),
        ("0\r\n\n", Err(BodyError::Trailer)),
    ];
    for (text, expected) in cases {
        let expected = expected.map(|taken| (taken, true));
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(scan(text.as_bytes(), &[size]), expected, "{text:?} by {size}");
        }
    }
    let long = format!("1;{}\r\n", "x".repeat(2000));
    assert_eq!(scan(long.as_bytes(), &[64]), Err(BodyError::ChunkExtension));
    let trailers = format!("0\r\n{}\r\n", "T: v\r\n".repeat(2000));
    assert_eq!(scan(trailers.as_bytes(), &[64]), Err(BodyError::TrailersTooLarge));
}

#[test]
fn data_is_told_from_framing() {
    let body = b"3\r\nabc\r\n2;e\r\nde\r\n0\r\nT: v\r\n\r\n";
    for size in 1..body.len() {
        let mut scanner = ChunkedScanner::new();
        let (mut data, mut trailers) = (Vec::new(), Vec::new());
        for piece in body.chunks(size) {
            let mut rest = piece;
            while !rest.is_empty() {
                let in_trailers = scanner.in_trailers();
                let count = match scanner.next(rest).unwrap() {
                    ChunkPiece::Data(count) => {
                        data.extend_from_slice(&rest[..count]);
                        count
                    }
                    ChunkPiece::Framing(count) | ChunkPiece::End(count) => {
                        if in_trailers {
                            trailers.extend_from_slice(&rest[..count]);
                        }
                        count
                    }
                };
                rest = &rest[count..];
            }
        }
        assert!(scanner.is_done());
        assert_eq!((&data[..], &trailers[..]), (&b"abcde"[..], &b"T: v\r\n\r\n"[..]), "{size}");
    }
}

/// The result of parsing a head that comes in pieces.
fn parse_in_pieces(bytes: &[u8], sizes: &[usize]) -> Result<Parsed, HeadError> {
    let mut index = RequestIndex::default();
    let (mut seen, mut sizes) = (0, sizes.iter().cycle());
    while seen < bytes.len() {
        let next = (seen + sizes.next().copied().unwrap_or(1).max(1)).min(bytes.len());
        match index.parse(&bytes[..next], seen, &LIMITS)? {
            Parsed::Incomplete => seen = next,
            complete @ Parsed::Complete(_) => return Ok(complete),
        }
    }
    Ok(Parsed::Incomplete)
}

fn head_text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => Just("X-A: b\r\n"),
        4 => Just("Content-Length: 5\r\n"),
        2 => Just("Transfer-Encoding: chunked\r\n"),
        2 => Just("Connection: close, x-a\r\n"),
        2 => Just("Upgrade: websocket\r\n"),
        1 => Just("Bad : x\r\n"),
        1 => Just(" fold\r\n"),
        1 => Just("X: y\n"),
        1 => Just("\r\n"),
        1 => Just("\0"),
    ];
    proptest::collection::vec(piece, 0..7).prop_map(|lines| {
        format!("POST /p?q HTTP/1.1\r\nHost: a\r\n{}\r\nbody", lines.concat()).into_bytes()
    })
}

proptest! {
    #[test]
    fn any_split_of_a_head_gives_the_same_result(
        bytes in head_text(),
        sizes in proptest::collection::vec(1_usize..20, 1..8),
    ) {
        let whole = RequestIndex::default().parse(&bytes, 0, &LIMITS);
        prop_assert_eq!(whole, parse_in_pieces(&bytes, &sizes));
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, sizes in proptest::collection::vec(1_usize..9, 1..4)) {
        let whole = RequestIndex::default().parse(&bytes, 0, &LIMITS);
        prop_assert_eq!(whole, parse_in_pieces(&bytes, &sizes));
        let _ = ResponseIndex::default().parse(&bytes, 0, &LIMITS);
        let _ = scan(&bytes, &sizes);
    }

    #[test]
    fn any_split_of_a_body_gives_the_same_result(
        text in "([0-4]\r\n[ab\r\n;]{0,4}\r\n){0,3}0\r\n(T: v\r\n)?\r\n(x){0,3}",
        sizes in proptest::collection::vec(1_usize..9, 1..6),
    ) {
        let whole = scan(text.as_bytes(), &[text.len()]);
        prop_assert_eq!(whole, scan(text.as_bytes(), &sizes));
    }

    #[test]
    fn a_rewritten_head_is_parsed_alike(bytes in head_text()) {
        let mut index = RequestIndex::default();
        if let Ok(Parsed::Complete(length)) = index.parse(&bytes, 0, &LIMITS) {
            let head = index.head(&bytes, length);
            let mut out = Vec::new();
            let headers = || [HeaderEdit::Set("x-new", b"1")].into_iter();
            write_request(&head, &RequestEdits::default(), headers, &mut out);
            let mut again = RequestIndex::default();
            prop_assert_eq!(again.parse(&out, 0, &HeadLimits::default()), Ok(Parsed::Complete(out.len())));
            let second = again.head(&out, out.len());
            prop_assert_eq!(second.body(), head.body());
            prop_assert_eq!(second.path(), head.path());
            prop_assert_eq!(second.authority(), head.authority());
            prop_assert_eq!(second.upgrade(), head.upgrade());
            prop_assert_eq!(second.values("x-new").collect::<Vec<_>>(), vec![&b"1"[..]]);
        }
    }
}
