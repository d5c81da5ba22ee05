//! What clients of the gRPC core (Python, C++, Ruby, PHP) say as `:authority` over a Unix socket: its path with `%2F` for each
//! slash, which is no authority (RFC 3986 section 3.2), so that the HTTP/2 library here resets their streams.
//!
//! Nobody here reads it. In the bytes that come in, each `%` of that value is replaced by a `-` before the library sees them:
//! lengths stay, so that neither frames nor the compression's table are touched. What cannot be followed is passed on as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// RFC 9113 section 3.4.
const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;
/// `:authority` in the static table (RFC 7541 appendix A).
const AUTHORITY: usize = 1;

/// A connection whose incoming bytes are looked at.
#[derive(Debug)]
pub(super) struct Forgiving<S> {
    inner: S,
    frames: Frames,
}

impl<S> Forgiving<S> {
    /// A connection at its beginning.
    pub(super) fn new(inner: S) -> Self {
        Self { inner, frames: Frames::Preface { left: PREFACE_BYTES } }
    }
}

/// Where in the frames the next byte is.
#[derive(Debug)]
enum Frames {
    Preface { left: usize },
    Head { bytes: [u8; FRAME_HEAD_BYTES], filled: usize, block: Block },
    Payload { left: usize, kind: Payload, block: Block },
}

/// What the payload of a frame is.
#[derive(Clone, Copy, Debug)]
enum Payload {
    Other,
    /// The length of the padding comes first, and then so many bytes of priority.
    Padding {
        priority: usize,
    },
    /// So many bytes before the block; so many of padding behind it.
    Fields {
        before: usize,
        behind: usize,
    },
}

/// Where in a block of header fields the next byte is (RFC 7541 section 6).
#[derive(Clone, Copy, Debug)]
enum Block {
    /// A field begins.
    Field,
    /// More of a number that does not matter.
    Skip,
    /// More of the index of a name.
    Name { index: usize, shift: u32 },
    /// The length of a text begins.
    Length { text: Text },
    /// More of it.
    MoreLength { text: Text, length: usize, shift: u32 },
    /// Bytes of it.
    Text { text: Text, left: usize },
    /// It cannot be followed.
    Lost,
}

/// Which text.
#[derive(Clone, Copy, Debug)]
enum Text {
    Name,
    Value { is_authority: bool, is_coded: bool },
}

impl Frames {
    fn look(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.step(byte);
        }
    }

    fn step(&mut self, byte: &mut u8) {
        match self {
            Self::Preface { left } => {
                *left -= 1;
                if *left == 0 {
                    *self = Self::head(Block::Field);
                }
            }
            Self::Head { bytes, filled, block } => {
                bytes[*filled] = *byte;
                *filled += 1;
                if *filled == FRAME_HEAD_BYTES {
                    *self = Self::payload(*bytes, *block);
                }
            }
            Self::Payload { left, kind, block } => {
                *left -= 1;
                match kind {
                    Payload::Other => {}
                    Payload::Padding { priority } => {
                        let (before, behind) = (*priority, usize::from(*byte));
                        *kind = Payload::Fields { before, behind };
                    }
                    Payload::Fields { before, .. } if *before > 0 => *before -= 1,
                    Payload::Fields { behind, .. } if *left < *behind => {}
                    Payload::Fields { .. } => *block = block.step(byte),
                }
                if *left == 0 {
                    *self = Self::head(*block);
                }
            }
        }
    }

    fn head(block: Block) -> Self {
        Self::Head { bytes: [0; FRAME_HEAD_BYTES], filled: 0, block }
    }

    fn payload(head: [u8; FRAME_HEAD_BYTES], block: Block) -> Self {
        let [a, b, c, kind, flags, ..] = head;
        let left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let priority = if flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES };
        // A block may go on in further frames, and begins anew with the next headers.
        let (kind, block) = match kind {
            HEADERS if flags & PADDED != 0 => (Payload::Padding { priority }, block.anew()),
            HEADERS => (Payload::Fields { before: priority, behind: 0 }, block.anew()),
            CONTINUATION => (Payload::Fields { before: 0, behind: 0 }, block),
            _ => (Payload::Other, block),
        };
        if left == 0 { Self::head(block) } else { Self::Payload { left, kind, block } }
    }
}

impl Block {
    fn anew(self) -> Self {
        if matches!(self, Self::Lost) { self } else { Self::Field }
    }

    fn step(self, byte: &mut u8) -> Self {
        let value = usize::from(*byte);
        match self {
            Self::Field => match *byte {
                0x80.. => Self::number(value & 0x7f, 0x7f, Self::Field, Self::Skip),
                0x40.. => Self::literal(value & 0x3f, 0x3f),
                0x20.. => Self::number(value & 0x1f, 0x1f, Self::Field, Self::Skip),
                _ => Self::literal(value & 0x0f, 0x0f),
            },
            Self::Skip => {
                if value & 0x80 == 0 {
                    Self::Field
                } else {
                    Self::Skip
                }
            }
            Self::Name { index, shift } => match more(index, shift, value) {
                None => Self::Lost,
                Some((index, true)) => Self::Name { index, shift: shift + 7 },
                Some((index, false)) => Self::value(index),
            },
            Self::Length { text } => {
                let text = match text {
                    Text::Name => Text::Name,
                    Text::Value { is_authority, .. } => {
                        Text::Value { is_authority, is_coded: value & 0x80 != 0 }
                    }
                };
                let length = value & 0x7f;
                let further = Self::MoreLength { text, length, shift: 0 };
                Self::number(length, 0x7f, Self::text(text, length), further)
            }
            Self::MoreLength { text, length, shift } => match more(length, shift, value) {
                None => Self::Lost,
                Some((length, true)) => Self::MoreLength { text, length, shift: shift + 7 },
                Some((length, false)) => Self::text(text, length),
            },
            Self::Text { text, left } => {
                let is_plain = matches!(text, Text::Value { is_authority: true, is_coded: false });
                if is_plain && *byte == b'%' {
                    *byte = b'-';
                }
                Self::text(text, left - 1)
            }
            Self::Lost => Self::Lost,
        }
    }

    /// A number that is complete in its first byte, or is not.
    fn number(value: usize, full: usize, complete: Self, further: Self) -> Self {
        if value < full { complete } else { further }
    }

    fn literal(index: usize, full: usize) -> Self {
        match index {
            0 => Self::Length { text: Text::Name },
            index => Self::number(index, full, Self::value(index), Self::Name { index, shift: 0 }),
        }
    }

    fn value(index: usize) -> Self {
        Self::Length { text: Text::Value { is_authority: index == AUTHORITY, is_coded: false } }
    }

    /// So many bytes of a text are left.
    fn text(text: Text, left: usize) -> Self {
        match (left, text) {
            (0, Text::Name) => Self::value(0),
            (0, Text::Value { .. }) => Self::Field,
            (left, text) => Self::Text { text, left },
        }
    }
}

/// More of a number (section 5.1): what it is now, and whether it goes on. None: it is too large.
fn more(number: usize, shift: u32, byte: usize) -> Option<(usize, bool)> {
    if shift > 21 {
        return None;
    }
    Some((number + ((byte & 0x7f) << shift), byte & 0x80 != 0))
}

impl<S: AsyncRead + Unpin> AsyncRead for Forgiving<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Self { inner, frames } = &mut *self;
        let outcome = Pin::new(inner).poll_read(cx, buf);
        if let Some(fresh) = buf.filled_mut().get_mut(before..) {
            frames.look(fresh);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Forgiving<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        [&head[..], payload].concat()
    }

    /// `:path` with a percent sign, an indexed field, `:authority` of the socket, a field with a name of its own.
    fn block() -> Vec<u8> {
        let mut block = vec![0x83, 0x44, 3];
        block.extend_from_slice(b"/%2");
        block.extend_from_slice(&[0x41, 11]);
        block.extend_from_slice(b"var%2Fsockt");
        block.extend_from_slice(&[0x40, 1]);
        block.extend_from_slice(b"a");
        block.push(2);
        block.extend_from_slice(b"%%");
        // Never indexed, of a name of index 15 + 5, which takes two bytes.
        block.extend_from_slice(&[0x1f, 5, 1, b'%']);
        block
    }

    fn preface() -> Vec<u8> {
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()
    }

    fn looked_at(bytes: &[u8], step: usize) -> Vec<u8> {
        let mut forgiving = Forgiving::new(());
        let mut bytes = bytes.to_vec();
        bytes.chunks_mut(step).for_each(|chunk| forgiving.frames.look(chunk));
        bytes
    }

    #[test]
    fn the_authority_alone_is_changed_however_it_is_cut() {
        let own = block();
        let (first, second) = own.split_at(9);
        let padded = [&[2_u8][..], &own, b"%%"].concat();
        let with_priority = [&[0, 0, 0, 0, b'%'][..], &own].concat();
        let both = [&[1_u8, 0, 0, 0, 0, 7][..], &own, b"%"].concat();
        for (frames, count) in [
            (frame(HEADERS, 4, &own), 1),
            ([frame(HEADERS, 0, first), frame(CONTINUATION, 4, second)].concat(), 1),
            (frame(HEADERS, 4 | PADDED, &padded), 1),
            (frame(HEADERS, 4 | PRIORITY, &with_priority), 1),
            (frame(HEADERS, 4 | PADDED | PRIORITY, &both), 1),
            (frame(0, 0, &own), 0),
            ([frame(4, 0, &[]), frame(HEADERS, 4, &own), frame(HEADERS, 4, &own)].concat(), 2),
        ] {
            let whole = [preface(), frames].concat();
            for step in [1, 7, whole.len()] {
                let seen = looked_at(&whole, step);
                let changed: Vec<usize> =
                    (0..whole.len()).filter(|at| whole[*at] != seen[*at]).collect();
                assert_eq!(changed.len(), count, "{changed:?}");
                let text = String::from_utf8_lossy(&seen);
                assert_eq!(text.matches("ar-2Fsockt").count(), count);
            }
        }
    }

    #[test]
    fn nonsense_is_passed_on() {
        let huge = [0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, b'%', b'%'];
        let whole = [preface(), frame(HEADERS, 4, &huge), frame(HEADERS, 4, &block())].concat();
        assert_eq!(looked_at(&whole, 3), whole);
    }
}
