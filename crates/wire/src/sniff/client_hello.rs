//! The server name and the protocols of a TLS ClientHello (RFC 8446 section 4.1.2), read without taking part
//! in the handshake.

use std::borrow::Cow;
use std::str;

/// Bytes of a ClientHello that are looked at. Post-quantum key shares make them 1.7 KiB; nobody sends 16.
const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Names in an ALPN list that are looked at.
const PROTOCOLS_MAX: usize = 16;

const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;

/// What a ClientHello asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientHello {
    /// The host name of the `server_name` extension, lower case; none where it is absent.
    pub server_name: Option<String>,
    /// The names of the ALPN extension in the client's order; empty where it is absent.
    pub application_protocols: Vec<Vec<u8>>,
}

/// The bytes are not a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientHelloError {
    /// A length does not fit, or a record of another kind stands within the hello.
    #[error("the TLS ClientHello is not well formed")]
    Malformed,
    /// It is larger than what is looked at.
    #[error("the TLS ClientHello is larger than {HELLO_BYTES_MAX} bytes")]
    TooLarge,
}

/// Reads the ClientHello at the beginning of a connection, which may come in several records. Nothing when
/// more bytes are needed.
pub fn read_client_hello(prefix: &[u8]) -> Result<Option<ClientHello>, ClientHelloError> {
    let Some(handshake) = join_records(prefix)? else { return Ok(None) };
    let mut hello = Reader(handshake.get(4..).unwrap_or_default());
    parse(&mut hello).map(Some).ok_or(ClientHelloError::Malformed)
}

/// The handshake message of the first records, without copying where it stands in one.
fn join_records(prefix: &[u8]) -> Result<Option<Cow<'_, [u8]>>, ClientHelloError> {
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = prefix;
    loop {
        let Some((header, body)) = rest.split_at_checked(5) else { return Ok(None) };
        if header[0] != 0x16 || header[1] != 3 {
            return Err(ClientHelloError::Malformed);
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        // RFC 8446 section 5.1: no empty handshake fragments, at most 2^14 bytes.
        if length == 0 || length > 1 << 14 {
            return Err(ClientHelloError::Malformed);
        }
        let (fragment, after) = body.split_at(length.min(body.len()));
        if joined.is_empty() {
            joined = Cow::Borrowed(fragment);
        } else {
            joined.to_mut().extend_from_slice(fragment);
        }
        if let [kind, a, b, c, ..] = *joined {
            let message = 4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
            if kind != 1 {
                return Err(ClientHelloError::Malformed);
            }
            if message > HELLO_BYTES_MAX {
                return Err(ClientHelloError::TooLarge);
            }
            if joined.len() >= message {
                return Ok(Some(match joined {
                    Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..message]),
                    Cow::Owned(mut bytes) => {
                        bytes.truncate(message);
                        Cow::Owned(bytes)
                    }
                }));
            }
        }
        if fragment.len() < length {
            return Ok(None);
        }
        rest = after;
    }
}

fn parse(hello: &mut Reader<'_>) -> Option<ClientHello> {
    let mut result = ClientHello::default();
    hello.take(2 + 32)?;
    hello.vector8()?;
    hello.vector16()?;
    hello.vector8()?;
    if hello.0.is_empty() {
        return Some(result);
    }
    let mut extensions = Reader(hello.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut body = Reader(extensions.vector16()?);
        match kind {
            EXTENSION_SERVER_NAME => server_name(&mut body, &mut result)?,
            EXTENSION_ALPN => result.application_protocols = protocols(&mut body)?,
            _ => {}
        }
    }
    Some(result)
}

/// RFC 6066 section 3. Names of other types, of which there are none, are passed over.
fn server_name(body: &mut Reader<'_>, result: &mut ClientHello) -> Option<()> {
    let mut list = Reader(body.vector16()?);
    while !list.0.is_empty() {
        let kind = list.take(1)?;
        let name = list.vector16()?;
        if kind == [0] {
            let valid = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
            let name = str::from_utf8(name).ok().filter(|_| valid)?;
            result.server_name = Some(name.to_ascii_lowercase());
            break;
        }
    }
    Some(())
}

/// RFC 7301 section 3.1.
fn protocols(body: &mut Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(body.vector16()?);
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8()?;
        if name.is_empty() {
            return None;
        }
        if names.len() < PROTOCOLS_MAX {
            names.push(name.to_vec());
        }
    }
    Some(names)
}

/// Takes lengths and bytes from the front; nothing where there are too few.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector16(bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes()[..], bytes].concat()
    }

    /// A ClientHello with these extensions, in records of at most `record_bytes`.
    fn hello(server_name: Option<&str>, protocols: &[&str], record_bytes: usize) -> Vec<u8> {
        let mut extensions = vec![0xaa, 0xaa, 0, 0];
        if let Some(name) = server_name {
            let entry = [&[0][..], &vector16(name.as_bytes())].concat();
            extensions.extend([0, 0]);
            extensions.extend(vector16(&vector16(&entry)));
        }
        if !protocols.is_empty() {
            let list: Vec<u8> = protocols
                .iter()
                .flat_map(|name| [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat())
                .collect();
            extensions.extend([0, 16]);
            extensions.extend(vector16(&vector16(&list)));
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(vector16(&extensions));
        let mut message = vec![1, 0];
        message.extend(vector16(&body));
        message
            .chunks(record_bytes)
            .flat_map(|fragment| [&[0x16, 3, 1][..], &vector16(fragment)].concat())
            .collect()
    }

    #[test]
    fn a_hello_and_its_list_of_protocols_have_their_bounds() {
        // A name of 255 bytes and its length are 256 of the list's; the rest of a hello is 55 bytes and the message's head.
        let name = "p".repeat(255);
        let names = vec![&*name; 63];
        let fits = hello(None, &names, 4096);
        let read = read_client_hello(&fits).unwrap().unwrap();
        assert_eq!(read.application_protocols.len(), PROTOCOLS_MAX);
        let larger = hello(None, &vec![&*name; 64], 4096);
        assert_eq!(read_client_hello(&larger), Err(ClientHelloError::TooLarge));
        // Known from the head alone: nobody is waited for.
        assert_eq!(read_client_hello(&larger[..16]), Err(ClientHelloError::TooLarge));
    }

    #[test]
    fn server_name_and_protocols_are_read_from_any_fragmentation() {
        for record_bytes in [1, 3, 17, 1000] {
            let bytes = hello(Some("Reviews.Default"), &["istio", "h2"], record_bytes);
            let read = read_client_hello(&bytes).unwrap().unwrap();
            assert_eq!(read.server_name.as_deref(), Some("reviews.default"));
            assert_eq!(read.application_protocols, [b"istio".to_vec(), b"h2".to_vec()]);
            for cut in 0..bytes.len() {
                assert_eq!(read_client_hello(&bytes[..cut]), Ok(None), "{cut} of {record_bytes}");
            }
        }
        let none = read_client_hello(&hello(None, &[], 1000)).unwrap().unwrap();
        assert_eq!(none, ClientHello::default());
    }

    #[test]
    fn what_is_no_hello_is_refused() {
        let good = hello(Some("a"), &["h2"], 1000);
        let with = |place: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[place] = value;
            read_client_hello(&bytes)
        };
        assert_eq!(with(0, 0x17), Err(ClientHelloError::Malformed));
        assert_eq!(with(5, 2), Err(ClientHelloError::Malformed));
        assert_eq!(with(6, 1), Err(ClientHelloError::TooLarge));
        // A session id that runs over the end.
        assert_eq!(with(5 + 4 + 34, 255), Err(ClientHelloError::Malformed));
        assert_eq!(read_client_hello(b"\x16\x03\x01\x00\x00"), Err(ClientHelloError::Malformed));
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read_client_hello(&bytes);
            let mut record = vec![0x16, 3, 1];
            record.extend(vector16(&bytes));
            let _ = read_client_hello(&record);
        }
    }
}
