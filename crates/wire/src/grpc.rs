//! gRPC messages within a stream of bytes: counted, not decoded.

/// Counts the messages of one direction of a call (gRPC over HTTP/2: a flag, a length of four bytes, the message).
/// Bytes come in pieces of any size; nothing is kept of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MessageCounter {
    /// Bytes of the present message's prefix that have come, and what they say of its length.
    prefix_bytes: u8,
    length: u32,
    /// Bytes of the present message that are still to come.
    left: u32,
    count: u64,
}

/// The flag and the length.
const PREFIX_BYTES: u8 = 5;

impl MessageCounter {
    /// Takes the next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.prefix_bytes < PREFIX_BYTES {
                // The flag is shifted out by the four bytes behind it.
                self.length = self.length << 8 | u32::from(*byte);
                self.prefix_bytes += 1;
                bytes = rest;
                if self.prefix_bytes < PREFIX_BYTES {
                    continue;
                }
                self.left = self.length;
            } else {
                let part = bytes.len().min(self.left as usize);
                self.left -= u32::try_from(part).unwrap_or(self.left);
                bytes = &bytes[part..];
            }
            if self.left == 0 {
                *self = Self { count: self.count + 1, ..Self::default() };
            }
        }
    }

    /// Messages that have come whole.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut bytes = Vec::new();
        for (flag, length) in [(0_u8, 0_u32), (1, 3), (255, 300), (0, 0), (0, 70_000)] {
            bytes.push(flag);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.resize(bytes.len() + length as usize, 0xff);
        }
        for size in [1, 2, 5, 7, 4096, bytes.len()] {
            let mut counter = MessageCounter::default();
            bytes.chunks(size).for_each(|piece| counter.take(piece));
            assert_eq!(counter.count(), 5, "in pieces of {size}");
            counter.take(&[0, 0, 0, 0, 2, 9]);
            assert_eq!(counter.count(), 5);
        }
    }
}
