//! What a connection speaks, told from its first bytes.
//!
//! Bounded and without waiting: given the bytes that have come, [`sniff`] names the protocol, or says that
//! more bytes are needed. Who speaks first, and how long to wait, is the caller's business.

mod client_hello;

pub use client_hello::{ClientHello, ClientHelloError, read_client_hello};

use crate::http1::is_field_name;

/// So many bytes are enough for a verdict in every case.
pub const SNIFF_BYTES_MAX: usize = 16 * 1024;

/// What HTTP/2 connections begin with (RFC 9113 section 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is taken for one; the longest registered has 18 letters (IANA, HTTP methods).
const METHOD_BYTES_MAX: usize = 24;

/// A verdict about the first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sniffed {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// The bytes so far could become any of several.
    NeedMore,
    /// Something else.
    Opaque,
    /// TLS; see [`read_client_hello`].
    Tls,
}

/// Tells the protocol of a connection whose client has sent `prefix`. Never [`Sniffed::NeedMore`] for
/// [`SNIFF_BYTES_MAX`] bytes or more.
pub fn sniff(prefix: &[u8]) -> Sniffed {
    match prefix {
        [] | [0x16] | [0x16, 3] => return Sniffed::NeedMore,
        // ContentType handshake, legacy_record_version 3.0 to 3.4 (RFC 8446 section 5.1).
        [0x16, 3, 0..=4, ..] => return Sniffed::Tls,
        _ => {}
    }
    if prefix.starts_with(HTTP2_PREFACE) {
        return Sniffed::Http2;
    }
    if HTTP2_PREFACE.starts_with(prefix) {
        return Sniffed::NeedMore;
    }
    sniff_http1(prefix)
}

/// A whole request line is asked for: text protocols with upper-case commands (Redis inline commands, SMTP,
/// IRC) begin like a method too, but none of their lines ends with an HTTP version.
fn sniff_http1(prefix: &[u8]) -> Sniffed {
    let line_end = memchr::memchr(b'\n', prefix);
    let line = &prefix[..line_end.unwrap_or(prefix.len())];
    let method_end = memchr::memchr(b' ', line);
    let method = &line[..method_end.unwrap_or(line.len())];
    let method_valid = is_field_name(method)
        && method.len() <= METHOD_BYTES_MAX
        && method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
    if !method_valid || line.iter().any(|byte| *byte < 0x20 && !matches!(byte, b'\r')) {
        return Sniffed::Opaque;
    }
    match line_end {
        Some(_) => {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let version = line.split_at_checked(line.len().saturating_sub(9)).map(|(_, end)| end);
            // A bare LF is refused by the parser, with an answer; here it still is HTTP.
            match version {
                Some(b" HTTP/1.1" | b" HTTP/1.0") => Sniffed::Http1,
                _ => Sniffed::Opaque,
            }
        }
        None if prefix.len() < SNIFF_BYTES_MAX => Sniffed::NeedMore,
        // A request line this long is for the parser to refuse.
        None => match method_end {
            Some(_) => Sniffed::Http1,
            None => Sniffed::Opaque,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_apart() {
        let cases: &[(&[u8], Sniffed)] = &[
            (b"", Sniffed::NeedMore),
            (b"G", Sniffed::NeedMore),
            (b"GET / HTTP/1.1\r", Sniffed::NeedMore),
            (b"GET / HTTP/1.1\r\n", Sniffed::Http1),
            (b"GET / HTTP/1.0\n", Sniffed::Http1),
            (b"M-SEARCH * HTTP/1.1\r\n", Sniffed::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Sniffed::NeedMore),
            (HTTP2_PREFACE, Sniffed::Http2),
            (b"PRI * HTTP/1.1\r\n", Sniffed::Http1),
            (b"\x16", Sniffed::NeedMore),
            (b"\x16\x03\x01\x02", Sniffed::Tls),
            (b"\x16\x05\x01", Sniffed::Opaque),
            (b"SET key value\r\n", Sniffed::Opaque),
            (b"*1\r\n$4\r\nPING\r\n", Sniffed::Opaque),
            (b"get / HTTP/1.1\r\n", Sniffed::Opaque),
            (b"EHLO example.com\r\n", Sniffed::Opaque),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Sniffed::Opaque),
            (b"GET \x00", Sniffed::Opaque),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Sniffed::Opaque),
        ];
        for (prefix, expected) in cases {
            assert_eq!(sniff(prefix), *expected, "{:?}", String::from_utf8_lossy(prefix));
        }
    }

    #[test]
    fn a_full_prefix_always_has_a_verdict() {
        for filler in [b'A', b' ', b'x'] {
            let mut prefix = b"GET /".to_vec();
            prefix.resize(SNIFF_BYTES_MAX, filler);
            assert_ne!(sniff(&prefix), Sniffed::NeedMore);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_verdict_stays_when_more_bytes_come(bytes: Vec<u8>, cut in 0_usize..64) {
            let first = sniff(&bytes[..cut.min(bytes.len())]);
            if first != Sniffed::NeedMore {
                proptest::prop_assert_eq!(first, sniff(&bytes));
            }
        }
    }
}
