//! Codecs without sockets: HTTP/1 heads and bodies, protocol sniffing, gRPC's frames, path normalisation, PROXY protocol
//! headers. Layer 4.
//!
//! Bytes come in as slices and go out as bytes appended to a buffer of the caller's. Nothing here waits,
//! reads a clock or decides about a request: framing and syntax only. Whatever a peer can send is either
//! understood in exactly one way or refused with a typed error, so that the next hop cannot understand the
//! same bytes differently (RFC 9112 section 11.2).
//!
//! The main types are [`http1::RequestHead`] and [`http1::ResponseHead`] (views of a parsed head),
//! [`http1::BodyScanner`] (where a body ends) and [`sniff::sniff`] (what a connection speaks).

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod convert;
pub mod dns;
pub mod grpc;
pub mod http1;
pub mod path;
pub mod proxy_protocol;
pub mod sniff;
