//! Encoding and decoding of netlink messages and their attributes (RFC 3549 section 2.3).
//!
//! Lengths and types are in the machine's byte order, attributes are padded to 4 bytes. What comes
//! back is read defensively although the kernel wrote it: a short or odd message ends the iteration.

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`, for requests that create.
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;

/// Bytes of a `struct nlmsghdr`.
pub(crate) const HEADER_BYTES: usize = 16;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// A message being written.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Starts a message: its type, flags beside `NLM_F_REQUEST`, and the family's fixed header.
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(header);
        let mut request = Self { bytes };
        request.pad();
        request
    }

    /// Adds an attribute.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
        self
    }

    /// Adds a text attribute with its closing zero byte.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    /// Adds a 32-bit attribute in the machine's order, as rtnetlink takes it.
    pub(crate) fn u32_native(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a 32-bit attribute in network order, as nf_tables takes it.
    pub(crate) fn u32_network(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds an attribute made of attributes.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.open(kind | NESTED);
        fill(self);
        self.close(start);
        self
    }

    /// Adds raw bytes (a fixed header inside a nested attribute).
    pub(crate) fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]])
    }

    pub(crate) fn set_flags(&mut self, flags: u16) {
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// The finished message.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        // All attributes of this crate are far below 64 KiB: names are bounded, and set elements are
        // split over messages by their writer.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        debug_assert!(length < u16::MAX, "attribute too long");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A message that came back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// Splits a datagram into its messages.
pub(crate) fn replies(mut datagram: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let header = datagram.get(..HEADER_BYTES)?;
        let length = read_u32(header, 0)? as usize;
        let payload = datagram.get(HEADER_BYTES..length)?;
        let reply = Reply {
            kind: read_u16(header, 4)?,
            flags: read_u16(header, 6)?,
            sequence: read_u32(header, 8)?,
            payload,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(reply)
    })
}

/// The attributes in a payload.
#[derive(Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of a type.
    pub(crate) fn first(&self, kind: u16) -> Option<&'a [u8]> {
        Attributes(self.0).find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// A 32-bit attribute in the machine's order.
    pub(crate) fn u32_native(&self, kind: u16) -> Option<u32> {
        read_u32(self.first(kind)?, 0)
    }

    /// A text attribute up to its zero byte.
    pub(crate) fn text(&self, kind: u16) -> Option<&'a str> {
        let value = self.first(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        std::str::from_utf8(&value[..end]).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(read_u16(self.0, 0)?);
        let kind = read_u16(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn read_i32(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut request = Request::new(20, CREATE, &[7; 8]);
        request.text(1, "abc").u32_native(2, 0x0102_0304).nested(3, |inner| {
            inner.bytes(4, &[9; 5]);
        });
        let bytes = request.finish(77);
        let reply = replies(&bytes).next().unwrap();
        assert_eq!((reply.kind, reply.flags, reply.sequence), (20, CREATE | REQUEST, 77));
        let attributes = Attributes(&reply.payload[8..]);
        assert_eq!(attributes.text(1), Some("abc"));
        assert_eq!(attributes.u32_native(2), Some(0x0102_0304));
        assert_eq!(Attributes(attributes.first(3).unwrap()).first(4), Some(&[9; 5][..]));
        assert_eq!(attributes.count(), 3);
        assert_eq!(replies(&bytes).count(), 1);
    }

    #[test]
    fn cut_messages_end_the_iteration() {
        let mut request = Request::new(20, 0, &[0; 4]);
        request.text(1, "abcdefg");
        let bytes = request.finish(1);
        for cut in 0..bytes.len() {
            assert_eq!(replies(&bytes[..cut]).count(), 0, "{cut}");
            let payload = bytes.get(20..cut).unwrap_or_default();
            assert_eq!(Attributes(payload).count(), 0, "{cut}");
        }
        // Lengths below the header's own do not loop.
        assert_eq!(replies(&[0; 64]).count(), 0);
        assert_eq!(Attributes(&[0; 64]).count(), 0);
        assert_eq!(Attributes(&[3, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
    }
}
