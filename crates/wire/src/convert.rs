//! Conversion of heads between HTTP/1 and HTTP/2, as one table of rules (RFC 9113 section 8).
//!
//! Heads of either version keep everything but what belongs to one connection. The rows below are all there
//! is; both directions of requests and responses consult them.

/// What becomes of a header when a message changes its version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conversion {
    /// It belongs to the connection it came on and is dropped.
    Drop,
    /// It is carried as `:authority` in HTTP/2 and as `Host` in HTTP/1.
    Authority,
    /// It frames the message in HTTP/1; HTTP/2 frames otherwise, so that it is dropped on the way there and
    /// written anew on the way back.
    Framing,
    /// It says how long the body is: kept, as one value, and neither changed nor sent behind the body.
    Length,
    /// Kept where its value is `trailers`, else dropped (RFC 9113 section 8.2.2).
    OnlyTrailers,
    /// All values are joined with `; ` on the way to HTTP/1 (RFC 9113 section 8.2.3).
    JoinCookies,
    /// Kept. Names are lower case in HTTP/2.
    Keep,
}

/// Header names, lower case, that are not simply kept.
const RULES: &[(&str, Conversion)] = &[
    ("connection", Conversion::Drop),
    ("content-length", Conversion::Length),
    ("cookie", Conversion::JoinCookies),
    ("host", Conversion::Authority),
    ("http2-settings", Conversion::Drop),
    ("keep-alive", Conversion::Drop),
    ("proxy-connection", Conversion::Drop),
    ("te", Conversion::OnlyTrailers),
    ("transfer-encoding", Conversion::Framing),
    ("upgrade", Conversion::Drop),
];

/// What becomes of the header of this name, given in any case.
pub fn conversion_of(name: &str) -> Conversion {
    RULES
        .iter()
        .find(|(rule, _)| rule.eq_ignore_ascii_case(name))
        .map_or(Conversion::Keep, |(_, conversion)| *conversion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_headers_do_not_change_versions() {
        for name in ["Connection", "keep-alive", "Upgrade", "proxy-connection", "HTTP2-Settings"] {
            assert_eq!(conversion_of(name), Conversion::Drop, "{name}");
        }
        assert_eq!(conversion_of("Host"), Conversion::Authority);
        assert_eq!(conversion_of("content-length"), Conversion::Length);
        assert_eq!(conversion_of("x-request-id"), Conversion::Keep);
    }
}
