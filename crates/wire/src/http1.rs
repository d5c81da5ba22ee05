//! HTTP/1.0 and HTTP/1.1 messages (RFC 9112): heads parsed in place, bodies scanned, heads rewritten.
//!
//! A head is parsed into an index of ranges over the caller's bytes ([`RequestIndex`], [`ResponseIndex`]);
//! the index is reused from message to message, so that parsing allocates nothing. The rules are stricter
//! than what RFC 9112 allows a lenient recipient: what two implementations could read differently is
//! refused. This module must not know about routes, limits of time or sockets.

mod body;
mod chars;
mod error;
mod fields;
mod request;
mod response;
mod rewrite;

#[cfg(test)]
mod tests;

pub use body::{BodyError, BodyLength, BodyScanner, ChunkPiece, ChunkedScanner, may_be_trailer};
pub use chars::{is_authority, is_field_name, is_field_value};
pub use error::HeadError;
pub use fields::{Field, Fields, Known, Span};
pub use request::{RequestHead, RequestIndex, TargetForm, skip_empty_lines};
pub use response::{ResponseHead, ResponseIndex};
pub use rewrite::{
    HeaderEdit, RequestEdits, ResponseEdits, write_chunk, write_own_response, write_request,
    write_response, write_target,
};

/// The minor version of HTTP/1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Version {
    /// HTTP/1.0: one request per connection unless both say `keep-alive`, no chunked bodies.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// What a head may cost at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, its last empty line included. At most [`HeadLimits::HEAD_BYTES_CEILING`].
    pub head_bytes_max: usize,
    /// Number of header fields.
    pub fields_max: usize,
    /// Bytes of the request target.
    pub target_bytes_max: usize,
}

impl HeadLimits {
    /// No head is ever larger than this, whatever is configured: ranges are 32 bits wide.
    pub const HEAD_BYTES_CEILING: usize = 1 << 20;
}

impl Default for HeadLimits {
    /// 64 KiB, 100 fields, and a target that may fill the head.
    fn default() -> Self {
        Self { head_bytes_max: 64 * 1024, fields_max: 100, target_bytes_max: 64 * 1024 }
    }
}

/// How far a parser came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// The head is whole; the first body byte is at this offset.
    Complete(usize),
    /// Everything so far is good and more bytes are needed.
    Incomplete,
}
