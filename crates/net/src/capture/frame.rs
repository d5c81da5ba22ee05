//! Frames to TCP streams: Ethernet, IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293).
//!
//! As much as reading a capture needs; what is not a plain TCP segment is left out, never an error.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const ETHERNET_BYTES: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const FLAG_SYN: u8 = 2;

/// A TCP segment in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// The number of its first byte.
    pub sequence: u32,
    /// Whether it opens the connection.
    pub opens: bool,
    /// Its bytes.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a frame; none when it is not a TCP segment.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(ETHERNET_BYTES..)?;
        let (source, destination, transport) = match read_u16(frame, 12)? {
            IPV4 => {
                let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
                let total = usize::from(read_u16(packet, 2)?);
                // A fragment other than the first has no TCP header.
                let fragment_offset = read_u16(packet, 6)? & 0x1fff;
                if packet.get(9) != Some(&TCP) || fragment_offset != 0 {
                    return None;
                }
                let address = |at: usize| -> Option<IpAddr> {
                    let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
                    Some(Ipv4Addr::from(bytes).into())
                };
                (address(12)?, address(16)?, packet.get(header_bytes..total)?)
            }
            IPV6 => {
                if packet.get(6) != Some(&TCP) {
                    return None;
                }
                let end = 40 + usize::from(read_u16(packet, 4)?);
                let address = |at: usize| -> Option<IpAddr> {
                    let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                    Some(Ipv6Addr::from(bytes).into())
                };
                (address(8)?, address(24)?, packet.get(40..end)?)
            }
            _ => return None,
        };
        let header_bytes = usize::from(transport.get(12)? >> 4) * 4;
        let sequence = transport.get(4..8)?.try_into().ok()?;
        Some(Self {
            source: SocketAddr::new(source, read_u16(transport, 0)?),
            destination: SocketAddr::new(destination, read_u16(transport, 2)?),
            sequence: u32::from_be_bytes(sequence),
            opens: transport.get(13)? & FLAG_SYN != 0,
            payload: transport.get(header_bytes..)?,
        })
    }
}

/// What each side of each TCP connection sent, without repetitions, up to the first gap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TcpStreams {
    /// By sender and receiver. Connections that use the same ports one after another are joined only
    /// as far as their numbers go on.
    pub streams: BTreeMap<(SocketAddr, SocketAddr), Vec<u8>>,
}

impl TcpStreams {
    pub(super) fn assemble<'a>(frames: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut parts: BTreeMap<_, (u32, BTreeMap<u32, &[u8]>)> = BTreeMap::new();
        for segment in frames.filter_map(Segment::parse) {
            let first = segment.sequence.wrapping_add(u32::from(segment.opens));
            let key = (segment.source, segment.destination);
            let (start, pieces) = parts.entry(key).or_insert_with(|| (first, BTreeMap::new()));
            // Keys count from the connection's start, so that they order even where numbers wrap.
            let offset = first.wrapping_sub(*start);
            let known = pieces.entry(offset).or_insert(segment.payload);
            if segment.payload.len() > known.len() {
                *known = segment.payload;
            }
        }
        let streams = parts.into_iter().map(|(key, (_, pieces))| (key, join(&pieces))).collect();
        Self { streams }
    }
}

fn join(pieces: &BTreeMap<u32, &[u8]>) -> Vec<u8> {
    let mut stream: Vec<u8> = Vec::new();
    for (offset, payload) in pieces {
        let offset = *offset as usize;
        let Some(known) = stream.len().checked_sub(offset) else { break };
        if let Some(new) = payload.get(known..) {
            stream.extend_from_slice(new);
        }
    }
    stream
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet frame with a TCP segment, padded as short frames are.
    fn frame(ipv6: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0; 20];
        tcp[0..2].copy_from_slice(&4000_u16.to_be_bytes());
        tcp[2..4].copy_from_slice(&80_u16.to_be_bytes());
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp[13] = flags;
        tcp.extend_from_slice(payload);
        let length = u16::try_from(tcp.len()).unwrap();
        let mut frame = vec![0; 12];
        if ipv6 {
            frame.extend_from_slice(&IPV6.to_be_bytes());
            frame.extend_from_slice(&[0x60, 0, 0, 0]);
            frame.extend_from_slice(&length.to_be_bytes());
            frame.extend_from_slice(&[TCP, 64]);
            frame.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
            frame.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        } else {
            frame.extend_from_slice(&IPV4.to_be_bytes());
            frame.extend_from_slice(&[0x45, 0]);
            frame.extend_from_slice(&(length + 20).to_be_bytes());
            frame.extend_from_slice(&[0, 0, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        frame.extend_from_slice(&tcp);
        frame.resize(frame.len().max(60), 0xee);
        frame
    }

    #[test]
    fn segments_of_both_families_are_read_without_padding() {
        for ipv6 in [false, true] {
            let bytes = frame(ipv6, 7, 0x18, b"hi");
            let segment = Segment::parse(&bytes).unwrap();
            assert_eq!((segment.payload, segment.sequence), (&b"hi"[..], 7));
            assert_eq!((segment.source.port(), segment.destination.port()), (4000, 80));
            for cut in 0..bytes.len() {
                // Never a panic; a frame cut inside the segment is none.
                let whole = Segment::parse(&bytes[..cut]).is_some();
                assert_eq!(whole, ipv6 && cut >= 76 || !ipv6 && cut >= 56, "{ipv6} {cut}");
            }
        }
        assert_eq!(Segment::parse(&[0; 64]), None);
    }

    #[test]
    fn streams_are_put_together_in_any_order_over_the_wrap() {
        let start = u32::MAX - 2;
        let at = |offset: u32| start.wrapping_add(1).wrapping_add(offset);
        let frames = [
            frame(false, start, FLAG_SYN, b""),
            frame(false, at(6), 0, b"world"),
            frame(false, at(0), 0, b"hello "),
            frame(false, at(0), 0, b"hel"),
            frame(false, at(4), 0, b"o wor"),
            frame(false, at(99), 0, b"after a gap"),
        ];
        let streams = TcpStreams::assemble(frames.iter().map(Vec::as_slice)).streams;
        assert_eq!(streams.into_values().collect::<Vec<_>>(), [b"hello world"]);
    }
}
