//! Protocol detection: a verdict never changes with more bytes, and comes in bounded space.

use heddle_wire::sniff::{SNIFF_BYTES_MAX, Sniffed, read_client_hello};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"EHLO mail\r\n",
    // A ClientHello for `a.b` with ALPN `h2`, in one record.
    b"\x16\x03\x01\x00\x4a\x01\x00\x00\x46\x03\x03\
      \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
      \x00\x00\x02\x13\x01\x01\x00\x00\x1b\
      \x00\x00\x00\x08\x00\x06\x00\x00\x03a.b\
      \x00\x10\x00\x05\x00\x03\x02h2\
      \x00\x2b\x00\x02\x03\x04",
    b"\x16\x03\x01\x00\x02\x01\x00",
];

/// A verdict stands once it is made.
pub(crate) fn sniff(bytes: &[u8]) {
    let mut verdict = Sniffed::NeedMore;
    for length in 0..=bytes.len() {
        let now = heddle_wire::sniff::sniff(&bytes[..length]);
        if verdict != Sniffed::NeedMore {
            assert_eq!(now, verdict, "a verdict changed with more bytes");
        }
        assert!(
            now != Sniffed::NeedMore || length < SNIFF_BYTES_MAX,
            "no verdict within the bound"
        );
        verdict = now;
    }
}

/// What is read of a ClientHello does not depend on what follows it.
pub(crate) fn client_hello(bytes: &[u8]) {
    let mut read = None;
    for length in 0..=bytes.len() {
        match (read_client_hello(&bytes[..length]), &read) {
            (Ok(Some(hello)), None) => read = Some(hello),
            (Ok(None), None) => {}
            (Err(_), None) => return,
            (again, Some(first)) => {
                let again = again.ok().flatten();
                assert_eq!(again.as_ref(), Some(first), "a hello changed with more bytes");
            }
        }
    }
    let Some(hello) = read else { return };
    if let Some(name) = hello.server_name {
        assert_eq!(name, name.to_ascii_lowercase(), "a server name is in lower case");
    }
}
