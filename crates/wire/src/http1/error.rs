//! Why a head was refused, and which status answers it.

/// A head that is not valid, or larger than allowed. The connection it came on must be closed after the
/// answer, since nobody can say where the next message would begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A line ends with LF without CR (RFC 9112 section 2.2 lets a recipient accept it; two hops that
    /// disagree about it can be played against each other).
    #[error("a line ends with a bare LF")]
    BareLf,
    /// `Content-Length` is not a decimal number of at most 19 digits.
    #[error("Content-Length is not a number")]
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.1).
    #[error("both Content-Length and Transfer-Encoding are present")]
    ContentLengthWithTransferEncoding,
    /// More than one `Content-Length`, even where all say the same.
    #[error("Content-Length is present more than once")]
    DuplicateContentLength,
    /// More than one `Host` (RFC 9112 section 3.2).
    #[error("Host is present more than once")]
    DuplicateHost,
    /// A header line has no colon, an empty or invalid name, or white space before the colon.
    #[error("a header name is not valid")]
    FieldName,
    /// A header value has a control character.
    #[error("a header value is not valid")]
    FieldValue,
    /// `Host`, or the authority of the target, has characters that no authority has.
    #[error("Host is not an authority")]
    Host,
    /// The method is not a token.
    #[error("the method is not valid")]
    Method,
    /// An HTTP/1.1 request without `Host` (RFC 9112 section 3.2).
    #[error("Host is missing")]
    MissingHost,
    /// A line begins with white space (RFC 9112 section 5.2).
    #[error("a header line is folded")]
    ObsFold,
    /// The status line is not valid.
    #[error("the status line is not valid")]
    StatusLine,
    /// The request target is not in a form that the method may use, or has invalid characters.
    #[error("the request target is not valid")]
    Target,
    /// The request target is longer than allowed.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head is larger than allowed.
    #[error("the head is too large")]
    TooLarge,
    /// More header fields than allowed.
    #[error("the head has too many fields")]
    TooManyFields,
    /// `Transfer-Encoding` does not end with `chunked`, names it twice, or comes with HTTP/1.0.
    #[error("Transfer-Encoding is not valid")]
    TransferEncoding,
    /// A transfer coding other than `chunked`.
    #[error("the transfer coding is not supported")]
    TransferEncodingUnknown,
    /// The version is not HTTP/1.0 or HTTP/1.1.
    #[error("the HTTP version is not supported")]
    Version,
}

impl HeadError {
    /// The status that answers a request with this error. An upstream's bad response is always 502.
    pub fn status(self) -> u16 {
        match self {
            Self::BareLf
            | Self::ContentLength
            | Self::ContentLengthWithTransferEncoding
            | Self::DuplicateContentLength
            | Self::DuplicateHost
            | Self::FieldName
            | Self::FieldValue
            | Self::Host
            | Self::Method
            | Self::MissingHost
            | Self::ObsFold
            | Self::StatusLine
            | Self::Target
            | Self::TransferEncoding => 400,
            Self::TargetTooLong => 414,
            Self::TooLarge | Self::TooManyFields => 431,
            Self::TransferEncodingUnknown => 501,
            Self::Version => 505,
        }
    }
}
