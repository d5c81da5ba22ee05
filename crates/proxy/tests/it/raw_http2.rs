//! HTTP/2 by hand: frames as a client may send them that keeps no rule.

use crate::harness::Peer;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Headers as HPACK's literals without names of its table.
pub(crate) fn literals(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        block.push(u8::try_from(name.len()).unwrap());
        block.extend_from_slice(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// What a client's connection begins with.
pub(crate) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

/// How a stream is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    /// With a response.
    Status(u16),
    /// With a reset of the stream, or the end of the connection.
    Ended,
}

impl Reply {
    /// The answer to the first request of a connection.
    pub(crate) async fn of(peer: &mut Peer, stream: u32) -> Self {
        loop {
            while peer.buffer.len() < 9 {
                if !peer.fill().await {
                    return Self::Ended;
                }
            }
            let head = peer.exactly(9).await;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let payload = peer.exactly(length).await;
            let own = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) == stream;
            match head[3] {
                HEADERS if own => return Self::Status(status(&payload)),
                RST_STREAM if own => return Self::Ended,
                GOAWAY => return Self::Ended,
                _ => {}
            }
        }
    }
}

/// The status that a block of HPACK begins with (RFC 7541, appendix A).
fn status(block: &[u8]) -> u16 {
    match block[0] {
        index @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
        // A literal with the name of the table, which servers send as it is or in Huffman's code: digits of five bits.
        _ if block[1] & 0x80 == 0 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        _ => huffman_digits(&block[2..]),
    }
}

/// Three digits in Huffman's code: `0` to `2` have five bits, others six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits = bytes.iter().take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let (mut left, mut number) = (24, 0);
    for _ in 0..3 {
        let five = bits >> (left - 5) & 31;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            left -= 6;
            (bits >> left & 63) - 0x19 + 3
        };
        number = number * 10 + digit;
    }
    u16::try_from(number).unwrap()
}
