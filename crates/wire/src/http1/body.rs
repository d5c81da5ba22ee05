//! Where a body ends, and which of its bytes are data (RFC 9112 sections 6 and 7).
//!
//! Bodies pass through as they are: nothing is re-framed. The scanner is as strict about chunked framing as
//! the head parser is about heads, so that the next hop sees the same end.

use super::chars::is_field_name;
use super::fields::Known;
use super::is_field_value;

/// How a body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodyLength {
    /// In chunks, the last of which is empty.
    Chunked,
    /// So many bytes, never 0.
    Length(u64),
    /// There is no body.
    #[default]
    None,
    /// Until the connection is closed; responses only.
    UntilClose,
}

/// The framing of a body is not valid. What has been forwarded cannot be taken back: both connections are
/// closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk does not end with CRLF.
    #[error("a chunk does not end with CRLF")]
    ChunkEnd,
    /// A chunk extension has a control character or is too long.
    #[error("a chunk extension is not valid or too long")]
    ChunkExtension,
    /// A chunk size is not a hexadecimal number of at most 15 digits.
    #[error("a chunk size is not valid")]
    ChunkSize,
    /// A trailer line is not valid, or is one of the fields that frame a message.
    #[error("a trailer is not valid")]
    Trailer,
    /// The trailers are larger than allowed.
    #[error("the trailers are too large")]
    TrailersTooLarge,
}

/// Finds the end of a body of any kind in the bytes that come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyScanner {
    /// Within a chunked body.
    Chunked(ChunkedScanner),
    /// So many bytes are still to come; 0: the body is over.
    Remaining(u64),
    /// Everything belongs to the body.
    UntilClose,
}

impl BodyScanner {
    /// A scanner for a body of this kind.
    pub fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::Chunked => Self::Chunked(ChunkedScanner::new()),
            BodyLength::Length(bytes) => Self::Remaining(bytes),
            BodyLength::None => Self::Remaining(0),
            BodyLength::UntilClose => Self::UntilClose,
        }
    }

    /// Takes bytes of the body, from the front of `bytes`; answers how many belong to it. All do, unless the
    /// body is over.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        match self {
            Self::Chunked(scanner) => scanner.take(bytes),
            Self::Remaining(remaining) => {
                let taken = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                *remaining -= taken as u64;
                Ok(taken)
            }
            Self::UntilClose => Ok(bytes.len()),
        }
    }

    /// Whether the body is over. A body that lasts until the connection closes never says so.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Chunked(scanner) => scanner.is_done(),
            Self::Remaining(remaining) => *remaining == 0,
            Self::UntilClose => false,
        }
    }

    /// Whether the end of the connection is a valid end of the body at this point.
    pub fn may_end_with_connection(&self) -> bool {
        matches!(self, Self::UntilClose) || self.is_done()
    }
}

/// Bytes of one chunk extension, and of the blanks around it.
const EXTENSION_BYTES_MAX: u16 = 1024;
/// Bytes of all trailers.
const TRAILER_BYTES_MAX: u16 = 8192;
/// Bytes of a trailer name that are kept to tell forbidden ones.
const NAME_BYTES: usize = 17;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before or within the size.
    Size,
    /// After the size, until CR.
    Extension,
    /// The LF of the size line.
    SizeLf,
    /// So many bytes of data are to come.
    Data,
    /// The CR behind the data.
    DataCr,
    /// The LF behind the data.
    DataLf,
    /// At the beginning of a trailer line, or of the last, empty line.
    TrailerStart,
    /// Within a trailer's name.
    TrailerName,
    /// Within a trailer's value.
    TrailerValue,
    /// The LF of a trailer line.
    TrailerLf,
    /// The LF of the last line.
    LastLf,
    Done,
}

/// The state machine of a chunked body. Small and copyable; it keeps no data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkedScanner {
    state: State,
    /// Within `Size` the number so far, within `Data` the bytes to come.
    size: u64,
    /// Digits of the size; bytes of the extension.
    count: u16,
    trailer_bytes: u16,
    name: [u8; NAME_BYTES],
    name_length: u8,
}

/// What a step of the scanner found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkPiece {
    /// So many bytes of data, at the front.
    Data(usize),
    /// The body is over; so many bytes at the front ended it.
    End(usize),
    /// So many bytes of framing, at the front. Within trailers: of trailer lines.
    Framing(usize),
}

impl Default for ChunkedScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedScanner {
    /// At the beginning of a body.
    pub fn new() -> Self {
        Self {
            state: State::Size,
            size: 0,
            count: 0,
            trailer_bytes: 0,
            name: [0; NAME_BYTES],
            name_length: 0,
        }
    }

    /// Whether the last chunk and the trailers are over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the last chunk is over and trailer lines, or the empty line, follow.
    pub fn in_trailers(&self) -> bool {
        match self.state {
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::LastLf => true,
            State::Size
            | State::Extension
            | State::SizeLf
            | State::Data
            | State::DataCr
            | State::DataLf
            | State::Done => false,
        }
    }

    /// Takes bytes of the body; answers how many belong to it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_done() {
            taken += match self.next(&bytes[taken..])? {
                ChunkPiece::Data(count) | ChunkPiece::End(count) | ChunkPiece::Framing(count) => {
                    count
                }
            };
        }
        Ok(taken)
    }

    /// Takes the next piece from the front of `bytes`, which must not be empty. A piece of data is never
    /// longer than `bytes`; framing stops where data or trailers begin.
    pub fn next(&mut self, bytes: &[u8]) -> Result<ChunkPiece, BodyError> {
        let was_in_trailers = self.in_trailers();
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Done => return Ok(ChunkPiece::End(at)),
                State::Data if at > 0 => break,
                State::Data => return Ok(self.take_data(bytes)),
                _ if self.in_trailers() != was_in_trailers && at > 0 => break,
                _ => {
                    self.step(bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok(if self.is_done() { ChunkPiece::End(at) } else { ChunkPiece::Framing(at) })
    }

    fn take_data(&mut self, bytes: &[u8]) -> ChunkPiece {
        let count = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len());
        self.size -= count as u64;
        if self.size == 0 {
            self.state = State::DataCr;
        }
        ChunkPiece::Data(count)
    }

    fn step(&mut self, byte: u8) -> Result<(), BodyError> {
        match self.state {
            State::Size => self.size_byte(byte)?,
            State::Extension => {
                self.count += 1;
                if byte == b'\r' {
                    self.state = State::SizeLf;
                } else if !is_field_value(&[byte]) || self.count > EXTENSION_BYTES_MAX {
                    return Err(BodyError::ChunkExtension);
                }
            }
            State::SizeLf if byte != b'\n' => return Err(BodyError::ChunkSize),
            State::SizeLf if self.size == 0 => self.state = State::TrailerStart,
            State::SizeLf => self.state = State::Data,
            State::DataCr if byte == b'\r' => self.state = State::DataLf,
            State::DataLf if byte == b'\n' => {
                self.state = State::Size;
                self.count = 0;
            }
            State::DataCr | State::DataLf => return Err(BodyError::ChunkEnd),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::LastLf => self.trailer_byte(byte)?,
            State::Data | State::Done => {}
        }
        Ok(())
    }

    fn size_byte(&mut self, byte: u8) -> Result<(), BodyError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.count > 0 => {
                self.state = State::SizeLf;
                return Ok(());
            }
            // White space before the extension is "bad" (RFC 9112 section 7.1.1), yet some senders pad sizes.
            b';' | b' ' | b'\t' if self.count > 0 => {
                self.count = 0;
                self.state = State::Extension;
                return Ok(());
            }
            _ => return Err(BodyError::ChunkSize),
        };
        if self.count == 0 {
            self.size = 0;
        }
        self.count += 1;
        if self.count > 15 {
            return Err(BodyError::ChunkSize);
        }
        self.size = self.size << 4 | u64::from(digit);
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<(), BodyError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(BodyError::TrailersTooLarge);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => self.state = State::LastLf,
            (State::TrailerStart, _) if is_field_name(&[byte]) => {
                self.name[0] = byte;
                self.name_length = 1;
                self.state = State::TrailerName;
            }
            (State::TrailerName, b':') => {
                self.check_trailer_name()?;
                self.state = State::TrailerValue;
            }
            (State::TrailerName, _) if is_field_name(&[byte]) => {
                if let Some(place) = self.name.get_mut(usize::from(self.name_length)) {
                    *place = byte;
                }
                self.name_length = self.name_length.saturating_add(1);
            }
            (State::TrailerValue, b'\r') => self.state = State::TrailerLf,
            (State::TrailerValue, _) if is_field_value(&[byte]) => {}
            (State::TrailerLf, b'\n') => self.state = State::TrailerStart,
            (State::LastLf, b'\n') => self.state = State::Done,
            _ => return Err(BodyError::Trailer),
        }
        Ok(())
    }

    fn check_trailer_name(&self) -> Result<(), BodyError> {
        let name = self.name.get(..usize::from(self.name_length));
        if name.is_none_or(may_be_trailer) { Ok(()) } else { Err(BodyError::Trailer) }
    }
}

/// Whether a field of this name may come behind the body: not if it frames or routes a message, or is for one hop (RFC
/// 9110 section 6.5.1).
pub fn may_be_trailer(name: &[u8]) -> bool {
    Known::of(name) == Known::Other
}
